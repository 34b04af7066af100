//! What was expected of the samples that a signal's window holds.
//!
//! Where a detector judges by the window, people check its numbers by hand, and each judgement is kept in
//! single precision. Of all others, of which there are millions, a few bands are kept, another one only where
//! none of these is within [`TOLERANCE`] of it and has the sample on the same side; and of sigmas those from
//! [`CALM`] on, as far as the sample's place in its band does not tell them.
//! The newest judgement is kept with all its digits.

use std::collections::VecDeque;
use std::mem::size_of;

use serde::{Deserialize, Serialize};

use crate::model::{Judged, Verdict};

/// A band may be drawn so much beside its place, as a share of the distance of its ends from what is
/// expected.
const TOLERANCE: f64 = 0.1;
/// Sigmas below this are told by the place alone.
const CALM: f64 = 2.0;
/// Others may be told wrong by so much, and by such a share of it.
const COARSE: f64 = 0.2;
const COARSE_SHARE: f64 = 0.1;
/// The share of an end's distance that single precision may cost.
const FINE: f64 = 1e-3;

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

/// Judgements as a few bands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Brief {
    /// What the bands are relative to.
    base: f64,
    /// In no order.
    frames: Vec<Frame>,
    /// Samples of the same frame, oldest first.
    runs: Vec<Run>,
    /// How many samples there are.
    len: u32,
}

/// Some samples in a row that have the same band.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Run {
    /// Which frame it is; or this and [`TOLD`]: one sample, whose sigma is told.
    frame: u8,
    /// How many samples, or the code of sigma.
    number: u8,
}

/// Marks a run of one sample whose sigma is told. So many frames there are at most.
const TOLD: u8 = 0x80;

impl Run {
    fn frame(self) -> usize {
        usize::from(self.frame & !TOLD)
    }

    /// How many samples, and the code of their sigma; 0 where that is not told.
    fn samples(self) -> (u8, u8) {
        if self.frame & TOLD == 0 {
            (self.number, 0)
        } else {
            (1, self.number)
        }
    }
}

/// The same band of so many samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Frame {
    expected: f32,
    /// Distance of the ends, rounded to eight digits.
    below: u16,
    above: u16,
    count: u16,
    /// Sigma at the band's ends, in eighths; 0: there was no judgement.
    edge: u8,
}

impl Frame {
    /// There was no judgement.
    const NONE: Self = Self {
        expected: 0.0,
        below: 0,
        above: 0,
        count: 0,
        edge: 0,
    };
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
        let Some(Past::Brief(past)) = self.0.as_ref().map(|held| &held.past) else {
            return 0;
        };
        let frame = past.frames.first().map_or(0, |frame| frame.count.into());
        let ends = [past.runs.first(), past.runs.last()].into_iter().flatten();
        frame + ends.map(|run| u64::from(run.number)).sum::<u64>()
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
            Past::Brief(past) => past.len as usize,
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
            Some(Past::Brief(past)) => {
                past.frames.shrink_to_fit();
                past.runs.shrink_to_fit();
            }
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
            Past::Brief(past) => {
                past.frames.capacity() * size_of::<Frame>()
                    + past.runs.capacity() * size_of::<Run>()
            }
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

/// The band of one sample, and the code of its sigma.
struct Place {
    base: f64,
    frame: Frame,
    code: u8,
}

impl Place {
    fn band(&self) -> Judgement {
        let expected = self.base + f64::from(self.frame.expected);
        Judgement {
            expected,
            lower: expected - short(self.frame.below),
            upper: expected + short(self.frame.above),
            sigma: 0.0,
        }
    }

    /// What the sample's place in the band says of its sigma.
    fn sigma_by_place(&self, value: f64) -> f64 {
        let off = value - (self.base + f64::from(self.frame.expected));
        // What single precision may have lost is nothing.
        let lost = 2f64.powi(-21) * f64::from(self.frame.expected).abs();
        let off = if off.abs() <= lost { 0.0 } else { off };
        // The nearer end may be where values cannot be beyond, and says nothing of how far they stray.
        let ends = [self.frame.below, self.frame.above].map(short);
        let ends = ends.into_iter().filter(|end| end.is_finite());
        let end = ends.fold(0.0, f64::max);
        if off == 0.0 || end == 0.0 {
            return 0.0;
        }
        let edge = f64::from(self.frame.edge) / 8.0;
        let share = off / end;
        (edge * share).clamp(-edge, edge)
    }

