//! What a sample teaches.

use super::super::event::Events;
use super::super::memory::Of;
use super::{Band, GAP, Gaps, LONG_RUN, SLOW, Sight, State};

/// Weight of a sample in the recent level: it remembers as much as a window of 100 samples.
const FAST: f64 = 1.0 / 50.0;
/// Samples before a smoothed value is smooth.
const SMOOTHED: u32 = 15;
/// Values relative to the long-run level are remembered from so many on.
const OFFSETS: u32 = LONG_RUN / 2;

impl State {
    /// Learns from the sample; if it is `aside`, it belongs to an event that teaches nothing. `gaps`: those of the
    /// value and of the smoothed value, as far as they are still what they were.
    pub(super) fn learn(
        &mut self,
        secs: i64,
        sight: &Sight,
        band: Band,
        aside: bool,
        gaps: Option<Gaps>,
        mut events: Option<&mut Events>,
    ) {
        let samples = f64::from(self.samples);
        let mut learned = false;
        for (channel, deviation) in sight.deviations.iter().enumerate() {
            let Some(deviation) = *deviation else {
                continue;
            };
            let events = events.as_deref_mut();
            let held = events.and_then(|events| events.held.get_mut(channel));
            match held {
                // An event is one thing that happened, however many samples it lasts.
                Some(held) if aside => *held = held.max(deviation),
                Some(held) if *held > 0.0 => {
                    self.memory.learn(channel, std::mem::take(held));
                    self.memory.learn(channel, deviation);
                    learned = true;
                }
                Some(_) | None => {
                    self.memory.learn(channel, deviation);
                    learned = true;
                }
            }
        }
        if learned {
            self.memory.settle(band.rarity());
        }
        let residual = sight.usual.map(|usual| sight.value - usual);
        self.season.learn(secs, sight.value, self.slow.mean, aside);
        if !aside {
            self.remember(sight, residual, gaps, events);
            let rate = FAST.max(1.0 / (samples + 1.0));
            let off = sight.value - self.fast.mean;
            self.fast.mean += rate * off;
            self.fast.variance = (1.0 - rate) * (self.fast.variance + rate * off * off);
            if let (Some(residual), Some(seasonal)) = (residual, self.season.seasonal_mut()) {
                seasonal.residual.learn(residual, SLOW);
            }
            self.slow.learn(sight.value, SLOW);
            self.short_level.learn(sight.short, SLOW);
        } else if let Some(events) = events {
            // A value of an event is not remembered before that is over; else only its first sample would be
            // new.
            let of_value = || self.memory.gap(Of::Value, sight.value, sight.floor);
            let value = gaps.map_or_else(of_value, |gaps| gaps.value);
            let for_time = |r: f64| self.memory.gap(Of::ForTime, r, sight.floor) >= GAP;
            if value >= GAP || residual.is_some_and(for_time) {
                events.wait(sight.value, residual);
            }
        }
        if self.samples >= SMOOTHED {
            let of_level = || self.memory.gap(Of::Level, sight.smooth, sight.floor);
            let distance = gaps.map_or_else(of_level, |gaps| gaps.level);
            self.memory
                .remember_at(Of::Level, sight.smooth, distance, GAP);
        }
        if residual.is_some()
            && let Some(seasonal) = self.season.seasonal_mut()
        {
            if seasonal.residuals >= SMOOTHED {
                let smooth = sight.smooth_residual;
                self.memory
                    .remember(Of::LevelForTime, smooth, GAP, sight.floor);
            }
            seasonal.residuals = seasonal.residuals.saturating_add(1);
            seasonal.smooth_residual = sight.smooth_residual;
        }
        self.previous = sight.value;
        self.short = sight.short as f32;
        self.smooth = sight.smooth;
        self.samples = self.samples.saturating_add(1);
    }

    fn remember(
        &mut self,
        sight: &Sight,
        residual: Option<f64>,
        gaps: Option<Gaps>,
        events: Option<&mut Events>,
    ) {
        let floor = sight.floor;
        let mut gaps = gaps;
        for (value, residual) in events.into_iter().flat_map(Events::take_waiting) {
            self.memory.remember(Of::Value, value, GAP, floor);
            gaps = None;
            self.remember_beside(value, residual, floor, None);
        }
        let of_value = || self.memory.gap(Of::Value, sight.value, floor);
        let distance = gaps.map_or_else(of_value, |gaps| gaps.value);
        self.memory
            .remember_at(Of::Value, sight.value, distance, GAP);
        let offset = gaps.and_then(|gaps| gaps.offset);
        self.remember_beside(sight.value, residual, floor, offset);
    }

    /// Remembers how far a value is from the level (where that is so far from all such is known as its `gap`) and
    /// from the usual at the time.
    fn remember_beside(&mut self, value: f64, residual: Option<f64>, floor: f64, gap: Option<f64>) {
        if self.samples >= OFFSETS {
            let offset = value - self.slow.mean;
            let apart = gap.unwrap_or_else(|| self.memory.gap(Of::Offset, offset, floor));
            self.memory.remember_at(Of::Offset, offset, apart, GAP);
        }
        if let Some(residual) = residual {
            self.memory.remember(Of::ForTime, residual, GAP, floor);
        }
    }
}
