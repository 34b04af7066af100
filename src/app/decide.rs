//! The decision task: the one owner of alerts and modes. It steps the pure machines with what each tick
//! brought, makes their decisions durable, and only then shows them to anyone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::pipeline::{Decisions, Pipeline};
use super::{audit, deliver};
use crate::clock::Clock;
use crate::dispatch;
use crate::model::{AlertState, Event, Timestamp, Transition};
use crate::mute::{Muted, Silences};
use crate::notify::{self, Parcel};
use crate::publish::{Acknowledgements, Board, Command, Freeze, ModesView};
use crate::storage::{Change, Store, Table};
use crate::telemetry::Telemetry;

/// Longest sleep of the task: a clock that jumps is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long what is muted may be shown as it was: silences and time intervals begin and end by
/// themselves, and to look at every alert takes a while when there are very many.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Everything that decides.
pub(super) struct Decider {
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
    /// What decides; the rest tells.
    pub(super) pipeline: Pipeline,
    pub(super) dispatcher: dispatch::Dispatcher,
    pub(super) silences: Silences,
    /// Of which version the published view of the dispatcher is, and when it was made.
    pub(super) shown: (u64, Timestamp),
    pub(super) notifier: notify::Notifier,
    pub(super) store: Store,
    pub(super) board: Board,
    /// Saves what the detectors have learned soon.
    pub(super) save_learning: Arc<Notify>,
    /// Who is told of mode changes.
    pub(super) mode_receiver: Option<String>,
    /// Every feature that may be set, and by what.
    pub(super) known_features: Arc<BTreeMap<String, Vec<String>>>,
}