    fn judgement(&self, value: f64) -> Option<Judgement> {
        let sigma = match self.code {
            0 => self.sigma_by_place(value),
            code => of_code(code),
        };
        (self.frame.edge > 0).then(|| Judgement {
            // To as many digits as sigma's own tolerance.
            sigma: rounded(sigma),
            ..self.band()
        })
    }
}

impl Brief {
    fn push(&mut self, value: f64, judged: Option<&Judgement>, warning: f64) {
        let place = |frame| Place {
            base: self.base,
            frame,
            code: 0,
        };
        let judged_so = judged.map(|judged| (edge_of(warning), Near::to(judged, value)));
        let fits = |frame: &Frame| match &judged_so {
            None => frame.edge == 0,
            Some((edge, near)) => frame.edge == *edge && near.is(&place(*frame).band()),
        };
        let fits_at = |at: usize| self.frames.get(at).is_some_and(fits);
        let newest = self.runs.last().map(|run| run.frame());
        let at = match newest.filter(|at| fits_at(*at)) {
            Some(at) => at,
            None => match self
                .frames
                .iter()
                .position(|frame| frame.count > 0 && fits(frame))
            {
                Some(at) => at,
                None => self.begin(judged, warning),
            },
        };
        let Some(frame) = self.frames.get_mut(at) else {
            return;
        };
        frame.count = frame.count.saturating_add(1);
        let place = Place {
            base: self.base,
            frame: *frame,
            code: 0,
        };
        self.len += 1;
        let by_place = place.sigma_by_place(value);
        let sigma = judged.map_or(by_place, |judged| judged.sigma);
        let calm = sigma.abs().max(by_place.abs()) < CALM;
        let near = (sigma - by_place).abs() <= COARSE + COARSE_SHARE * sigma.abs();
        let beyond = |sigma: f64| sigma.abs() >= warning;
        if !calm && !near || beyond(sigma) != beyond(rounded(by_place)) {
            reserve(&mut self.runs, 4);
            self.runs.push(Run {
                frame: at as u8 | TOLD,
                number: code_of(sigma),
            });
            return;
        }
        match self.runs.last_mut() {
            Some(last) if usize::from(last.frame) == at && last.number < u8::MAX => {
                last.number += 1;
            }
            Some(_) | None => {
                reserve(&mut self.runs, 4);
                self.runs.push(Run {
                    frame: at as u8,
                    number: 1,
                });
            }
        }
    }

    /// Puts a frame where none is needed any more, and says where.
    fn begin(&mut self, judged: Option<&Judgement>, warning: f64) -> usize {
        let mut frame = Frame::NONE;
        if let Some(judged) = judged {
            let offset = (judged.expected - self.base) as f32;
            let lost = (self.base + f64::from(offset) - judged.expected).abs();
            if !offset.is_finite() || lost > FINE * judged.reach() {
                self.move_to(judged.expected);
            }
            frame = Frame {
                expected: (judged.expected - self.base) as f32,
                below: to_short(judged.expected - judged.lower),
                above: to_short(judged.upper - judged.expected),
                count: 0,
                edge: edge_of(warning),
            };
        }
        if let Some(at) = self.frames.iter().position(|frame| frame.count == 0)
            && let Some(free) = self.frames.get_mut(at)
        {
            *free = frame;
            return at;
        }
        // Windows of thousands of samples can have more bands than can be told from each other.
        if self.frames.len() >= usize::from(TOLD) {
            return self.runs.last().map_or(0, |run| run.frame());
        }
        reserve(&mut self.frames, 2);
        self.frames.push(frame);
        self.frames.len() - 1
    }

    /// Makes the frames relative to another number.
    fn move_to(&mut self, base: f64) {
        for frame in &mut self.frames {
            let expected = self.base + f64::from(frame.expected);
            frame.expected = ((expected - base) as f32).clamp(f32::MIN, f32::MAX);
        }
        self.base = base;
    }

    fn truncate(&mut self, most: usize) {
        while self.len as usize > most {
            self.len -= 1;
            let Some(oldest) = self.runs.first_mut() else {
                return;
            };
            if let Some(frame) = self.frames.get_mut(oldest.frame()) {
                frame.count = frame.count.saturating_sub(1);
            }
            if oldest.samples().0 > 1 {
                oldest.number -= 1;
            } else {
                self.runs.remove(0);
                self.tidy();
            }
        }
    }

    /// Gives back room that only an eventful time needed.
    fn tidy(&mut self) {
        while self.frames.last().is_some_and(|frame| frame.count == 0) {
            self.frames.pop();
        }
        if self.frames.capacity() > 2 * self.frames.len() + 2 {
            self.frames.shrink_to(self.frames.len() + 1);
        }
        if self.runs.capacity() > 2 * self.runs.len() + 8 {
            self.runs.shrink_to(self.runs.len() + 4);
        }
    }

