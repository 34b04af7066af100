//! The series of a shard: packed side by side, found by id.
//!
//! A hash table with the series in it would be copied whole whenever it grows: a million series would
//! hold their shard for a tenth of a second. Here series lie in chunks that never move, without gaps: of
//! those that leave the last one takes the place, so nothing fragments. Where each lies is in many small
//! tables that grow one at a time, each within microseconds.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::series::Series;
use crate::model::SeriesId;

/// Series of a chunk: some 40 kB.
const CHUNK: usize = 256;
/// Small tables. With a million series each has two thousand entries.
const TABLES: usize = 512;

/// Series by id. Ids are the output of SHA-256, but nobody else's hash is trusted for a table that
/// strangers fill: foldhash is seeded.
pub(super) struct SeriesMap<S = Series> {
    seed: RandomState,
    tables: Box<[HashTable<Place>]>,
    /// All but the last are full; none is empty.
    chunks: Vec<Vec<Kept<S>>>,
}

/// Where a series lies, and the half of its hash that the table goes by.
struct Place {
    hash: u32,
    at: u32,
}

impl Place {
    /// All of the hash that the table uses: some bits from either end.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

struct Kept<S> {
    id: SeriesId,
    series: S,
}

impl<S> Default for SeriesMap<S> {
    fn default() -> Self {
        Self {
            seed: RandomState::default(),
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            chunks: Vec::new(),
        }
    }
}

impl<S> SeriesMap<S> {
    /// The table of an id and its hash there.
    fn hash(&self, id: SeriesId) -> (usize, u32) {
        let hash = self.seed.hash_one(id.0);
        ((hash >> 32) as usize % TABLES, hash as u32)
    }

    fn find(&self, id: SeriesId) -> Option<usize> {
        let (table, hash) = self.hash(id);
        let is_it = |place: &Place| {
            place.hash == hash && self.kept(place.at as usize).is_some_and(|k| k.id == id)
        };
        let place = self.tables.get(table)?.find(Place::spread(hash), is_it)?;
        Some(place.at as usize)
    }

    fn kept(&self, at: usize) -> Option<&Kept<S>> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    fn kept_mut(&mut self, at: usize) -> Option<&mut Kept<S>> {
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn get(&self, id: &SeriesId) -> Option<&S> {
        let kept = self.kept(self.find(*id)?)?;
        Some(&kept.series)
    }

    pub(super) fn get_mut(&mut self, id: &SeriesId) -> Option<&mut S> {
        let kept = self.kept_mut(self.find(*id)?)?;
        Some(&mut kept.series)
    }

    pub(super) fn contains_key(&self, id: &SeriesId) -> bool {
        self.find(*id).is_some()
    }

    /// Adds a series, in place of one that has the same id.
    pub(super) fn insert(&mut self, id: SeriesId, series: S) {
        if let Some(known) = self.get_mut(&id) {
            *known = series;
            return;
        }
        let at = self.len();
        // No more than a u32 holds: that many series would take terabytes.
        let Ok(place) = u32::try_from(at) else { return };
        let (table, hash) = self.hash(id);
        if let Some(table) = self.tables.get_mut(table) {
            let place = Place { hash, at: place };
            table.insert_unique(Place::spread(hash), place, |p| Place::spread(p.hash));
        }
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(Kept { id, series }),
            // The first grows as it needs to; where there is one, there will be more.
            last => {
                let mut chunk = Vec::with_capacity(if last.is_some() { CHUNK } else { 1 });
                chunk.push(Kept { id, series });
                self.chunks.push(chunk);
            }
        }
    }

    /// Takes a series out; the last one takes its place.
    pub(super) fn remove(&mut self, id: &SeriesId) -> Option<S> {
        let at = self.find(*id)?;
        let (table, hash) = self.hash(*id);
        let table = self.tables.get_mut(table)?;
        let is_it = |place: &Place| place.at as usize == at;
        if let Ok(entry) = table.find_entry(Place::spread(hash), is_it) {
            entry.remove();
            if table.capacity() > 16 && table.len() * 4 < table.capacity() {
                table.shrink_to(table.len() * 2, |p| Place::spread(p.hash));
            }
        }
        let end = self.len() - 1;
        let last = self.chunks.last_mut()?;
        let mut taken = last.pop()?;
        if last.is_empty() {
            self.chunks.pop();
        }
        if at != end {
            let (table, hash) = self.hash(taken.id);
            let is_it = |place: &Place| place.at as usize == end;
            if let Some(table) = self.tables.get_mut(table)
                && let Some(place) = table.find_mut(Place::spread(hash), is_it)
            {
                place.at = at as u32;
            }
            std::mem::swap(self.kept_mut(at)?, &mut taken);
        }
        Some(taken.series)
    }

    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = (&SeriesId, &S)> {
        let all = self.chunks.iter().flatten();
        all.map(|kept| (&kept.id, &kept.series))
    }

    /// About how much memory it takes besides the series.
    pub(super) fn bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(HashTable::allocation_size).sum();
        let room: usize = self.chunks.iter().map(|c| c.capacity() - c.len()).sum();
        let ids = self.len() * (size_of::<Kept<S>>() - size_of::<S>());
        size_of_val(&*self.tables)
            + tables
            + ids
            + room * size_of::<Kept<S>>()
            + self.chunks.capacity() * size_of::<Vec<Kept<S>>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Checks that a map holds just what `model` does.
    fn check(map: &SeriesMap<u64>, model: &BTreeMap<u128, u64>) {
        assert_eq!(map.len(), model.len());
        assert_eq!(map.is_empty(), model.is_empty());
        let mut seen: Vec<_> = map.iter().map(|(id, value)| (id.0, *value)).collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(model.iter().map(|(k, v)| (*k, *v))));
        for (id, value) in model {
            assert_eq!(map.get(&SeriesId(*id)), Some(value));
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..700_u128, any::<u64>()), 0..3_000)) {
            let (mut map, mut model) = (SeriesMap::default(), BTreeMap::new());
            for (put, id, value) in steps {
                if put {
                    map.insert(SeriesId(id), value);
                    model.insert(id, value);
                } else {
                    prop_assert_eq!(map.remove(&SeriesId(id)), model.remove(&id));
                }
            }
            check(&map, &model);
        }
    }

    #[test]
    fn what_leaves_leaves_no_gap_and_gives_its_memory_back() {
        let (mut map, mut model) = (SeriesMap::default(), BTreeMap::new());
        let empty = map.bytes();
        for id in 0..100_000_u128 {
            map.insert(SeriesId(id), id as u64);
            model.insert(id, id as u64);
        }
        check(&map, &model);
        let full = map.bytes();
        assert!(full / 100_000 < 2 * 32, "{full}");
        for id in (0..100_000_u128).filter(|id| id % 100 != 0) {
            assert_eq!(map.remove(&SeriesId(id)), model.remove(&id));
        }
        check(&map, &model);
        assert!(map.iter().all(|(id, value)| id.0 as u64 == *value));
        assert_eq!(map.len(), 1_000);
        assert!(map.bytes() < full / 10, "{full} {}", map.bytes());
        for id in 0..100_000_u128 {
            map.remove(&SeriesId(id));
        }
        assert!(map.is_empty());
        assert!(map.bytes() < empty + 200_000, "{empty} {}", map.bytes());
    }
}
