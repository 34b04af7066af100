//! What an alert asks of a service, and how far its policy is heard there.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{Policy, Step};
use crate::model::{Alert, Level, Timestamp};

/// Longest explanation that is kept with a claim, in bytes.
const MAX_EXPLANATION: usize = 512;

/// A policy's demand for a level because of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) level: Level,
    /// How the level is reached.
    pub(super) step: Step,
    /// How long the policy holds what it changes.
    pub(super) hold: Duration,
    /// Whether the policy only proposes.
    pub(super) dry_run: bool,
    /// The alert's severity in steps of a ten-thousandth: exact in every format, and never NaN.
    pub(super) score: u16,
    pub(super) alertname: Arc<str>,
    pub(super) explanation: Arc<str>,
    /// Since when nothing is heard of the alert, on the clock of what was watched. Nobody knows whether it
    /// goes on: the service stays where it is.
    pub(super) silent_since: Option<Timestamp>,
}

impl Claim {
    pub(super) fn new(policy: &Policy, alert: &Alert) -> Self {
        let explanation = alert.annotations.get("explanation").unwrap_or_default();
        Self {
            level: policy.level,
            step: policy.step,
            hold: policy.hold,
            dry_run: policy.dry_run,
            // A cast from a float saturates, and NaN becomes 0.
            score: (alert.severity_score.clamp(0.0, 1.0) * 10_000.0) as u16,
            alertname: alert.name().into(),
            explanation: cut(explanation, MAX_EXPLANATION).into(),
            silent_since: None,
        }
    }

    pub(super) fn rank(&self) -> (Level, u16) {
        (self.level, self.score)
    }

    /// The level that counts, with what people and effects have said of the policy at this service.
    pub(super) fn level_by(&self, stance: Option<&Stance>) -> Level {
        match stance {
            Some(stance) if self.dry_run => self.wish_by(Some(stance)).min(stance.granted),
            None if self.dry_run => Level(0),
            Some(_) | None => self.wish_by(stance),
        }
    }

    /// The level that it would count for if its policy did not only propose.
    pub(super) fn wish_by(&self, stance: Option<&Stance>) -> Level {
        let Some(stance) = stance else {
            return self.level;
        };
        let raised = Level(self.level.0.saturating_add(stance.raised));
        stance.ceiling.map_or(raised, |ceiling| raised.min(ceiling))
    }
}

/// How far a policy is heard at a service, until its alerts there are over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stance {
    /// It is not heard beyond this level: its step there was taken back, or a person said no.
    pub(super) ceiling: Option<Level>,
    /// Though it only proposes, a person said yes up to this level.
    pub(super) granted: Level,
    /// It asks for so many levels more than it says, because what was done had no effect.
    pub(super) raised: u8,
}

/// The longest beginning of `text` that has at most `bytes` bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("grün", 10), "grün");
        assert_eq!(cut("grün", 3), "gr");
        assert_eq!(cut("grün", 4), "grü");
        assert_eq!(cut("", 0), "");
    }
}
