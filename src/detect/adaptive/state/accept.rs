//! What becomes normal because a person says so.

use super::super::event::{Hold, Reports};
use super::{FLOOR, GAP, Level, Of, State};

impl State {
    /// A person says that the deviation which goes on is normal: its level is the normal one from now on, its
    /// noise as much larger as the level is, but at most `growth` times, and nothing of it is new. How far
    /// it went is learned by the calibration with the next sample, as of every event that is over.
    pub(in crate::detect::adaptive) fn accept(&mut self, growth: f64) {
        let Some(mut events) = self.events.take() else {
            return;
        };
        events.hold = Hold::default();
        if !events.run.goes_on() {
            self.events = Some(events);
            return;
        }
        let level = |mean: f64| (mean + self.origin).abs();
        let grown = level(events.run.level.mean) / level(self.slow.mean);
        // Not a number where both are zero.
        let grown = grown.max(1.0).min(growth);
        self.relevel(&mut events);
        self.slow = Level::settled(self.slow.mean, self.slow.deviation() * grown);
        self.fast.variance *= grown * grown;
        self.reports = Reports::default();
        self.events = Some(events);
        let spread = self.slow.spread(0.0);
        for spreads in [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0] {
            let value = self.slow.mean + spreads * spread;
            self.memory.remember(Of::Value, value, GAP, FLOOR);
            self.memory.remember(Of::Level, value, GAP, FLOOR);
            if self.season.seasonal().is_some() {
                self.memory
                    .remember(Of::ForTime, spreads * spread, GAP, FLOOR);
                self.memory
                    .remember(Of::LevelForTime, spreads * spread, GAP, FLOOR);
            }
        }
    }
}
