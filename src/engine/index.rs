//! The series of a shard: packed side by side, found by id, listed by id.
//!
//! A hash table with the series in it would be copied whole whenever it grows: a million series would
//! hold their shard for a tenth of a second. Here series lie in chunks that never move, without gaps: of
//! those that leave the last one takes the place, so nothing fragments. Where each lies is known to small
//! hash tables, one for each range of ids, which split and grow one at a time within tenths of a
//! millisecond. A list in the order of ids sorts one range after the other, so no second index is kept.

use std::hash::BuildHasher;
use std::ops::Bound;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::series::Series;
use crate::model::SeriesId;

/// Series of a chunk: some 50 kB.
const CHUNK: usize = 256;
/// Most series of a range, which is split beyond: as many as 512 buckets hold.
const RANGE: usize = 448;

/// Series by id. Ids are the output of SHA-256, but nobody else's hash is trusted for a table that
/// strangers fill: foldhash is seeded, and ranges split wherever the ids are.
pub(super) struct SeriesMap<S = Series> {
    seed: RandomState,
    /// Where each range begins, by the upper half of its ids; the first at 0.
    firsts: Vec<u64>,
    /// As many; there is always one.
    ranges: Vec<HashTable<Place>>,
    /// All but the last are full; none is empty.
    chunks: Vec<Vec<Kept<S>>>,
}

/// The part of an id that ranges go by.
fn upper_half(id: SeriesId) -> u64 {
    (id.0 >> 64) as u64
}

/// Where a series lies, and the half of its hash that the table goes by.
#[derive(Clone, Copy)]
struct Place {
    hash: u32,
    at: u32,
}

impl Place {
    /// All of the hash that the table uses: some bits from either end.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn rehash(&self) -> u64 {
        Self::spread(self.hash)
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
            firsts: vec![0],
            ranges: vec![HashTable::new()],
            chunks: Vec::new(),
        }
    }
}

impl<S> SeriesMap<S> {
    /// The range of an id, and its hash there.
    fn locate(&self, id: SeriesId) -> (usize, u32) {
        let upper = upper_half(id);
        let behind = self.firsts.partition_point(|first| *first <= upper);
        (behind.saturating_sub(1), self.seed.hash_one(id.0) as u32)
    }

    /// Where a series lies, until one is removed.
    pub(super) fn find(&self, id: SeriesId) -> Option<usize> {
        let (range, hash) = self.locate(id);
        let is_it = |place: &Place| {
            place.hash == hash && self.kept(place.at).is_some_and(|kept| kept.id == id)
        };
        let place = self.ranges.get(range)?.find(Place::spread(hash), is_it)?;
        Some(place.at as usize)
    }

