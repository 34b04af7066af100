//! Deviations that come back every day at the same time: a nightly job is news twice, then it is known.

use serde::{Deserialize, Serialize};

const DAY: i64 = 86_400;
/// Half hours of the day.
const BINS: i64 = 48;
/// A deviation that came on so many days in a row is known …
const KNOWN: u8 = 2;
/// … if it is no more than so many times as large as then.
const ALIKE: f64 = 1.5;

/// When in the day deviations came lately; 12 bytes for each half hour that had one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Recurrences(Vec<Recurrence>);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Recurrence {
    bin: u8,
    /// On so many days in a row.
    days: u8,
    /// Whether it was known when it began today.
    known: bool,
    /// The last one, counted from the epoch.
    day: i32,
    /// How far values were off; its sign tells two kinds of one time apart.
    off: f32,
}

impl Recurrences {
    /// Whether deviations by some `off` come every day at about this time.
    pub(super) fn is_known(&self, secs: i64, off: f64) -> bool {
        let (day, bin) = when(secs);
        // Jobs do not start on the minute: the half hours beside this one count, too.
        let mut around = self.0.iter().filter(|one| one.is_at(bin, 1, off));
        around.any(|one| one.is_known(day) && off.abs() <= ALIKE * f64::from(one.off).abs())
    }

    /// Takes in a deviation by `off` that lasts; `known`: whether it was known to come.
    pub(super) fn note(&mut self, secs: i64, off: f64, known: bool) {
        let (day, bin) = when(secs);
        if let Some(one) = self.0.iter_mut().find(|one| one.is_at(bin, 0, off)) {
            one.again(day, off, known);
            return;
        }
        self.0.retain(|one| one.day >= day - 1);
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(2);
        }
        self.0.push(Recurrence {
            bin: bin as u8,
            days: 1,
            known: false,
            day,
            off: off as f32,
        });
    }

    /// Whether none came today or yesterday: others say nothing of tomorrow.
    pub(super) fn are_over(&self, secs: i64) -> bool {
        let (day, _) = when(secs);
        self.0.iter().all(|one| one.day < day - 1)
    }

    /// Whether what was read back can have been made here.
    pub(super) fn is_sound(&self) -> bool {
        self.0.len() <= 2 * BINS as usize && self.0.iter().all(|one| one.off.is_finite())
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        self.0.capacity() * size_of::<Recurrence>()
    }
}

/// The day, counted from the epoch, and the half hour of it.
fn when(secs: i64) -> (i32, i64) {
    let day = i32::try_from(secs.div_euclid(DAY)).unwrap_or(i32::MAX);
    (day, secs.rem_euclid(DAY) * BINS / DAY)
}

impl Recurrence {
    /// Whether it is at most so many half hours from this one, and on the same side.
    fn is_at(&self, bin: i64, within: i64, off: f64) -> bool {
        let apart = (i64::from(self.bin) - bin).rem_euclid(BINS);
        apart.min(BINS - apart) <= within && f64::from(self.off) * off > 0.0
    }

    /// Whether such a deviation is known on this day.
    fn is_known(&self, day: i32) -> bool {
        if self.day == day {
            self.known
        } else {
            self.day == day - 1 && self.days >= KNOWN
        }
    }

    fn again(&mut self, day: i32, off: f64, known: bool) {
        if self.day != day {
            self.known = self.is_known(day);
            let follows = self.day == day - 1;
            self.days = if follows {
                self.days.saturating_add(1)
            } else {
                1
            };
            self.day = day;
            if !follows {
                self.off = off as f32;
            }
        }
        if !known && off.abs() > f64::from(self.off).abs() {
            self.off = off as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At half past two and so many minutes, on so many a day.
    fn at(day: i64, minutes: i64) -> i64 {
        20_000 * DAY + day * DAY + 2 * 3600 + 1800 + 60 * minutes
    }

    #[test]
    fn what_came_on_two_days_is_known_on_the_third() {
        let mut jobs = Recurrences::default();
        for day in 0..3 {
            let known = jobs.is_known(at(day, 1), 300.0);
            assert_eq!(known, day == 2);
            jobs.note(at(day, 1), 300.0, known);
        }
        // Somewhat earlier or later, up to half as large again; not on the other side, nor at noon.
        assert!(jobs.is_known(at(3, -10), 250.0));
        assert!(jobs.is_known(at(3, 40), 440.0));
        assert!(!jobs.is_known(at(3, 1), 460.0));
        assert!(!jobs.is_known(at(3, 1), -300.0));
        assert!(!jobs.is_known(at(3, 600), 300.0));
        // Once it has failed to come it is news again.
        assert!(!jobs.is_known(at(4, 1), 300.0));
    }

    #[test]
    fn it_is_bounded() {
        let mut jobs = Recurrences::default();
        for minute in 0..10_000 {
            jobs.note(
                at(0, 7 * minute),
                if minute % 3 == 0 { -1.0 } else { 1.0 },
                false,
            );
        }
        assert_eq!(jobs.0.len(), 96);
        assert!(jobs.is_sound());
    }
}
