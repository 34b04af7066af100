//! What is decided, apart from who hears of it: the engine and the machines of alerts and modes, stepped
//! in time that is passed in.
//!
//! In: the present time, and by way of the engine what its ticks bring. Out: [`Decisions`]: transitions
//! of alerts with their explanations, and changes of modes. The decision task makes them durable and
//! tells them; a replay collects them. Both run this very code, so that recorded data gives what live
//! data gave. It knows nothing of clocks, disks, receivers and readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::degrading::{self, ModeWatch, with_mode_rules};
use super::failing::{ReceiverWatch, with_receiver_rule};
use super::limits::{LimitWatch, with_limit_rule};
use crate::alert;
use crate::derive::tick_end;
use crate::engine::{self, TickReport};
use crate::explain;
use crate::model::{
    Alert, Dismissal, Event, EventBody, ModeChange, PostedAlert, Query as _, Rule, Timestamp,
    Transition,
};
use crate::modes;

/// For so many ticks after an alert was reported it is explained anew in each.
const FRESH_TICKS: u32 = 5;

/// The engine and everything that decides by it.
pub(super) struct Pipeline {
    pub(super) engine: engine::Handle,
    pub(super) alerts: alert::Machine,
    /// Alerts of other systems.
    pub(super) external: alert::External,
    pub(super) modes: modes::Machine,
    pub(super) explainer: explain::Explainer,
    /// The built-in alert about limits.
    limits: LimitWatch,
    /// The built-in alert about receivers.
    pub(super) receivers: ReceiverWatch,
    /// The built-in alerts about modes.
    degrading: ModeWatch,
    /// Whether alerts may change modes.
    has_policies: bool,
    /// Whether another system has reported alerts since the last tick.
    was_posted: bool,
    /// Length of a tick.
    tick: Duration,
    /// End of the last tick that was closed.
    closed_until: Timestamp,
    /// Number of the newest event.
    pub(super) sequence: u64,
}

/// What an earlier run left of its decisions.
#[derive(Debug, Clone, Default)]
pub(super) struct Saved {
    pub(super) alerts: BTreeMap<String, Vec<u8>>,
    pub(super) external: BTreeMap<String, Vec<u8>>,
    pub(super) modes: BTreeMap<String, Vec<u8>>,
    pub(super) incidents: BTreeMap<String, Vec<u8>>,
    pub(super) dismissals: BTreeMap<String, Vec<u8>>,
    /// Number of its newest event.
    pub(super) sequence: u64,
}

/// How the machines are set up.
pub(super) struct Settings {
    pub(super) alert: alert::Settings,
    pub(super) external: alert::ExternalSettings,
    pub(super) modes: modes::Settings,
    /// Length of a tick, which is the engine's.
    pub(super) tick: Duration,
}

/// What one step decided.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    pub(super) transitions: Vec<Transition>,
    pub(super) modes: Vec<ModeChange>,
    /// What a person did besides.
    pub(super) done: Option<EventBody>,
}

impl Pipeline {
    /// With what an earlier run `saved`; the texts say what of that could not be used. `rules` are
    /// those of the engine.
    pub(super) fn new(
        engine: engine::Handle,
        rules: &[Rule],
        settings: Settings,
        now: Timestamp,
        saved: Saved,
    ) -> (Self, Vec<String>) {
        let (rules, limits) = with_limit_rule(rules);
        let (rules, receivers) = with_receiver_rule(&rules);
        let (rules, mut degrading) = with_mode_rules(&rules, &settings.modes);
        let (alerts, mut warnings) =
            alert::Machine::restore(rules, settings.alert, now, saved.alerts);
        let (external, of_external) =
            alert::External::restore(settings.external, now, saved.external);
        warnings.extend(of_external);
        let has_policies = !settings.modes.policies.is_empty();
        let (modes, of_modes) = modes::Machine::restore(saved.modes, settings.modes);
        warnings.extend(of_modes);
        let (mut explainer, of_incidents) = explain::Explainer::restore(saved.incidents);
        warnings.extend(of_incidents);
        warnings.extend(explainer.restore_dismissals(saved.dismissals));
        degrading.recall(&alerts.snapshot());
        let tick = settings.tick;
        let pipeline = Self {
            engine,
            alerts,
            external,
            modes,
            explainer,
            limits,
            receivers,
            degrading,
            has_policies,
            was_posted: false,
            tick,
            // The tick that is open now closes at its own end, not a whole tick from here.
            closed_until: tick_end(now, tick).minus(tick),
            sequence: saved.sequence,
        };
        (pipeline, warnings)
    }

