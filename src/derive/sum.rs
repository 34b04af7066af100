//! Sums: monotonic ones become a rate, others a value.

use serde::{Deserialize, Serialize};

use super::temporality::{Step, Writers, delta_span};
use super::{Applied, Arrival, Emitter};
use crate::model::{Reject, SignalKind, Temporality};

/// One series of a sum: what its open tick holds, and what the next point is compared with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Sum {
    /// Monotonic, as totals.
    CumulativeRate {
        writers: Writers<f64>,
        /// What the holder reported last.
        total: f64,
        open: Open,
    },
    /// Monotonic, as changes.
    DeltaRate { open: Open },
    /// Up and down, as totals.
    CumulativeValue {
        writers: Writers<()>,
        open: Option<f64>,
    },
    /// Up and down, as changes: accumulated from 0, since where it stood before is not known.
    DeltaValue { total: f64, open: Option<f64> },
}

/// What came in the open tick of a rate.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) by: f64,
    /// Over how many nanoseconds; 0 where nothing came.
    pub(super) elapsed: u64,
}

impl Open {
    /// This and `by` over `elapsed` nanoseconds; `None` if no double holds the sum or its rate.
    fn and(self, by: f64, elapsed: u64) -> Option<Self> {
        let sum = Self {
            by: self.by + by,
            elapsed: self.elapsed.saturating_add(elapsed),
        };
        (sum.by / (sum.elapsed as f64 / 1e9))
            .is_finite()
            .then_some(sum)
    }
}

impl Sum {
    pub(super) fn new(monotonic: bool, temporality: Temporality) -> Self {
        match (monotonic, temporality) {
            (true, Temporality::Cumulative) => Self::CumulativeRate {
                writers: Writers::default(),
                total: 0.0,
                open: Open::default(),
            },
            (true, Temporality::Delta) => Self::DeltaRate {
                open: Open::default(),
            },
            (false, Temporality::Cumulative) => Self::CumulativeValue {
                writers: Writers::default(),
                open: None,
            },
            (false, Temporality::Delta) => Self::DeltaValue {
                total: 0.0,
                open: None,
            },
        }
    }

    pub(super) fn apply(&mut self, at: &Arrival<'_>, value: f64) -> Applied {
        const NON_FINITE: Applied = Applied::Rejected(Reject::NonFinite);
        if !value.is_finite() {
            return NON_FINITE;
        }
        match self {
            Self::CumulativeRate { .. } | Self::DeltaRate { .. } if value < 0.0 => {
                Applied::Rejected(Reject::Negative)
            }
            Self::CumulativeRate {
                writers,
                total,
                open,
            } => {
                let grown = match writers.read(at) {
                    Step::Since(elapsed) => Some((since(value, *total), elapsed)),
                    Step::SinceRival(elapsed) => {
                        let rival = writers.rival().map_or(0.0, |rival| *rival);
                        Some((since(value, rival), elapsed))
                    }
                    Step::Fresh(elapsed) => Some((value, elapsed)),
                    Step::Base => None,
                    Step::Overlap => {
                        writers.keep_rival(at, || value);
                        return Applied::Overlap;
                    }
                };
                if let Some((by, elapsed)) = grown {
                    let Some(sum) = open.and(by, elapsed) else {
                        return NON_FINITE;
                    };
                    *open = sum;
                }
                writers.keep(at);
                *total = value;
                Applied::Counted
            }
            Self::DeltaRate { open } => {
                let Some(elapsed) = delta_span(at) else {
                    return Applied::Overlap;
                };
                let Some(sum) = open.and(value, elapsed) else {
                    return NON_FINITE;
                };
                *open = sum;
                Applied::Counted
            }
            Self::CumulativeValue { writers, open } => {
                if writers.read(at) == Step::Overlap {
                    writers.keep_rival(at, || ());
                    return Applied::Overlap;
                }
                writers.keep(at);
                *open = Some(value);
                Applied::Counted
            }
            Self::DeltaValue { total, open } => {
                if delta_span(at).is_none() {
                    return Applied::Overlap;
                }
                let sum = *total + value;
                if !sum.is_finite() {
                    return NON_FINITE;
                }
                *total = sum;
                *open = Some(sum);
                Applied::Counted
            }
        }
    }

    pub(super) fn flush(&mut self, emitter: &mut Emitter<'_>) {
        match self {
            Self::CumulativeRate { open, .. } | Self::DeltaRate { open } => {
                let Open { by, elapsed } = std::mem::take(open);
                if elapsed > 0 {
                    emitter.emit_rate(by, elapsed, 1);
                }
            }
            Self::CumulativeValue { open, .. } | Self::DeltaValue { open, .. } => {
                if let Some(value) = open.take() {
                    emitter.emit(SignalKind::Value, value, 1);
                }
            }
        }
    }

    pub(super) fn end(&mut self) {
        match self {
            Self::CumulativeRate { writers, .. } => writers.end(),
            Self::CumulativeValue { writers, .. } => writers.end(),
            Self::DeltaRate { .. } => {}
            Self::DeltaValue { total, .. } => *total = 0.0,
        }
    }

    /// Memory besides the struct itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::CumulativeRate { writers, .. } => writers.bytes(|_| 0),
            Self::CumulativeValue { writers, .. } => writers.bytes(|_| 0),
            Self::DeltaRate { .. } | Self::DeltaValue { .. } => 0,
        }
    }
}

/// What came since `earlier`: all of it, if it shrank.
fn since(total: f64, earlier: f64) -> f64 {
    if total >= earlier {
        total - earlier
    } else {
        total
    }
}
