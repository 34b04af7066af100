//! What `adaptive` knows of one signal, and how a sample is judged by it and teaches it.

mod accept;
mod lasting;
mod learn;
mod new;
mod sight;

use serde::{Deserialize, Serialize};

use super::calibration::CHANNELS;
use super::event::{Course, Events, OPENS, Reports, Surprise};
use super::level::Level;
use super::memory::{Memory, Of};
use super::rarity::Rarity;
use super::season::{Period, Season};
use new::{Gaps, New};
use sight::Sight;

/// Samples before anything is judged.
pub(super) const WARM_UP: u32 = 30;
/// Samples before a distance from a level means anything.
const SETTLED: u32 = 10;
/// Deviations before they calibrate: as many as there are when the warm-up ends.
const CALIBRATED: u32 = WARM_UP - SETTLED;
/// Weight of a sample in the long-run level and in all spreads.
const SLOW: f64 = 1.0 / 2000.0;
/// A value is new if it is so far from all seen before, as a share of the range seen …
const GAP: f64 = 0.05;
/// Surprise of such a value, and where it ends: how rare a gap of what size is cannot be known from values that
/// never were.
const NEW: f64 = 4.0;
const NEW_MOST: f64 = 4.9;
/// How severe it is grows on: from this gap on by one with each doubling, at most by so many.
const NEW_FAR: f64 = 0.45;
const NEW_FARTHEST: f64 = 4.0;
/// From so many samples on a value must also be new relative to the long-run level, so that what
/// drifts or grows for ever is not new for ever.
const LONG_RUN: u32 = 4000;
/// So much less surprising than where an event begins is a deviation that comes every day.
const EXPECTED: f64 = 0.5;
/// Least spread at all.
const FLOOR: f64 = 1e-9;

/// Where the band of what is usual ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) sigma: f64,
    /// Bits of its rarity.
    rarity: f32,
}

impl Band {
    pub(super) fn at(sigma: f64) -> Self {
        Self {
            sigma,
            rarity: Rarity::of_sigma(sigma).bits() as f32,
        }
    }

    fn rarity(self) -> Rarity {
        Rarity::of_bits(f64::from(self.rarity))
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

/// Everything learned of one signal: some 320 bytes, and in one allocation beside two for each bin of the
/// calibrations and each value remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Samples so far.
    pub(super) samples: u32,
    /// The mean of the last few.
    short: f32,
    /// Seconds since the epoch of the first one.
    pub(super) began: i64,
    /// Everything below counts from here.
    origin: f64,
    fast: Moving,
    slow: Level,
    short_level: Level,
    /// The sample before.
    previous: f64,
    smooth: f64,
    season: Season,
    memory: Memory,
    reports: Reports,
    events: Option<Box<Events>>,
    /// The level before the last new one.
    before: Option<Box<Level>>,
}

/// Exponentially weighted mean and variance.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Moving {
    mean: f64,
    variance: f64,
}

impl State {
    pub(super) fn new(secs: i64, value: f64) -> Self {
        Self {
            samples: 0,
            short: 0.0,
            began: secs,
            origin: value,
            fast: Moving::default(),
            slow: Level::default(),
            short_level: Level::default(),
            previous: 0.0,
            smooth: 0.0,
            season: Season::default(),
            memory: Memory::default(),
            reports: Reports::default(),
            events: None,
            before: None,
        }
    }

    /// Whether no value was ever below zero.
    pub(super) fn is_never_negative(&self) -> bool {
        let lowest = self.memory.novelty(Of::Value).lowest();
        self.origin + lowest >= 0.0 && self.origin + self.previous >= 0.0
    }