    /// When the tick that is open ends.
    pub(super) fn next_tick(&self) -> Timestamp {
        self.closed_until.plus(self.tick)
    }

    /// When [`Pipeline::expire`] has something to do, ticks aside.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [
            self.alerts.next_deadline(),
            self.external.next_deadline(),
            self.modes.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Everything decided that must survive a restart, but for the incidents: those are what
    /// the explainer's changes came to.
    pub(super) fn save(&mut self) -> Saved {
        Saved {
            alerts: self.alerts.entries(),
            // Nobody reports to a replay.
            external: BTreeMap::new(),
            modes: self.modes.entries().into_iter().collect(),
            incidents: BTreeMap::new(),
            // Nor does anybody answer it.
            dismissals: BTreeMap::new(),
            sequence: self.sequence,
        }
    }

    /// Whether [`Pipeline::close`] is due.
    pub(super) fn is_tick_due(&self, now: Timestamp) -> bool {
        // A clock that was set back must not silence detection until it has caught up.
        let set_back = self.closed_until > now.plus(self.tick);
        now >= self.next_tick() || set_back
    }

    /// Closes every tick that has ended at `now` and decides by what it brought.
    pub(super) async fn close(&mut self, now: Timestamp) -> (TickReport, Decisions) {
        let report = self.engine.tick(now).await;
        self.closed_until = report.end;
        let decisions = self.decide(now, &report).await;
        (report, decisions)
    }

    /// Decides by what a tick brought.
    pub(super) async fn decide(&mut self, now: Timestamp, report: &TickReport) -> Decisions {
        let services = self.engine.services().await;
        let mut observations = report.observations.clone();
        observations.extend(self.limits.observe(report, &services));
        observations.extend(self.receivers.observe(report));
        let modes = self.modes.view(now);
        observations.extend(self.degrading.observe(report, &modes));
        let transitions = self.alerts.step(now, &observations, &report.ended);
        let mut decisions = self.conclude(now, transitions).await;
        let names: Vec<&str> = services.iter().map(|s| s.service.as_str()).collect();
        let edges = match self.modes.needs_calls() {
            true => self.engine.edges().await,
            false => Vec::new(),
        };
        let calls: Vec<_> = edges
            .iter()
            .map(|edge| (edge.caller.as_str(), edge.callee.as_str()))
            .collect();
        let tick = modes::Tick {
            services: &names,
            calls: &calls,
            alerts: &of_others(self.snapshot()),
            // Without a service there is nothing that could be heard.
            fed: report.fed | std::mem::take(&mut self.was_posted) || services.is_empty(),
        };
        decisions.modes.extend(self.modes.tick(now, &tick));
        decisions
    }

    /// Explains what the alerts did, and decides what it means to modes.
    pub(super) async fn conclude(
        &mut self,
        now: Timestamp,
        mut transitions: Vec<Transition>,
    ) -> Decisions {
        self.explain(now, &mut transitions).await;
        let modes = if transitions.iter().any(|t| degrading::is_own(&t.alert)) {
            let others = transitions.iter().filter(|t| !degrading::is_own(&t.alert));
            let others: Vec<Transition> = others.cloned().collect();
            self.modes.on_transitions(now, &others)
        } else {
            self.modes.on_transitions(now, &transitions)
        };
        Decisions {
            transitions,
            modes,
            done: None,
        }
    }

    /// Whether [`Pipeline::decide`] has something to do in every tick, whatever the tick brings.
    pub(super) fn is_restless(&self) -> bool {
        self.limits.is_awake()
            || self.degrading.is_awake()
            || (self.watches_modes() && self.modes.is_busy())
    }

    /// Whether it matters to modes which ticks brought data.
    pub(super) fn watches_modes(&self) -> bool {
        self.has_policies || self.modes.is_away()
    }

    /// Decides what the passing of time alone decides: ends of silent alerts, of overrides, of holds.
    pub(super) async fn expire(&mut self, now: Timestamp) -> Decisions {
        let mut decisions = Decisions::default();
        let is_due = |deadline: Option<Timestamp>| deadline.is_some_and(|at| at <= now);
        if is_due(self.alerts.next_deadline()) || is_due(self.external.next_deadline()) {
            let mut transitions = self.alerts.expire(now);
            transitions.extend(self.external.expire(now));
            decisions = self.conclude(now, transitions).await;
        }
        if self.modes.next_deadline().is_some_and(|at| at <= now) {
            decisions.modes.extend(self.modes.step(now));
        }
        decisions
    }

