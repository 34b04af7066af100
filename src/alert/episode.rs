//! One rule on one signal, from its first anomalous sample until it has calmed down.

use serde::{Deserialize, Serialize};

use crate::model::{For, Observation, Rule, Timestamp, severity};

/// How far an episode has come. Its end is no phase: the episode is gone then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Not yet for as long as the rule's `for` says.
    Pending,
    /// For long enough.
    Firing,
}

/// What a sample did to an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes on as before.
    Stays,
    /// It has held for long enough.
    Fires,
    /// It was held in its calm, and deviates again.
    Returns,
    /// It is over: the condition no longer holds, whether or not it had fired.
    Ends,
}

/// What the machine knows of one episode; 80 bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) phase: Phase,
    /// The last samples, newest in bit 0, 1 = anomalous. Only while pending, and only `n of m`.
    ring: u64,
    /// Calm samples in a row. Only while firing.
    calm: u32,
    /// It would be over, but the alert flaps: it ends at this time if nothing happens before.
    #[serde(default)]
    pub(super) held_until: Option<Timestamp>,
    /// First anomalous sample.
    pub(super) since: Timestamp,
    /// How many anomalous samples there were.
    pub(super) anomalous_samples: u32,
    /// Highest severity so far, 0.0 to 1.0.
    pub(super) score: f64,
    /// When (not: with which sample time) something was last heard of the signal. Not durable: after
    /// a restart every signal gets its time again.
    #[serde(skip)]
    pub(super) heard_at: Timestamp,
}

impl Episode {
    /// The episode before its first anomalous sample, which is `observation`, is counted.
    pub(super) fn begin(observation: &Observation) -> Self {
        Self {
            phase: Phase::Pending,
            ring: 0,
            calm: 0,
            held_until: None,
            since: observation.sample.time,
            anomalous_samples: 0,
            score: 0.0,
            heard_at: observation.sample.time,
        }
    }

    /// Counts one sample, heard of at `now`.
    pub(super) fn observe(
        &mut self,
        rule: &Rule,
        observation: &Observation,
        now: Timestamp,
    ) -> Outcome {
        self.heard_at = now;
        let anomalous = observation.anomaly.is_some();
        if anomalous {
            self.anomalous_samples = self.anomalous_samples.saturating_add(1);
            let size = rule.direction.size(observation.judged.sigma);
            self.score = self
                .score
                .max(severity(size, rule.sigma.warning, self.anomalous_samples));
        }
        match self.phase {
            Phase::Pending => self.wait(rule.hold, observation.sample.time, anomalous),
            Phase::Firing => self.calm_down(rule, observation),
        }
    }

    /// What of the episode must survive a crash at once. Numbers that grow with every sample are
    /// durable in steps of two, so that a long incident does not write in every tick.
    pub(super) fn durable(&self) -> (Phase, u64, u32, Option<Timestamp>, u32) {
        (
            self.phase,
            self.ring,
            self.calm,
            self.held_until,
            self.anomalous_samples.checked_ilog2().unwrap_or(0),
        )
    }

    fn wait(&mut self, hold: For, time: Timestamp, anomalous: bool) -> Outcome {
        let held = match hold {
            For::Samples { n, of } => {
                let mask = u64::MAX >> (64 - of.clamp(1, 64));
                self.ring = (self.ring << 1 | u64::from(anomalous)) & mask;
                if self.ring == 0 {
                    return Outcome::Ends;
                }
                // A rule that asks for more than it looks at gets what it looks at.
                self.ring.count_ones() >= n.clamp(1, of.clamp(1, 64))
            }
            For::Duration(hold) => {
                if !anomalous {
                    return Outcome::Ends;
                }
                time.since(self.since) >= hold
            }
        };
        // The ring may be full enough by an old bit when the rule was changed over a restart.
        if held && anomalous {
            self.phase = Phase::Firing;
            self.ring = 0;
            return Outcome::Fires;
        }
        Outcome::Stays
    }

    fn calm_down(&mut self, rule: &Rule, observation: &Observation) -> Outcome {
        if self.held_until.is_some() {
            // Only an anomaly ends the calm that it is held in.
            if observation.anomaly.is_none() {
                return Outcome::Stays;
            }
            (self.held_until, self.calm) = (None, 0);
            return Outcome::Returns;
        }
        if !is_calm(rule, observation) {
            self.calm = 0;
            return Outcome::Stays;
        }
        self.calm = self.calm.saturating_add(1);
        if self.calm >= rule.resolve_samples.max(1) {
            Outcome::Ends
        } else {
            Outcome::Stays
        }
    }
}

