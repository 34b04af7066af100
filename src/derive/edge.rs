//! Who calls whom: a span whose parent belongs to another service is a call of that service.
//!
//! The spans of one trace come in any order, children before their parents as a rule, so spans are
//! remembered for a while by a fingerprint of trace and span; children wait as long for a parent that
//! was not seen. The same memory tells spans that were seen before.

mod generation;

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use self::generation::{Entry, Generation, NOTHING, UNSEEN};
use crate::model::{SpanRecord, Timestamp};

/// So many steps are made upwards to see whether a span is its own ancestor.
const MAX_STEPS: usize = 32;

/// Stands for a trace and a span of it. 64 bits of a seeded hash: two of a million remembered spans
/// meet once in ten million such millions, and then one span is not counted.
type Print = u64;
/// No span.
const NOBODY: Print = 0;

/// One call, as its callee's span reports it. The trace is that of whoever completes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Call {
    /// Number of the service that is called.
    pub(super) callee: u32,
    pub(super) end: Timestamp,
    /// How long it took.
    pub(super) nanos: u64,
    pub(super) error: bool,
    pub(super) span: u64,
}

/// Remembers spans and joins children to their parents. Services are numbers below 2^31 - 1, which mean
/// something to the caller only; a number must not get another meaning while
/// [`forgets`](Self::forgets) does not say that it may.
#[derive(Debug)]
pub(super) struct Joins {
    hasher: SeedableRandomState,
    /// Two generations, of which the older is dropped when the younger is as old as the window or full.
    /// So an entry stays at least a window, unless more come than there is room for.
    young: Generation,
    old: Generation,
    /// How often a generation was dropped.
    dropped: u64,
    /// When the younger generation began.
    began: Option<Timestamp>,
    window: Duration,
    /// Most entries of a generation.
    capacity: usize,
}

/// Fingerprints of a span and its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prints {
    own: Print,
    parent: Print,
}

impl Joins {
    /// Remembers at most `max_spans` spans, those among them that were named but not seen, and lets at
    /// most as many calls wait, for at least `window` and at most twice as long.
    pub(super) fn new(window: Duration, max_spans: usize, seed: u64) -> Self {
        Self {
            hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
            young: Generation::default(),
            old: Generation::default(),
            dropped: 0,
            began: None,
            window,
            capacity: (max_spans / 2).max(1),
        }
    }

    /// Lets go of what is too old at `now`.
    pub(super) fn advance(&mut self, now: Timestamp) {
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
        self.dropped += 1;
    }

    /// A number that rises; see [`forgets`](Self::forgets).
    pub(super) fn age(&self) -> u64 {
        self.dropped
    }

    /// Whether nothing is remembered any more of what came when [`age`](Self::age) was `age` or less.
    pub(super) fn forgets(&self, age: u64) -> bool {
        self.dropped.saturating_sub(age) >= 2
    }

    /// The fingerprints by which `span` is known.
    pub(super) fn prints(&self, span: &SpanRecord) -> Prints {
        let trace = self.hasher.hash_one(span.trace_id);
        let parent = span.parent_id.filter(|parent| *parent != span.span_id);
        Prints {
            own: self.print(trace, span.span_id),
            parent: parent.map_or(NOBODY, |parent| self.print(trace, parent)),
        }
    }

    /// Looks at the places in memory that [`join`](Self::join) is about to need, each for itself, so that
    /// several spans wait for memory at once. What it says means nothing.
    pub(super) fn glance(&self, prints: Prints) -> bool {
        let Prints { own, parent } = prints;
        self.young.find(own).is_some()
            ^ self.old.find(own).is_some()
            ^ self.young.find(parent).is_some()
    }

    fn print(&self, trace: u64, span: u64) -> Print {
        self.hasher.hash_one((trace, span)).max(NOBODY + 1)
    }

