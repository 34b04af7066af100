//! What `adaptive` knows of one signal, and how a sample is judged by it and teaches it.

mod accept;

mod lasting;

use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, LARGEST};
use super::event::{Course, Hold, OPENS, Reports, Run, Surprise};
use super::level::Level;
use super::novelty::Novelty;
use super::rarity::Rarity;
use super::recurrence::Recurrences;
use super::season::{Period, Season};

/// Samples before anything is judged.
pub(super) const WARM_UP: u32 = 30;
/// Samples before a distance from a level means anything.
const SETTLED: u32 = 10;
/// Deviations before they calibrate: as many as there are when the warm-up ends.
const CALIBRATED: u32 = WARM_UP - SETTLED;
/// Weight of a sample in the recent level: it remembers as much as a window of 100 samples.
const FAST: f64 = 1.0 / 50.0;
/// Weight of a sample in the long-run level and in all spreads.
const SLOW: f64 = 1.0 / 2000.0;
/// Weight of a sample in the mean of the last few, by which a small lasting shift shows …
const SHORT: f64 = 1.0 / 20.0;
/// … to which one outlier adds as much as one so many mean deviations away.
const SHORT_CLIP: f64 = 5.0;
/// Standard deviation of that mean for independent values, as a share of theirs: √(1/39).
const SHORT_SPREAD: f64 = 0.16;
/// Weight of a sample in the smoothed value whose novelty is looked at.
const SMOOTH: f64 = 1.0 / 15.0;
/// Samples before a smoothed value is smooth, and before its novelty means something.
const SMOOTHED: u32 = 15;
const SMOOTH_KNOWN: u32 = 300;
/// A value is new if it is so far from all seen before, as a share of the range seen …
const GAP: f64 = 0.05;
/// … and the younger a signal, the further: it doubles at so many samples.
const GAP_YOUNG: f64 = 70.0;
/// A value is on its way if the one before was off to the same side by so many spreads. One that is not, a
/// single sample that the noise may have thrown, must be as far as this to be new.
const SUPPORT: f64 = 0.5;
const GAP_ALONE: f64 = 0.1;
/// Surprise of such a value, how it grows with the gap, and where it ends: how rare a gap of what size
/// is cannot be known from values that never were.
const NEW: f64 = 4.0;
const NEW_SLOPE: f64 = 2.0;
const NEW_MOST: f64 = 4.9;
/// How severe it is grows on: from this gap on by one with each doubling, at most by so many.
const NEW_FAR: f64 = 0.45;
const NEW_FARTHEST: f64 = 4.0;
/// Gaps in other things than the value itself come more easily; they count as this share.
const SMOOTH_SHARE: f64 = 0.6;
const SEASON_SHARE: f64 = 0.6;
const SMOOTH_SEASON_SHARE: f64 = 0.3;
/// From so many samples on a value must also be new relative to the long-run level, so that what
/// drifts or grows for ever is not new for ever.
const LONG_RUN: u32 = 4000;
/// What is new relative to the time of day is so only after so many days, and samples.
const SEASON_DAYS: f64 = 3.0;
const SEASON_SAMPLES: u32 = 100;
/// So much less surprising than where an event begins is a deviation that comes every day.
const EXPECTED: f64 = 0.5;
/// Values of an event that wait to be remembered.
const WAITING: usize = 8;
/// Values are taken as if they were at most so far from where the signal began.
const FARTHEST: f64 = 1e30;
/// Least spread, as a share of the level, and at all.
const FLOOR_SHARE: f64 = 1e-3;
const FLOOR: f64 = 1e-9;

/// By channel: how many deviations in a row say as much as one. The mean of the last few hardly changes
/// from one sample to the next.
const ALIKE: [u8; 4] = [1, 1, 1, 10];

/// Where the band of what is usual ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) sigma: f64,
    rarity: Rarity,
}

impl Band {
    pub(super) fn at(sigma: f64) -> Self {
        Self {
            sigma,
            rarity: Rarity::of_sigma(sigma),
        }
    }
}

/// What deviates, and from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// From the recent level.
    Recent,
    /// From the long-run level.
    LongRun,
    /// From what is usual at this time of the day or week.
    Season(Period),
    /// The mean of the last samples, from the level.
    Shift,
    /// A value that was never seen.
    NewValue,
    /// A smoothed value that was never seen.
    NewLevel,
    /// A difference from the usual at this time that was never seen.
    NewForTime(Period),
}

