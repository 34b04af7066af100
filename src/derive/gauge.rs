//! Gauges: the last value of a tick.

use serde::{Deserialize, Serialize};

use super::{Applied, Emitter};
use crate::model::{Reject, SignalKind};

/// The open tick of a gauge.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Gauge {
    value: Option<f64>,
}

impl Gauge {
    pub(super) fn apply(&mut self, value: f64) -> Applied {
        if !value.is_finite() {
            return Applied::Rejected(Reject::NonFinite);
        }
        self.value = Some(value);
        Applied::Counted
    }

    pub(super) fn flush(&mut self, emitter: &mut Emitter<'_>) {
        if let Some(value) = self.value.take() {
            emitter.emit(SignalKind::Value, value, 1);
        }
    }
}