    /// Remembers `span` and hands every call that it completes to `found`, with the number of the
    /// caller. Returns false, and does nothing, if the span was seen before. `prints` and `service` are
    /// the span's.
    pub(super) fn join(
        &mut self,
        span: &SpanRecord,
        prints: Prints,
        service: u32,
        mut found: impl FnMut(u32, Call),
    ) -> bool {
        let Prints { own, parent } = prints;
        // For itself and for its parent.
        if self.young.len() + 2 > self.capacity {
            self.rotate();
        }
        let (mut waiting, mut waiting_longer) = (NOTHING, NOTHING);
        let is_named = match self.young.find_mut(own) {
            Some(entry) if entry.service != UNSEEN => return false,
            Some(entry) => {
                waiting = entry.waiting;
                true
            }
            None => false,
        };
        match self.old.find_mut(own) {
            Some(entry) if entry.service != UNSEEN => return false,
            Some(entry) => waiting_longer = std::mem::replace(&mut entry.waiting, NOTHING),
            None => {}
        }
        let is_parent = waiting != NOTHING || waiting_longer != NOTHING;
        let caller = self.find(parent);
        let above = match caller {
            _ if parent == NOBODY => NOBODY,
            Some(caller) => caller.above,
            None => parent,
        };
        // Who calls nobody is no ancestor, and whose ancestors end somewhere is none of them.
        let is_cycle = is_parent && caller.is_some() && above != NOBODY && self.top(above) == own;
        let entry = Entry {
            print: own,
            above: if is_cycle { NOBODY } else { above },
            service,
            waiting: NOTHING,
        };
        if is_named {
            self.young.replace(entry);
        } else {
            self.young.insert(entry);
        }
        if parent != NOBODY {
            let call = Call {
                callee: service,
                end: span.end,
                nanos: span.nanos(),
                error: span.error,
                span: span.span_id,
            };
            match caller {
                Some(caller) if caller.service == service || is_cycle => {}
                Some(caller) => found(caller.service, call),
                None => self.young.push(parent, &call),
            }
        }
        for (longer, mut at) in [(true, waiting_longer), (false, waiting)] {
            while let Some(call) = self.generation(longer).release(&mut at) {
                if call.callee != service && !is_cycle {
                    found(service, call);
                }
            }
        }
        true
    }

    fn generation(&mut self, longer: bool) -> &mut Generation {
        if longer {
            &mut self.old
        } else {
            &mut self.young
        }
    }

    /// The entry of a span that was seen.
    fn find(&self, print: Print) -> Option<Entry> {
        let seen = |entry: &&Entry| entry.service != UNSEEN;
        let entry = self.young.find(print).filter(seen);
        entry.or_else(|| self.old.find(print).filter(seen)).copied()
    }

    /// The uppermost known ancestor of a span, or itself.
    fn top(&self, span: Print) -> Print {
        let mut at = span;
        for _ in 0..MAX_STEPS {
            match self.find(at) {
                Some(entry) if entry.above != NOBODY => at = entry.above,
                _ => break,
            }
        }
        at
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.young.bytes() + self.old.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A joiner and the edges it found. Services are letters.
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

        fn span(&mut self, at: i64, service: char, id: u64, parent: Option<u64>) -> bool {
            let span = SpanRecord {
                trace_id: 1,
                span_id: id,
                parent_id: parent,
                start: Timestamp::from_secs(at),
                end: Timestamp::from_secs(at + 1),
                operation: 0,
                error: id.is_multiple_of(2),
            };
            self.joins.advance(Timestamp::from_secs(at));
            let edges = &mut self.edges;
            let prints = self.joins.prints(&span);
            self.joins
                .join(&span, prints, service as u32, |caller, call| {
                    let name = |number| char::from_u32(number).unwrap();
                    edges.push(format!("{}>{}", name(caller), name(call.callee)));
                    assert_eq!(call.error, call.span.is_multiple_of(2));
                    assert_eq!(call.nanos, 1_000_000_000);
                })
        }
    }

