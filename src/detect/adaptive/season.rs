//! What is usual at this time of the day, and of the week: profiles over the hours, believed only once
//! they predict better than the level alone.

use serde::{Deserialize, Serialize};

use super::level::Level;

const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// Half hours of the day, hours of the week.
const BINS_OF_DAY: usize = 48;
const BINS_OF_WEEK: usize = 168;
/// Bins for which room is made together.
const BINS_AT_ONCE: usize = 12;
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

/// The profiles of a signal. The day's is 290 bytes once it has seen a whole one, the week's 740; that exists
/// only after a day's profile has been of use.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Season(Option<Box<Profiles>>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Profiles {
    day: Profile,
    week: Option<Box<Profile>>,
    /// The longest period that is believed.
    period: Period,
    /// Once a period has shown itself.
    seasonal: Option<Box<Seasonal>>,
}

/// Differences from what is usual at the time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Seasonal {
    /// By this period, so many.
    pub(super) period: Period,
    pub(super) residuals: u32,
    pub(super) residual: Level,
    pub(super) smooth_residual: f64,
}

impl Season {
    /// Reads what the next sample will need.
    pub(super) fn glance(&self) -> u64 {
        let all = self.0.as_deref();
        all.map_or(0, |all| {
            all.day.base.to_bits().wrapping_add(all.period as u64)
        })
    }

    pub(super) fn period(&self) -> Period {
        self.0.as_deref().map_or(Period::None, |all| all.period)
    }

    /// Differences from what is usual at the time, once a period has shown itself.
    pub(super) fn seasonal(&self) -> Option<&Seasonal> {
        self.0.as_deref()?.seasonal.as_deref()
    }

    pub(super) fn seasonal_mut(&mut self) -> Option<&mut Seasonal> {
        self.0.as_deref_mut()?.seasonal.as_deref_mut()
    }

    /// Keeps these differences from now on.
    pub(super) fn follow(&mut self, seasonal: Seasonal) {
        if let Some(all) = &mut self.0 {
            all.seasonal = Some(Box::new(seasonal));
        }
    }

    /// What is usual at the time, `secs` after the epoch, by the period that is believed; `None` while
    /// none is, or it has never seen this hour.
    pub(super) fn expected(&self, secs: i64) -> Option<f64> {
        let all = self.0.as_deref()?;
        let day = || all.day.expected(bin_of_day(secs));
        let week = || all.week.as_deref()?.expected(bin_of_week(secs));
        match all.period {
            Period::None => None,
            Period::Day => day(),
            Period::Week => week().or_else(day),
        }
    }

    /// Samples within a day, as far as is known.
    pub(super) fn samples_a_day(&self) -> f64 {
        let all = self.0.as_deref();
        all.map_or(0.0, |all| all.day.samples_a_bin() * BINS_OF_DAY as f64)
    }

    /// Takes in the value at a time. `level` is what would be expected without a period. Of what is
    /// `aside`, since it deviates, only the week learns: what comes back every week is no deviation.
    pub(super) fn learn(&mut self, secs: i64, value: f64, level: f64, aside: bool) {
        let at = bin_of_day(secs);
        // From the first sample on: a day is believed or not by all that came before, too.
        let Profiles {
            day, week, period, ..
        } = &mut **self.0.get_or_insert_with(|| {
            Box::new(Profiles {
                day: Profile::new(BINS_OF_DAY, at, value),
                week: None,
                period: Period::None,
                seasonal: None,
            })
        });
        let plain = (value - level).abs();
        let by_day = day.expected(at).map(|usual| (value - usual).abs());
        if let Some(error) = by_day {
            day.compare(error, plain);
        }
        if !aside {
            day.learn(at, value);
        }
        if day.believed && week.is_none() {
            let at = bin_of_week(secs);
            *week = Some(Box::new(Profile::new(BINS_OF_WEEK, at, value)));
        }
        let mut week_believed = false;
        if let Some(week) = week {
            let at = bin_of_week(secs);
            if let Some(usual) = week.expected(at) {
                let without = if day.believed {
                    by_day.unwrap_or(plain)
                } else {
                    plain
                };
                week.compare((value - usual).abs(), without);
            }
            week.learn(at, value);
            week_believed = week.believed;
        }
        *period = if week_believed {
            Period::Week
        } else if day.believed {
            Period::Day
        } else {
            Period::None
        };
    }

