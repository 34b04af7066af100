//! Who calls whom: a span whose parent belongs to another service is a call of that service.
//!
//! The spans of one trace come in any order, children before their parents as a rule, so spans are
//! remembered for a while by a fingerprint of trace and span; children wait as long for a parent that
//! was not seen. The same memory tells spans that were seen before.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::SharedSeed;
use foldhash::fast::FixedState;
use foldhash::quality::SeedableRandomState;

use crate::model::{Resource, SpanRecord, Timestamp};

/// So many parents are followed upwards to see whether a span is its own ancestor.
const MAX_ANCESTORS: usize = 32;

/// Stands for a trace and a span of it. 64 bits of a seeded hash: two of a million remembered spans
/// meet once in ten million such millions, and then one span is not counted.
type Print = u64;

/// One call, as its callee's span reports it.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) callee: Arc<Resource>,
    pub(super) end: Timestamp,
    pub(super) seconds: f64,
    pub(super) error: bool,
    pub(super) trace: u128,
    pub(super) span: u64,
}

/// A remembered span.
#[derive(Debug)]
struct Seen {
    service: Arc<Resource>,
    parent: Option<Print>,
}

/// Remembers spans and joins children to their parents.
#[derive(Debug)]
pub(super) struct Joins {
    hasher: SeedableRandomState,
    seen: Rotating<Seen>,
    /// Calls that wait for their parent, by the parent.
    waiting: Rotating<Vec<(Print, Call)>>,
}

impl Joins {
    /// Remembers at most `max_spans` spans, and lets at most as many calls wait, for at least `window`
    /// and at most twice as long.
    pub(super) fn new(window: Duration, max_spans: usize, seed: u64) -> Self {
        Self {
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
            seen: Rotating::new(window, max_spans / 2, seed),
            waiting: Rotating::new(window, max_spans / 2, seed),
        }
    }

    /// Remembers `span` and hands every call that it completes to `found`, with the caller. Returns
    /// false, and does nothing, if the span was seen before. `service` is the span's.
    pub(super) fn join(
        &mut self,
        span: &SpanRecord,
        service: &Arc<Resource>,
        now: Timestamp,
        mut found: impl FnMut(&Arc<Resource>, &Call),
    ) -> bool {
        self.seen.advance(now);
        self.waiting.advance(now);
        let print = |id: u64| self.hasher.hash_one((span.trace_id, id));
        let own = print(span.span_id);
        if self.seen.get(own).is_some() {
            return false;
        }
        let parent = span
            .parent_id
            .filter(|parent| *parent != span.span_id)
            .map(print);
        self.seen.insert(
            own,
            Seen {
                service: Arc::clone(service),
                parent,
            },
        );
        if let Some(parent) = parent {
            let call = || Call {
                callee: Arc::clone(service),
                end: span.end,
                seconds: span.end.seconds_since(span.start),
                error: span.error,
                trace: span.trace_id,
                span: span.span_id,
            };
            match self.seen.get(parent) {
                Some(known) if known.service.service == service.service => {}
                Some(known) => {
                    if !self.descends(parent, own) {
                        found(&known.service, &call());
                    }
                }
                None => {
                    self.waiting.push(parent, (own, call()));
                }
            }
        }
        for (child, call) in self.waiting.take(own) {
            if call.callee.service != service.service && !self.descends(own, child) {
                found(service, &call);
            }
        }
        true
    }

