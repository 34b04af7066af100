//! A new value that lasts is as surprising for as long as it does.

use super::super::event::Standing;
use super::{Channel, GAP, Sight, State};

/// What lasts of a new value is as surprising as it began, where a signal is known for so many seconds and the
/// gap is at least this, or where the value is a jump over a gap of this size.
const HOLD_KNOWN: i64 = 2 * 86_400;
const HOLD_GAP: f64 = 0.1;
const HOLD_JUMP: f64 = 0.3;
/// A sample belongs to it while it is beyond this share of the way from what was seen before.
const HOLD_SHARE: f64 = 0.5;

impl State {
    /// A value is new only once, as it is remembered; while it lasts it is no less surprising than that.
    pub(super) fn hold_what_is_new(&mut self, secs: i64, sight: &Sight, sigma: f64, of: Channel) {
        if self.hold.is_on() {
            return;
        }
        let known = secs.saturating_sub(self.began) >= HOLD_KNOWN;
        let gap = self.values.gap(sight.value, sight.floor);
        let jumps = self.values.gap(self.previous, sight.floor) < 0.5 * GAP;
        match of {
            Channel::NewValue if known && gap >= HOLD_GAP || jumps && gap >= HOLD_JUMP => {
                if let Some(edge) = self.values.outside(sight.value, HOLD_SHARE) {
                    self.hold.begin(Standing::Value, edge, sight.value, sigma);
                }
            }
            Channel::NewLevel if known => {
                if let Some(edge) = self.levels.outside(sight.smooth, HOLD_SHARE) {
                    self.hold.begin(Standing::Level, edge, sight.smooth, sigma);
                }
            }
            _ => {}
        }
    }

    /// Whether the sample is where the new value was that is held.
    pub(super) fn stands(&self, sight: &Sight) -> bool {
        match self.hold.standing {
            Standing::Value => self.hold.is_beyond(sight.value),
            Standing::Level => {
                let (off, level) = (sight.value - self.slow.mean, sight.smooth - self.slow.mean);
                let shares = off * level.signum() >= HOLD_SHARE * level.abs();
                shares && self.hold.is_beyond(sight.smooth)
            }
        }
    }
}
