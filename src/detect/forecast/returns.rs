//! From where a signal comes back by itself: what a trend towards a limit must be held against.

use serde::{Deserialize, Serialize};

/// A fall of this share of the way to the limit is a fall, and no noise.
const FALL: f64 = 0.05;
/// A smaller fall ends a tooth: one of less than that can hardly be taken for a trend to the limit.
const TOOTH: f64 = 0.02;
/// What fell back this near to the limit, as a share of the way, did not do so by itself.
const AT_LIMIT: f64 = 0.98;
/// Beyond the range that it has come back from, by this share of that range.
const BEYOND: f64 = 0.05;
/// So much of the highest return is forgotten with each point: half in a day where a point is a minute.
const FORGET: f64 = 5e-4;

/// Follows the points of a signal that may rise to a limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Returns {
    /// The highest since the last return, and the lowest.
    range: Option<(f64, f64)>,
    /// Where it turned, and where it went then.
    turned: Option<(f64, f64)>,
    /// The tooth that rises now: when it began, and its highest point.
    rising: Option<(f64, f64)>,
    /// The last one that is over.
    tooth: Option<Tooth>,
}

/// One tooth of a saw.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Tooth {
    /// When the signal fell.
    at: f64,
    /// How long it had risen before, in seconds.
    pub(super) rise: f64,
    /// How far it fell.
    pub(super) fall: f64,
}

impl Returns {
    /// Takes in a point; `width` is the usual distance of two.
    pub(super) fn follow(&mut self, time: f64, value: f64, limit: f64, width: f64) {
        self.follow_teeth(time, value, limit, width);
        if let Some((turned, back)) = &mut self.turned {
            // Slowly, so that what happened once weeks ago does not hide a leak for ever.
            *turned -= (*turned - value).max(0.0) * FORGET;
            *back = back.min(*turned);
        }
        let (high, low) = self.range.unwrap_or((value, value));
        let low = low.min(value);
        let (fallen, rose) = (high - value, high - low);
        // It has come back: most of the way, where a leak under a saw's teeth goes on to rise.
        if fallen > FALL * (limit - low).abs() && fallen > 0.5 * rose {
            let by_itself = high < low + AT_LIMIT * (limit - low);
            if by_itself && self.turned.is_none_or(|(turned, _)| high > turned) {
                self.turned = Some((high, value));
            }
            self.range = Some((value, value));
        } else {
            self.range = Some((high.max(value), low));
        }
    }

    fn follow_teeth(&mut self, time: f64, value: f64, limit: f64, width: f64) {
        let Some((began, high)) = self.rising else {
            self.rising = Some((time, value));
            return;
        };
        let fallen = high - value;
        if fallen <= TOOTH * (limit - value).abs() {
            self.rising = Some((began, high.max(value)));
            return;
        }
        match &mut self.tooth {
            // One fall may take two points.
            Some(tooth) if time - tooth.at < 2.5 * width => tooth.fall += fallen,
            tooth => {
                *tooth = Some(Tooth {
                    at: time,
                    rise: time - began,
                    fall: fallen,
                });
            }
        }
        self.rising = Some((time, value));
    }

    /// The last tooth, as long as they go on and are short enough to be seen through.
    pub(super) fn tooth(&self, now: f64, horizon: f64) -> Option<Tooth> {
        self.tooth
            .filter(|tooth| now - tooth.at < 3.0 * tooth.rise && tooth.rise < 0.5 * horizon)
    }

    /// Whether a trend at `value` is believed.
    pub(super) fn lets(&self, value: f64, limit: f64) -> bool {
        match self.turned {
            None => true,
            Some((turned, back)) => {
                let beyond = turned + BEYOND * (turned - back);
                value > beyond.min(limit - (1.0 - AT_LIMIT) * (limit - back).abs())
            }
        }
    }
}
