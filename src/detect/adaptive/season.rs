//! What is usual at this time of the day, and of the week: profiles over the hours, believed only once
//! they predict better than the level alone.

use serde::{Deserialize, Serialize};

const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// Half hours of the day, hours of the week.
const BINS_OF_DAY: usize = 48;
const BINS_OF_WEEK: usize = 168;
/// How much of its expectation a bin changes with one visit (a day, or a week, later).
const RATE_OF_VISIT: f64 = 0.3;
/// A profile is believed once its errors are this much smaller than those without it …
const CONFIRMED: f64 = 0.8;
/// … and no longer when they are larger than those.
const REFUTED: f64 = 1.0;

/// Which profile the expectation follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(super) enum Period {
    /// None has shown itself.
    #[default]
    None,
    Day,
    Week,
}

/// The profiles of a signal. The day's is 290 bytes, the week's 1 KiB; that exists only after a day's
/// profile has been of use.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Season {
    day: Option<Box<Profile>>,
    week: Option<Box<Profile>>,
    /// The longest period that is believed.
    period: Period,
}

impl Season {
    pub(super) fn period(&self) -> Period {
        self.period
    }

    /// What is usual at the time, `secs` after the epoch, by the period that is believed; `None` while
    /// none is, or it has never seen this hour.
    pub(super) fn expected(&self, secs: i64) -> Option<f64> {
        let of = |profile: &Option<Box<Profile>>| profile.as_deref().and_then(|p| p.expected(secs));
        match self.period {
            Period::None => None,
            Period::Day => of(&self.day),
            Period::Week => of(&self.week).or_else(|| of(&self.day)),
        }
    }

    /// Samples within a day, as far as is known.
    pub(super) fn samples_a_day(&self) -> f64 {
        let day = self.day.as_deref();
        day.map_or(0.0, |day| day.samples_a_bin() * BINS_OF_DAY as f64)
    }

    /// Takes in the value at a time. `level` is what would be expected without a period. Of what is
    /// `aside`, since it deviates, only the week learns: what comes back every week is no deviation.
    pub(super) fn learn(&mut self, secs: i64, value: f64, level: f64, aside: bool) {
        let day = self
            .day
            .get_or_insert_with(|| Profile::boxed(DAY, BINS_OF_DAY));
        let plain = (value - level).abs();
        let by_day = day.expected(secs).map(|usual| (value - usual).abs());
        if let Some(error) = by_day {
            day.compare(error, plain);
        }
        if !aside {
            day.learn(secs, value);
        }
        if day.believed && self.week.is_none() {
            self.week = Some(Profile::boxed(WEEK, BINS_OF_WEEK));
        }
        let mut week_believed = false;
        if let Some(week) = &mut self.week {
            if let Some(usual) = week.expected(secs) {
                let without = if day.believed {
                    by_day.unwrap_or(plain)
                } else {
                    plain
                };
                week.compare((value - usual).abs(), without);
            }
            week.learn(secs, value);
            week_believed = week.believed;
        }
        self.period = if week_believed {
            Period::Week
        } else if day.believed {
            Period::Day
        } else {
            Period::None
        };
    }

    /// Moves every expectation.
    pub(super) fn shift(&mut self, by: f64) {
        for profile in [&mut self.day, &mut self.week].into_iter().flatten() {
            for usual in &mut profile.usual {
                *usual = (f64::from(*usual) + by).clamp(-1e37, 1e37) as f32;
            }
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let fits = |profile: &Option<Box<Profile>>, period, bins| {
            profile.as_ref().is_none_or(|p| p.is_sound(period, bins))
        };
        fits(&self.day, DAY, BINS_OF_DAY) && fits(&self.week, WEEK, BINS_OF_WEEK)
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        let profiles = [&self.day, &self.week].into_iter().flatten();
        profiles
            .map(|p| size_of::<Profile>() + p.usual.capacity() * 4 + p.visits.capacity() * 2)
            .sum()
    }
}

/// What is usual in each bin of a period.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Profile {
    /// Seconds.
    period: i64,
    usual: Vec<f32>,
    /// Samples that each bin has seen.
    visits: Vec<u16>,
    /// The bin of the newest sample, how many it had in a row, and how many a bin has on average.
    bin: u16,
    in_bin: u16,
    a_bin: f32,
    /// Mean absolute error of the profile, and of what would be expected without it.
    error: f64,
    plain: f64,
    compared: u32,
    believed: bool,
}

impl Profile {
    fn boxed(period: i64, bins: usize) -> Box<Self> {
        Box::new(Self {
            period,
            usual: vec![0.0; bins],
            visits: vec![0; bins],
            bin: u16::MAX,
            in_bin: 0,
            a_bin: 1.0,
            error: 0.0,
            plain: 0.0,
            compared: 0,
            believed: false,
        })
    }

    fn bin(&self, secs: i64) -> usize {
        let bins = self.usual.len() as i64;
        // At most 168 bins times the seconds of a week.
        (secs.rem_euclid(self.period) * bins / self.period) as usize
    }

    fn samples_a_bin(&self) -> f64 {
        f64::from(self.a_bin.max(1.0))
    }

    /// The expectation, once the bin was seen in an earlier period.
    fn expected(&self, secs: i64) -> Option<f64> {
        let bin = self.bin(secs);
        let visits = f64::from(*self.visits.get(bin)?);
        let usual = f64::from(*self.usual.get(bin)?);
        (visits >= 1.0 && (visits > self.samples_a_bin())).then_some(usual)
    }

    fn learn(&mut self, secs: i64, value: f64) {
        let bin = self.bin(secs);
        if bin != usize::from(self.bin) {
            if self.bin != u16::MAX {
                self.a_bin += 0.2 * (f32::from(self.in_bin) - self.a_bin);
            }
            (self.bin, self.in_bin) = (bin as u16, 0);
        }
        self.in_bin = self.in_bin.saturating_add(1);
        let a_bin = self.samples_a_bin();
        if let (Some(usual), Some(visits)) = (self.usual.get_mut(bin), self.visits.get_mut(bin)) {
            let rate = (RATE_OF_VISIT / a_bin).max(1.0 / (f64::from(*visits) + 1.0));
            *usual += (rate * (value - f64::from(*usual))) as f32;
            *visits = visits.saturating_add(1);
        }
    }

    /// Compares the errors with and without the profile, over about one period.
    fn compare(&mut self, error: f64, plain: f64) {
        self.compared = self.compared.saturating_add(1);
        let period = self.usual.len() as f64 * self.samples_a_bin();
        let compared = f64::from(self.compared);
        let rate = (1.0 / period).max(1.0 / compared);
        self.error += rate * (error - self.error);
        self.plain += rate * (plain - self.plain);
        if compared < 0.5 * period {
            return;
        }
        if self.believed {
            self.believed = self.error <= REFUTED * self.plain;
        } else {
            self.believed = self.error < CONFIRMED * self.plain;
        }
    }

    fn is_sound(&self, period: i64, bins: usize) -> bool {
        self.period == period
            && self.usual.len() == bins
            && self.visits.len() == bins
            && self.usual.iter().all(|usual| usual.is_finite())
            && self.a_bin.is_finite()
            && self.error.is_finite()
            && self.plain.is_finite()
    }
}
