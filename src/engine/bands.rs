//! What was expected of the samples that a signal's window holds.
//!
//! Where a detector judges by the window, people check its numbers by hand, and each judgement is kept in
//! single precision. Of all others, of which there are millions, a few bands are kept (`brief`). The newest
//! judgement is kept with all its digits.

mod brief;

use std::collections::VecDeque;
use std::mem::size_of;

use serde::{Deserialize, Serialize};

use crate::model::{Judged, Verdict};
use brief::Brief;

/// What was expected of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judgement {
    pub(super) expected: f64,
    /// Ends of the band; may be infinite.
    pub(super) lower: f64,
    pub(super) upper: f64,
    /// Signed.
    pub(super) sigma: f64,
}

impl Judgement {
    fn of(judged: &Judged) -> Self {
        Self {
            expected: judged.expected,
            lower: judged.lower,
            upper: judged.upper,
            sigma: judged.sigma,
        }
    }

    /// How far away the farther end is, if there is one.
    fn reach(&self) -> f64 {
        let ends = [self.upper - self.expected, self.expected - self.lower];
        let ends = ends.into_iter().filter(|end| end.is_finite());
        ends.fold(0.0, f64::max)
    }

    /// On which side of the band `value` is.
    fn side(&self, value: f64) -> i8 {
        i8::from(value > self.upper) - i8::from(value < self.lower)
    }
}

/// What was said of the newest sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Newest {
    /// So many samples more are needed.
    Learning(u32),
    Judged(Judgement),
}

/// The same in 24 bytes: the distances of the band's ends in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Last {
    /// 0: it was judged.
    learning: u32,
    sigma: f32,
    expected: f64,
    below: f32,
    above: f32,
}

impl Last {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Learning { remaining } => Self {
                learning: (*remaining).max(1),
                ..Self::default()
            },
            Verdict::Judged(judged) => Self {
                learning: 0,
                sigma: judged.sigma as f32,
                expected: judged.expected,
                below: (judged.expected - judged.lower) as f32,
                above: (judged.upper - judged.expected) as f32,
            },
        }
    }

    fn newest(&self) -> Newest {
        if self.learning > 0 {
            return Newest::Learning(self.learning);
        }
        Newest::Judged(Judgement {
            expected: self.expected,
            lower: self.expected - f64::from(self.below),
            upper: self.expected + f64::from(self.above),
            sigma: f64::from(self.sigma),
        })
    }
}

/// The judgements of the samples in a window: of the newest, and as many before it as there are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Bands(Option<Held>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Held {
    last: Last,
    past: Past,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Past {
    Exact(VecDeque<Exact>),
    Brief(Brief),
}

/// A judgement in 16 bytes. Numbers are kept as their distance from the sample's value, so that single
/// precision is relative to the deviation and not to the level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Exact {
    expected: f32,
    lower: f32,
    upper: f32,
    /// NaN: there was no judgement.
    sigma: f32,
}

impl Bands {
    /// Takes in what was said of a sample of this value, by a rule that warns from `warning` sigmas on.
    /// `exact`: people check it.
    pub(super) fn push(&mut self, value: f64, verdict: &Verdict, warning: f64, exact: bool) {
        let held = self.0.get_or_insert_with(|| {
            let past = if exact {
                Past::Exact(VecDeque::new())
            } else {
                Past::Brief(Brief::default())
            };
            Held {
                last: Last::default(),
                past,
            }
        });
        held.last = Last::of(verdict);
        let judged = match verdict {
            Verdict::Judged(judged) => Some(Judgement::of(judged)),
            Verdict::Learning { .. } => None,
        };
        let judged = judged.as_ref();
        match &mut held.past {
            Past::Exact(past) => {
                if past.len() == past.capacity() {
                    past.reserve_exact(past.len().clamp(4, 32));
                }
                past.push_back(Exact::of(value, judged));
            }
            Past::Brief(past) => past.push(value, judged, warning),
        }
    }

