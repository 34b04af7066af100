//! Rows that should be in order of time, and are not always.
//!
//! A file whose beginning is out of order as a whole, such as one with the newest row first, is read to its
//! end and sorted. In one that is in order but for a few rows, these are left out, as the daemon leaves out
//! what comes late; and so is a row whose time lies far ahead of both its neighbours, which would make all
//! that follow it late.

use std::collections::VecDeque;
use std::time::Duration;

use super::Error;
use crate::model::Timestamp;

/// Rows looked at to see whether the file is in order.
const LOOKED_AT: usize = 4_000;
/// Of so many rows one may be out of order in a file that is in order.
const ONE_IN: usize = 4;
/// So far ahead of its neighbours a row has a wrong time.
const JUMP: Duration = Duration::from_hours(24);
/// In a sorted file, what comes after a pause like this and is at most one row in so many has a wrong time.
const AGES: Duration = Duration::from_hours(24 * 366);
const FEW_IN: usize = 100;
/// Most rows that are sorted: some 300 MB.
const MOST_SORTED: usize = 4_000_000;

/// Something of a file that has a time.
pub(super) trait Timed {
    fn time(&self) -> Timestamp;
}

/// How a row stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Later than all of them.
    Later,
    /// Of the time of the newest of them.
    Same,
    /// Earlier than one of them.
    Earlier,
    /// Far ahead of those around it.
    Ahead,
}

/// The rows of a file, with what is read ahead.
pub(super) struct Ordered<T> {
    held: VecDeque<T>,
    newest: Option<Timestamp>,
    /// Whether the file was sorted, and how many rows were out of order in it.
    sorted: Option<u64>,
    /// Of a sorted file: from here on times are wrong.
    wrong_from: Option<Timestamp>,
}

impl<T: Timed> Ordered<T> {
    /// Reads the beginning, and all where that is out of order. `too_many` makes the error for more rows
    /// than can be sorted.
    pub(super) fn new(
        mut read: impl FnMut() -> Result<Option<T>, Error>,
        too_many: impl FnOnce(usize) -> Error,
    ) -> Result<Self, Error> {
        let mut head: Vec<T> = Vec::new();
        while head.len() < LOOKED_AT
            && let Some(row) = read()?
        {
            head.push(row);
        }
        let times: Vec<Timestamp> = head.iter().map(Timed::time).collect();
        let mut ordered = Self {
            held: VecDeque::new(),
            newest: None,
            sorted: None,
            wrong_from: None,
        };
        if disordered(&times) * ONE_IN > times.len() {
            while let Some(row) = read()? {
                if head.len() >= MOST_SORTED {
                    return Err(too_many(MOST_SORTED));
                }
                head.push(row);
            }
            let times: Vec<Timestamp> = head.iter().map(Timed::time).collect();
            ordered.sorted = Some(disordered(&times) as u64);
            // Rows of one time stay in their order.
            head.sort_by_key(Timed::time);
            ordered.wrong_from = wrong_from(&head);
        }
        ordered.held = head.into();
        Ok(ordered)
    }

    /// How many rows were out of order, where the file was sorted for that.
    pub(super) fn sorted(&self) -> Option<u64> {
        self.sorted
    }

