//! The audit: what of the events is written to it, how it is read, and when its oldest entries leave.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config;
use crate::expose::{self, AuditPage, AuditQuery};
use crate::model::{BoxFuture, EffectVerdict, EpisodeAction, Event, EventBody, Timestamp};
use crate::storage::{Change, Part, Store};
use crate::telemetry::Telemetry;

/// How often it is looked for entries that need not be kept any longer.
const LOOK: Duration = Duration::from_mins(10);
/// Entries that one page may look at: who asks for rare ones gets fewer, and a cursor to go on from.
const MOST_LOOKED_AT: usize = 20_000;
/// What events about acknowledgements are called.
const ACKNOWLEDGED: &str = "acknowledged";

/// Whether an event belongs into the audit: everything that concerns modes.
pub(super) fn concerns(event: &Event) -> bool {
    match &event.body {
        EventBody::Mode(_)
        | EventBody::Freeze { .. }
        | EventBody::Proposal { .. }
        | EventBody::Acknowledged { .. }
        | EventBody::Episode { .. }
        | EventBody::Plan { .. } => true,
        EventBody::Alert { .. } | EventBody::Dismissed { .. } | EventBody::Silence { .. } => false,
    }
}

/// What is written of an event: its place in the event log, and in the audit if it belongs there.
pub(super) fn changes(event: &Event) -> impl Iterator<Item = Change> + use<> {
    // An event is plain data of our own; should it ever fail to serialise, its number is still used.
    let value = serde_json::to_vec(event).unwrap_or_default();
    let audit = concerns(event).then(|| match &event.body {
        // Services may say much, and nobody asks who they are: that leaves room for what is decided.
        EventBody::Acknowledged { .. } => Change::acknowledgement(event.sequence, value.clone()),
        _ => Change::audit(event.sequence, value.clone()),
    });
    std::iter::once(Change::event(event.sequence, value)).chain(audit)
}

/// Counts what happened to modes.
pub(super) fn count(telemetry: &Telemetry, event: &Event) {
    match &event.body {
        EventBody::Mode(change) => {
            let to = &change.state.mode;
            telemetry.mode_changes.with_label_values(&[to]).inc();
            let step = change.step.name();
            telemetry.mode_steps.with_label_values(&[step]).inc();
        }
        EventBody::Episode {
            action: EpisodeAction::Ended,
            episode,
        } => {
            let verdict = episode.verdict().unwrap_or(EffectVerdict::Unknown);
            let episodes = &telemetry.mode_episodes;
            episodes.with_label_values(&[verdict.name()]).inc();
        }
        _ => {}
    }
}

/// Says what happened to modes, each thing once: what an episode says of its steps is said by them.
pub(super) fn log(event: &Event) {
    match &event.body {
        EventBody::Mode(change) => tracing::warn!(
            service = change.state.service,
            from = change.from,
            to = change.state.mode,
            step = change.step.name(),
            "mode: {}",
            change.cause
        ),
        EventBody::Episode { action, .. } => match action {
            EpisodeAction::Judged | EpisodeAction::Ended => {
                tracing::warn!("modes: {}", event.sentence());
            }
            EpisodeAction::Opened | EpisodeAction::Stepped => {}
        },
        EventBody::Proposal { .. } | EventBody::Freeze { .. } | EventBody::Plan { .. } => {
            tracing::warn!("modes: {}", event.sentence());
        }
        EventBody::Acknowledged { .. } => tracing::debug!("modes: {}", event.sentence()),
        EventBody::Alert { .. } | EventBody::Dismissed { .. } | EventBody::Silence { .. } => {}
    }
}

/// Reads the audit from the store.
pub(super) struct Reader(pub(super) Store);

/// A page as far as it is gathered.
#[derive(Default)]
struct Gathered {
    page: AuditPage,
    looked_at: usize,
    last: Option<u64>,
}

impl Gathered {
    fn take(&mut self, query: &AuditQuery, number: u64, value: &[u8]) -> ControlFlow<()> {
        // There is more: the page ends before this one.
        if self.page.events.len() >= query.limit || self.looked_at >= MOST_LOOKED_AT {
            self.page.next = self.last;
            return ControlFlow::Break(());
        }
        self.looked_at += 1;
        self.last = Some(number);
        // What a later version wrote and this one cannot read is left out.
        let event = serde_json::from_slice::<Event>(value).ok();
        self.page
            .events
            .extend(event.filter(|event| fits(query, event)));
        ControlFlow::Continue(())
    }
}

