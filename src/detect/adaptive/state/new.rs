//! How new a sample is: how far from all that was ever seen.

use super::super::memory::Of;
use super::{Channel, GAP, LONG_RUN, NEW, NEW_MOST, Sight, State, WARM_UP};

/// Samples before the novelty of a smoothed value means something.
const SMOOTH_KNOWN: u32 = 300;
/// What is new is the further from all else the younger a signal is: twice as far at so many samples.
const GAP_YOUNG: f64 = 70.0;
/// A value is on its way if the one before was off to the same side by so many spreads. One that is not, a
/// single sample that the noise may have thrown, must be as far as this to be new.
const SUPPORT: f64 = 0.5;
const GAP_ALONE: f64 = 0.1;
/// How the surprise of a new value grows with the gap.
const NEW_SLOPE: f64 = 2.0;
/// Gaps in other things than the value itself come more easily; they count as this share.
const SMOOTH_SHARE: f64 = 0.6;
const SEASON_SHARE: f64 = 0.6;
const SMOOTH_SEASON_SHARE: f64 = 0.3;
/// What is new relative to the time of day is so only after so many days, and samples.
const SEASON_DAYS: f64 = 3.0;
const SEASON_SAMPLES: u32 = 100;

/// How new a sample is.
pub(super) struct New {
    /// In sigmas, and what of it.
    pub(super) sigma: f64,
    pub(super) of: Channel,
    /// By how much the gap is more than enough.
    pub(super) over: f64,
    pub(super) gaps: Gaps,
}

/// How far a sample is from all of its kind, as a share of the range seen.
#[derive(Clone, Copy)]
pub(super) struct Gaps {
    pub(super) value: f64,
    /// Of the smoothed value.
    pub(super) level: f64,
    /// Of the distance from the long-run level, as far as it matters yet.
    pub(super) offset: Option<f64>,
}

impl State {
    /// Whether the sample before was on its way there.
    fn supported(&self, sight: &Sight) -> bool {
        let side = (sight.value - self.slow.mean).signum();
        let off = (self.previous - self.slow.mean) * side;
        off >= SUPPORT * self.slow.spread(sight.floor)
    }

    /// How new the sample is.
    pub(super) fn novelty(&self, sight: &Sight) -> New {
        let floor = sight.floor;
        let value = self.memory.gap(Of::Value, sight.value, floor);
        let level = self.memory.gap(Of::Level, sight.smooth, floor);
        let mut gap = (value, Channel::NewValue);
        let mut offset = None;
        if self.samples >= LONG_RUN {
            let apart = self
                .memory
                .gap(Of::Offset, sight.value - self.slow.mean, floor);
            gap.0 = gap.0.min(apart);
            offset = Some(apart);
        }
        let mut consider = |known: bool, share: f64, of: f64, channel: Channel| {
            if known && share * of > gap.0 {
                gap = (share * of, channel);
            }
        };
        // After a deviation that is over, the smoothed value is still on its way back.
        let (off, smooth_off) = (sight.value - self.slow.mean, sight.smooth - self.slow.mean);
        let shares = off * smooth_off.signum() >= smooth_off.abs();
        let smooth = self.samples >= SMOOTH_KNOWN && shares;
        consider(smooth, SMOOTH_SHARE, level, Channel::NewLevel);
        if let (Some(usual), Some(seasonal)) = (sight.usual, self.season.seasonal()) {
            let days = SEASON_DAYS * self.season.samples_a_day();
            let residuals = seasonal.residuals;
            let known = residuals >= SEASON_SAMPLES && f64::from(residuals) >= days;
            let channel = Channel::NewForTime(seasonal.period);
            let for_time = self.memory.gap(Of::ForTime, sight.value - usual, floor);
            consider(known, SEASON_SHARE, for_time, channel);
            let smooth = self
                .memory
                .gap(Of::LevelForTime, sight.smooth_residual, floor);
            consider(known, SMOOTH_SEASON_SHARE, smooth, channel);
        }
        let (gap, of) = gap;
        let alone = of == Channel::NewValue && !self.supported(sight);
        let enough = if alone { GAP_ALONE } else { GAP }
            * (1.0 + GAP_YOUNG / f64::from(self.samples.max(1)));
        let sigma = if self.samples >= WARM_UP && gap >= enough {
            (NEW + NEW_SLOPE * (gap - enough)).min(NEW_MOST)
        } else {
            0.0
        };
        New {
            sigma,
            of,
            over: gap - enough,
            gaps: Gaps {
                value,
                level,
                offset,
            },
        }
    }
}
