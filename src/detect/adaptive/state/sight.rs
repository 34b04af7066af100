//! What a sample looks like beside all that is known.

use super::super::calibration::{CHANNELS, LARGEST};
use super::super::memory::Of;
use super::super::season::Seasonal;
use super::{FLOOR, SETTLED, State, WARM_UP};

/// Weight of a sample in the mean of the last few, by which a small lasting shift shows …
const SHORT: f64 = 1.0 / 20.0;
/// … to which one outlier adds as much as one so many mean deviations away.
const SHORT_CLIP: f64 = 5.0;
/// Standard deviation of that mean for independent values, as a share of theirs: √(1/39).
const SHORT_SPREAD: f64 = 0.16;
/// Weight of a sample in the smoothed value whose novelty is looked at.
const SMOOTH: f64 = 1.0 / 15.0;
/// Values are taken as if they were at most so far from where the signal began.
const FARTHEST: f64 = 1e30;
/// Least spread, as a share of the level.
const FLOOR_SHARE: f64 = 1e-3;

/// The signal's newest sample and what was known when it came.
pub(super) struct Sight {
    pub(super) value: f64,
    pub(super) floor: f64,
    pub(super) usual: Option<f64>,
    /// Mean of the last few, smoothed value and smoothed residual with this sample.
    pub(super) short: f64,
    pub(super) smooth: f64,
    pub(super) smooth_residual: f64,
    /// Whether the sample itself is where the mean of the last few is: after a deviation that is over, it
    /// is not.
    pub(super) shares_shift: bool,
    /// By channel; `None` where it has nothing to say yet.
    pub(super) deviations: [Option<f64>; CHANNELS],
    /// What each is in units of.
    pub(super) spreads: [f64; CHANNELS],
}

impl State {
    /// What the sample looks like from here.
    pub(super) fn look(&mut self, secs: i64, value: f64) -> Sight {
        let value = (value - self.origin).clamp(-FARTHEST, FARTHEST);
        let floor = ((self.slow.mean + self.origin).abs().min(FARTHEST) * FLOOR_SHARE).max(FLOOR);
        let samples = f64::from(self.samples);
        let usual = self.season.expected(secs);
        let period = self.season.period();
        if usual.is_some() && self.known_period() != period {
            // Differences from another period's expectation are others.
            let seasonal = Seasonal {
                period,
                ..Seasonal::default()
            };
            self.season.follow(seasonal);
            self.memory.forget(Of::ForTime);
            self.memory.forget(Of::LevelForTime);
            self.memory.forget_channel(2);
        }
        let seasonal = self.season.seasonal();
        let (residuals, smooth_residual) = seasonal.map_or((0, 0.0), |seasonal| {
            (seasonal.residuals, seasonal.smooth_residual)
        });
        let of_season = self.residual().filter(|_| usual.is_some());
        let known = self.samples >= WARM_UP;
        let around = of_season.unwrap_or(self.slow);
        let clip = if known {
            SHORT_CLIP * around.deviation().max(floor)
        } else {
            f64::INFINITY
        };
        let rate = |rate: f64, samples: f64| rate.max(1.0 / (samples + 1.0));
        let off = (value - usual.unwrap_or(self.slow.mean)).clamp(-clip, clip);
        let short = f64::from(self.short);
        let short = short + rate(SHORT, samples) * (off - short);
        let smooth = self.smooth + rate(SMOOTH, samples) * (value - self.smooth);
        let residual = usual.map(|usual| value - usual);
        let smooth_residual = residual.map_or(smooth_residual, |residual| {
            let rate = rate(SMOOTH, f64::from(residuals));
            smooth_residual + rate * (residual - smooth_residual)
        });
        let settled = self.samples >= SETTLED;
        let fast = self.fast.variance.sqrt().max(floor);
        let recent = (value - self.fast.mean).abs() / fast;
        // The mean of independent values strays by so much; one that never did, by chance or since nothing
        // had happened yet, is no reason to expect that it never will.
        let least = SHORT_SPREAD * around.spread(floor).max(fast);
        // Where there is no season nobody asks.
        let season_spread = of_season.map_or(1.0, |level| level.spread(floor));
        let from_season = of_season.and(residual);
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
                from_season.map(|residual| (residual.abs() / season_spread).min(LARGEST)),
                known.then(|| self.short_level.distance(short, least)),
            ],
            spreads: [
                fast,
                self.slow.spread(floor),
                season_spread,
                around.spread(floor),
            ],
        }
    }
}
