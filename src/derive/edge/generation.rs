//! What came within a window: spans by their fingerprints, and calls that wait for their callers.

use hashbrown::{HashTable, hash_table};

use super::{Call, NOBODY, Print};
use crate::model::Timestamp;

/// A table grows by hashing what it has anew. This many small ones do less of that at a time than one large one;
/// entries themselves are only copied, as a whole.
const TABLES: usize = 64;
/// The service of a span that was not seen yet.
pub(super) const UNSEEN: u32 = u32::MAX;
/// No call.
pub(super) const NOTHING: u32 = u32::MAX;

/// A span that was seen, or one that others name as their parent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) print: Print,
    /// The ancestor at which what was known of them ended when it came: one that was named and not seen.
    /// [`NOBODY`] if they ended with a span without a parent.
    pub(super) above: Print,
    /// Number of its service, or [`UNSEEN`].
    pub(super) service: u32,
    /// The newest of the calls that wait for it, or [`NOTHING`].
    pub(super) waiting: u32,
}

/// A call that waits for its caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    span: u64,
    end: Timestamp,
    nanos: u64,
    /// Twice the number of the service, and one more for an error.
    callee: u32,
    /// The one before it that waits for the same span, or the next one that is free.
    next: u32,
}

/// What came within a window. Entries lie in the order in which they came, so that neighbours in time,
/// the spans of a trace, are neighbours in memory; tables say where.
#[derive(Debug, Default)]
pub(super) struct Generation {
    /// Positions in `entries`, by the upper bits of the fingerprint; empty before the first.
    tables: Vec<HashTable<u32>>,
    entries: Vec<Entry>,
    /// Calls that wait, and places that are free for others.
    calls: Vec<Waiting>,
    /// The first free place, or how many there are in all.
    free: u32,
}

impl Generation {
    pub(super) fn clear(&mut self) {
        self.tables.iter_mut().for_each(HashTable::clear);
        self.entries.clear();
        self.calls.clear();
        self.free = 0;
    }

    /// Spans that were seen or named.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Places of calls, taken or free.
    #[cfg(test)]
    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Which table. The uppermost 7 bits and the lowest ones serve within it.
    fn table(print: Print) -> usize {
        (print >> 48) as usize % TABLES
    }

    fn place(&self, print: Print) -> Option<usize> {
        let table = self.tables.get(Self::table(print))?;
        let at = table.find(print, |at| is(&self.entries, *at, print))?;
        Some(*at as usize)
    }

    pub(super) fn find(&self, print: Print) -> Option<&Entry> {
        self.entries.get(self.place(print)?)
    }

    pub(super) fn find_mut(&mut self, print: Print) -> Option<&mut Entry> {
        let place = self.place(print)?;
        self.entries.get_mut(place)
    }

    /// Adds the entry of a span that has none.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.make_tables();
        let Self {
            tables, entries, ..
        } = self;
        if let Some(table) = tables.get_mut(Self::table(entry.print)) {
            let at = entries.len() as u32;
            table.insert_unique(entry.print, at, |at| print(entries, *at));
            entries.push(entry);
        }
    }

    /// Puts an entry in the place of the one that the span has.
    pub(super) fn replace(&mut self, entry: Entry) {
        if let Some(known) = self.find_mut(entry.print) {
            *known = entry;
        }
    }

    fn make_tables(&mut self) {
        if self.tables.is_empty() {
            self.tables.resize_with(TABLES, HashTable::new);
        }
    }

    /// Has `call` wait for `caller`.
    pub(super) fn push(&mut self, caller: Print, call: &Call) {
        self.make_tables();
        let Self {
            tables, entries, ..
        } = self;
        let Some(table) = tables.get_mut(Self::table(caller)) else {
            return;
        };
        let first = self.free;
        let place = table.entry(
            caller,
            |at| is(entries, *at, caller),
            |at| print(entries, *at),
        );
        let next = match place {
            hash_table::Entry::Occupied(at) => match entries.get_mut(*at.get() as usize) {
                Some(known) => std::mem::replace(&mut known.waiting, first),
                None => NOTHING,
            },
            hash_table::Entry::Vacant(place) => {
                place.insert(entries.len() as u32);
                entries.push(Entry {
                    print: caller,
                    above: NOBODY,
                    service: UNSEEN,
                    waiting: first,
                });
                NOTHING
            }
        };
        let waiting = Waiting {
            span: call.span,
            end: call.end,
            nanos: call.nanos,
            callee: call.callee << 1 | u32::from(call.error),
            next,
        };
        match self.calls.get_mut(first as usize) {
            Some(place) => self.free = std::mem::replace(place, waiting).next,
            None => {
                self.calls.push(waiting);
                self.free = self.calls.len() as u32;
            }
        }
    }

    /// Takes out the call at `at`, which goes on to the next.
    pub(super) fn release(&mut self, at: &mut u32) -> Option<Call> {
        let place = self.calls.get_mut(*at as usize)?;
        let waiting = *place;
        place.next = std::mem::replace(&mut self.free, *at);
        *at = waiting.next;
        Some(Call {
            callee: waiting.callee >> 1,
            end: waiting.end,
            nanos: waiting.nanos,
            error: waiting.callee & 1 == 1,
            span: waiting.span,
        })
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let found: usize = self.tables.iter().map(HashTable::allocation_size).sum();
        let tables = self.tables.capacity() * size_of::<HashTable<u32>>();
        let entries = self.entries.capacity() * size_of::<Entry>();
        found + tables + entries + self.calls.capacity() * size_of::<Waiting>()
    }
}

/// The fingerprint of the entry at a place.
fn print(entries: &[Entry], at: u32) -> Print {
    entries.get(at as usize).map_or(NOBODY, |entry| entry.print)
}

/// Whether the entry at a place is that of a span.
fn is(entries: &[Entry], at: u32, span: Print) -> bool {
    print(entries, at) == span
}
