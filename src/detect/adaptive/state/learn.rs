//! What a sample teaches.

use super::super::event::Events;
use super::super::level::Level;
use super::super::memory::Of;
use super::{Band, FAST, FLOOR, GAP, Moving, SLOW, SMOOTHED, Sight, State};

impl State {
    /// `gaps`: those of the value and of the smoothed value, as far as they are still what they were.
    pub(super) fn learn(
        &mut self,
        secs: i64,
        sight: &Sight,
        band: Band,
        aside: bool,
        gaps: Option<(f64, f64)>,
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
            if let (Some(residual), Some(seasonal)) = (residual, &mut self.seasonal) {
                seasonal.residual.learn(residual, SLOW);
            }
            self.slow.learn(sight.value, SLOW);
            self.short_level.learn(sight.short, SLOW);
        } else if let Some(events) = events {
            // A value of an event is not remembered before that is over; else only its first sample would be
            // new.
            let of_value = || self.memory.gap(Of::Value, sight.value, sight.floor);
            let value = gaps.map_or_else(of_value, |(value, _)| value);
            let for_time = |r: f64| self.memory.gap(Of::ForTime, r, sight.floor) >= GAP;
            if value >= GAP || residual.is_some_and(for_time) {
                events.wait(sight.value, residual);
            }
        }
        if self.samples >= SMOOTHED {
            let of_level = || self.memory.gap(Of::Level, sight.smooth, sight.floor);
            let distance = gaps.map_or_else(of_level, |(_, level)| level);
            self.memory
                .remember_at(Of::Level, sight.smooth, distance, GAP);
        }
        if residual.is_some()
            && let Some(seasonal) = &mut self.seasonal
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

    pub(super) fn remember(
        &mut self,
        sight: &Sight,
        residual: Option<f64>,
        gaps: Option<(f64, f64)>,
        events: Option<&mut Events>,
    ) {
        let floor = sight.floor;
        let mut gap = gaps.map(|(value, _)| value);
        for (value, residual) in events.into_iter().flat_map(Events::take_waiting) {
            self.memory.remember(Of::Value, value, GAP, floor);
            gap = None;
            self.remember_beside(value, residual, floor);
        }
        let of_value = || self.memory.gap(Of::Value, sight.value, floor);
        let distance = gap.unwrap_or_else(of_value);
        self.memory
            .remember_at(Of::Value, sight.value, distance, GAP);
        self.remember_beside(sight.value, residual, floor);
    }

    /// Remembers how far a value is from the level and from the usual at the time.
    pub(super) fn remember_beside(&mut self, value: f64, residual: Option<f64>, floor: f64) {
        let offset = value - self.slow.mean;
        self.memory.remember(Of::Offset, offset, GAP, floor);
        if let Some(residual) = residual {
            self.memory.remember(Of::ForTime, residual, GAP, floor);
        }
    }

    /// The level of the run is the normal one from now on.
    pub(super) fn relevel(&mut self, events: &mut Events) {
        let (new, residual) = (events.run.level, events.run.residual);
        events.run.end();
        events.before = Some(self.slow);
        self.short = 0.0;
        if let Some(seasonal) = &mut self.seasonal {
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
}
