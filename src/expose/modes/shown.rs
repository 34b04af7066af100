use serde::Serialize;

use crate::model::{ModeState, ServiceReport, Timestamp};
use crate::publish::ModesView;

/// What a service is told, has heard and does.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    /// What it is told.
    #[serde(flatten)]
    told: &'a ModeState,
    /// Whether all of its instances that report have heard it; `None`: none has ever reported.
    acknowledged: Option<bool>,
    /// The oldest of the newest instructions that its instances have heard.
    acknowledged_sequence: Option<u64>,
    /// How many of its instances report at present.
    instances: u32,
    /// In which modes they run, the most first.
    actual: Vec<Actual<'a>>,
    /// Since when what it does or has heard differs from what it is told.
    differs_since: Option<Timestamp>,
    /// When it was heard last.
    heard_at: Option<Timestamp>,
}

/// How many instances run in a mode.
#[derive(Debug, Serialize)]
struct Actual<'a> {
    mode: &'a str,
    instances: u32,
}

impl<'a> Shown<'a> {
    pub(super) fn of(told: &'a ModeState, report: Option<&'a ServiceReport>) -> Self {
        let actual = report.map_or(&[][..], |report| &report.actual);
        let actual = actual.iter().map(|(mode, instances)| Actual {
            mode,
            instances: *instances,
        });
        Self {
            told,
            acknowledged: report.map(|report| report.acknowledged),
            acknowledged_sequence: report.map(|report| report.sequence),
            instances: report.map_or(0, |report| report.instances),
            actual: actual.collect(),
            differs_since: report.and_then(|report| report.differs_since),
            heard_at: report.and_then(|report| report.heard_at),
        }
    }

    /// One of those in `view`.
    pub(super) fn from(view: &'a ModesView, told: &'a ModeState) -> Self {
        Self::of(told, view.reports.get(&told.service))
    }
}
