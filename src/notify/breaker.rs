//! The circuit breaker of one integration: closed → open → half-open, as a pure machine.
//!
//! *Closed*: everything is attempted; after so many failures in a row it opens. *Open*: nothing is
//! attempted for a while, so that a receiver in trouble is not troubled further and nobody waits for it.
//! *Half-open*: one attempt at a time tries it out; after so many successes in a row it closes, a
//! failure opens it again.
//!
//! The states and their names are those of M. Nygard, "Release It!" (2007), chapter 5.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// When a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failed attempts in a row open it (default 5; at least 1).
    pub failures: u32,
    /// So many successful trials in a row close it (default 2; at least 1).
    pub successes: u32,
    /// How long it stays open before the first trial (default 60 s).
    pub open: Duration,
    /// How long a trial may take (default 10 s). One that takes longer has failed.
    pub trial: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            successes: 2,
            open: Duration::from_secs(60),
            trial: Duration::from_secs(10),
        }
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum State {
    /// Attempts are made.
    Closed {
        /// Failed ones in a row.
        failures: u32,
    },
    /// None is made before `until`.
    Open {
        /// When the first trial may be made.
        until: Timestamp,
    },
    /// One is made at a time.
    HalfOpen {
        /// Successful ones in a row.
        successes: u32,
        /// When the one that is under way began.
        trial: Option<Timestamp>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl State {
    /// Its name on the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half-open",
        }
    }

    /// Its number in metrics.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Closed { .. } => 0,
            Self::HalfOpen { .. } => 1,
            Self::Open { .. } => 2,
        }
    }
}

/// The right to make one attempt. What came of it is reported with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    generation: u64,
    /// The attempt is a trial and may take so long.
    pub(super) limit: Option<Duration>,
}

/// What came of an attempt, as far as it says something of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// It was taken.
    Success,
    /// The receiver could not be reached, or is in trouble.
    Failure,
    /// It answered, but the answer is about the message, or about limits: no sign of trouble.
    Neutral,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
    since: Timestamp,
    /// Counts the changes of state: reports about attempts of an earlier state say nothing of this one.
    generation: u64,
}

impl Breaker {
    /// A breaker that was in `state` since `since`, perhaps in an earlier run. A trial that was under
    /// way then is forgotten.
    pub(super) fn new(settings: BreakerSettings, state: State, since: Timestamp) -> Self {
        let state = match state {
            State::HalfOpen { successes, .. } => State::HalfOpen {
                successes,
                trial: None,
            },
            State::Closed { .. } | State::Open { .. } => state,
        };
        Self {
            settings,
            state,
            since,
            generation: 0,
        }
    }

    /// Where it stands, and since when.
    pub(super) fn state(&self) -> (State, Timestamp) {
        (self.state, self.since)
    }

    /// When an attempt may be made next: `now` or earlier means at once.
    pub(super) fn ready_at(&self, now: Timestamp) -> Timestamp {
        match self.state {
            State::Closed { .. } | State::HalfOpen { trial: None, .. } => now,
            // A clock that was set back must not keep it open for the difference.
            State::Open { until } => until.min(now.plus(self.settings.open)),
            State::HalfOpen {
                trial: Some(began), ..
            } => began.min(now).plus(self.settings.trial),
        }
    }

    /// Asks for the right to make an attempt at `now`; `None`: not before [`Breaker::ready_at`].
    pub(super) fn permit(&mut self, now: Timestamp) -> Option<Ticket> {
        if self.ready_at(now) > now {
            return None;
        }
        let successes = match self.state {
            State::Closed { .. } => {
                return Some(Ticket {
                    generation: self.generation,
                    limit: None,
                });
            }
            State::Open { .. } => 0,
            State::HalfOpen {
                successes,
                trial: None,
            } => successes,
            // A trial that never reported: its time is over.
            State::HalfOpen { trial: Some(_), .. } => {
                self.become_state(self.opened(now), now);
                return None;
            }
        };
        let half_open = State::HalfOpen {
            successes,
            trial: Some(now),
        };
        self.become_state(half_open, now);
        Some(Ticket {
            generation: self.generation,
            limit: Some(self.settings.trial),
        })
    }

    /// Takes what came, at `now`, of the attempt that `ticket` was for.
    pub(super) fn report(&mut self, now: Timestamp, ticket: Ticket, report: Report) {
        if ticket.generation != self.generation {
            return;
        }
        let next = match (self.state, report) {
            (State::Closed { .. }, Report::Success) => State::Closed { failures: 0 },
            (State::Closed { .. }, Report::Neutral) | (State::Open { .. }, _) => self.state,
            (State::Closed { failures }, Report::Failure) => {
                let failures = failures.saturating_add(1);
                match failures >= self.settings.failures {
                    true => self.opened(now),
                    false => State::Closed { failures },
                }
            }
            (State::HalfOpen { successes, .. }, Report::Success) => {
                let successes = successes.saturating_add(1);
                match successes >= self.settings.successes {
                    true => State::default(),
                    false => State::HalfOpen {
                        successes,
                        trial: None,
                    },
                }
            }
            (State::HalfOpen { .. }, Report::Failure) => self.opened(now),
            (State::HalfOpen { successes, .. }, Report::Neutral) => State::HalfOpen {
                successes,
                trial: None,
            },
        };
        self.become_state(next, now);
    }

    fn opened(&self, now: Timestamp) -> State {
        State::Open {
            until: now.plus(self.settings.open),
        }
    }