    /// The next row.
    pub(super) fn next(
        &mut self,
        mut read: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<Option<(T, Standing)>, Error> {
        let row = match self.held.pop_front() {
            Some(row) => row,
            None if self.sorted.is_some() => return Ok(None),
            None => match read()? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        let time = row.time();
        let Some(newest) = self.newest else {
            self.newest = Some(time);
            return Ok(Some((row, Standing::Later)));
        };
        let standing = if self.wrong_from.is_some_and(|from| time >= from) {
            Standing::Ahead
        } else if time < newest {
            Standing::Earlier
        } else if time == newest {
            Standing::Same
        } else if time.since(newest) > JUMP && self.sorted.is_none() {
            let mut at = 0;
            loop {
                if at >= self.held.len() {
                    match read()? {
                        Some(row) => self.held.push_back(row),
                        None => break Standing::Later,
                    }
                }
                match self.held.get(at).map(Timed::time) {
                    // A row of several values comes as several.
                    Some(next) if next == time && at < LOOKED_AT => at += 1,
                    Some(next) if is_jump(newest, time, next) => break Standing::Ahead,
                    _ => break Standing::Later,
                }
            }
        } else {
            Standing::Later
        };
        if standing == Standing::Later {
            self.newest = Some(time);
        }
        Ok(Some((row, standing)))
    }
}

/// Whether `time` is far ahead of what came before it and of what comes next.
fn is_jump(before: Timestamp, time: Timestamp, next: Timestamp) -> bool {
    next >= before && time.since(before) > JUMP && time.since(next) > JUMP
}

/// How many rows would be left out as earlier than one before.
fn disordered(times: &[Timestamp]) -> usize {
    let mut newest: Option<Timestamp> = None;
    let mut count = 0;
    for (at, time) in times.iter().enumerate() {
        let Some(before) = newest else {
            newest = Some(*time);
            continue;
        };
        let rest = times.get(at + 1..).unwrap_or_default();
        let far = time.since(before) > JUMP;
        let next = || rest.iter().find(|next| *next != time);
        if *time < before {
            count += 1;
        } else if !(far && next().is_some_and(|next| is_jump(before, *time, *next))) {
            newest = Some(*time);
        }
    }
    count
}

/// From when on the times of sorted rows are wrong: few of them lie ages behind all others.
fn wrong_from<T: Timed>(sorted: &[T]) -> Option<Timestamp> {
    let few = sorted.len() / FEW_IN;
    let tail = sorted.get(sorted.len().checked_sub(few + 1)?..)?;
    let pairs = tail.windows(2);
    pairs
        .filter_map(|pair| match pair {
            [a, b] if b.time().since(a.time()) > AGES => Some(b.time()),
            _ => None,
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for i64 {
        fn time(&self) -> Timestamp {
            Timestamp::from_secs(*self)
        }
    }

    /// What becomes of rows at these seconds: those that count, in their order, how many are left out as
    /// earlier and as ahead, and how many were out of order in a sorted file.
    fn order(seconds: impl IntoIterator<Item = i64>) -> (Vec<i64>, usize, usize, Option<u64>) {
        let mut rows = seconds.into_iter();
        let mut read = || Ok(rows.next());
        let mut ordered = Ordered::new(&mut read, |_| unreachable!()).expect("few rows");
        let (mut counted, mut earlier, mut ahead) = (Vec::new(), 0, 0);
        while let Some((row, standing)) = ordered.next(&mut read).expect("no error") {
            match standing {
                Standing::Later | Standing::Same => counted.push(row),
                Standing::Earlier => earlier += 1,
                Standing::Ahead => ahead += 1,
            }
        }
        (counted, earlier, ahead, ordered.sorted())
    }

    const YEAR: i64 = 366 * 86_400;

    #[test]
    fn a_file_with_the_newest_row_first_is_sorted() {
        let forward: Vec<i64> = (0..10_000).collect();
        let backward = forward.iter().rev().copied();
        assert_eq!(order(backward), (forward.clone(), 0, 0, Some(9_999)));
        // In no order at all.
        let mixed = (0..10_000).map(|n| n * 7_919 % 10_000);
        let (counted, earlier, ahead, sorted) = order(mixed);
        assert_eq!((counted, earlier, ahead), (forward, 0, 0));
        assert!(sorted.is_some_and(|sorted| sorted > 1_000));
        // With one row of another century.
        let mixed = (0..1_000).rev().chain([70 * YEAR]);
        assert_eq!(order(mixed).2, 1);
        assert_eq!(order([]), (vec![], 0, 0, None));
    }

    #[test]
    fn a_few_late_rows_are_left_out() {
        let rows = (0..1_000).map(|n| if n == 500 { 450 } else { n });
        let (counted, earlier, ahead, sorted) = order(rows);
        assert_eq!((counted.len(), earlier, ahead, sorted), (999, 1, 0, None));
        // The same beyond the beginning.
        let rows = (0..9_000).map(|n| if n == 8_000 { 450 } else { n });
        assert_eq!(order(rows).1, 1);
    }

    #[test]
    fn a_row_of_another_century_hides_no_others() {
        for at in [1, 700, 6_000] {
            let rows = (0..9_000).map(|n| if n == at { 70 * YEAR } else { n });
            let (counted, earlier, ahead, sorted) = order(rows);
            assert_eq!((counted.len(), earlier, ahead, sorted), (8_999, 0, 1, None));
        }
        // Of two columns.
        let rows = (0..2_000).map(|n| if n / 2 == 50 { 70 * YEAR } else { n / 2 });
        assert_eq!(order(rows).2, 2);
        // After a pause of years it goes on.
        let rows = (0..100).chain(2 * YEAR..2 * YEAR + 100);
        assert_eq!(order(rows).0.len(), 200);
    }
}
