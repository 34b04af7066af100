//! When a deviation begins, when it is over, and when it has become the normal state.

use serde::{Deserialize, Serialize};

use super::calibration::CHANNELS;
use super::level::Level;
use super::recurrence::Recurrences;

/// From here samples belong to an event …
pub(super) const OPENS: f64 = 3.5;
/// … which is over after so many calm ones in a row.
const CALM: u32 = 5;
/// An event that is this surprising, as all channels together see it, is a jump and no drift: the
/// baseline does not learn from it.
const SHARP: f64 = 3.0;
/// Where the course of the day is known, less is enough: no channel takes that course for a jump.
const SHARP_FOR_TIME: f64 = 2.5;
/// A mean that has shifted without a jump may be the beginning of a course not yet known, the first
/// weekend for one: so many samples are set aside for it.
const SHIFT_ASIDE: u32 = 60;
/// After so many samples what deviates is the new normal …
const LASTING: u32 = 180;
/// … if it is severe only after so many: an outage should not become normal while people work on it.
const LASTING_SEVERE: u32 = 540;
const SEVERE: f64 = 6.0;
/// A level that was normal before is recognised after so few.
const LASTING_KNOWN: u32 = 10;
/// Weight of a sample in the level of the event.
const RATE: f64 = 1.0 / 50.0;
/// Values of an event that wait to be remembered.
const WAITING: usize = 8;

/// What goes on, and what is left of what went on. Most signals have nothing of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Events {
    pub(super) run: Run,
    pub(super) hold: Hold,
    pub(super) recurrences: Recurrences,
    /// By channel, the largest deviation of the run, which calibrates once that is over.
    pub(super) held: [f64; CHANNELS],
    /// Values of the run that wait to be remembered, each with its difference from the usual at the time, if
    /// there was one.
    waiting: Vec<(f32, Option<f32>)>,
}

impl Events {
    /// Lets a value wait until what goes on is over.
    pub(super) fn wait(&mut self, value: f64, residual: Option<f64>) {
        if self.waiting.len() < WAITING {
            let waits = (value as f32, residual.map(|residual| residual as f32));
            self.waiting.push(waits);
        }
    }

    /// The values that have waited.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = (f64, Option<f64>)> + use<> {
        let waited = std::mem::take(&mut self.waiting).into_iter();
        waited.map(|(value, residual)| (f64::from(value), residual.map(f64::from)))
    }

    /// Whether nothing goes on and nothing is left of it.
    pub(super) fn are_over(&self, secs: i64) -> bool {
        !self.run.goes_on()
            && !self.hold.is_on()
            && self.recurrences.are_over(secs)
            && self.waiting.is_empty()
            && self.held.iter().all(|held| *held == 0.0)
    }

    /// Whether what was read back can have been made here.
    pub(super) fn is_sound(&self) -> bool {
        self.run.is_sound()
            && self.hold.is_sound()
            && self.recurrences.is_sound()
            && self.held.iter().all(|held| held.is_finite())
            && self.waiting.len() <= WAITING
            && self.waiting.iter().all(|(value, _)| value.is_finite())
    }

    /// Memory it occupies.
    pub(super) fn bytes(&self) -> usize {
        let waiting = self.waiting.capacity() * size_of::<(f32, Option<f32>)>();
        size_of::<Self>() + waiting + self.recurrences.heap()
    }
}

/// A run of deviating samples.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Run {
    /// Samples since it began; 0: there is none.
    samples: u32,
    calm: u32,
    sharp: bool,
    shifted: bool,
    /// Where values are while it lasts.
    pub(super) level: Level,
    /// Differences from what is usual at the time, where there is such.
    pub(super) residual: Level,
    /// How surprising they are.
    pub(super) surprise: Level,
}

/// How surprising a sample is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surprise {
    /// All in all.
    pub(super) sigma: f64,
    /// What all channels agree on.
    pub(super) joint: f64,
    /// That of the mean of the last few.
    pub(super) shift: f64,
    /// Nothing like it was ever seen, and it is no chance.
    pub(super) far: bool,
}

/// What a sample means for the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It learns from the sample.
    Normal,
    /// It does not learn from it, since it belongs to a jump.
    Aside,
    /// The level of the run is the normal one from now on.
    NewNormal,
}

impl Run {
    /// Whether samples are set aside.
    pub(super) fn is_aside(&self) -> bool {
        let shifted = self.shifted && self.samples <= SHIFT_ASIDE;
        self.samples > 0 && (self.sharp || shifted)
    }

    /// Whether it is more than an outlier or two.
    pub(super) fn lasts(&self) -> bool {
        self.samples >= 2
    }