    /// Forgets the oldest until at most `most` are left.
    pub(super) fn truncate(&mut self, most: usize) {
        if let Some(held) = &mut self.0 {
            match &mut held.past {
                Past::Exact(past) => {
                    past.drain(..past.len().saturating_sub(most));
                }
                Past::Brief(past) => past.truncate(most),
            }
        }
    }

    /// Reads what the next sample will need. What it gives says nothing.
    pub(super) fn glance(&self) -> u64 {
        match self.0.as_ref().map(|held| &held.past) {
            Some(Past::Brief(past)) => past.glance(),
            Some(Past::Exact(_)) | None => 0,
        }
    }

    /// What was said of the newest sample.
    pub(super) fn newest(&self) -> Option<Newest> {
        self.0.as_ref().map(|held| held.last.newest())
    }

    /// For each of the newest `values`, oldest first, what was expected of it, as far as that is known.
    pub(super) fn beside(
        &self,
        values: impl ExactSizeIterator<Item = f64>,
    ) -> Vec<Option<Judgement>> {
        let mut found = Vec::with_capacity(values.len());
        let Some(held) = &self.0 else {
            found.resize(values.len(), None);
            return found;
        };
        let len = match &held.past {
            Past::Exact(past) => past.len(),
            Past::Brief(past) => past.len(),
        };
        let (mut before, skip) = (
            values.len().saturating_sub(len),
            len.saturating_sub(values.len()),
        );
        let mut values = values;
        while before > 0 {
            values.next();
            found.push(None);
            before -= 1;
        }
        match &held.past {
            Past::Exact(past) => {
                let past = past.iter().skip(skip).zip(values);
                found.extend(past.map(|(exact, value)| exact.judgement(value)));
            }
            Past::Brief(past) => {
                let past = past.iter().skip(skip).zip(values);
                found.extend(past.map(|(place, value)| place.judgement(value)));
            }
        }
        found
    }

    /// Gives back what room there is to spare, since no more samples are awaited.
    pub(super) fn shrink(&mut self) {
        match self.0.as_mut().map(|held| &mut held.past) {
            Some(Past::Exact(past)) => past.shrink_to_fit(),
            Some(Past::Brief(past)) => past.shrink(),
            None => {}
        }
    }

    /// Forgets all but the newest.
    pub(super) fn forget_past(&mut self) {
        self.truncate(0);
        self.shrink();
    }

    /// These, if they can have been made here and are as they should be, else none.
    pub(super) fn checked(self, exact: bool) -> Self {
        let sound = self.0.as_ref().is_some_and(|held| match &held.past {
            Past::Exact(_) => exact,
            Past::Brief(past) => !exact && past.is_sound(),
        });
        Self(self.0.filter(|_| sound))
    }

    /// Memory it occupies beside itself.
    pub(super) fn heap(&self) -> usize {
        self.0.as_ref().map_or(0, |held| match &held.past {
            Past::Exact(past) => past.capacity() * size_of::<Exact>(),
            Past::Brief(past) => past.heap(),
        })
    }
}

impl Exact {
    fn of(value: f64, judged: Option<&Judgement>) -> Self {
        match judged {
            None => Self {
                expected: 0.0,
                lower: 0.0,
                upper: 0.0,
                sigma: f32::NAN,
            },
            Some(judged) => Self {
                expected: (judged.expected - value) as f32,
                lower: (judged.lower - value) as f32,
                upper: (judged.upper - value) as f32,
                sigma: judged.sigma as f32,
            },
        }
    }