    fn kept(&self, at: u32) -> Option<&Kept<S>> {
        let at = at as usize;
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
        let at = self.find(*id)?;
        let kept = self.chunks.get(at / CHUNK)?.get(at % CHUNK)?;
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
        // No more than a u32 counts: that many series would take terabytes.
        let Ok(at) = u32::try_from(self.len()) else {
            return;
        };
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(Kept { id, series }),
            // The first grows as it needs to; where there is one, there will be more.
            last => {
                let mut chunk = Vec::with_capacity(if last.is_some() { CHUNK } else { 1 });
                chunk.push(Kept { id, series });
                self.chunks.push(chunk);
            }
        }
        let (range, hash) = self.locate(id);
        let Some(places) = self.ranges.get_mut(range) else {
            return;
        };
        places.insert_unique(Place::spread(hash), Place { hash, at }, Place::rehash);
        if places.len() > RANGE {
            self.split(range);
        }
    }

    /// Halves a range. One in which the upper halves of all ids are the same stays as it is: to find
    /// ids for that takes longer than the world has stood.
    fn split(&mut self, range: usize) {
        let Some(places) = self.ranges.get(range) else {
            return;
        };
        let upper = |place: &Place| self.kept(place.at).map_or(0, |kept| upper_half(kept.id));
        let mut all: Vec<u64> = places.iter().map(upper).collect();
        let half = all.len() / 2;
        let (_, first, _) = all.select_nth_unstable(half);
        let first = *first;
        if self.firsts.get(range).is_none_or(|known| first <= *known) {
            return;
        }
        let is_above = |place: &&Place| upper(place) >= first;
        let tables = [false, true].map(|above| {
            let part = || places.iter().filter(|place| is_above(place) == above);
            let mut table = HashTable::with_capacity(part().count());
            for place in part() {
                table.insert_unique(place.rehash(), *place, Place::rehash);
            }
            table
        });
        let [below, above] = tables;
        self.firsts.insert(range + 1, first);
        self.ranges.insert(range + 1, above);
        if let Some(places) = self.ranges.get_mut(range) {
            *places = below;
        }
    }

    /// Joins a range that has become small with the one behind it, if both are.
    fn join(&mut self, range: usize) {
        let (Some(one), Some(next)) = (self.ranges.get(range), self.ranges.get(range + 1)) else {
            return;
        };
        if one.len() + next.len() > RANGE / 2 {
            return;
        }
        self.firsts.remove(range + 1);
        let next = self.ranges.remove(range + 1);
        if self.ranges.len() * 4 < self.ranges.capacity() {
            self.firsts.shrink_to(self.ranges.len() * 2);
            self.ranges.shrink_to(self.ranges.len() * 2);
        }
        if let Some(one) = self.ranges.get_mut(range) {
            for place in next {
                one.insert_unique(place.rehash(), place, Place::rehash);
            }
        }
    }

    /// Takes a series out; the last one takes its place.
    pub(super) fn remove(&mut self, id: &SeriesId) -> Option<S> {
        let at = self.find(*id)?;
        let (range, hash) = self.locate(*id);
        let places = self.ranges.get_mut(range)?;
        let is_it = |place: &Place| place.at as usize == at;
        if let Ok(entry) = places.find_entry(Place::spread(hash), is_it) {
            entry.remove();
        }
        if places.len() < RANGE / 4 {
            if places.len() * 4 < places.capacity() {
                places.shrink_to(places.len() * 2, Place::rehash);
            }
            self.join(range);
            self.join(range.saturating_sub(1));
        }
        let end = self.len() - 1;
        let last = self.chunks.last_mut()?;
        let mut taken = last.pop()?;
        if last.len() * 4 < last.capacity() {
            last.shrink_to(last.len() * 2);
        }
        if last.is_empty() {
            self.chunks.pop();
        }
        if at != end {
            let (range, hash) = self.locate(taken.id);
            let is_it = |place: &Place| place.at as usize == end;
            let places = self.ranges.get_mut(range)?;
            if let Some(place) = places.find_mut(Place::spread(hash), is_it) {
                place.at = at as u32;
            }
            std::mem::swap(self.kept_mut(at)?, &mut taken);
        }
        Some(taken.series)
    }

    /// The series that lies at `at`.
    pub(super) fn at(&self, at: usize) -> Option<&S> {
        Some(&self.kept(u32::try_from(at).ok()?)?.series)
    }

    /// The series at a position below [`len`](Self::len). Positions change only when a series is
    /// removed: then the last one has its position.
    pub(super) fn at_mut(&mut self, position: usize) -> Option<(SeriesId, &mut S)> {
        let kept = self.kept_mut(position)?;
        Some((kept.id, &mut kept.series))
    }

    /// In the order of ids, beginning at `from`.
    pub(super) fn ordered(&self, from: Bound<SeriesId>) -> impl Iterator<Item = (SeriesId, &S)> {
        let range = match from {
            Bound::Included(id) | Bound::Excluded(id) => self.locate(id).0,
            Bound::Unbounded => 0,
        };
        let ranges = self.ranges.iter().skip(range);
        ranges.flat_map(move |places| {
            let mut all: Vec<(SeriesId, &S)> = places
                .iter()
                .filter_map(|place| self.kept(place.at))
                .filter(|kept| match from {
                    Bound::Included(id) => kept.id >= id,
                    Bound::Excluded(id) => kept.id > id,
                    Bound::Unbounded => true,
                })
                .map(|kept| (kept.id, &kept.series))
                .collect();
            all.sort_unstable_by_key(|(id, _)| *id);
            all
        })
    }

    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = (&SeriesId, &S)> {
        let all = self.chunks.iter().flatten();
        all.map(|kept| (&kept.id, &kept.series))
    }

    /// Those at `position` and behind it.
    pub(super) fn from(&self, position: usize) -> impl Iterator<Item = &S> {
        let chunks = self.chunks.iter().skip(position / CHUNK).flatten();
        chunks.skip(position % CHUNK).map(|kept| &kept.series)
    }

    /// About how much memory it takes besides the series.
    pub(super) fn bytes(&self) -> usize {
        let tables: usize = self.ranges.iter().map(HashTable::allocation_size).sum();
        let heads = size_of::<u64>() + size_of::<HashTable<Place>>();
        let room: usize = self.chunks.iter().map(|c| c.capacity() - c.len()).sum();
        let ids = self.len() * (size_of::<Kept<S>>() - size_of::<S>());
        tables
            + self.ranges.capacity() * heads
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
    #[track_caller]
    fn check(map: &SeriesMap<u64>, model: &BTreeMap<u128, u64>) {
        assert_eq!(map.len(), model.len());
        assert_eq!(map.is_empty(), model.is_empty());
        let pairs = |id: SeriesId, value: &u64| (id.0, *value);
        let mut seen: Vec<_> = map.iter().map(|(id, value)| pairs(*id, value)).collect();
        seen.sort_unstable();
        let wanted = || model.iter().map(|(k, v)| (*k, *v));
        assert!(seen.into_iter().eq(wanted()));
        let ordered = map.ordered(Bound::Unbounded);
        assert!(ordered.map(|(id, value)| pairs(id, value)).eq(wanted()));
        for (id, value) in model {
            assert_eq!(map.get(&SeriesId(*id)), Some(value));
        }
    }

    /// Few enough to meet again, some of which share their upper half.
    fn ids() -> impl Strategy<Value = u128> {
        (0..3_u128, 0..700_u128).prop_map(|(lower, upper)| upper << 70 | lower)
    }

    proptest! {
        #[test]
        fn it_is_a_map(
            steps in prop::collection::vec((any::<bool>(), ids(), any::<u64>()), 0..3_000),
            from in ids(),
        ) {
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
            let ids = |from| map.ordered(from).map(|(id, _)| id.0).collect::<Vec<_>>();
            let wanted: Vec<u128> = model.range(from..).map(|(id, _)| *id).collect();
            prop_assert_eq!(ids(Bound::Included(SeriesId(from))), wanted);
            let wanted: Vec<u128> = model.range(from + 1..).map(|(id, _)| *id).collect();
            prop_assert_eq!(ids(Bound::Excluded(SeriesId(from))), wanted);
        }
    }

    #[test]
    fn what_leaves_leaves_no_gap_and_gives_its_memory_back() {
        let (mut map, mut model) = (SeriesMap::default(), BTreeMap::new());
        // Spread over all ids, and then close together as no hash has them.
        let ids = || {
            let spread =
                (0..30_000_u128).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            spread.chain((0..30_000).map(|n| n << 64 | 1))
        };
        for id in ids() {
            map.insert(SeriesId(id), id as u64);
            model.insert(id, id as u64);
        }
        check(&map, &model);
        assert!(map.ranges.len() > 30 && map.ranges.iter().all(|r| r.len() <= RANGE));
        let full = map.bytes();
        assert!(full / model.len() < 24 + 20, "{}", full / model.len());
        for id in ids().filter(|id| id % 100 != 0) {
            assert_eq!(map.remove(&SeriesId(id)), model.remove(&id));
        }
        check(&map, &model);
        let mut position = 0;
        while let Some((id, value)) = map.at_mut(position) {
            assert_eq!(id.0 as u64, *value);
            position += 1;
        }
        assert_eq!(position, model.len());
        assert!(map.bytes() < full / 10, "{full} {}", map.bytes());
        for id in ids() {
            map.remove(&SeriesId(id));
        }
        assert!(map.is_empty());
        assert_eq!(map.ranges.len(), 1);
        assert!(map.bytes() < 20_000, "{}", map.bytes());
    }
}