    /// The places of the samples, oldest first.
    fn iter(&self) -> impl Iterator<Item = Place> {
        self.runs.iter().flat_map(move |run| {
            let (count, code) = run.samples();
            let place = move |frame| Place {
                base: self.base,
                frame,
                code,
            };
            let frame = self.frames.get(run.frame()).copied();
            let frame = frame.unwrap_or(Frame::NONE);
            std::iter::repeat_n(frame, usize::from(count)).map(place)
        })
    }

    fn is_sound(&self) -> bool {
        let mut counts = vec![0u16; self.frames.len()];
        let mut len = 0;
        for run in &self.runs {
            let samples = run.samples().0;
            let Some(count) = counts.get_mut(run.frame()).filter(|_| samples > 0) else {
                return false;
            };
            *count = count.saturating_add(u16::from(samples));
            len += usize::from(samples);
        }
        let finite = self.frames.iter().all(|frame| frame.expected.is_finite());
        let mut counted = self.frames.iter().zip(counts);
        counted.all(|(frame, count)| frame.count == count)
            && len == self.len as usize
            && finite
            && self.base.is_finite()
    }
}

/// Makes room for so many more where there is none: none to spare, since there are millions of signals.
fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact(more);
    }
}

/// Sigma to no more digits than it is known to.
fn rounded(sigma: f64) -> f64 {
    (sigma * 20.0).round() / 20.0
}

/// Which bands may be drawn for that of a judgement.
struct Near<'a> {
    judged: &'a Judgement,
    /// Of a sample of this value, on that side of it.
    value: f64,
    side: i8,
    /// How far it may be beside.
    off: f64,
}

impl<'a> Near<'a> {
    fn to(judged: &'a Judgement, value: f64) -> Self {
        Self {
            judged,
            value,
            side: judged.side(value),
            off: TOLERANCE * judged.reach(),
        }
    }

    fn is(&self, drawn: &Judgement) -> bool {
        let near = |one: f64, other: f64, off: f64| one == other || (one - other).abs() <= off;
        near(drawn.expected, self.judged.expected, self.off)
            && near(drawn.lower, self.judged.lower, 2.0 * self.off)
            && near(drawn.upper, self.judged.upper, 2.0 * self.off)
            && drawn.side(self.value) == self.side
    }
}

/// Sigma at the ends of a band, in eighths; not zero.
fn edge_of(warning: f64) -> u8 {
    ((warning * 8.0).round().clamp(1.0, 255.0)) as u8
}

/// The upper half of a single-precision number that is not negative, to the nearest.
fn to_short(number: f64) -> u16 {
    let bits = (number.max(0.0) as f32).to_bits();
    // Infinity stays what it is.
    (bits.saturating_add(0x8000).min(f32::INFINITY.to_bits()) >> 16) as u16
}

fn short(half: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(half) << 16))
}

/// Codes of sigma up to [`BENDS`] go by twentieths, beyond by quarters up to [`LEAPS`], then by factors: the
/// same at or above every threshold that is a multiple of these.
const ZERO: i32 = 128;
const BENDS: f64 = 4.0;
const LEAPS: f64 = 12.0;
const FACTOR: f64 = 2.2;

fn code_of(sigma: f64) -> u8 {
    let size = sigma.abs();
    // What a step was reached by rounding has reached it.
    let floor = |steps: f64| (steps + 1e-9).floor() as i32;
    let steps = if size < BENDS {
        floor(size * 20.0)
    } else if size < LEAPS {
        80 + floor((size - BENDS) * 4.0)
    } else {
        112 + floor((size / LEAPS).ln() / FACTOR.ln())
    };
    let steps = steps.min(127);
    (if sigma < 0.0 {
        ZERO - steps
    } else {
        ZERO + steps
    }) as u8
}

fn of_code(code: u8) -> f64 {
    let steps = i32::from(code) - ZERO;
    let size = f64::from(steps.abs());
    let size = if size < 80.0 {
        size / 20.0
    } else if size < 112.0 {
        BENDS + (size - 80.0) / 4.0
    } else {
        LEAPS * FACTOR.powf(size - 112.0)
    };
    if steps < 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn codes_keep_what_is_beyond_a_threshold_there() {
        for n in 0..100_000 {
            let sigma = f64::from(n) * 0.001;
            for sigma in [sigma, -sigma] {
                let told = of_code(code_of(sigma));
                assert!(
                    told.abs() <= sigma.abs() + 1e-9 && told * sigma >= 0.0,
                    "{sigma}"
                );
                for threshold in [2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 10.0] {
                    assert_eq!(told.abs() >= threshold, sigma.abs() >= threshold, "{sigma}");
                }
                assert!((told - sigma).abs() < 0.251 || sigma.abs() > 12.0);
            }
        }
        assert!(of_code(code_of(1e6)) > 1e5);
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