/// A sample beside what was expected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) expected: f64,
    /// The long-run mean.
    pub(super) mean: f64,
    pub(super) spread: f64,
    /// Half of the band's width.
    pub(super) reach: f64,
    /// Not signed.
    pub(super) sigma: f64,
    pub(super) channel: Channel,
    /// Sigma, or 0 where the event was reported already.
    pub(super) report: f64,
    pub(super) never_seen: bool,
    /// The level before, where this sample made another one normal.
    pub(super) relevelled_from: Option<f64>,
}

/// Everything learned of one signal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Samples so far.
    pub(super) samples: u32,
    /// Seconds since the epoch of the first one.
    pub(super) began: i64,
    /// Everything below counts from here.
    origin: f64,
    fast: Moving,
    slow: Level,
    season: Season,
    /// Differences from what is usual at the time, by this period, so many.
    residual: Level,
    period: Period,
    residuals: u32,
    /// The sample before.
    previous: f64,
    short: f64,
    short_level: Level,
    smooth: f64,
    smooth_residual: f64,
    /// By channel: recent, long run, season, shift.
    calibrations: [Calibration; 4],
    /// Largest deviations of an event, which calibrate once it is over.
    held: [f64; 4],
    values: Novelty,
    /// Relative to the long-run level.
    offsets: Novelty,
    levels: Novelty,
    for_time: Novelty,
    levels_for_time: Novelty,
    /// Values of an event, each with its difference from the usual at the time, if there was one.
    waiting: Vec<(f32, Option<f32>)>,
    run: Run,
    reports: Reports,
    /// The level before the last new one.
    before: Option<Level>,
    recurrences: Recurrences,
    hold: Hold,
}

/// Exponentially weighted mean and variance.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Moving {
    mean: f64,
    variance: f64,
}

/// The signal's newest sample and what was known when it came.
struct Sight {
    value: f64,
    floor: f64,
    usual: Option<f64>,
    /// Mean of the last few, smoothed value and smoothed residual with this sample.
    short: f64,
    smooth: f64,
    smooth_residual: f64,
    /// Whether the sample itself is where the mean of the last few is: after a deviation that is over, it
    /// is not.
    shares_shift: bool,
    /// By channel; `None` where it has nothing to say yet.
    deviations: [Option<f64>; 4],
    /// What each is in units of.
    spreads: [f64; 4],
}

impl State {
    pub(super) fn new(secs: i64, value: f64) -> Self {
        Self {
            samples: 0,
            began: secs,
            origin: value,
            fast: Moving::default(),
            slow: Level::default(),
            season: Season::default(),
            residual: Level::default(),
            period: Period::None,
            residuals: 0,
            previous: 0.0,
            short: 0.0,
            short_level: Level::default(),
            smooth: 0.0,
            smooth_residual: 0.0,
            calibrations: ALIKE.map(Calibration::new),
            held: [0.0; 4],
            values: Novelty::default(),
            offsets: Novelty::default(),
            levels: Novelty::default(),
            for_time: Novelty::default(),
            levels_for_time: Novelty::default(),
            waiting: Vec::new(),
            run: Run::default(),
            reports: Reports::default(),
            before: None,
            recurrences: Recurrences::default(),
            hold: Hold::default(),
        }
    }

    /// Whether no value was ever below zero.
    pub(super) fn is_never_negative(&self) -> bool {
        self.origin + self.values.lowest() >= 0.0 && self.origin + self.previous >= 0.0
    }

    /// The period that the expectation follows.
    pub(super) fn period(&self) -> Period {
        self.season.period()
    }

