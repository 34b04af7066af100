//! The one subscription under all skins.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::State;
use crate::expose::answer::ApiError;
use crate::model::{Alert, Event};
use crate::publish::{ModesView, Subscription, WATCHER_BUFFER};

/// Where a watcher begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With the present state.
    Present,
    /// After the event of this number; with the present state if the log does not reach back that far.
    After(u64),
}

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// The present state.
    Snapshot(Snapshot),
    /// Something that happened after.
    Event(Arc<Event>),
}

/// The state as of some moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// No event up to this number is missing from the state; some later ones may be in it too.
    pub(super) sequence: u64,
    pub(super) alerts: Arc<Vec<Arc<Alert>>>,
    pub(super) modes: Arc<ModesView>,
}

/// Which events a watcher wants to hear of.
pub(super) type Filter = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// Counts a watcher for as long as it lives.
struct Counted {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Why a watcher's stream ends.
enum End {
    /// It has left, or we stop.
    Over,
    /// It did not read in time.
    Behind,
}

impl State {
    /// A new watcher. Its stream ends when it falls behind by more than [`WATCHER_BUFFER`] events, even if
    /// it never reads again, and when the daemon stops.
    ///
    /// # Errors
    /// There are too many watchers.
    pub(super) fn watch(
        &self,
        start: Start,
        filter: Filter,
    ) -> Result<mpsc::Receiver<Item>, ApiError> {
        let permit = Arc::clone(&self.watchers).try_acquire_owned();
        let Ok(permit) = permit else {
            let most = self.limits.watchers;
            return Err(ApiError::unavailable(format!(
                "there are {most} watchers already; come back later"
            )));
        };
        self.telemetry.watchers.inc();
        let counted = Counted {
            gauge: self.telemetry.watchers.clone(),
            _permit: permit,
        };
        // As many events as the board keeps for a slow watcher; who fills it is dropped.
        let (items, receiver) = mpsc::channel(WATCHER_BUFFER);
        // Taken before subscribing: what is appended between the two is told twice rather than never.
        let sequence = self.board.last_sequence();
        let (subscription, snapshot) = match start {
            Start::Present => (self.board.subscribe(None), true),
            Start::After(after) => {
                let subscription = self.board.subscribe(Some(after));
                let gap = subscription.gap;
                (subscription, gap)
            }
        };
        let snapshot = snapshot.then(|| Snapshot {
            sequence,
            alerts: self.board.alerts(),
            modes: self.board.modes(),
        });
        // A task of its own, because a stream that is not read is not polled either: nobody else would
        // notice that the watcher has fallen behind. If it panics the guard lets the watcher go and its
        // stream ends, as if it had fallen behind.
        let state = self.clone();
        self.tasks.spawn(async move {
            let _counted = counted;
            let end = tokio::select! {
                () = state.stop.cancelled() => End::Over,
                () = items.closed() => End::Over,
                end = state.pump(snapshot, subscription, &filter, &items) => end,
            };
            match end {
                End::Over => {}
                End::Behind => state.telemetry.watchers_dropped.inc(),
            }
        });
        Ok(receiver)
    }

    async fn pump(
        &self,
        snapshot: Option<Snapshot>,
        mut subscription: Subscription,
        filter: &Filter,
        items: &mpsc::Sender<Item>,
    ) -> End {
        let missed = subscription
            .missed
            .into_iter()
            .filter(|event| filter(event));
        let first = snapshot.map(Item::Snapshot).into_iter();
        // There may be more of these than fit; a watcher that reads gets them all.
        for item in first.chain(missed.map(Item::Event)) {
            match tokio::time::timeout(self.limits.stall, items.send(item)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Over,
                Err(_) => return End::Behind,
            }
        }
        loop {
            let event = match subscription.live.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => return End::Behind,
                Err(RecvError::Closed) => return End::Over,
            };
            if !filter(&event) {
                continue;
            }
            match items.try_send(Item::Event(event)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return End::Behind,
                Err(TrySendError::Closed(_)) => return End::Over,
            }
        }
    }
}