    fn become_state(&mut self, state: State, now: Timestamp) {
        if self.state.name() != state.name() {
            self.generation += 1;
            self.since = now;
        }
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_700_000_000);
    const SETTINGS: BreakerSettings = BreakerSettings {
        failures: 5,
        successes: 2,
        open: Duration::from_secs(60),
        trial: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    /// Runs through (second, what is attempted, the state after it); `None`: an attempt is refused.
    #[track_caller]
    fn check(steps: &[(u64, Option<Report>, &str)]) {
        let mut breaker = Breaker::new(SETTINGS, State::default(), START);
        for (step, &(second, report, state)) in steps.iter().enumerate() {
            let ticket = breaker.permit(at(second));
            assert_eq!(ticket.is_some(), report.is_some(), "step {step}");
            if let (Some(ticket), Some(report)) = (ticket, report) {
                breaker.report(at(second), ticket, report);
            }
            assert_eq!(breaker.state().0.name(), state, "step {step}");
        }
    }

    const GOOD: Option<Report> = Some(Report::Success);
    const BAD: Option<Report> = Some(Report::Failure);
    const NEITHER: Option<Report> = Some(Report::Neutral);

    #[test]
    fn failures_in_a_row_open_it_and_successful_trials_close_it() {
        check(&[
            (0, BAD, "closed"),
            (0, BAD, "closed"),
            (0, BAD, "closed"),
            (0, BAD, "closed"),
            (0, GOOD, "closed"),
            (1, BAD, "closed"),
            (1, BAD, "closed"),
            (1, NEITHER, "closed"),
            (1, BAD, "closed"),
            (1, BAD, "closed"),
            (2, BAD, "open"),
            (2, None, "open"),
            (61, None, "open"),
            (62, GOOD, "half-open"),
            (62, GOOD, "closed"),
            (62, BAD, "closed"),
        ]);
    }

    #[test]
    fn a_failed_trial_opens_it_again_for_the_whole_time() {
        check(&[
            (0, BAD, "closed"),
            (0, BAD, "closed"),
            (0, BAD, "closed"),
            (0, BAD, "closed"),
            (0, BAD, "open"),
            (60, GOOD, "half-open"),
            (60, NEITHER, "half-open"),
            (61, BAD, "open"),
            (120, None, "open"),
            (121, GOOD, "half-open"),
            (121, GOOD, "closed"),
        ]);
    }

    #[test]
    fn one_trial_is_made_at_a_time_and_one_that_never_ends_has_failed() {
        let open = State::Open { until: at(60) };
        let mut breaker = Breaker::new(SETTINGS, open, START);
        let trial = breaker.permit(at(60)).expect("a trial");
        assert_eq!(trial.limit, Some(SETTINGS.trial));
        assert_eq!(breaker.permit(at(61)), None);
        assert_eq!(breaker.ready_at(at(61)), at(70));
        assert_eq!(breaker.permit(at(70)), None);
        assert_eq!(breaker.state(), (State::Open { until: at(130) }, at(70)));
        // It comes to an end after all.
        breaker.report(at(71), trial, Report::Success);
        assert_eq!(breaker.state().0.name(), "open");
    }

    #[test]
    fn reports_from_before_a_change_say_nothing() {
        let mut breaker = Breaker::new(SETTINGS, State::default(), START);
        let tickets: Vec<_> = (0..10).filter_map(|_| breaker.permit(at(0))).collect();
        for ticket in &tickets[..5] {
            breaker.report(at(1), *ticket, Report::Failure);
        }
        let open = breaker.clone();
        assert_eq!(open.state().0, State::Open { until: at(61) });
        breaker.report(at(2), tickets[5], Report::Success);
        breaker.report(at(9), tickets[6], Report::Failure);
        assert_eq!(breaker, open);
    }

    #[test]
    fn it_is_kept_over_a_restart_and_over_clocks_that_are_set() {
        for state in [
            State::Closed { failures: 3 },
            State::Open { until: at(60) },
            State::HalfOpen {
                successes: 1,
                trial: None,
            },
        ] {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
            assert_eq!(Breaker::new(SETTINGS, state, START).state().0, state);
        }
        let trying = State::HalfOpen {
            successes: 1,
            trial: Some(START),
        };
        let mut restored = Breaker::new(SETTINGS, trying, START);
        let ticket = restored
            .permit(START)
            .expect("the trial died with its daemon");
        restored.report(START, ticket, Report::Success);
        assert_eq!(restored.state().0, State::default());

        let far = State::Open { until: at(86_400) };
        let breaker = Breaker::new(SETTINGS, far, START);
        assert_eq!(breaker.ready_at(at(0)), at(60), "the clock was set back");
    }

    proptest! {
        #[test]
        fn it_neither_sticks_nor_lets_too_much_through(
            steps in prop::collection::vec((0_u64..30, 0_u8..4), 1..200),
        ) {
            let mut breaker = Breaker::new(SETTINGS, State::default(), START);
            let (mut now, mut trials) = (START, Vec::new());
            for (wait, what) in steps {
                now = now.plus(Duration::from_secs(wait));
                let was = breaker.state().0;
                let Some(ticket) = breaker.permit(now) else {
                    prop_assert!(was.name() != "closed", "refused while closed");
                    continue;
                };
                if ticket.limit.is_some() {
                    trials.retain(|began: &Timestamp| began.plus(SETTINGS.trial) > now);
                    prop_assert!(trials.is_empty(), "two trials at a time");
                }
                match what {
                    0 => breaker.report(now, ticket, Report::Success),
                    1 => breaker.report(now, ticket, Report::Failure),
                    2 => breaker.report(now, ticket, Report::Neutral),
                    // It never reports.
                    _ => trials.extend(ticket.limit.map(|_| now)),
                }
            }
            // However it went, somebody is let through soon.
            let soon = now.plus(SETTINGS.open).plus(SETTINGS.trial);
            let let_through = breaker.permit(soon).is_some()
                || breaker.permit(soon.plus(SETTINGS.open)).is_some();
            prop_assert!(let_through);
        }
    }
}
