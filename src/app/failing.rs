//! The built-in alert about receivers that fail: whoever is told by them hears nothing, so somebody else
//! is to be told that. Its notifications take no route; see [`super::deliver`].

use std::sync::Arc;

use super::builtin::{self, Seen};
use crate::engine::TickReport;
use crate::model::{Alert, Attributes, Observation, ReceiverView, Rule, RuleId, SeverityLabel};
use crate::notify::Notifier;

/// The alert's name.
const NAME: &str = "ReceiverFailing";
/// The signal that it seems to be about.
const METRIC: &str = "tidewatch.receiver.failing";
/// The label that says who fails.
pub(super) const RECEIVER: &str = "receiver";
/// The service that it seems to be about.
const SERVICE: &str = "tidewatch";

/// Sees which receivers fail.
pub(super) struct ReceiverWatch {
    rule: RuleId,
    /// Absent in a replay, which tells nobody.
    notifier: Option<Notifier>,
}

/// Whether `alert` is about a receiver that fails.
pub(super) fn is_own(alert: &Alert) -> bool {
    alert.name() == NAME && alert.labels.get("metric") == Some(METRIC)
}

/// The rules with the one that speaks for [`ReceiverWatch`] behind them.
pub(super) fn with_receiver_rule(rules: &[Rule]) -> (Arc<[Rule]>, ReceiverWatch) {
    let (rules, rule) = builtin::behind(rules, rule());
    let watch = ReceiverWatch {
        rule,
        notifier: None,
    };
    (rules, watch)
}

fn rule() -> Rule {
    let texts = [
        (
            "summary",
            "Notifications to receiver {{ labels.receiver }} fail",
        ),
        (
            "explanation",
            "Receiver {{ labels.receiver }} takes no notifications. What it should be told goes to \
                 its fallback, or, where it has none, is kept and tried again. It is well again when \
                 the next notification is delivered.",
        ),
        (
            "recommendation",
            "Look at /api/v1/receivers and the log for what it answers; check its address, its \
                 credentials and whether it can be reached from here.",
        ),
    ];
    builtin::rule(NAME, 1, texts)
}

impl ReceiverWatch {
    /// Looks at the receivers of `notifier` from now on.
    pub(super) fn watch(&mut self, notifier: Notifier) {
        self.notifier = Some(notifier);
    }

    /// What the tick says about receivers, for the alert machine: a receiver in trouble is an anomaly,
    /// one that is well is calm.
    pub(super) fn observe(&self, report: &TickReport) -> Vec<Observation> {
        let receivers = self.notifier.iter().flat_map(Notifier::receivers);
        receivers
            .map(|receiver| self.observation(report, &receiver))
            .collect()
    }

    fn observation(&self, report: &TickReport, receiver: &ReceiverView) -> Observation {
        let name = receiver.name.as_str();
        builtin::observation(Seen {
            rule: self.rule,
            time: report.end,
            service: SERVICE,
            metric: METRIC,
            unit: "1",
            attributes: Attributes::from_pairs([(RECEIVER.into(), name.into())]),
            value: f64::from(u8::from(receiver.failing)),
            channel: "deliveries",
            // Whoever is told by it is told nothing.
            anomaly: receiver.failing.then_some(SeverityLabel::Critical),
        })
    }
}