    fn judgement(self, value: f64) -> Option<Judgement> {
        let at = |offset: f32| value + f64::from(offset);
        // Zero less what single precision rounds is zero.
        let zeroed = |number: f64| {
            let is_zero = number.abs() <= value.abs() * 4.0 * f64::from(f32::EPSILON);
            if is_zero { 0.0 } else { number }
        };
        (!self.sigma.is_nan()).then(|| Judgement {
            expected: zeroed(at(self.expected)),
            lower: at(self.lower),
            upper: at(self.upper),
            sigma: f64::from(self.sigma),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::brief::TOLERANCE;
    use super::*;
    use crate::model::Evidence;

    fn judged(expected: f64, reach: f64, sigma: f64) -> Verdict {
        Verdict::Judged(Judged {
            expected,
            lower: expected - reach,
            upper: expected + reach,
            sigma,
            observed: None,
            evidence: Evidence::default(),
        })
    }

    #[test]
    fn a_calm_signal_needs_few_bytes_and_a_frame_goes_with_its_samples() {
        let mut bands = Bands::default();
        for n in 0..1000 {
            let off = f64::from(n * 37 % 101 - 50) / 25.0;
            let drift = 1e9 + 0.01 * f64::from(n);
            bands.push(drift + off, &judged(drift, 4.5, off), 4.0, false);
            bands.truncate(100);
        }
        assert!(bands.heap() <= 220, "{}", bands.heap());
        bands.forget_past();
        assert!(bands.heap() <= 110, "{}", bands.heap());
        assert!(matches!(bands.newest(), Some(Newest::Judged(_))));
        assert_eq!(bands.beside([1.0].into_iter()), [None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// What is told of a sample is what was said of it, within tolerance, and the sample is on the same
        /// side of the band.
        #[test]
        fn what_was_expected_is_told_again(
            samples in prop::collection::vec(
                (
                    prop_oneof![4 => -3.0..3.0f64, 1 => Just(0.0), 1 => -1e6..1e6f64],
                    prop_oneof![6 => Just(0.0), 1 => -100.0..100.0f64],
                    prop_oneof![6 => Just(4.0), 1 => 0.0..9.0f64, 1 => Just(f64::INFINITY)],
                    prop_oneof![9 => Just(true), 1 => Just(false)],
                ),
                1..300,
            ),
            level in prop_oneof![Just(0.0), Just(1e9), Just(-1e-3)],
            most in 1..120usize,
        ) {
            for exact in [false, true] {
                let mut bands = Bands::default();
                let mut said = Vec::new();
                for (off, shift, reach, known) in &samples {
                    let (value, expected) = (level + off, level + shift);
                    let sigma = 4.0 * (value - expected) / reach.clamp(0.5, 10.0);
                    let sigma = if value < expected - reach || value > expected + reach {
                        sigma.signum() * sigma.abs().max(4.0)
                    } else {
                        sigma.clamp(-3.9, 3.9)
                    };
                    let verdict = if *known {
                        judged(expected, *reach, sigma)
                    } else {
                        Verdict::Learning { remaining: 3 }
                    };
                    bands.push(value, &verdict, 4.0, exact);
                    bands.truncate(most);
                    said.push((value, *reach, known.then_some((expected, sigma))));
                }
                let bytes = postcard::to_allocvec(&bands).unwrap();
                let bands: Bands = postcard::from_bytes(&bytes).unwrap();
                let bands = bands.checked(exact);
                let from = said.len().saturating_sub(most);
                let told = bands.beside(said.iter().map(|(value, ..)| *value));
                prop_assert!(told[..from].iter().all(Option::is_none));
                for (told, (value, reach, said)) in told[from..].iter().zip(&said[from..]) {
                    let Some((expected, sigma)) = said else {
                        prop_assert!(told.is_none());
                        continue;
                    };
                    let told = told.expect("it was judged");
                    let off = if reach.is_finite() { TOLERANCE * reach } else { 0.0 };
                    // A thousandth is what single precision may cost.
                    let off = off * 1.1 + 4e-7 * (level.abs() + value.abs() + 200.0);
                    prop_assert!((told.expected - expected).abs() <= off, "{:?} {}", told, expected);
                    prop_assert_eq!(told.sigma.abs() >= 4.0, sigma.abs() >= 4.0, "{} {}", told.sigma, sigma);
                    let calm = told.sigma.abs().max(sigma.abs()) < 2.1;
                    let close = (told.sigma - sigma).abs() <= 0.3 + 0.11 * sigma.abs();
                    prop_assert!(calm || close || sigma.abs() > 12.0, "{} {}", told.sigma, sigma);
                }
            }
        }
    }
}
