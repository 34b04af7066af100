//! What becomes normal because a person says so.

use super::{FLOOR, GAP, Hold, Level, Reports, State};

impl State {
    /// A person says that the deviation which goes on is normal: its level is the normal one from now on, its
    /// noise as much larger as the level is, but at most `growth` times, and nothing of it is new. How far
    /// it went is learned by the calibration with the next sample, as of every event that is over.
    pub(in crate::detect::adaptive) fn accept(&mut self, growth: f64) {
        self.hold = Hold::default();
        if !self.run.goes_on() {
            return;
        }
        let level = |mean: f64| (mean + self.origin).abs();
        let grown = level(self.run.level.mean) / level(self.slow.mean);
        // Not a number where both are zero.
        let grown = grown.max(1.0).min(growth);
        self.relevel();
        self.slow = Level::settled(self.slow.mean, self.slow.deviation * grown);
        self.fast.variance *= grown * grown;
        self.reports = Reports::default();
        let spread = self.slow.spread(0.0);
        for spreads in [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0] {
            let value = self.slow.mean + spreads * spread;
            self.values.learn(value, GAP, FLOOR);
            self.levels.learn(value, GAP, FLOOR);
            self.for_time.learn(spreads * spread, GAP, FLOOR);
            self.levels_for_time.learn(spreads * spread, GAP, FLOOR);
        }
    }
}