    /// Moves every expectation.
    pub(super) fn shift(&mut self, by: f64) {
        if let Some(all) = &mut self.0 {
            all.day.shift(by);
            if let Some(week) = &mut all.week {
                week.shift(by);
            }
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let of_seasonal = |seasonal: &Seasonal| {
            seasonal.residual.is_sound() && seasonal.smooth_residual.is_finite()
        };
        self.0.as_deref().is_none_or(|all| {
            let week = all.week.as_deref();
            all.day.is_sound(BINS_OF_DAY)
                && week.is_none_or(|week| week.is_sound(BINS_OF_WEEK))
                && all.seasonal.as_deref().is_none_or(of_seasonal)
        })
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        self.0.as_deref().map_or(0, |all| {
            let week = all.week.as_deref();
            let week = week.map_or(0, |week| size_of::<Profile>() + week.heap());
            let seasonal = all.seasonal.as_deref().map_or(0, size_of_val);
            size_of::<Profiles>() + all.day.heap() + week + seasonal
        })
    }
}

/// The half hour of the day.
fn bin_of_day(secs: i64) -> usize {
    (secs.rem_euclid(DAY) * BINS_OF_DAY as i64 / DAY) as usize
}

/// The hour of the week.
fn bin_of_week(secs: i64) -> usize {
    (secs.rem_euclid(WEEK) * BINS_OF_WEEK as i64 / WEEK) as usize
}

/// What is usual in each bin of a period; 4 bytes for each that was visited, and 64 beside.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Profile {
    /// What the bins say is relative to this.
    base: f64,
    /// In the order of time, from the bin of the first sample on, as far as they were visited: see [`pack`].
    #[serde(with = "crate::model::raw")]
    bins: Vec<u32>,
    /// Which bin that was, and how many a period has.
    first: u8,
    count: u8,
    believed: bool,
    /// The bin of the newest sample, how many it had in a row, and how many a bin has on average.
    bin: u8,
    in_bin: u16,
    a_bin: f32,
    /// What is usual in the bin of the newest sample, and how many samples it has seen.
    usual: f64,
    visits: u16,
    compared: u16,
    /// Mean absolute error of the profile, and of what would be expected without it.
    error: f32,
    plain: f32,
}

impl Profile {
    fn new(count: usize, bin: usize, value: f64) -> Self {
        Self {
            base: value,
            bins: Vec::new(),
            first: bin as u8,
            count: count as u8,
            believed: false,
            bin: bin as u8,
            in_bin: 0,
            a_bin: 1.0,
            usual: value,
            visits: 0,
            compared: 0,
            error: 0.0,
            plain: 0.0,
        }
    }

    fn samples_a_bin(&self) -> f64 {
        f64::from(self.a_bin.max(1.0))
    }

    /// Where a bin lies.
    fn place(&self, bin: usize) -> usize {
        let count = usize::from(self.count).max(1);
        (bin + count - usize::from(self.first)) % count
    }

    /// What is usual in a bin, and how many samples it has seen.
    fn at(&self, bin: usize) -> (f64, u16) {
        if bin == usize::from(self.bin) {
            return (self.usual, self.visits);
        }
        let packed = self.bins.get(self.place(bin)).copied();
        let (offset, visits) = unpack(packed.unwrap_or_default());
        (self.base + offset, visits)
    }

    /// The expectation, once the bin was seen in an earlier period.
    fn expected(&self, bin: usize) -> Option<f64> {
        let (usual, visits) = self.at(bin);
        let visits = f64::from(visits);
        (visits >= 1.0 && visits > self.samples_a_bin()).then_some(usual)
    }