/// Whether a sample speaks for the end of a firing alert: it is no anomaly, and its sigma has fallen
/// below the threshold by `resolve_sigma`, or the difference is smaller than the rule minds at all
/// (a nearly constant signal has a large sigma at every speck, and would never resolve).
fn is_calm(rule: &Rule, observation: &Observation) -> bool {
    if observation.anomaly.is_some() {
        return false;
    }
    let expected = observation.judged.expected;
    let change = (observation.sample.value - expected).abs();
    let negligible = change < rule.min_change || change < rule.min_change_ratio * expected.abs();
    negligible || rule.direction.size(observation.judged.sigma) < clear_below(rule)
}

/// A sample is calm below this sigma. A `resolve_sigma` that reaches down to zero or beyond would
/// make an alert that never resolves; such a rule resolves below half its threshold.
fn clear_below(rule: &Rule) -> f64 {
    let clear = rule.sigma.warning - rule.resolve_sigma;
    if clear > 0.0 {
        clear
    } else {
        rule.sigma.warning / 2.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alert::fixtures::{Feed, rule};
    use crate::model::{Direction, SigmaThresholds};

    /// One sample a second: `!` anomalous, `~` neither anomalous nor calm, `.` calm. Returns what
    /// each did: `f`ires, `e`nds, `-` otherwise; stops at the end of the episode.
    fn play(rule: &Rule, samples: &str) -> String {
        let mut feed = Feed::new();
        let mut episode = None;
        let mut seen = String::new();
        for sample in samples.chars() {
            let observation = match sample {
                '!' => feed.anomaly(5.0),
                '~' => feed.normal(3.5),
                _ => feed.normal(0.0),
            };
            let episode = episode.get_or_insert_with(|| Episode::begin(&observation));
            match episode.observe(rule, &observation, observation.sample.time) {
                Outcome::Stays => seen.push('-'),
                Outcome::Fires => seen.push('f'),
                Outcome::Returns => seen.push('r'),
                Outcome::Ends => {
                    seen.push('e');
                    break;
                }
            }
        }
        seen
    }

    #[track_caller]
    fn check(hold: For, samples: &str, expected: &str) {
        let rule = Rule {
            hold,
            ..rule("Slow")
        };
        assert_eq!(play(&rule, samples), expected, "{hold:?} {samples}");
    }

    #[test]
    fn for_counts_samples_or_time() {
        let of = |n, of| For::Samples { n, of };
        let long = |seconds| For::Duration(Duration::from_secs(seconds));
        check(of(1, 1), "!", "f");
        check(of(3, 5), "!!!", "--f");
        check(of(3, 5), "!.!.!", "----f");
        check(of(3, 5), "!..!.!", "------");
        check(of(3, 5), "!....!", "------");
        check(of(3, 5), "!.....", "-----e");
        check(of(2, 3), "!..!!", "----f");
        check(of(2, 2), "!.!!", "---f");
        check(of(64, 64), &"!".repeat(64), &format!("{}f", "-".repeat(63)));
        check(of(9, 2), "!!", "-f");
        check(long(3), "!!!!", "---f");
        check(long(3), "!!.", "--e");
        check(long(0), "!", "f");
    }

    #[test]
    fn a_firing_episode_ends_after_enough_calm_samples_in_a_row() {
        let one = For::Samples { n: 1, of: 1 };
        check(one, "!...", "f--e");
        check(one, "!..!..~..~...", "f-----------e");
        check(one, "!~~~~~~", "f------");
    }

    #[test]
    fn every_rule_can_resolve() {
        // The threshold less resolve_sigma is below zero.
        let low = Rule {
            sigma: SigmaThresholds {
                warning: 0.5,
                critical: None,
            },
            direction: Direction::Both,
            hold: For::Samples { n: 1, of: 1 },
            ..rule("Low")
        };
        assert_eq!(play(&low, "!..."), "f--e");
        // Sigma stays high, but the rule does not mind so small a change.
        let floor = Rule {
            min_change: 10.0,
            hold: For::Samples { n: 1, of: 1 },
            ..rule("Floor")
        };
        assert_eq!(play(&floor, "!~~~"), "f--e");
    }
}
