//! Resources, scopes and series that were met before, recognised by the bytes they came in.
//!
//! To read attributes, to sort them and to hash their canonical form costs several times what the rest
//! of a point costs, and a client writes the same bytes each time. So it is done once; what comes again
//! is found by a hash of its bytes. Other bytes for the same identity (another order, another client)
//! are read once more and give the same [`SeriesId`].

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use foldhash::quality::RandomState;

use crate::model::{Resource, Scope, SeriesId};

/// A hash of 128 bits under two seeds that nobody outside knows or sees the results of: that two
/// different texts share it is no likelier than a wrong bit in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print(u64, u64);

impl Hash for Print {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A print is a hash already.
#[derive(Debug, Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not used for prints; whatever it is, it must count.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct BuildAsItIs;

impl BuildHasher for BuildAsItIs {
    type Hasher = AsItIs;

    fn build_hasher(&self) -> AsItIs {
        AsItIs::default()
    }
}

/// Makes a [`Print`] of several texts, one after the other.
pub(super) struct Printer {
    one: <RandomState as BuildHasher>::Hasher,
    other: <RandomState as BuildHasher>::Hasher,
}

impl Printer {
    /// Adds a text; where it ends counts.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.one.write_usize(bytes.len());
        self.one.write(bytes);
        self.other.write_usize(bytes.len());
        self.other.write(bytes);
    }

    /// Goes on from another print.
    pub(super) fn follow(&mut self, print: Print) {
        for hasher in [&mut self.one, &mut self.other] {
            hasher.write_u64(print.0);
            hasher.write_u64(print.1);
        }
    }

    /// The print of all that was added.
    pub(super) fn finish(self) -> Print {
        Print(self.one.finish(), self.other.finish())
    }
}

/// Something known, and whether it was asked for since somebody last had to leave.
struct Entry<T> {
    value: T,
    used: AtomicBool,
}

/// Some kind of things that are known: at most `most`, and those that nobody asks for leave first.
struct Table<T> {
    entries: HashMap<Print, Entry<T>, BuildAsItIs>,
    most: usize,
}

impl<T: Clone> Table<T> {
    fn new(most: usize) -> Self {
        Self {
            entries: HashMap::with_hasher(BuildAsItIs),
            most: most.max(1),
        }
    }

    fn get(&self, print: Print) -> Option<T> {
        let entry = self.entries.get(&print)?;
        // Written only when it changes, so that cores do not take the line from each other.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(entry.value.clone())
    }

    fn insert(&mut self, print: Print, value: T) {
        if self.entries.len() >= self.most {
            // Second chance for what was used; one sweep makes room for as many as it removed.
            self.entries
                .retain(|_, entry| entry.used.swap(false, Ordering::Relaxed));
            if self.entries.len() > self.most / 2 {
                let mut keep = self.most / 2;
                self.entries.retain(|_, _| {
                    keep = keep.saturating_sub(1);
                    keep > 0
                });
            }
        }
        let entry = Entry {
            value,
            used: AtomicBool::new(false),
        };
        self.entries.insert(print, entry);
    }
}

struct Tables {
    resources: Table<Arc<Resource>>,
    scopes: Table<Arc<Scope>>,
    series: Table<SeriesId>,
}

/// What was met before, shared by all requests. Bounded.
pub(crate) struct Known {
    seeds: [RandomState; 2],
    /// Read while a request is read; written once after a request that brought something new.
    tables: RwLock<Tables>,
}

impl Known {
    /// Remembers up to `series` series, and as many resources and scopes.
    pub(crate) fn new(series: usize) -> Self {
        Self {
            seeds: [RandomState::default(), RandomState::default()],
            tables: RwLock::new(Tables {
                resources: Table::new(series),
                scopes: Table::new(series),
                series: Table::new(series),
            }),
        }
    }

