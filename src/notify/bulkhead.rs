//! How many attempts are made at the same time, so that no endpoint that hangs takes the room of others.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Attempts at the same time.
///
/// Every integration may always have one attempt under way, whatever hangs elsewhere; only further ones
/// take from what its receiver and its kind have in common. Both limits hold unless there are more
/// integrations than the limit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Of one receiver (default 4; at least 1): enough that a slow answer does not hold up the rest, few
    /// enough not to trouble a receiver that is in trouble.
    pub receiver: usize,
    /// Of all integrations of one kind, such as all webhooks (default 64; at least 1).
    pub kind: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            receiver: 4,
            kind: 64,
        }
    }
}

/// What the integrations of one receiver, or of one kind, have in common.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<String, Arc<Semaphore>>);

impl Shares {
    /// For the names of receivers or kinds, each as often as it has integrations.
    pub(super) fn new<'n>(limit: usize, names: impl Iterator<Item = &'n str>) -> Self {
        let mut integrations: HashMap<String, usize> = HashMap::new();
        for name in names {
            *integrations.entry(name.to_owned()).or_default() += 1;
        }
        let share = |(name, used)| {
            let left = limit.min(Semaphore::MAX_PERMITS).saturating_sub(used);
            (name, Arc::new(Semaphore::new(left)))
        };
        Self(integrations.into_iter().map(share).collect())
    }

    /// The share of `name`.
    pub(super) fn of(&self, name: &str) -> Arc<Semaphore> {
        let share = self.0.get(name).map(Arc::clone);
        share.unwrap_or_else(|| Arc::new(Semaphore::new(0)))
    }
}

/// The wall around one integration.
#[derive(Debug)]
pub(super) struct Bulkhead {
    own: Semaphore,
    receiver: Arc<Semaphore>,
    kind: Arc<Semaphore>,
}

/// The right to make an attempt, as long as it is held.
#[derive(Debug)]
pub(super) struct Slot<'b> {
    _held: (SemaphorePermit<'b>, Option<SemaphorePermit<'b>>),
}

/// The semaphores are never closed.
const OPEN: &str = "nobody closes it";

impl Bulkhead {
    pub(super) fn new(receiver: Arc<Semaphore>, kind: Arc<Semaphore>) -> Self {
        Self {
            own: Semaphore::new(1),
            receiver,
            kind,
        }
    }

    /// Waits for the right to make an attempt.
    pub(super) async fn enter(&self) -> Slot<'_> {
        let shared = async {
            let receiver = self.receiver.acquire().await.expect(OPEN);
            let kind = self.kind.acquire().await.expect(OPEN);
            (receiver, Some(kind))
        };
        let held = tokio::select! {
            biased;
            own = self.own.acquire() => (own.expect(OPEN), None),
            held = shared => held,
        };
        Slot { _held: held }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn bulkheads(limit: Concurrency, lanes: &[(&str, &str)]) -> Vec<Bulkhead> {
        let receivers = Shares::new(limit.receiver, lanes.iter().map(|lane| lane.0));
        let kinds = Shares::new(limit.kind, lanes.iter().map(|lane| lane.1));
        lanes
            .iter()
            .map(|(receiver, kind)| Bulkhead::new(receivers.of(receiver), kinds.of(kind)))
            .collect()
    }

    /// How many attempts may be under way when those before have taken all they can.
    #[track_caller]
    fn check(receiver: usize, kind: usize, lanes: &[(&str, &str)], expected: &[usize]) {
        let limit = Concurrency { receiver, kind };
        let bulkheads = bulkheads(limit, lanes);
        let mut held = Vec::new();
        let mut entered = Vec::new();
        for bulkhead in &bulkheads {
            let before = held.len();
            while let Some(slot) = bulkhead.enter().now_or_never() {
                held.push(slot);
            }
            entered.push(held.len() - before);
        }
        assert_eq!(entered, expected, "{limit:?} {lanes:?}");
    }

    #[test]
    fn one_attempt_is_always_possible() {
        let apart = [("a", "webhook"), ("b", "webhook"), ("c", "email")];
        check(4, 64, &apart, &[4, 4, 4]);
        check(4, 6, &apart, &[4, 2, 4]);
        check(4, 1, &apart, &[1, 1, 1]);
        check(1, 64, &apart, &[1, 1, 1]);
        let together = [("a", "webhook"), ("a", "webhook"), ("a", "email")];
        check(4, 64, &together, &[2, 1, 1]);
        check(1, 64, &together, &[1, 1, 1]);
    }

    #[test]
    fn what_is_let_go_is_free_again() {
        let limit = Concurrency {
            receiver: 2,
            kind: 2,
        };
        let bulkheads = bulkheads(limit, &[("a", "webhook")]);
        let enter = || bulkheads[0].enter().now_or_never();
        let (first, second) = (enter().expect("its own"), enter().expect("shared"));
        assert!(enter().is_none());
        drop(second);
        assert!(enter().is_some());
        drop(first);
        assert!(enter().is_some());
    }
}
