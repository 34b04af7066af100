//! Times in the order they came. Ticks are as long as each other, so mostly three numbers are enough; where
//! some are missing, each gap is told in multiples of what divides them all, a byte for most.

use serde::{Deserialize, Serialize};

/// A queue of times, in nanoseconds. How many there are, each method is told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Times {
    first: i64,
    /// From one to the next; of uneven ones that before the newest.
    gap: i64,
    uneven: Option<Box<Gaps>>,
}

/// Gaps that are not all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Gaps {
    last: i64,
    /// Divides all gaps; at least 1.
    unit: i64,
    /// One after the other, see [`write()`].
    #[serde(with = "crate::model::raw")]
    codes: Vec<u8>,
    /// So many of the newest gaps are equal.
    even: u16,
}

impl Times {
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    pub(super) fn last(&self, count: u16) -> i64 {
        match &self.uneven {
            Some(gaps) => gaps.last,
            None => {
                let steps = i64::from(count).wrapping_sub(1);
                self.first.wrapping_add(self.gap.wrapping_mul(steps))
            }
        }
    }

    /// There are `count` before.
    pub(super) fn push(&mut self, time: i64, count: u16) {
        if count == 0 {
            (self.first, self.gap) = (time, 0);
            return;
        }
        // Wrapping, the sums come out right whatever the times are.
        let last = self.last(count);
        let gap = time.wrapping_sub(last);
        if self.uneven.is_none() && count > 1 && gap != self.gap {
            self.uneven = Some(Box::new(Gaps::new(last, self.gap, count - 1)));
        }
        if let Some(gaps) = &mut self.uneven {
            gaps.push(time, gap, gap == self.gap);
        }
        self.gap = gap;
        self.settle(count);
    }

    /// Reads of its memory what taking out the oldest will need.
    pub(super) fn glance(&self) -> u64 {
        let gaps = self.uneven.as_deref();
        gaps.and_then(|gaps| gaps.codes.first())
            .copied()
            .map_or(0, u64::from)
    }

    /// There are `count` after.
    pub(super) fn pop(&mut self, count: u16) {
        if count == 0 {
            *self = Self::default();
            return;
        }
        let gap = match &mut self.uneven {
            Some(gaps) => gaps.pop(),
            None => self.gap,
        };
        self.first = self.first.wrapping_add(gap);
        self.settle(count - 1);
    }

    /// Where all gaps, so many, are equal again, none needs to be kept.
    fn settle(&mut self, gaps: u16) {
        let even = |uneven: &Gaps| uneven.even >= gaps;
        if self.uneven.as_deref().is_some_and(even) {
            self.uneven = None;
        }
    }

    /// Oldest first.
    pub(super) fn iter(&self, count: u16) -> impl Iterator<Item = i64> {
        let mut codes = self
            .uneven
            .as_deref()
            .map(|gaps| (gaps, gaps.codes.as_slice()));
        let mut next = self.first;
        (0..count).map(move |_| {
            let time = next;
            let gap = match &mut codes {
                Some((gaps, codes)) => {
                    let (steps, rest) = read(codes);
                    *codes = rest;
                    steps.wrapping_mul(gaps.unit)
                }
                None => self.gap,
            };
            next = time.wrapping_add(gap);
            time
        })
    }

    /// Whether what was read back can have been made here.
    pub(super) fn is_sound(&self, count: u16) -> bool {
        let Some(gaps) = self.uneven.as_deref() else {
            return true;
        };
        let (mut codes, mut last) = (gaps.codes.as_slice(), self.first);
        for _ in 1..count {
            if codes.is_empty() {
                return false;
            }
            let (steps, rest) = read(codes);
            last = last.wrapping_add(steps.wrapping_mul(gaps.unit));
            codes = rest;
        }
        count > 1 && gaps.unit > 0 && codes.is_empty() && last == gaps.last
    }

    /// Gives back what room there is to spare.
    pub(super) fn shrink(&mut self) {
        if let Some(gaps) = &mut self.uneven {
            gaps.codes.shrink_to_fit();
        }
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        let gaps = self.uneven.as_deref();
        gaps.map_or(0, |gaps| size_of::<Gaps>() + gaps.codes.capacity())
    }
}

impl Gaps {
    /// So many times the same gap.
    fn new(last: i64, gap: i64, count: u16) -> Self {
        let unit = divisor(gap, 0);
        let mut codes = Vec::new();
        for _ in 0..count {
            write(&mut codes, gap / unit);
        }
        Self {
            last,
            unit,
            codes,
            even: count,
        }
    }

    fn push(&mut self, time: i64, gap: i64, as_before: bool) {
        if gap % self.unit != 0 {
            self.divide(divisor(gap, self.unit));
        }
        if self.codes.len() == self.codes.capacity() {
            self.codes.reserve_exact((self.codes.len() / 8).max(16));
        }
        write(&mut self.codes, gap / self.unit);
        self.last = time;
        self.even = if as_before {
            self.even.saturating_add(1)
        } else {
            1
        };
    }

    /// Tells all gaps in multiples of a smaller unit.
    fn divide(&mut self, unit: i64) {
        let old = std::mem::take(&mut self.codes);
        let mut rest = old.as_slice();
        while !rest.is_empty() {
            let (steps, behind) = read(rest);
            write(&mut self.codes, steps.wrapping_mul(self.unit) / unit);
            rest = behind;
        }
        self.unit = unit;
    }

    fn pop(&mut self) -> i64 {
        let (steps, rest) = read(&self.codes);
        let used = self.codes.len() - rest.len();
        self.codes.drain(..used);
        steps.wrapping_mul(self.unit)
    }
}

/// What divides both; 1 where no positive number does.
fn divisor(one: i64, other: i64) -> i64 {
    let (mut a, mut b) = (one.unsigned_abs(), other.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1).max(1)
}

/// Seven bits a byte, the lowest first, as long as there are more; the sign is the lowest of all.
fn write(codes: &mut Vec<u8>, steps: i64) {
    let mut bits = ((steps << 1) ^ (steps >> 63)) as u64;
    while bits >= 0x80 {
        codes.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    codes.push(bits as u8);
}

/// The first number, and what is behind it.
fn read(codes: &[u8]) -> (i64, &[u8]) {
    let (mut bits, mut shift, mut rest) = (0u64, 0, codes);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if shift < 64 {
            bits |= u64::from(byte & 0x7f) << shift;
        }
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (((bits >> 1) as i64) ^ -((bits & 1) as i64), rest)
}