    /// Judges a sample and learns from it. `counted` tells that what few
    /// events do by chance is known from their number. `None` during the warm-up.
    pub(super) fn step(
        &mut self,
        secs: i64,
        value: f64,
        band: Band,
        counted: bool,
    ) -> Option<Step> {
        let sight = self.look(secs, value);
        let mut sigmas = [0.0; 4];
        let (mut sum, mut weights) = (0.0, 0.0);
        let learners = sigmas.iter_mut().zip(&self.calibrations);
        for ((sigma, calibration), (deviation, spread)) in
            learners.zip(sight.deviations.iter().zip(sight.spreads))
        {
            if let Some(deviation) = deviation.filter(|_| calibration.seen() >= CALIBRATED) {
                *sigma = calibration.sigma(deviation);
                sum += *sigma / spread;
                weights += 1.0 / spread;
            }
        }
        // The mean: what one channel takes for an outlier and the others for usual is usual, the more so
        // the better those know. Only a shift, which is a mean of its own, speaks alone.
        let joint = if weights > 0.0 { sum / weights } else { 0.0 };
        let (new, of_new, over) = self.novelty(&sight);
        let [recent, long_run, season, shift] = sigmas;
        let loudest = if recent >= long_run.max(season) {
            Channel::Recent
        } else if long_run >= season {
            Channel::LongRun
        } else {
            Channel::Season(self.period)
        };
        let shift = if sight.shares_shift { shift } else { 0.0 };
        let candidates = [(shift, Channel::Shift), (new, of_new)];
        let (sigma, spoke) = candidates.into_iter().fold((joint, loudest), |best, next| {
            if next.0 > best.0 { next } else { best }
        });
        let judged = self.samples >= WARM_UP;
        let alone = if judged { sigma } else { 0.0 };
        let off = sight.value - sight.usual.unwrap_or(self.slow.mean);
        let recurs = alone >= OPENS && self.recurrences.is_known(secs, off);
        if alone >= OPENS && self.run.lasts() {
            self.recurrences.note(secs, off, recurs);
        }
        // It is no news, and what it would teach is known, too.
        let (alone, new) = if recurs {
            (OPENS - EXPECTED, 0.0)
        } else {
            (alone, new)
        };
        let sigma = self.held(&sight, alone);
        if judged && new >= NEW {
            self.hold_what_is_new(secs, &sight, new, of_new);
        }
        let sigma = match self.hold.observe(self.stands(&sight)) {
            Some(held) => sigma.max(held),
            None => sigma,
        };
        let never_seen = judged && self.values.is_record(sight.value);
        let centre = self.centre(&sight, (sigma >= OPENS).then_some(spoke));
        let (expected, spread, _) = centre;
        let reach = self.reach(&sight, sigma, band, centre);
        let report = self.reports.observe(alone, sigma);
        let residual = sight.usual.map(|usual| sight.value - usual);
        let (before, mean) = (self.before, self.slow.mean + self.origin);
        let surprise = Surprise {
            sigma: alone,
            joint,
            shift,
            far: counted && new >= NEW_MOST,
        };
        let course = self.run.observe(sight.value, residual, surprise, |level| {
            let near = |before: Level| before.distance(level.mean, sight.floor) < 2.0;
            before.is_some_and(near)
        });
        let expected = expected + self.origin;
        let relevelled_from = (course == Course::NewNormal).then_some(expected);
        if course == Course::NewNormal {
            self.relevel();
        }
        let course = if recurs { Course::Aside } else { course };
        self.learn(secs, &sight, course);
        // What is outside of all that was ever seen by as much as that is wide is no chance, however little
        // was seen. It is severe; it is one event all the same, reported as often as any.
        let sigma = if judged && new >= NEW_MOST {
            sigma.max(NEW_MOST + (over / NEW_FAR).log2().clamp(0.0, NEW_FARTHEST))
        } else {
            sigma
        };
        judged.then_some(Step {
            expected,
            mean,
            spread,
            reach,
            sigma,
            channel: spoke,
            report,
            never_seen,
            relevelled_from,
        })
    }

