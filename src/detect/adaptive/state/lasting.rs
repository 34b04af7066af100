//! A new value that lasts is as surprising for as long as it does.

use super::super::event::{Events, Standing};
use super::{Channel, GAP, New, Of, Sight, State};

/// What lasts of a new value is as surprising as it began, where a signal is known for so many seconds and the
/// gap is at least this, or where the value is a jump over a gap of this size.
const HOLD_KNOWN: i64 = 2 * 86_400;
const HOLD_GAP: f64 = 0.1;
const HOLD_JUMP: f64 = 0.3;
/// A sample belongs to it while it is beyond this share of the way from what was seen before.
const HOLD_SHARE: f64 = 0.5;

impl State {
    /// A value is new only once, as it is remembered; while it lasts it is no less surprising than that.
    pub(super) fn hold_what_is_new(
        &self,
        events: &mut Events,
        secs: i64,
        sight: &Sight,
        new: &New,
    ) {
        let hold = &mut events.hold;
        if hold.is_on() {
            return;
        }
        let known = secs.saturating_sub(self.began) >= HOLD_KNOWN;
        let gap = new.gaps.value;
        let jumps = self.memory.gap(Of::Value, self.previous, sight.floor) < 0.5 * GAP;
        let of = |of: Of| self.memory.novelty(of);
        match new.of {
            Channel::NewValue if known && gap >= HOLD_GAP || jumps && gap >= HOLD_JUMP => {
                if let Some(edge) = of(Of::Value).outside(sight.value, HOLD_SHARE) {
                    hold.begin(Standing::Value, edge, sight.value, new.sigma);
                }
            }
            Channel::NewLevel if known => {
                if let Some(edge) = of(Of::Level).outside(sight.smooth, HOLD_SHARE) {
                    hold.begin(Standing::Level, edge, sight.smooth, new.sigma);
                }
            }
            _ => {}
        }
    }

    /// Whether the sample is where the new value was that is held.
    pub(super) fn stands(&self, events: &Events, sight: &Sight) -> bool {
        let hold = &events.hold;
        match hold.standing {
            Standing::Value => hold.is_beyond(sight.value),
            Standing::Level => {
                let (off, level) = (sight.value - self.slow.mean, sight.smooth - self.slow.mean);
                let shares = off * level.signum() >= HOLD_SHARE * level.abs();
                shares && hold.is_beyond(sight.smooth)
            }
        }
    }
}