    /// Whether `ancestor` is among the known ancestors of `span`.
    fn descends(&self, span: Print, ancestor: Print) -> bool {
        let mut at = span;
        for _ in 0..MAX_ANCESTORS {
            match self.seen.get(at).and_then(|seen| seen.parent) {
                Some(parent) if parent == ancestor => return true,
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.seen.bytes(size_of::<Seen>())
            + self.waiting.bytes(size_of::<Vec<(Print, Call)>>())
            + self.waiting.held() * size_of::<(Print, Call)>()
    }
}

/// A map that forgets: two generations, of which the older is dropped when the younger is as old as
/// the window or full. So an entry stays at least a window, unless more come than there is room for.
#[derive(Debug)]
struct Rotating<V> {
    young: HashMap<Print, V, FixedState>,
    old: HashMap<Print, V, FixedState>,
    /// Entries in `young`, or what its lists hold together.
    held_young: usize,
    held_old: usize,
    began: Option<Timestamp>,
    window: Duration,
    capacity: usize,
}

impl<V> Rotating<V> {
    fn new(window: Duration, capacity: usize, seed: u64) -> Self {
        let map = || HashMap::with_hasher(FixedState::with_seed(seed));
        Self {
            young: map(),
            old: map(),
            held_young: 0,
            held_old: 0,
            began: None,
            window,
            capacity: capacity.max(1),
        }
    }

    fn advance(&mut self, now: Timestamp) {
        let began = *self.began.get_or_insert(now);
        if now.since(began) >= self.window {
            // After two windows nothing of the younger generation is worth keeping either.
            if now.since(began) >= self.window.saturating_mul(2) {
                self.rotate();
            }
            self.rotate();
            self.began = Some(now);
        } else if now < began {
            // The clock was set back: count anew rather than keep one generation for ever.
            self.began = Some(now);
        }
    }

    fn rotate(&mut self) {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        self.held_old = std::mem::take(&mut self.held_young);
    }

    fn make_room(&mut self) {
        if self.held_young >= self.capacity {
            self.rotate();
        }
        self.held_young += 1;
    }

    fn get(&self, key: Print) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    fn insert(&mut self, key: Print, value: V) {
        self.make_room();
        self.young.insert(key, value);
    }

    fn held(&self) -> usize {
        self.held_young + self.held_old
    }

    fn bytes(&self, value: usize) -> usize {
        (self.young.capacity() + self.old.capacity()) * (size_of::<Print>() + value + 1)
    }
}

impl<T> Rotating<Vec<T>> {
    fn push(&mut self, key: Print, item: T) {
        self.make_room();
        self.young.entry(key).or_default().push(item);
    }

    /// All items of `key`, which leave.
    fn take(&mut self, key: Print) -> impl Iterator<Item = T> + use<T> {
        let young = self.young.remove(&key).unwrap_or_default();
        let old = self.old.remove(&key).unwrap_or_default();
        self.held_young = self.held_young.saturating_sub(young.len());
        self.held_old = self.held_old.saturating_sub(old.len());
        old.into_iter().chain(young)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(service: &str) -> Arc<Resource> {
        Arc::new(Resource {
            service: service.into(),
            attributes: Default::default(),
        })
    }

    /// A joiner and the edges it found.
    struct Case {
        joins: Joins,
        edges: Vec<String>,
    }

    impl Case {
        fn new(max_spans: usize) -> Self {
            Self {
                joins: Joins::new(Duration::from_secs(60), max_spans, 7),
                edges: Vec::new(),
            }
        }

        fn span(&mut self, at: i64, service: &str, id: u64, parent: Option<u64>) -> bool {
            let span = SpanRecord {
                resource: resource(service),
                name: "x".into(),
                kind: crate::model::SpanKind::Server,
                start: Timestamp::from_secs(at),
                end: Timestamp::from_secs(at + 1),
                error: false,
                trace_id: 1,
                span_id: id,
                parent_id: parent,
            };
            let edges = &mut self.edges;
            self.joins.join(
                &span,
                &span.resource,
                Timestamp::from_secs(at),
                |caller, call| edges.push(format!("{}>{}", caller.service, call.callee.service)),
            )
        }
    }

    #[test]
    fn children_find_their_parents_in_either_order() {
        let mut case = Case::new(1000);
        assert!(case.span(0, "shop", 1, None));
        assert!(case.span(0, "shop", 2, Some(1)));
        assert!(case.span(0, "cart", 3, Some(2)));
        assert_eq!(case.edges, ["shop>cart"]);
        assert!(case.span(0, "db", 11, Some(10)));
        assert!(case.span(0, "cache", 12, Some(10)));
        assert!(case.span(0, "cart", 13, Some(10)));
        assert!(case.span(0, "cart", 10, Some(9)));
        assert_eq!(case.edges, ["shop>cart", "cart>db", "cart>cache"]);
        assert!(!case.span(0, "cart", 10, Some(9)), "seen before");
        assert_eq!(case.edges.len(), 3);
    }

    #[test]
    fn no_edge_from_itself_from_a_cycle_or_from_nowhere() {
        let mut case = Case::new(1000);
        case.span(0, "a", 1, Some(1));
        case.span(0, "a", 2, Some(99));
        case.span(0, "a", 3, Some(4));
        case.span(0, "b", 4, Some(3));
        assert!(case.edges.is_empty(), "{:?}", case.edges);
        // Of a longer cycle the span that closes it makes no edge.
        case.span(0, "a", 5, Some(6));
        case.span(0, "b", 6, Some(7));
        let open = case.edges.len();
        case.span(0, "c", 7, Some(5));
        assert_eq!(case.edges.len(), open);
    }

    #[test]
    fn memory_is_bounded_in_time_and_number() {
        let mut case = Case::new(1000);
        assert!(case.span(0, "a", 1, None));
        assert!(!case.span(59, "a", 1, None));
        assert!(!case.span(61, "a", 1, None), "kept for at least the window");
        assert!(case.span(130, "a", 1, None), "and at most for two");
        for id in 10..100_000 {
            assert!(case.span(130, "a", id, Some(id + 1_000_000)));
        }
        let before = case.joins.bytes();
        for id in 200_000..300_000 {
            assert!(case.span(130, "a", id, Some(id + 1_000_000)));
        }
        assert!(case.joins.bytes() <= before);
        assert!(case.joins.seen.held() <= 1000 && case.joins.waiting.held() <= 1000);
        assert!(case.span(131, "a", 10, None), "the oldest leave");
        // The clock is set back by an hour: forgetting goes on.
        assert!(case.span(-3600, "a", 400_000, None));
        assert!(case.span(-3400, "a", 400_000, None));
    }
}
