//! How far a value is from any seen before, whatever its distribution: a gap in what was ever seen.

use serde::{Deserialize, Serialize};

/// So many values stand for all that were seen.
const CAPACITY: usize = 32;
/// The first value that is not zero is so many steps from it, or up to twice as many.
const FIRST: i16 = 13;

/// Values that stand for all that were seen, in 12 bytes and two a value. Every method is given the words that
/// hold them: rising, each a whole number of steps, of which there are at least 16,000 in what was seen.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Novelty {
    low: f32,
    high: f32,
    /// A step is this power of two.
    step: i16,
    len: u8,
}

impl Novelty {
    /// Words in use.
    pub(super) fn words(&self) -> usize {
        usize::from(self.len)
    }

    fn size(&self) -> f64 {
        power_of_two(self.step)
    }

    /// Distance from the nearest value seen, as a share of the range seen, which counts as `floor` at
    /// least. 0 before anything was seen.
    pub(super) fn gap(&self, value: f64, floor: f64, words: &[u16]) -> f64 {
        let size = self.size();
        let at = value / size;
        // They are sorted: the nearest is one of the two around it. Looking at all of them, several at a time, is
        // faster than choosing where to look.
        // Rounded up; a conversion rounds towards zero.
        let whole = at as i32;
        let next = whole.saturating_add(i32::from(at > f64::from(whole)));
        let next = next.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let above = words.iter().filter(|word| (**word as i16) < next).count();
        let around = words.get(above.saturating_sub(1)..).unwrap_or_default();
        let distances = around.iter().take(2).map(|word| (at - steps(*word)).abs());
        let Some(nearest) = distances.reduce(f64::min) else {
            return 0.0;
        };
        nearest * size / f64::from(self.high - self.low).max(floor)
    }

    /// The point at this `share` of the way from all that was seen to `value`, if that is outside of it.
    pub(super) fn outside(&self, value: f64, share: f64) -> Option<f64> {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        if value > high {
            Some(high + share * (value - high))
        } else if value < low {
            Some(low + share * (value - low))
        } else {
            None
        }
    }

    /// The lowest value seen.
    pub(super) fn lowest(&self) -> f64 {
        f64::from(self.low)
    }

    /// Whether nothing as far out as `value` was seen on its side.
    pub(super) fn is_record(&self, value: f64) -> bool {
        let value = value as f32;
        self.len > 0 && (value > self.high || value < self.low)
    }

    /// Whether taking in `value` would change nothing: see [`Novelty::learn`].
    pub(super) fn covers(&self, value: f64, distance: f64, gap: f64) -> bool {
        self.len > 0 && distance < gap && !self.is_record(value)
    }

    /// Takes in `value`, which is `distance` (see [`Novelty::gap`]) from all others, and remembers it if that is
    /// `gap`. Where there is no more room, the two that are closest to each other become one: the extremes,
    /// which are rare, are never forgotten. Its words begin at `start`.
    pub(super) fn learn(
        &mut self,
        value: f64,
        distance: f64,
        gap: f64,
        words: &mut Vec<u16>,
        start: usize,
    ) {
        let single = value as f32;
        let first = self.len == 0;
        if first {
            (self.low, self.high) = (single, single);
        }
        self.low = self.low.min(single);
        self.high = self.high.max(single);
        if !first && distance < gap {
            return;
        }
        self.make_fit(value, words, start);
        let own = words.get(start..start + self.words()).unwrap_or_default();
        let new = (value / self.size()).round();
        let at = own.partition_point(|word| steps(*word) < new);
        if words.len() == words.capacity() {
            words.reserve_exact(4);
        }
        words.insert(start + at, new as i16 as u16);
        self.len += 1;
        if self.words() >= CAPACITY {
            self.merge(words, start);
        }
    }

    /// Makes the steps so large that `value` is not too many of them.
    fn make_fit(&mut self, value: f64, words: &mut [u16], start: usize) {
        let end = start + self.words();
        let own = words.get_mut(start..end).unwrap_or_default();
        if value != 0.0 && own.iter().all(|word| *word == 0) {
            let exponent = (value.abs().to_bits() >> 52) as i16 - 1023;
            self.step = exponent - FIRST;
        }
        while value.abs() / self.size() > f64::from(i16::MAX - 1) {
            self.step += 1;
            for word in own.iter_mut() {
                // Halved; one half is rounded to what is even.
                let steps = *word as i16;
                *word = ((steps + (steps >> 1 & 1)) >> 1) as u16;
            }
        }
    }

    fn merge(&mut self, words: &mut Vec<u16>, start: usize) {
        let own = words.get(start..start + self.words()).unwrap_or_default();
        let pairs = own.array_windows();
        let distances = pairs.map(|[one, other]| i32::from(*other as i16) - i32::from(*one as i16));
        let closest = distances.enumerate().min_by_key(|(_, distance)| *distance);
        let Some((at, apart)) = closest else { return };
        words.remove(start + at + 1);
        self.len -= 1;
        if let Some(kept) = words.get_mut(start + at) {
            *kept = (i32::from(*kept as i16) + apart / 2) as i16 as u16;
        }
    }

    /// Whether what was read back can have been made here.
    pub(super) fn is_sound(&self) -> bool {
        let steps = (-1022 - FIRST..=1023).contains(&self.step);
        steps && self.words() < CAPACITY && self.low.is_finite() && self.high.is_finite()
    }
}

fn steps(word: u16) -> f64 {
    f64::from(word as i16)
}

/// Two to the power of a number; at least the smallest that has all digits.
fn power_of_two(exponent: i16) -> f64 {
    let biased = (i64::from(exponent) + 1023).clamp(1, 2046);
    f64::from_bits((biased as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_not_new_and_what_lies_between_is() {
        let (mut novelty, mut words) = (Novelty::default(), vec![9]);
        let mut learn = |novelty: &mut Novelty, value: f64| {
            let end = 1 + novelty.words();
            let distance = novelty.gap(value, 1e-9, &words[1..end]);
            novelty.learn(value, distance, 0.05, &mut words, 1);
            assert_eq!(words[0], 9);
            words[1..=novelty.words()].to_vec()
        };
        learn(&mut novelty, 0.0);
        for n in 0..5000 {
            learn(&mut novelty, f64::from(n * 37 % 101) * 0.01);
        }
        let own = learn(&mut novelty, 1e-300);
        assert!(own.is_sorted_by_key(|word| *word as i16));
        for n in 0..=100 {
            let gap = novelty.gap(f64::from(n) * 0.01, 1e-9, &own);
            assert!(gap < 0.0501, "{n}: {gap}");
        }
        assert!((novelty.gap(2.0, 1e-9, &own) - 1.0).abs() < 0.06);
        assert!(novelty.is_record(1.1) && !novelty.is_record(0.5));
        // However far the next ones are.
        for power in 0..30 {
            learn(&mut novelty, -(10f64.powi(power)));
        }
        let own = learn(&mut novelty, 0.5);
        assert!(novelty.gap(-1e29, 1e-9, &own) < 1e-3);
        assert!((novelty.gap(-0.5e29, 1e-9, &own) - 0.4).abs() < 0.11);
        assert!(novelty.is_sound() && novelty.words() < CAPACITY);
    }
}