    /// What the sample looks like from here.
    fn look(&mut self, secs: i64, value: f64) -> Sight {
        let value = (value - self.origin).clamp(-FARTHEST, FARTHEST);
        let floor = ((self.slow.mean + self.origin).abs().min(FARTHEST) * FLOOR_SHARE).max(FLOOR);
        let samples = f64::from(self.samples);
        let usual = self.season.expected(secs);
        if usual.is_some() && self.season.period() != self.period {
            // Differences from another period's expectation are others.
            self.period = self.season.period();
            self.residual = Level::default();
            (self.for_time, self.levels_for_time) = (Novelty::default(), Novelty::default());
            if let Some(calibration) = self.calibrations.get_mut(2) {
                *calibration = Calibration::new(1);
            }
            (self.residuals, self.smooth_residual) = (0, 0.0);
        }
        let seasonal = usual.is_some() && self.residual.seen() >= WARM_UP;
        let known = self.samples >= WARM_UP;
        let around = if seasonal { &self.residual } else { &self.slow };
        let clip = if known {
            SHORT_CLIP * around.deviation.max(floor)
        } else {
            f64::INFINITY
        };
        let rate = |rate: f64, samples: f64| rate.max(1.0 / (samples + 1.0));
        let off = (value - usual.unwrap_or(self.slow.mean)).clamp(-clip, clip);
        let short = self.short + rate(SHORT, samples) * (off - self.short);
        let smooth = self.smooth + rate(SMOOTH, samples) * (value - self.smooth);
        let residual = usual.map(|usual| value - usual);
        let smooth_residual = residual.map_or(self.smooth_residual, |residual| {
            let rate = rate(SMOOTH, f64::from(self.residuals));
            self.smooth_residual + rate * (residual - self.smooth_residual)
        });
        let settled = self.samples >= SETTLED;
        let fast = self.fast.variance.sqrt().max(floor);
        let recent = (value - self.fast.mean).abs() / fast;
        // The mean of independent values strays by so much; one that never did, by chance or since nothing
        // had happened yet, is no reason to expect that it never will.
        let least = SHORT_SPREAD * around.spread(floor).max(fast);
        let of_season = residual.filter(|_| seasonal);
        Sight {
            value,
            floor,
            usual,
            short,
            smooth,
            smooth_residual,
            shares_shift: off * short.signum() >= 0.5 * short.abs() && off != 0.0,
            deviations: [
                settled.then_some(recent.min(LARGEST)),
                settled.then(|| self.slow.distance(value, floor)),
                of_season.map(|r| (r.abs() / self.residual.spread(floor)).min(LARGEST)),
                known.then(|| self.short_level.distance(short, least)),
            ],
            spreads: [
                fast,
                self.slow.spread(floor),
                self.residual.spread(floor),
                around.spread(floor),
            ],
        }
    }

    /// Sigma, or that of the event which the sample belongs to, if that is larger: more of the same is not
    /// less surprising than its beginning, though each sample by itself may be.
    fn held(&self, sight: &Sight, sigma: f64) -> f64 {
        if !self.run.is_aside() {
            return sigma;
        }
        let (expected, _, channel) = self.centre(sight, None);
        let event = match channel {
            2 => self.run.residual.mean,
            _ => self.run.level.mean - expected,
        };
        let off = (sight.value - expected) * event.signum();
        if off >= 0.5 * event.abs() && off > 0.0 {
            sigma.max(self.run.surprise.mean)
        } else {
            sigma
        }
    }

    /// What was expected, how far values stray from it, and the calibration that knows: of the channel
    /// that spoke, else of the one that strays least.
    fn centre(&self, sight: &Sight, spoke: Option<Channel>) -> (f64, f64, usize) {
        let floor = sight.floor;
        let recent = (self.fast.mean, self.fast.variance.sqrt().max(floor), 0);
        let long_run = (self.slow.mean, self.slow.spread(floor), 1);
        let usual = sight.usual.filter(|_| self.residual.seen() >= WARM_UP);
        let season = usual.map(|usual| (usual, self.residual.spread(floor), 2));
        match spoke {
            Some(Channel::Recent) => recent,
            Some(Channel::LongRun | Channel::NewLevel) => long_run,
            Some(Channel::Season(_) | Channel::NewForTime(_) | Channel::Shift) => {
                season.unwrap_or(long_run)
            }
            Some(Channel::NewValue) | None => {
                let best = if long_run.1 < recent.1 {
                    long_run
                } else {
                    recent
                };
                season.filter(|season| season.1 < best.1).unwrap_or(best)
            }
        }
    }