    /// Takes in a sample, with its difference from the usual at the time if there is such. `known` tells
    /// whether a level was normal before.
    pub(super) fn observe(
        &mut self,
        value: f64,
        residual: Option<f64>,
        surprise: Surprise,
        known: impl FnOnce(&Level) -> bool,
    ) -> Course {
        let Surprise {
            sigma,
            joint,
            shift,
            far,
        } = surprise;
        if sigma >= OPENS {
            if self.samples == 0 {
                *self = Self::default();
            }
            let sharp = if residual.is_some() {
                SHARP_FOR_TIME
            } else {
                SHARP
            };
            self.sharp |= far || joint >= sharp;
            self.shifted |= shift >= OPENS;
            self.calm = 0;
        } else if self.samples == 0 {
            return Course::Normal;
        } else {
            self.calm += 1;
        }
        self.samples = self.samples.saturating_add(1);
        self.level.learn(value, RATE);
        if let Some(residual) = residual {
            self.residual.learn(residual, RATE);
        }
        self.surprise.learn(sigma, RATE);
        if self.calm >= CALM {
            *self = Self::default();
            return Course::Normal;
        }
        let lasting = if self.surprise.mean >= SEVERE {
            LASTING_SEVERE
        } else {
            LASTING
        };
        if self.samples >= lasting || (self.samples == LASTING_KNOWN && known(&self.level)) {
            return Course::NewNormal;
        }
        if self.is_aside() {
            Course::Aside
        } else {
            Course::Normal
        }
    }

    /// Whether there is one.
    pub(super) fn goes_on(&self) -> bool {
        self.samples > 0
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_sound(&self) -> bool {
        self.level.is_sound() && self.residual.is_sound() && self.surprise.is_sound()
    }
}

/// A new value that lasts.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Hold {
    /// How surprising it was; 0: nothing is held.
    sigma: f32,
    pub(super) standing: Standing,
    /// Beyond this, on the side where the new value was.
    edge: f64,
    above: bool,
    /// Samples since it began, and those in a row that were elsewhere.
    age: u32,
    away: u32,
}

/// What is new: a value, or the level that smoothed values are at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    #[default]
    Value,
    Level,
}

impl Hold {
    pub(super) fn is_on(&self) -> bool {
        self.sigma > 0.0
    }

    pub(super) fn begin(&mut self, standing: Standing, edge: f64, at: f64, sigma: f64) {
        *self = Self {
            sigma: sigma as f32,
            standing,
            edge,
            above: at > edge,
            age: 0,
            away: 0,
        };
    }

    pub(super) fn is_beyond(&self, value: f64) -> bool {
        if self.above {
            value >= self.edge
        } else {
            value <= self.edge
        }
    }

    /// How surprising a sample is that `stands` where the new value was; `None` if it does not, or nothing
    /// is held. What lasts for long enough to be the new normal is held no longer.
    pub(super) fn observe(&mut self, stands: bool) -> Option<f64> {
        if !self.is_on() {
            return None;
        }
        self.age += 1;
        self.away = if stands { 0 } else { self.away + 1 };
        let held = stands.then_some(f64::from(self.sigma));
        if self.away >= CALM || self.age >= LASTING {
            *self = Self::default();
        }
        held
    }

    pub(super) fn is_sound(&self) -> bool {
        self.sigma.is_finite() && self.edge.is_finite()
    }
}

/// One report for one event: what was reported is not reported again for some time, unless it grows
/// worse.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Reports {
    /// Largest sigma reported; 0: nothing is going on.
    worst: f32,
    /// Samples since then, and calm ones in a row, as far as they matter.
    age: u8,
    calm: u8,
}

impl Reports {
    /// Samples for which nothing but worse is reported.
    const QUIET: u8 = 100;
    /// What is worse by less is the same.
    const WORSE: f64 = 0.2;

    /// `sigma`, or 0 where it was reported already. `held` is that of the event it belongs to.
    pub(super) fn observe(&mut self, sigma: f64, held: f64) -> f64 {
        if self.worst == 0.0 {
            if sigma >= OPENS {
                (self.worst, self.age, self.calm) = (sigma as f32, 0, 0);
            }
            return sigma;
        }
        self.age = self.age.saturating_add(1);
        self.calm = if held < OPENS - 1.0 {
            self.calm.saturating_add(1)
        } else {
            0
        };
        let worse = sigma > f64::from(self.worst) + Self::WORSE;
        if worse {
            (self.worst, self.age) = (sigma as f32, 0);
        }
        if self.age >= Self::QUIET && u32::from(self.calm) >= CALM {
            *self = Self::default();
        }
        if worse { sigma } else { 0.0 }
    }
}