impl Decider {
    /// Decides until `stop`; then closes the last tick, makes everything durable and returns.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut acknowledgements: Acknowledgements,
        stop: CancellationToken,
    ) {
        self.reconcile().await;
        // Not before: whoever finds us ready must find what we knew before the restart, too.
        self.board.set_ready(None);
        loop {
            let pause = self.pause();
            tokio::select! {
                () = stop.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                Some(many) = acknowledgements.gather() => self.acknowledge(many).await,
                () = tokio::time::sleep(pause) => self.turn().await,
            }
        }
        // No more commands: those who wait are told so when the queues are dropped.
        drop((commands, acknowledgements));
        self.turn().await;
        let mut changes = keyed(Table::Alerts, self.pipeline.alerts.all_changes());
        let external = self.pipeline.external.all_changes();
        changes.extend(keyed(Table::External, external));
        self.record(changes).await;
    }

    /// How long until something has to be done.
    fn pause(&self) -> Duration {
        let now = self.clock.now();
        let tick = self.pipeline.next_tick();
        let deadlines = [
            Some(tick),
            self.pipeline.next_deadline(),
            self.dispatcher.next_deadline(),
        ];
        let next = deadlines.into_iter().flatten().min().unwrap_or(tick);
        next.since(now).min(LONGEST_SLEEP)
    }

    /// Does all that is due.
    async fn turn(&mut self) {
        let now = self.clock.now();
        if self.pipeline.is_tick_due(now) {
            let span = tracing::info_span!("tick", observations = tracing::field::Empty);
            self.tick(now).instrument(span).await;
        }
        let decisions = self.pipeline.expire(now).await;
        self.settle(now, decisions).await;
        self.forget_silences(now).await;
        self.notify(now).await;
    }

    async fn tick(&mut self, now: Timestamp) {
        let (report, decisions) = self.pipeline.close(now).await;
        if !self.pipeline.engine.is_whole() {
            self.board.set_ready(Some(
                "a part of the engine has panicked; restart the daemon".into(),
            ));
        }
        tracing::Span::current().record("observations", report.observations.len());
        self.settle(now, decisions).await;
        self.telemetry
            .detection_lag
            .observe(self.clock.now().since(report.end).as_secs_f64());
    }

    /// Brings modes and groups in line with the alerts that were restored.
    async fn reconcile(&mut self) {
        let now = self.clock.now();
        let decisions = self.pipeline.reconcile(now);
        let alerts = deliver::routed(self.pipeline.snapshot());
        self.dispatcher.reconcile(now, &alerts);
        self.board.set_silences(self.silences.clone());
        self.settle(now, decisions).await;
    }

    /// Makes decisions durable, then public: events, notifications, snapshots.
    pub(super) async fn settle(&mut self, now: Timestamp, decisions: Decisions) {
        let events = self.pipeline.events(now, &decisions);
        self.settle_events(now, decisions, events).await;
    }

    /// As [`Decider::settle`], with the `events` of these decisions.
    pub(super) async fn settle_events(
        &mut self,
        now: Timestamp,
        decisions: Decisions,
        events: Vec<Event>,
    ) {
        for warning in self.pipeline.modes.take_warnings() {
            tracing::warn!("{warning}");
        }
        for transition in deliver::routed_transitions(&decisions.transitions) {
            self.dispatcher.on_transition(now, transition);
        }
        let parcel = self.at_once(now, &decisions.transitions, &events);
        let mut changes = keyed(Table::Alerts, self.pipeline.alerts.changes());
        changes.extend(keyed(Table::External, self.pipeline.external.changes()));
        changes.extend(keyed(Table::Modes, self.pipeline.modes.changes()));
        changes.extend(keyed(Table::Incidents, self.pipeline.explainer.changes()));
        let dismissals = self.pipeline.explainer.changes_of_dismissals();
        changes.extend(keyed(Table::Dismissals, dismissals));
        changes.extend(events.iter().flat_map(audit::changes));
        changes.extend(deliver::changes(&parcel));
        self.record(changes).await;
        self.notifier.deliver(parcel);
        self.tell(&decisions.transitions, &events);
        self.publish(now, events);
    }

    /// Writes what has happened in any case. If the disk fails, detection and alerting go on.
    pub(super) async fn record(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.store.record(changes).await {
            tracing::error!(%error, "decisions are not durable yet");
        }
    }

    /// What is to be told at once.
    pub(super) fn at_once(
        &self,
        now: Timestamp,
        transitions: &[Transition],
        events: &[Event],
    ) -> Parcel {
        let receiver = self.mode_receiver.as_deref();
        deliver::at_once(&self.notifier, receiver, now, transitions, events)
    }

    pub(super) fn tell(&self, transitions: &[Transition], events: &[Event]) {
        for transition in transitions {
            let alert = &transition.alert;
            let explanation = alert.annotations.get("explanation").unwrap_or_default();
            match alert.state {
                AlertState::Pending => {}
                AlertState::Firing => tracing::warn!(
                    alert = alert.name(),
                    service = alert.service,
                    severity = alert.severity.name(),
                    fingerprint = %alert.fingerprint,
                    "alert fires: {explanation}"
                ),
                AlertState::Resolved => tracing::info!(
                    alert = alert.name(),
                    service = alert.service,
                    fingerprint = %alert.fingerprint,
                    "alert resolved"
                ),
            }
        }
        for event in events {
            audit::count(&self.telemetry, event);
            audit::log(event);
        }
    }

    pub(super) fn publish(&mut self, now: Timestamp, events: Vec<Event>) {
        let alerts = self.pipeline.snapshot();
        for state in [AlertState::Pending, AlertState::Firing] {
            let count = alerts.iter().filter(|alert| alert.state == state).count();
            let gauge = self.telemetry.alerts.with_label_values(&[state.name()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let flapping =
            i64::try_from(self.pipeline.alerts.flapping() + self.pipeline.external.flapping());
        self.telemetry
            .flapping_alerts
            .set(flapping.unwrap_or(i64::MAX));
        self.board.set_alerts(alerts);
        self.show_notifying(now);
        self.board
            .set_incidents(self.pipeline.explainer.incidents());
        let view = self.pipeline.modes.view(now);
        self.board.set_modes(ModesView {
            levels: view.levels,
            services: view.services,
            freeze: view.freeze.map(|freeze| Freeze {
                author: freeze.author,
                reason: freeze.reason,
                set_at: freeze.set_at,
            }),
            known_features: Arc::clone(&self.known_features),
            proposals: view.proposals,
            episodes: view.episodes,
            plans: view.plans,
            reports: view.reports,
            blind: view.blind,
        });
        self.board.append(events);
    }

    /// Publishes who is notified of what.
    fn show_notifying(&mut self, now: Timestamp) {
        let (version, at) = self.shown;
        if version == self.dispatcher.version() && at <= now && now.since(at) < LONGEST_LOOK {
            return;
        }
        self.shown = (self.dispatcher.version(), now);
        let view = self.dispatcher.view(now, &self.silences);
        let notifying = view.alerts.values();
        let (mut silenced, mut inhibited, mut mute) = (0, 0, 0);
        for Muted {
            silenced_by,
            inhibited_by,
            muted_by,
        } in notifying.map(|alert| &alert.muted)
        {
            silenced += i64::from(!silenced_by.is_empty());
            inhibited += i64::from(!inhibited_by.is_empty());
            mute += i64::from(!muted_by.is_empty());
        }
        let muted = &self.telemetry.alerts_muted;
        muted.with_label_values(&["silence"]).set(silenced);
        muted.with_label_values(&["inhibition"]).set(inhibited);
        muted.with_label_values(&["time_interval"]).set(mute);
        let groups = i64::try_from(view.groups.len()).unwrap_or(i64::MAX);
        self.telemetry.notification_groups.set(groups);
        let refused = &self.telemetry.notification_refused;
        refused.inc_by(self.dispatcher.refused().saturating_sub(refused.get()));
        self.board.set_notifying(view);
    }

    /// Sends what is due. That a group was told, and what it was told, are durable together and before
    /// anything is sent, so that a restart neither forgets one nor tells it twice without need.
    async fn notify(&mut self, now: Timestamp) {
        if self.dispatcher.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let alerts = deliver::routed(self.pipeline.snapshot());
        self.dispatcher.reconcile(now, &alerts);
        let due = self.due(now);
        let parcel = self.notifier.pack(due);
        let mut changes = keyed(Table::Dispatch, self.dispatcher.changes());
        changes.extend(deliver::changes(&parcel));
        self.record(changes).await;
        self.notifier.deliver(parcel);
        self.show_notifying(now);
    }

    /// The notifications that are due, of receivers whose outbox has room for them.
    fn due(&mut self, now: Timestamp) -> Vec<dispatch::Notification> {
        let mut room = self.notifier.room();
        let due = self
            .dispatcher
            .flush_where(now, &self.silences, |receiver| room.take(receiver));
        deliver::count_held(&self.telemetry, room.refused());
        due
    }
}

pub(super) fn keyed(table: Table, changes: Vec<(String, Option<Vec<u8>>)>) -> Vec<Change> {
    changes
        .into_iter()
        .map(|(key, value)| Change { table, key, value })
        .collect()
}

/// The events of earlier runs, oldest first, and what could not be read of them.
pub(super) fn history(entries: BTreeMap<String, Vec<u8>>) -> (Vec<Event>, Vec<String>) {
    let mut events = Vec::new();
    let mut warnings = Vec::new();
    for (key, value) in entries {
        match serde_json::from_slice(&value) {
            Ok(event) => events.push(event),
            Err(error) => warnings.push(format!("event {key} is left out: {error}")),
        }
    }
    (events, warnings)
}