    /// Half of the band's width: as far as the channel that knows best calls less than the band's sigma, and
    /// so that a sample is beyond it if and only if its sigma is.
    fn reach(
        &self,
        sight: &Sight,
        sigma: f64,
        band: Band,
        (expected, spread, channel): (f64, f64, usize),
    ) -> f64 {
        let calibration = self.calibrations.get(channel);
        let known = calibration.filter(|calibration| calibration.seen() >= CALIBRATED);
        let distance = known.map_or(band.sigma, |known| known.deviation(band.rarity));
        let warning = band.sigma;
        let (reach, off) = (distance * spread, (sight.value - expected).abs());
        if sigma >= warning {
            reach.min(off * (warning / sigma))
        } else if off > reach {
            off * (warning / sigma.max(0.5 * warning)).min(2.0)
        } else {
            reach
        }
    }

    /// Whether the sample before was on its way there.
    fn supported(&self, sight: &Sight) -> bool {
        let side = (sight.value - self.slow.mean).signum();
        let off = (self.previous - self.slow.mean) * side;
        off >= SUPPORT * self.slow.spread(sight.floor)
    }

    /// How new the sample is, in sigmas, what of it, and by how much the gap is more than enough.
    fn novelty(&self, sight: &Sight) -> (f64, Channel, f64) {
        let floor = sight.floor;
        let mut gap = (self.values.gap(sight.value, floor), Channel::NewValue);
        if self.samples >= LONG_RUN {
            let offset = sight.value - self.slow.mean;
            gap.0 = gap.0.min(self.offsets.gap(offset, floor));
        }
        let mut consider = |known: bool, share: f64, of: f64, channel: Channel| {
            if known && share * of > gap.0 {
                gap = (share * of, channel);
            }
        };
        let smooth = self.levels.gap(sight.smooth, floor);
        // After a deviation that is over, the smoothed value is still on its way back.
        let (off, smooth_off) = (sight.value - self.slow.mean, sight.smooth - self.slow.mean);
        let shares = off * smooth_off.signum() >= smooth_off.abs();
        consider(
            self.samples >= SMOOTH_KNOWN && shares,
            SMOOTH_SHARE,
            smooth,
            Channel::NewLevel,
        );
        if let Some(usual) = sight.usual {
            let days = SEASON_DAYS * self.season.samples_a_day();
            let known = self.residuals >= SEASON_SAMPLES && f64::from(self.residuals) >= days;
            let for_time = self.for_time.gap(sight.value - usual, floor);
            let channel = Channel::NewForTime(self.period);
            consider(known, SEASON_SHARE, for_time, channel);
            let smooth = self.levels_for_time.gap(sight.smooth_residual, floor);
            consider(known, SMOOTH_SEASON_SHARE, smooth, channel);
        }
        let (gap, channel) = gap;
        let alone = channel == Channel::NewValue && !self.supported(sight);
        let enough = if alone { GAP_ALONE } else { GAP }
            * (1.0 + GAP_YOUNG / f64::from(self.samples.max(1)));
        let sigma = if self.samples >= WARM_UP && gap >= enough {
            (NEW + NEW_SLOPE * (gap - enough)).min(NEW_MOST)
        } else {
            0.0
        };
        (sigma, channel, gap - enough)
    }

    fn learn(&mut self, secs: i64, sight: &Sight, course: Course) {
        let samples = f64::from(self.samples);
        let aside = course == Course::Aside;
        let learners = self.calibrations.iter_mut().zip(&mut self.held);
        for ((calibration, held), deviation) in learners.zip(sight.deviations) {
            let Some(deviation) = deviation else { continue };
            if aside {
                // An event is one thing that happened, however many samples it lasts.
                *held = held.max(deviation);
                continue;
            }
            if *held > 0.0 {
                calibration.learn(std::mem::take(held));
            }
            calibration.learn(deviation);
        }
        let residual = sight.usual.map(|usual| sight.value - usual);
        self.season.learn(secs, sight.value, self.slow.mean, aside);
        if aside {
            self.wait(sight, residual);
        } else {
            self.remember(sight, residual);
            let rate = FAST.max(1.0 / (samples + 1.0));
            let off = sight.value - self.fast.mean;
            self.fast.mean += rate * off;
            self.fast.variance = (1.0 - rate) * (self.fast.variance + rate * off * off);
            if let Some(residual) = residual {
                self.residual.learn(residual, SLOW);
            }
            self.slow.learn(sight.value, SLOW);
            self.short_level.learn(sight.short, SLOW);
        }
        if self.samples >= SMOOTHED {
            self.levels.learn(sight.smooth, GAP, sight.floor);
        }
        if residual.is_some() {
            if self.residuals >= SMOOTHED {
                self.levels_for_time
                    .learn(sight.smooth_residual, GAP, sight.floor);
            }
            self.residuals = self.residuals.saturating_add(1);
        }
        self.previous = sight.value;
        self.short = sight.short;
        self.smooth = sight.smooth;
        self.smooth_residual = sight.smooth_residual;
        self.samples = self.samples.saturating_add(1);
    }

