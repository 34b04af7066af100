//! What an integration knows of itself: its breaker, its trouble, its counts; for the API, for metrics,
//! and for the next run.

use prometheus::{Histogram, IntCounter, IntGauge};
use serde::{Deserialize, Serialize};

use super::breaker::{Breaker, BreakerSettings, Report, State, Ticket};
use crate::model::{BreakerView, DeliveryStatistics, Timestamp, TroubleView};
use crate::telemetry::Telemetry;

/// Version of the form below; another one is not read.
const VERSION: u32 = 1;

/// What survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    version: u32,
    breaker: State,
    since: Timestamp,
    trouble: Option<Trouble>,
}

/// That nothing is delivered, or that the last message failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    since: Timestamp,
    reason: String,
}

/// What came of an attempt, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken.
    Taken,
    /// It failed in a way that is worth another attempt.
    Failed,
    /// The receiver takes no more for now.
    Limited,
    /// The receiver does not want this message.
    Refused,
    /// The receiver wants nothing more.
    Gone,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Taken,
        Self::Failed,
        Self::Limited,
        Self::Refused,
        Self::Gone,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Failed => "failed",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }

    /// What it says of the receiver.
    fn report(self) -> Report {
        match self {
            Self::Taken => Report::Success,
            Self::Failed => Report::Failure,
            Self::Limited | Self::Refused | Self::Gone => Report::Neutral,
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    /// It was delivered after so many failed attempts.
    Delivered {
        /// From the decision.
        latency_seconds: f64,
        failed_attempts: u32,
    },
    /// It will be attempted again.
    Retried,
    /// It was taken up again after a restart.
    Resumed,
    /// The fallback has it.
    FallenBack,
    /// Nobody has it.
    Failed,
}

/// The counters of a receiver.
#[derive(Debug, Clone)]
pub(super) struct Results {
    delivered: IntCounter,
    retried: IntCounter,
    recovered: IntCounter,
    resumed: IntCounter,
    fallen_back: IntCounter,
    failed: IntCounter,
    /// Messages for nobody.
    pub(super) dropped: IntCounter,
    latency: Histogram,
}

impl Results {
    /// Those of `receiver`, from zero.
    pub(super) fn new(receiver: &str, telemetry: &Telemetry) -> Self {
        let result = |result| {
            telemetry
                .notifications
                .with_label_values(&[receiver, result])
        };
        Self {
            delivered: result("delivered"),
            retried: result("retried"),
            recovered: result("recovered"),
            resumed: result("resumed"),
            fallen_back: result("fallen_back"),
            failed: result("failed"),
            dropped: result("dropped"),
            latency: telemetry
                .notification_latency
                .with_label_values(&[receiver]),
        }
    }
}

/// The record of one integration.
#[derive(Debug)]
pub(super) struct Record {
    breaker: Breaker,
    trouble: Option<Trouble>,
    statistics: DeliveryStatistics,
    last_delivered_at: Option<Timestamp>,
    last_failed_at: Option<Timestamp>,
    last_error: Option<String>,
    limited_until: Option<Timestamp>,
    /// As it was last written.
    written: Option<Saved>,
    results: Results,
    outcomes: [IntCounter; 5],
    state: IntGauge,
}

impl Record {
    /// The record of `integration` of `receiver`, with what [`Record::unwritten`] gave in an earlier run.
    /// What cannot be read of it is forgotten.
    pub(super) fn new(
        receiver: &str,
        integration: &str,
        settings: BreakerSettings,
        saved: Option<&[u8]>,
        now: Timestamp,
        telemetry: &Telemetry,
    ) -> Self {
        let saved: Option<Saved> = saved.and_then(|saved| serde_json::from_slice(saved).ok());
        let saved = saved.filter(|saved| saved.version == VERSION);
        let (state, since) = match &saved {
            Some(saved) => (saved.breaker, saved.since.min(now)),
            None => (State::default(), now),
        };
        let labels = [receiver, integration];
        let record = Self {
            breaker: Breaker::new(settings, state, since),
            trouble: saved.as_ref().and_then(|saved| saved.trouble.clone()),
            statistics: DeliveryStatistics::default(),
            last_delivered_at: None,
            last_failed_at: None,
            last_error: None,
            limited_until: None,
            written: saved,
            results: Results::new(receiver, telemetry),
            outcomes: Outcome::ALL.map(|outcome| {
                let attempts = &telemetry.notification_attempts;
                attempts.with_label_values(&[receiver, integration, outcome.name()])
            }),
            state: telemetry.breaker_state.with_label_values(&labels),
        };
        record.state.set(state.number());
        record
    }

    /// Asks for the right to make an attempt; see [`Breaker::permit`].
    pub(super) fn permit(&mut self, now: Timestamp) -> Option<Ticket> {
        let ticket = self.breaker.permit(now);
        self.state.set(self.breaker.state().0.number());
        ticket
    }

    /// Where the breaker stands, and when it lets an attempt through.
    pub(super) fn breaker(&self, now: Timestamp) -> (State, Timestamp) {
        (self.breaker.state().0, self.breaker.ready_at(now))
    }

    /// An attempt that was permitted came to nothing, because there was nothing to say.
    pub(super) fn unused(&mut self, now: Timestamp, ticket: Ticket) {
        self.breaker.report(now, ticket, Report::Neutral);
    }

    /// Takes what came of an attempt; `error` says why, unless it was taken.
    pub(super) fn attempted(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        outcome: Outcome,
        error: Option<&str>,
    ) {
        self.breaker.report(now, ticket, outcome.report());
        let (state, _) = self.breaker.state();
        self.state.set(state.number());
        self.statistics.attempts += 1;
        for (counter, other) in self.outcomes.iter().zip(Outcome::ALL) {
            if other == outcome {
                counter.inc();
            }
        }
        let is_closed = matches!(state, State::Closed { .. });
        match error {
            None => {
                self.last_delivered_at = Some(now);
                if is_closed {
                    self.trouble = None;
                }
            }
            Some(error) => {
                self.last_failed_at = Some(now);
                self.last_error = Some(error.to_owned());
                if !is_closed {
                    self.is_in_trouble(now, error);
                }
            }
        }
    }

    /// Counts what became of a message at `now`; `reason` says why, where it failed for good.
    pub(super) fn settled(&mut self, now: Timestamp, fate: Fate, reason: Option<&str>) {
        let (results, statistics) = (&self.results, &mut self.statistics);
        let counters = match fate {
            Fate::Delivered {
                latency_seconds,
                failed_attempts,
            } => {
                results.latency.observe(latency_seconds);
                if failed_attempts > 0 {
                    results.recovered.inc();
                    statistics.recovered += 1;
                }
                (&results.delivered, &mut statistics.delivered)
            }
            Fate::Retried => (&results.retried, &mut statistics.retried),
            Fate::Resumed => (&results.resumed, &mut statistics.resumed),
            Fate::FallenBack => (&results.fallen_back, &mut statistics.fallen_back),
            Fate::Failed => (&results.failed, &mut statistics.failed),
        };
        counters.0.inc();
        *counters.1 += 1;
        if let Some(reason) = reason {
            self.is_in_trouble(now, reason);
        }
    }

    /// The receiver asked to be left alone.
    pub(super) fn limited(&mut self, until: Option<Timestamp>) {
        self.limited_until = until;
    }

    fn is_in_trouble(&mut self, now: Timestamp, reason: &str) {
        match &mut self.trouble {
            Some(trouble) => trouble.reason = reason.to_owned(),
            None => {
                self.trouble = Some(Trouble {
                    since: now,
                    reason: reason.to_owned(),
                });
            }
        }
    }

    /// What is to be kept for the next run, if that has changed since the last call: `Some(None)` when
    /// all is well and there is nothing to keep.
    pub(super) fn unwritten(&mut self) -> Option<Option<Vec<u8>>> {
        let (mut breaker, since) = self.breaker.state();
        if let State::HalfOpen { trial, .. } = &mut breaker {
            *trial = None;
        }
        let is_well = breaker == State::default() && self.trouble.is_none();
        let now = (!is_well).then(|| Saved {
            version: VERSION,
            breaker,
            since,
            trouble: self.trouble.clone(),
        });
        if now == self.written {
            return None;
        }
        self.written = now;
        // Numbers and texts always have a form in JSON.
        let value = self.written.as_ref();
        Some(value.and_then(|saved| serde_json::to_vec(saved).ok()))
    }

    /// The breaker, for the API.
    pub(super) fn breaker_view(&self) -> BreakerView {
        let (state, since) = self.breaker.state();
        BreakerView {
            state: state.name(),
            since,
            until: match state {
                State::Open { until } => Some(until),
                State::Closed { .. } | State::HalfOpen { .. } => None,
            },
        }
    }

    /// Its trouble, for the API.
    pub(super) fn trouble(&self) -> Option<TroubleView> {
        self.trouble.as_ref().map(|trouble| TroubleView {
            since: trouble.since,
            reason: trouble.reason.clone(),
        })
    }

    /// Its counts, and the times of the last attempts that were taken and that failed, with the error.
    pub(super) fn history(
        &self,
    ) -> (
        DeliveryStatistics,
        Option<Timestamp>,
        Option<Timestamp>,
        Option<String>,
    ) {
        (
            self.statistics,
            self.last_delivered_at,
            self.last_failed_at,
            self.last_error.clone(),
        )
    }

    /// Until when it is to be left alone, if that is still to come.
    pub(super) fn limited_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.limited_until.filter(|until| *until > now)
    }
}