    /// See [`Detector::glance`](crate::detect::Detector::glance).
    pub(super) fn glance(&self, beyond: bool) -> u64 {
        if beyond {
            return self.memory.glance_beyond() + self.season.glance();
        }
        // Fields that lie apart from each other, wherever the compiler puts them.
        let own = [self.fast.mean, self.short_level.mean, self.previous];
        let own = own.into_iter().map(f64::to_bits).fold(0, u64::wrapping_add);
        own.wrapping_add(self.memory.glance())
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
        let mut sigmas = [0.0; CHANNELS];
        let (mut sum, mut weights) = (0.0, 0.0);
        let sights = sight.deviations.iter().zip(sight.spreads);
        for ((channel, sigma), (deviation, spread)) in sigmas.iter_mut().enumerate().zip(sights) {
            if let Some(deviation) = deviation.filter(|_| self.memory.seen(channel) >= CALIBRATED) {
                *sigma = self.memory.sigma(channel, deviation);
                sum += *sigma / spread;
                weights += 1.0 / spread;
            }
        }
        // The mean: what one channel takes for an outlier and the others for usual is usual, the more so
        // the better those know. Only a shift, which is a mean of its own, speaks alone.
        let joint = if weights > 0.0 { sum / weights } else { 0.0 };
        let new = self.novelty(&sight);
        let [recent, long_run, season, shift] = sigmas;
        let loudest = if recent >= long_run.max(season) {
            Channel::Recent
        } else if long_run >= season {
            Channel::LongRun
        } else {
            Channel::Season(self.known_period())
        };
        let shift = if sight.shares_shift { shift } else { 0.0 };
        let candidates = [(shift, Channel::Shift), (new.sigma, new.of)];
        let (sigma, spoke) = candidates.into_iter().fold((joint, loudest), |best, next| {
            if next.0 > best.0 { next } else { best }
        });
        let judged = self.samples >= WARM_UP;
        let alone = if judged { sigma } else { 0.0 };
        let never_seen = judged && self.memory.novelty(Of::Value).is_record(sight.value);
        let mut events = self.events.take();
        if alone >= OPENS {
            events.get_or_insert_default();
        }
        let mut sigma = alone;
        let (mut recurs, mut course) = (false, Course::Normal);
        if let Some(events) = events.as_deref_mut() {
            let off = sight.value - sight.usual.unwrap_or(self.slow.mean);
            recurs = alone >= OPENS && events.recurrences.is_known(secs, off);
            if alone >= OPENS && events.run.lasts() {
                events.recurrences.note(secs, off, recurs);
            }
            // It is no news, and what it would teach is known, too.
            let alone = if recurs { OPENS - EXPECTED } else { alone };
            sigma = self.held(events, &sight, alone);
            if judged && new.sigma >= NEW && !recurs {
                self.hold_what_is_new(events, secs, &sight, &new);
            }
            let stands = self.stands(events, &sight);
            if let Some(held) = events.hold.observe(stands) {
                sigma = sigma.max(held);
            }
            let residual = sight.usual.map(|usual| sight.value - usual);
            let before = self.before.as_deref();
            let surprise = Surprise {
                sigma: alone,
                joint,
                shift,
                far: counted && new.sigma >= NEW_MOST && !recurs,
            };
            course = events
                .run
                .observe(sight.value, residual, surprise, |level| {
                    let near = |before: &Level| before.distance(level.mean, sight.floor) < 2.0;
                    before.is_some_and(near)
                });
        }
        let report = if recurs { OPENS - EXPECTED } else { alone };
        let report = self.reports.observe(report, sigma);
        let centre = self.centre(&sight, (sigma >= OPENS).then_some(spoke));
        let (expected, spread, _) = centre;
        let reach = self.reach(&sight, sigma, band, centre);
        let (expected, mean) = (expected + self.origin, self.slow.mean + self.origin);
        let relevels = course == Course::NewNormal;
        if relevels && let Some(events) = events.as_deref_mut() {
            self.relevel(events);
        }
        let aside = course == Course::Aside || recurs;
        // Since it is normal other things are new.
        let gaps = (!relevels).then_some(new.gaps);
        self.learn(secs, &sight, band, aside, gaps, events.as_deref_mut());
        self.events = events.filter(|events| !events.are_over(secs));
        // What is outside of all that was ever seen by as much as that is wide is no chance, however little
        // was seen. It is severe; it is one event all the same, reported as often as any.
        let sigma = if judged && !recurs && new.sigma >= NEW_MOST {
            sigma.max(NEW_MOST + (new.over / NEW_FAR).log2().clamp(0.0, NEW_FARTHEST))
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
            relevelled_from: relevels.then_some(expected),
        })
    }

    /// The period that differences from the usual at the time are from.
    fn known_period(&self) -> Period {
        let seasonal = self.season.seasonal();
        seasonal.map_or(Period::None, |seasonal| seasonal.period)
    }

    /// Those differences, once they are known.
    fn residual(&self) -> Option<Level> {
        let residual = self.season.seasonal()?.residual;
        (residual.seen() >= WARM_UP).then_some(residual)
    }

    /// Sigma, or that of the event which the sample belongs to, if that is larger: more of the same is not
    /// less surprising than its beginning, though each sample by itself may be.
    fn held(&self, events: &Events, sight: &Sight, sigma: f64) -> f64 {
        let run = &events.run;
        if !run.is_aside() {
            return sigma;
        }
        let (expected, _, channel) = self.centre(sight, None);
        let event = match channel {
            2 => run.residual.mean,
            _ => run.level.mean - expected,
        };
        let off = (sight.value - expected) * event.signum();
        if off >= 0.5 * event.abs() && off > 0.0 {
            sigma.max(run.surprise.mean)
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
        let usual = sight.usual.zip(self.residual());
        let season = usual.map(|(usual, residual)| (usual, residual.spread(floor), 2));
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
        let distance = if self.memory.seen(channel) >= CALIBRATED {
            self.memory.reach(channel)
        } else {
            band.sigma
        };
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

    /// The level of the run is the normal one from now on.
    fn relevel(&mut self, events: &mut Events) {
        let (new, residual) = (events.run.level, events.run.residual);
        events.run.end();
        self.before = Some(Box::new(self.slow));
        self.short = 0.0;
        if let Some(seasonal) = self.season.seasonal_mut() {
            seasonal.smooth_residual = 0.0;
        }
        if residual.seen() > 0 {
            // The course of the day goes on, from another level.
            self.season.shift(residual.mean);
            self.slow = Level::settled(self.slow.mean + residual.mean, self.slow.deviation());
            self.fast.mean = new.mean;
        } else {
            let deviation = new.deviation().max(0.5 * self.slow.deviation());
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
            self.memory.remember(Of::Value, value, GAP, FLOOR);
        }
    }

    /// Whether what was read back can have been learned.
    pub(super) fn is_sound(&self) -> bool {
        let numbers = [
            self.origin,
            self.fast.mean,
            self.fast.variance,
            self.previous,
            self.short.into(),
            self.smooth,
        ];
        numbers.iter().all(|n| n.is_finite())
            && self.fast.variance >= 0.0
            && self.slow.is_sound()
            && self.short_level.is_sound()
            && self.events.as_deref().is_none_or(Events::is_sound)
            && self.before.as_deref().is_none_or(Level::is_sound)
            && self.season.is_sound()
            && self.memory.is_sound()
    }

    /// Memory it occupies beside itself.
    pub(super) fn heap(&self) -> usize {
        let events = self.events.as_deref().map_or(0, Events::bytes);
        let before = self.before.as_ref().map_or(0, |_| size_of::<Level>());
        self.memory.heap() + self.season.heap() + events + before
    }
}