    #[test]
    fn children_find_their_parents_in_either_order() {
        let mut case = Case::new(1000);
        assert!(case.span(0, 's', 1, None));
        assert!(case.span(0, 's', 2, Some(1)));
        assert!(case.span(0, 'c', 3, Some(2)));
        assert_eq!(case.edges, ["s>c"]);
        assert!(case.span(0, 'd', 11, Some(10)));
        assert!(case.span(0, 'e', 12, Some(10)));
        assert!(case.span(0, 'c', 13, Some(10)));
        assert!(case.span(0, 'c', 10, Some(9)));
        case.edges.sort();
        assert_eq!(case.edges, ["c>d", "c>e", "s>c"]);
        assert!(!case.span(0, 'c', 10, Some(9)), "seen before");
        assert_eq!(case.edges.len(), 3);
    }

    #[test]
    fn a_parent_is_waited_for_through_a_change_of_generations() {
        let mut case = Case::new(1000);
        assert!(case.span(0, 'd', 11, Some(10)));
        assert!(case.span(61, 'e', 12, Some(10)), "another generation");
        assert!(case.span(61, 'f', 14, Some(12)));
        assert!(case.span(62, 'c', 10, Some(9)));
        case.edges.sort();
        assert_eq!(case.edges, ["c>d", "c>e", "e>f"]);
        assert!(
            case.span(122, 'g', 15, Some(10)),
            "the parent is in the older"
        );
        assert_eq!(case.edges.len(), 4);
        assert!(!case.span(123, 'c', 10, Some(9)));
        assert!(case.span(190, 'h', 16, Some(10)), "and is forgotten");
        assert_eq!(case.edges.len(), 4);
        // A place that a call left is used again.
        for id in 100..200 {
            assert!(case.span(190, 'a', 2 * id + 1, Some(2 * id)));
            assert!(case.span(190, 'b', 2 * id, None));
        }
        assert_eq!(case.edges.len(), 104);
        assert!(case.joins.young.calls() <= 2);
    }

    #[test]
    fn no_edge_from_itself_from_a_cycle_or_from_nowhere() {
        let mut case = Case::new(1000);
        case.span(0, 'a', 1, Some(1));
        case.span(0, 'a', 2, Some(99));
        case.span(0, 'a', 3, Some(4));
        case.span(0, 'b', 4, Some(3));
        assert!(case.edges.is_empty(), "{:?}", case.edges);
        // Of a longer cycle the span that closes it makes no edge.
        case.span(0, 'a', 5, Some(6));
        case.span(0, 'b', 6, Some(7));
        let open = case.edges.len();
        case.span(0, 'c', 7, Some(5));
        assert_eq!(case.edges.len(), open);
    }

    #[test]
    fn memory_is_bounded_in_time_and_number() {
        let mut case = Case::new(1000);
        assert!(case.span(0, 'a', 1, None));
        assert!(!case.span(59, 'a', 1, None));
        assert!(!case.span(61, 'a', 1, None), "kept for at least the window");
        assert!(case.span(130, 'a', 1, None), "and at most for two");
        for id in 10..100_000 {
            assert!(case.span(130, 'a', id, Some(id + 1_000_000)));
        }
        let before = case.joins.bytes();
        for id in 200_000..300_000 {
            assert!(case.span(130, 'a', id, Some(id + 1_000_000)));
        }
        assert!(case.joins.bytes() <= before + before / 2);
        let (young, old) = (&case.joins.young, &case.joins.old);
        assert!(young.len() + old.len() <= 1000 && young.calls() + old.calls() <= 1000);
        assert!(case.span(131, 'a', 10, None), "the oldest leave");
        // The clock is set back by an hour: forgetting goes on.
        assert!(case.span(-3600, 'a', 400_000, None));
        assert!(case.span(-3400, 'a', 400_000, None));
    }

    #[test]
    fn what_is_remembered_is_small() {
        assert_eq!(
            (size_of::<Entry>(), size_of::<generation::Waiting>()),
            (24, 32)
        );
        assert_eq!(size_of::<SpanRecord>(), 64);
    }
}
