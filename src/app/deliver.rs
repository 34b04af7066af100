//! From what is decided to who is told: notifications get their place in the outbox in the same commit
//! as the decision, and are on their way only after it.

use std::sync::Arc;

use super::failing::{RECEIVER, is_own};
use crate::dispatch::Notification;
use crate::expose;
use crate::model::{Alert, BoxFuture, Event, EventBody, ReceiverView, Timestamp, Transition};
use crate::notify::{Journal, LOG, Notifier, Parcel};
use crate::storage::{Change, Store, Table};
use crate::telemetry::Telemetry;

/// The store as a place for the outbox.
pub(super) struct StoreJournal(pub(super) Store);

impl Journal for StoreJournal {
    fn record(&self, changes: Vec<(String, Option<Vec<u8>>)>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let changes = changes.into_iter().map(outbox_change).collect();
            let recorded = self.0.record(changes).await;
            recorded.map_err(|error| error.to_string())
        })
    }
}

fn outbox_change((key, value): (String, Option<Vec<u8>>)) -> Change {
    let table = Table::Outbox;
    Change { table, key, value }
}

/// What must be committed together with the decision to send `parcel`.
pub(super) fn changes(parcel: &Parcel) -> impl Iterator<Item = Change> {
    parcel.changes().map(outbox_change)
}

/// Shows on the API how delivery goes.
impl expose::Deliveries for Notifier {
    fn receivers(&self) -> Vec<ReceiverView> {
        Self::receivers(self)
    }
}

/// Counts and says that groups were held back because the outbox of their receiver is full.
pub(super) fn count_held<'r>(telemetry: &Telemetry, refused: impl Iterator<Item = (&'r str, u64)>) {
    for (receiver, groups) in refused {
        let counter = telemetry.outbox_full.with_label_values(&[receiver]);
        let before = counter.get();
        counter.inc_by(groups);
        // They are held back again every second; the first time is said, and each further thousand.
        if before > 0 && before / 1000 == counter.get() / 1000 {
            continue;
        }
        tracing::warn!(
            receiver,
            groups,
            "the outbox of the receiver is full: its groups are told later"
        );
    }
}

/// The alerts that take a route: all but those about receivers that fail, which would otherwise be
/// sent to the very receivers that fail.
pub(super) fn routed(mut alerts: Vec<Arc<Alert>>) -> Vec<Arc<Alert>> {
    alerts.retain(|alert| !is_own(alert));
    alerts
}

/// The transitions that take a route; see [`routed`].
pub(super) fn routed_transitions(transitions: &[Transition]) -> impl Iterator<Item = &Transition> {
    transitions.iter().filter(|t| !is_own(&t.alert))
}

/// What is told at once and without a route: mode changes, to `mode_receiver`, and alerts about
/// receivers that fail, to the fallback of the one that fails, or to the log.
pub(super) fn at_once(
    notifier: &Notifier,
    mode_receiver: Option<&str>,
    now: Timestamp,
    transitions: &[Transition],
    events: &[Event],
) -> Parcel {
    let mut parcel = Parcel::default();
    if let Some(receiver) = mode_receiver {
        for event in events {
            if let EventBody::Mode(change) = &event.body {
                parcel.extend(notifier.pack_mode(receiver, change.clone(), now));
            }
        }
    }
    let mut own = transitions
        .iter()
        .filter(|t| is_own(&t.alert) && t.alert.fired_at.is_some())
        .peekable();
    if own.peek().is_some() {
        let receivers = notifier.receivers();
        let notifications = own.map(|transition| about(&receivers, &transition.alert, now));
        parcel.extend(notifier.pack(notifications));
    }
    parcel
}

/// The notification that a receiver fails, or does no longer.
fn about(receivers: &[ReceiverView], alert: &Alert, now: Timestamp) -> Notification {
    let name = alert.labels.get(RECEIVER).unwrap_or_default();
    let failing = receivers.iter().find(|receiver| receiver.name == name);
    let fallback = failing.and_then(|receiver| receiver.fallback.as_deref());
    let troubles = failing.into_iter().flat_map(|receiver| {
        receiver.integrations.iter().filter_map(|integration| {
            let trouble = integration.trouble.as_ref()?;
            Some(format!("{}: {}", integration.integration, trouble.reason))
        })
    });
    let troubles: Vec<String> = troubles.collect();
    let mut alert = alert.clone();
    if !troubles.is_empty() {
        alert.annotations.set("reason", troubles.join("; "));
    }
    Notification::alone(fallback.unwrap_or(LOG), Arc::new(alert), now)
}