    /// Takes alerts that another system reports.
    pub(super) async fn post(
        &mut self,
        now: Timestamp,
        posted: Vec<PostedAlert>,
    ) -> (Decisions, alert::Received) {
        self.was_posted = true;
        let (transitions, received) = self.external.post(now, posted);
        // Mostly the same is merely reported again.
        if transitions.is_empty() && !self.external.is_touched() {
            return (Decisions::default(), received);
        }
        (self.conclude(now, transitions).await, received)
    }

    /// Ends an alert of ours, because a person calls its deviation normal. Its detectors were told before.
    pub(super) async fn dismiss(
        &mut self,
        now: Timestamp,
        alert: &Alert,
        dismissal: Dismissal,
    ) -> Decisions {
        let Dismissal {
            author, comment, ..
        } = &dismissal;
        let reason = format!("called normal by {author}: {comment}");
        let transitions = self.alerts.dismiss(now, alert.fingerprint, &reason);
        let done = EventBody::Dismissed {
            fingerprint: alert.fingerprint,
            alertname: alert.name().to_owned(),
            service: alert.service.clone(),
            author: author.clone(),
            comment: comment.clone(),
        };
        self.explainer.note_dismissal(alert, dismissal);
        Decisions {
            done: Some(done),
            ..self.conclude(now, transitions).await
        }
    }

    /// All alerts that are pending, firing or were resolved lately, by fingerprint.
    pub(super) fn snapshot(&self) -> Vec<Arc<Alert>> {
        if self.external.is_quiet() {
            return self.alerts.snapshot();
        }
        let mut all = self.external.snapshot();
        // Should another system report an alert with the very labels of one of ours, ours is told.
        let own = self.alerts.snapshot().into_iter();
        all.extend(own.map(|alert| (alert.fingerprint, alert)));
        all.into_values().collect()
    }

    /// Brings modes in line with the alerts that were restored.
    pub(super) fn reconcile(&mut self, now: Timestamp) -> Decisions {
        let alerts = of_others(self.snapshot());
        Decisions {
            modes: self.modes.reconcile(now, &alerts),
            ..Decisions::default()
        }
    }

    /// Numbers what happened. Alerts stand before the modes they cause, and what led to a change of mode
    /// before the change.
    pub(super) fn events(&mut self, now: Timestamp, decisions: &Decisions) -> Vec<Event> {
        let alerts = decisions.transitions.iter().map(|t| EventBody::Alert {
            from: t.from,
            alert: Alert::clone(&t.alert),
        });
        let modes = decisions.modes.iter().cloned().map(EventBody::Mode);
        let mut events = Vec::new();
        let notes = self.modes.take_notes();
        let bodies = alerts.chain(decisions.done.clone()).chain(notes);
        for mut body in bodies.chain(modes) {
            self.sequence += 1;
            if let EventBody::Mode(change) = &mut body {
                change.state.sequence = self.sequence;
                self.modes.number(&change.state.service, self.sequence);
            }
            events.push(Event {
                sequence: self.sequence,
                time: now,
                body,
            });
        }
        events
    }

    /// Groups the alerts into incidents, and brings the annotations of those that changed up to date.
    async fn explain(&mut self, now: Timestamp, transitions: &mut [Transition]) {
        // Of an alert whose labels name no service there is nothing to know.
        let named = |all: Vec<Arc<Alert>>| -> Vec<_> {
            let all = all.into_iter();
            all.filter(|alert| !alert.service.is_empty()).collect()
        };
        let all = named(self.snapshot());
        // Without alerts there is nothing to look up; what has gathered is handed over all the same.
        let (edges, services) = if all.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            (self.engine.edges().await, self.engine.services().await)
        };
        let mut facts = explain::Facts {
            alerts: &all,
            edges: &edges,
            services: &services,
            movements: &[],
            tick: self.tick,
        };
        let movements = self.engine.moved(explain::questions(facts, now)).await;
        facts.movements = &movements;
        let outdated = self.explainer.step(now, facts);
        self.alerts.touch(&outdated);
        self.external.touch(&outdated);
        // What moved with it may come some ticks later.
        self.external
            .touch_fresh(now.minus(self.tick.saturating_mul(FRESH_TICKS)));
        drop(all);
        let explainer = &self.explainer;
        self.alerts
            .annotate(transitions, |rule, alert| explainer.annotate(rule, alert));
        self.external
            .annotate(transitions, |alert| explainer.annotate_external(alert));
        self.explainer.tell(&named(self.snapshot()));
    }
}

/// Without the alerts about modes: no mode follows from those.
fn of_others(mut alerts: Vec<Arc<Alert>>) -> Vec<Arc<Alert>> {
    alerts.retain(|alert| !degrading::is_own(alert));
    alerts
}