fn fits(query: &AuditQuery, event: &Event) -> bool {
    let about = |service: &String| match &event.body {
        EventBody::Plan { plan } => plan.steps.iter().any(|step| step.service == *service),
        _ => event.service().is_none_or(|of| of == service),
    };
    query.service.as_ref().is_none_or(about)
        && (query.types.is_empty() || query.types.iter().any(|name| name == event.name()))
        && query.from.is_none_or(|from| event.time >= from)
        && query.to.is_none_or(|to| event.time <= to)
}

impl expose::Audit for Reader {
    fn page(&self, query: AuditQuery) -> BoxFuture<'_, Result<AuditPage, String>> {
        Box::pin(async move {
            let before = query.before;
            let acknowledged = |name: &String| name == ACKNOWLEDGED;
            let part = match query.types.is_empty() || query.types.iter().any(acknowledged) {
                true => Part::All,
                false => Part::WithoutAcknowledgements,
            };
            let visit = move |gathered: &mut Gathered, number, value: &[u8]| {
                gathered.take(&query, number, value)
            };
            let gathered = self.0.audit_back(part, before, Gathered::default(), visit);
            gathered
                .await
                .map(|gathered| gathered.page)
                .map_err(|error| error.to_string())
        })
    }
}

/// Lets what need not be kept any longer leave, now and then, until `stop`.
pub(super) async fn keep(
    store: Store,
    settings: config::Audit,
    clock: Clock,
    stop: CancellationToken,
) {
    let most = usize::try_from(settings.entries).unwrap_or(usize::MAX);
    loop {
        let oldest = clock.now().minus(settings.keep.0);
        let is_old = move |value: &[u8]| is_before(value, oldest);
        match store.prune_audit(most, Box::new(is_old)).await {
            // It may be one of many portions.
            Ok(count) if count > 0 => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old entries of the audit cannot leave"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Whether an entry is from before `oldest`; one that cannot be read stays until there are too many.
fn is_before(value: &[u8], oldest: Timestamp) -> bool {
    #[derive(serde::Deserialize)]
    struct Dated {
        time: Timestamp,
    }
    serde_json::from_slice::<Dated>(value).is_ok_and(|entry| entry.time < oldest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expose::Audit as _;
    use crate::model::Acknowledgement;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn heard(sequence: u64) -> Event {
        let acknowledgement = Acknowledgement {
            instance: String::new(),
            mode: "degraded".into(),
            sequence,
            detail: String::new(),
        };
        Event {
            sequence,
            time: NOW,
            body: EventBody::Acknowledged {
                service: "pay".into(),
                acknowledgement,
            },
        }
    }

    fn frozen(sequence: u64) -> Event {
        Event {
            sequence,
            time: NOW,
            body: EventBody::Freeze {
                frozen: true,
                reason: "x".into(),
                author: "ann".into(),
            },
        }
    }

    async fn numbers(
        store: &Store,
        types: &[&str],
        before: Option<u64>,
    ) -> (Vec<u64>, Option<u64>) {
        let query = AuditQuery {
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            before,
            limit: 4,
            ..AuditQuery::default()
        };
        let page = Reader(store.clone()).page(query).await.unwrap();
        let events = page.events.iter().map(|event| event.sequence);
        (events.collect(), page.next)
    }

    #[tokio::test]
    async fn acknowledgements_leave_room_for_what_is_decided() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), NOW, &Telemetry::new()).unwrap();
        // As earlier versions did.
        let old = serde_json::to_vec(&heard(1)).unwrap();
        store.record(vec![Change::audit(1, old)]).await.unwrap();
        let events = std::iter::once(frozen(2))
            .chain((3..=2_000).map(heard))
            .chain([frozen(2_001), heard(2_002)]);
        let changes = events.flat_map(|event| changes(&event).collect::<Vec<_>>());
        store.record(changes.collect()).await.unwrap();
        let pruned = store.prune_audit(3, Box::new(|_| false)).await;
        assert_eq!(pruned, Ok(1_996));
        let first = numbers(&store, &[], None).await;
        assert_eq!(first, (vec![2_002, 2_001, 2_000, 1_999], Some(1_999)));
        assert_eq!(numbers(&store, &[], first.1).await, (vec![2, 1], None));
        assert_eq!(
            numbers(&store, &["freeze"], None).await,
            (vec![2_001, 2], None)
        );
        let said = numbers(&store, &["acknowledged"], None).await;
        assert_eq!(said, (vec![2_002, 2_000, 1_999, 1], None));
    }
}