    /// Puts the bin of the newest sample away and takes another one out.
    fn turn_to(&mut self, bin: usize) {
        self.a_bin += 0.2 * (f32::from(self.in_bin) - self.a_bin);
        let next = self.at(bin);
        let place = self.place(usize::from(self.bin));
        if place >= self.bins.len() {
            if place >= self.bins.capacity() {
                let whole = usize::from(self.count).saturating_sub(self.bins.len());
                let missing = place + 1 - self.bins.len();
                self.bins
                    .reserve_exact(missing.max(BINS_AT_ONCE.min(whole)));
            }
            self.bins.resize(place + 1, 0);
        }
        if let Some(packed) = self.bins.get_mut(place) {
            *packed = pack(self.usual - self.base, self.visits);
        }
        (self.usual, self.visits) = next;
        (self.bin, self.in_bin) = (bin as u8, 0);
    }

    fn learn(&mut self, bin: usize, value: f64) {
        if bin != usize::from(self.bin) {
            self.turn_to(bin);
        }
        self.in_bin = self.in_bin.saturating_add(1);
        let rate = (RATE_OF_VISIT / self.samples_a_bin()).max(1.0 / (f64::from(self.visits) + 1.0));
        self.usual += rate * (value - self.usual);
        self.visits = self.visits.saturating_add(1);
    }

    /// Compares the errors with and without the profile, over about one period.
    fn compare(&mut self, error: f64, plain: f64) {
        self.compared = self.compared.saturating_add(1);
        let period = f64::from(self.count) * self.samples_a_bin();
        let compared = f64::from(self.compared);
        let rate = (1.0 / period).max(1.0 / compared);
        self.error += (rate * (error - f64::from(self.error))) as f32;
        self.plain += (rate * (plain - f64::from(self.plain))) as f32;
        // As many as can be counted are enough.
        if compared < (0.5 * period).min(f64::from(u16::MAX)) {
            return;
        }
        let (error, plain) = (f64::from(self.error), f64::from(self.plain));
        if self.believed {
            self.believed = error <= REFUTED * plain;
        } else {
            self.believed = error < CONFIRMED * plain;
        }
    }

    /// Moves every expectation.
    fn shift(&mut self, by: f64) {
        self.base += by;
        self.usual += by;
    }

    fn is_sound(&self, count: usize) -> bool {
        let numbers = [self.a_bin, self.error, self.plain];
        usize::from(self.count) == count
            && self.bins.len() <= count
            && self.first < self.count
            && self.bin < self.count
            && self.bins.iter().all(|packed| unpack(*packed).0.is_finite())
            && numbers.iter().all(|number| number.is_finite())
            && self.base.is_finite()
            && self.usual.is_finite()
    }

    fn heap(&self) -> usize {
        self.bins.capacity() * size_of::<u32>()
    }
}

/// So many codes of a number of visits are a doubling.
const CODES: f32 = 15.5;

/// A bin that is not the newest sample's: the offset of what is usual from the base, in single precision less
/// eight of its 24 digits, and in these how many samples it has seen, to within 5 %.
fn pack(offset: f64, visits: u16) -> u32 {
    let bits = (offset as f32).to_bits();
    // To the nearest, to the one that is even where there are two.
    let rounded = bits.saturating_add(0x7f + (bits >> 8 & 1)) & !0xff;
    // Rounded down: no bin was seen before it was.
    let code = ((f32::from(visits) + 1.0).log2() * CODES) as u8;
    rounded | u32::from(code)
}

fn unpack(packed: u32) -> (f64, u16) {
    let offset = f64::from(f32::from_bits(packed & !0xff));
    let code = (packed & 0xff) as u8;
    let visits = (f32::from(code) / CODES).exp2() - 1.0;
    (offset, visits.round() as u16)
}