    /// Looks things up for one request.
    pub(super) fn look(&self) -> Look<'_> {
        Look {
            known: self,
            // Nothing below leaves a table half changed.
            tables: Some(self.tables.read().unwrap_or_else(PoisonError::into_inner)),
            resources: Vec::new(),
            scopes: Vec::new(),
            series: Vec::new(),
        }
    }
}

/// One request's view of what is known. What is new is remembered when it is dropped.
pub(super) struct Look<'k> {
    known: &'k Known,
    /// `None` only while it is dropped.
    tables: Option<RwLockReadGuard<'k, Tables>>,
    resources: Vec<(Print, Arc<Resource>)>,
    scopes: Vec<(Print, Arc<Scope>)>,
    series: Vec<(Print, SeriesId)>,
}

impl Look<'_> {
    /// Begins a print.
    pub(super) fn printer(&self) -> Printer {
        let [one, other] = &self.known.seeds;
        Printer {
            one: one.build_hasher(),
            other: other.build_hasher(),
        }
    }

    /// The resource that came in these bytes before.
    pub(super) fn resource(&self, print: Print) -> Option<Arc<Resource>> {
        self.tables.as_ref()?.resources.get(print)
    }

    /// The scope that came in these bytes before.
    pub(super) fn scope(&self, print: Print) -> Option<Arc<Scope>> {
        self.tables.as_ref()?.scopes.get(print)
    }

    /// The series that came in these bytes before.
    pub(super) fn series(&self, print: Print) -> Option<SeriesId> {
        self.tables.as_ref()?.series.get(print)
    }

    /// Remembers a resource.
    pub(super) fn note_resource(&mut self, print: Print, resource: &Arc<Resource>) {
        self.resources.push((print, Arc::clone(resource)));
    }

    /// Remembers a scope.
    pub(super) fn note_scope(&mut self, print: Print, scope: &Arc<Scope>) {
        self.scopes.push((print, Arc::clone(scope)));
    }

    /// Remembers a series.
    pub(super) fn note_series(&mut self, print: Print, id: SeriesId) {
        self.series.push((print, id));
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        // Or this thread would wait for itself.
        drop(self.tables.take());
        if self.resources.is_empty() && self.scopes.is_empty() && self.series.is_empty() {
            return;
        }
        let tables = &self.known.tables;
        let mut tables = tables.write().unwrap_or_else(PoisonError::into_inner);
        for (print, resource) in self.resources.drain(..) {
            tables.resources.insert(print, resource);
        }
        for (print, scope) in self.scopes.drain(..) {
            tables.scopes.insert(print, scope);
        }
        for (print, series) in self.series.drain(..) {
            tables.series.insert(print, series);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(number: u64) -> Print {
        Print(number, !number)
    }

    #[test]
    fn a_table_stays_within_its_bound_and_keeps_what_is_asked_for() {
        let mut table = Table::new(100);
        for number in 0..10_000_u64 {
            table.insert(print(number), number);
            assert!(table.entries.len() <= 100);
            // Somebody asks for the first one all the time.
            assert!(number == 0 || table.get(print(0)) == Some(0), "{number}");
        }
        assert_eq!(table.get(print(9_999)), Some(9_999));
        assert_eq!(table.get(print(5)), None);
    }

    #[test]
    fn a_table_in_which_all_is_used_makes_room_all_the_same() {
        let mut table = Table::new(10);
        for number in 0..1_000_u64 {
            table.insert(print(number), ());
            assert_eq!(table.get(print(number)), Some(()));
            assert!(table.entries.len() <= 10);
        }
    }

    #[test]
    fn prints_tell_where_texts_end() {
        let known = Known::new(1);
        let look = known.look();
        let of = |texts: &[&[u8]]| {
            let mut printer = look.printer();
            texts.iter().for_each(|text| printer.add(text));
            printer.finish()
        };
        assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"abc"]));
        assert_ne!(of(&[]), of(&[b""]));
    }
}