    /// A value of an event is not remembered before that is over; else only its first sample would be
    /// new.
    fn wait(&mut self, sight: &Sight, residual: Option<f64>) {
        let new = self.values.gap(sight.value, sight.floor) >= GAP
            || residual.is_some_and(|r| self.for_time.gap(r, sight.floor) >= GAP);
        if new && self.waiting.len() < WAITING {
            self.waiting
                .push((sight.value as f32, residual.map(|r| r as f32)));
        }
    }

    fn remember(&mut self, sight: &Sight, residual: Option<f64>) {
        let floor = sight.floor;
        let waited = std::mem::take(&mut self.waiting).into_iter();
        let waited = waited.map(|(value, residual)| (f64::from(value), residual.map(f64::from)));
        for (value, residual) in waited.chain([(sight.value, residual)]) {
            self.values.learn(value, GAP, floor);
            self.offsets.learn(value - self.slow.mean, GAP, floor);
            if let Some(residual) = residual {
                self.for_time.learn(residual, GAP, floor);
            }
        }
    }

    /// The level of the run is the normal one from now on.
    fn relevel(&mut self) {
        let (new, residual) = (self.run.level, self.run.residual);
        self.run.end();
        self.before = Some(self.slow);
        (self.short, self.smooth_residual) = (0.0, 0.0);
        if residual.seen() > 0 {
            // The course of the day goes on, from another level.
            self.season.shift(residual.mean);
            self.slow = Level::settled(self.slow.mean + residual.mean, self.slow.deviation);
            self.fast.mean = new.mean;
        } else {
            let deviation = new.deviation.max(0.5 * self.slow.deviation);
            self.slow = Level::settled(new.mean, deviation);
            self.fast = Moving {
                mean: new.mean,
                variance: self.slow.spread(0.0).powi(2),
            };
        }
        self.smooth = new.mean;
        // What such a level brings with it is not new either.
        for spreads in [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0] {
            let value = new.mean + spreads * new.spread(0.0);
            self.values.learn(value, GAP, FLOOR);
        }
    }

    /// Whether what was read back can have been learned.
    pub(super) fn is_sound(&self) -> bool {
        let numbers = [
            self.origin,
            self.fast.mean,
            self.fast.variance,
            self.previous,
            self.short,
            self.smooth,
            self.smooth_residual,
        ];
        let levels = [self.slow, self.residual, self.short_level];
        let memories = [
            &self.values,
            &self.offsets,
            &self.levels,
            &self.for_time,
            &self.levels_for_time,
        ];
        numbers.iter().chain(&self.held).all(|n| n.is_finite())
            && self.fast.variance >= 0.0
            && levels.iter().chain(&self.before).all(Level::is_sound)
            && self.run.is_sound()
            && self.hold.is_sound()
            && self.recurrences.is_sound()
            && self.season.is_sound()
            && self.calibrations.iter().all(Calibration::is_sound)
            && memories.iter().all(|memory| memory.is_sound())
            && self.waiting.len() <= WAITING
            && self.waiting.iter().all(|(value, _)| value.is_finite())
    }

    /// Memory it occupies beside itself.
    pub(super) fn heap(&self) -> usize {
        let memories = [
            &self.values,
            &self.offsets,
            &self.levels,
            &self.for_time,
            &self.levels_for_time,
        ];
        self.calibrations
            .iter()
            .map(Calibration::heap)
            .sum::<usize>()
            + memories.iter().map(|memory| memory.heap()).sum::<usize>()
            + self.season.heap()
            + self.recurrences.heap()
            + self.waiting.capacity() * size_of::<(f32, Option<f32>)>()
    }
}
