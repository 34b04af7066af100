//! Judgements as a few bands: another one only where none of these is within [`TOLERANCE`] of it and has the
//! sample on the same side; and of sigmas those from [`CALM`] on, as far as the sample's place in its band does
//! not tell them.

use serde::{Deserialize, Serialize};

use super::Judgement;

/// A band may be drawn so much beside its place, as a share of the distance of its ends from what is
/// expected.
pub(super) const TOLERANCE: f64 = 0.1;
/// Sigmas below this are told by the place alone.
const CALM: f64 = 2.0;
/// Others may be told wrong by so much, and by such a share of it.
const COARSE: f64 = 0.2;
const COARSE_SHARE: f64 = 0.1;
/// The share of an end's distance that single precision may cost.
const FINE: f64 = 1e-3;

/// Judgements as a few bands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Brief {
    /// What the bands are relative to.
    base: f64,
    /// So many frames of [`FRAME`] words, in no order; then runs, samples of the same frame, the oldest first, of a
    /// word each. All in one allocation, since there are millions of signals.
    #[serde(with = "crate::model::raw")]
    words: Vec<u16>,
    frames: u8,
    /// How many samples there are.
    len: u32,
}

/// Words of a frame.
const FRAME: usize = 6;

/// Some samples in a row that have the same band.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    /// Which frame it is; or this and [`TOLD`]: one sample, whose sigma is told.
    frame: u8,
    /// How many samples, or the code of sigma.
    number: u8,
}

/// Marks a run of one sample whose sigma is told. So many frames there are at most.
const TOLD: u8 = 0x80;

impl Run {
    fn of(word: u16) -> Self {
        let [frame, number] = word.to_le_bytes();
        Self { frame, number }
    }

    fn word(self) -> u16 {
        u16::from_le_bytes([self.frame, self.number])
    }

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
#[derive(Debug, Clone, Copy, PartialEq)]
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

    fn of(words: [u16; FRAME]) -> Self {
        let [low, high, below, above, count, edge] = words;
        Self {
            expected: f32::from_bits(u32::from(low) | u32::from(high) << 16),
            below,
            above,
            count,
            edge: edge as u8,
        }
    }

    fn words(self) -> [u16; FRAME] {
        let bits = self.expected.to_bits();
        let (low, high) = (bits as u16, (bits >> 16) as u16);
        let Self {
            below,
            above,
            count,
            edge,
            ..
        } = self;
        [low, high, below, above, count, edge.into()]
    }
}

/// The band of one sample, and the code of its sigma.
pub(super) struct Place {
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

    pub(super) fn judgement(&self, value: f64) -> Option<Judgement> {
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
    /// How many samples there are.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Reads what the next sample will need: a word in each line of the cache. What it gives says nothing.
    pub(super) fn glance(&self) -> u64 {
        let words = self.words.iter().step_by(32).chain(self.words.last());
        words.map(|word| u64::from(*word)).sum()
    }

    /// Gives back what room there is to spare.
    pub(super) fn shrink(&mut self) {
        self.words.shrink_to_fit();
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        self.words.capacity() * size_of::<u16>()
    }

    /// Where the runs begin.
    fn behind_frames(&self) -> usize {
        usize::from(self.frames) * FRAME
    }

    fn frame(&self, at: usize) -> Option<Frame> {
        let words = self.words.get(..self.behind_frames())?;
        let words = words.get(at * FRAME..)?.first_chunk()?;
        Some(Frame::of(*words))
    }

    fn set_frame(&mut self, at: usize, frame: Frame) {
        let end = self.behind_frames();
        let words = self.words.get_mut(..end).unwrap_or_default();
        let place = words.get_mut(at * FRAME..).unwrap_or_default();
        if let Some(place) = place.first_chunk_mut() {
            *place = frame.words();
        }
    }

    fn frames(&self) -> impl DoubleEndedIterator<Item = Frame> + ExactSizeIterator {
        let words = self.words.get(..self.behind_frames()).unwrap_or_default();
        let (frames, _) = words.as_chunks();
        frames.iter().copied().map(Frame::of)
    }

    fn runs(&self) -> impl DoubleEndedIterator<Item = Run> + Clone {
        let words = self.words.get(self.behind_frames()..).unwrap_or_default();
        words.iter().copied().map(Run::of)
    }

    pub(super) fn push(&mut self, value: f64, judged: Option<&Judgement>, warning: f64) {
        let place = |frame| Place {
            base: self.base,
            frame,
            code: 0,
        };
        let judged_so = judged.map(|judged| (edge_of(warning), Near::to(judged, value)));
        let fits = |frame: Frame| match &judged_so {
            None => frame.edge == 0,
            Some((edge, near)) => frame.edge == *edge && near.is(&place(frame).band()),
        };
        let newest = self.runs().next_back().map(Run::frame);
        let newest = newest.filter(|at| self.frame(*at).is_some_and(fits));
        let found = newest.or_else(|| {
            let mut frames = self.frames();
            frames.position(|frame| frame.count > 0 && fits(frame))
        });
        let at = match found {
            Some(at) => at,
            None => self.begin(judged, warning),
        };
        let Some(mut frame) = self.frame(at) else {
            return;
        };
        frame.count = frame.count.saturating_add(1);
        self.set_frame(at, frame);
        let place = Place {
            base: self.base,
            frame,
            code: 0,
        };
        self.len += 1;
        let by_place = place.sigma_by_place(value);
        let sigma = judged.map_or(by_place, |judged| judged.sigma);
        let calm = sigma.abs().max(by_place.abs()) < CALM;
        let near = (sigma - by_place).abs() <= COARSE + COARSE_SHARE * sigma.abs();
        let beyond = |sigma: f64| sigma.abs() >= warning;
        let last = self.runs().next_back();
        let mut run = Run {
            frame: at as u8,
            number: 1,
        };
        if !calm && !near || beyond(sigma) != beyond(rounded(by_place)) {
            run = Run {
                frame: at as u8 | TOLD,
                number: code_of(sigma),
            };
        } else if let Some(last) = last.filter(|last| last.frame == run.frame)
            && let Some(more) = last.number.checked_add(1)
        {
            run.number = more;
            self.words.pop();
        }
        reserve(&mut self.words, 1);
        self.words.push(run.word());
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
        let free = self.frames().position(|frame| frame.count == 0);
        if let Some(at) = free {
            self.set_frame(at, frame);
            return at;
        }
        // Windows of thousands of samples can have more bands than can be told from each other.
        if self.frames >= TOLD {
            return self.runs().next_back().map_or(0, Run::frame);
        }
        reserve(&mut self.words, FRAME);
        let end = self.behind_frames();
        self.words.splice(end..end, frame.words());
        self.frames += 1;
        usize::from(self.frames) - 1
    }

    /// Makes the frames relative to another number.
    fn move_to(&mut self, base: f64) {
        for at in 0..usize::from(self.frames) {
            if let Some(mut frame) = self.frame(at) {
                let expected = self.base + f64::from(frame.expected);
                frame.expected = ((expected - base) as f32).clamp(f32::MIN, f32::MAX);
                self.set_frame(at, frame);
            }
        }
        self.base = base;
    }

    pub(super) fn truncate(&mut self, most: usize) {
        while self.len as usize > most {
            self.len -= 1;
            let begin = self.behind_frames();
            let Some(word) = self.words.get_mut(begin) else {
                return;
            };
            let mut oldest = Run::of(*word);
            let more = oldest.samples().0 > 1;
            if more {
                oldest.number -= 1;
                *word = oldest.word();
            }
            let at = oldest.frame();
            if let Some(mut frame) = self.frame(at) {
                frame.count = frame.count.saturating_sub(1);
                self.set_frame(at, frame);
            }
            if !more {
                self.words.remove(begin);
                self.tidy();
            }
        }
    }

    /// Gives back room that only an eventful time needed.
    fn tidy(&mut self) {
        let kept = self.frames().rposition(|frame| frame.count > 0);
        let kept = kept.map_or(0, |last| last + 1);
        let end = self.behind_frames();
        if kept * FRAME < end {
            self.words.drain(kept * FRAME..end);
            self.frames = kept as u8;
        }
        if self.words.capacity() > self.words.len() + self.words.len() / 2 + 4 * FRAME {
            self.words.shrink_to(self.words.len() + FRAME);
        }
    }

    /// The places of the samples, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Place> {
        self.runs().flat_map(move |run| {
            let (count, code) = run.samples();
            let place = move |frame| Place {
                base: self.base,
                frame,
                code,
            };
            let frame = self.frame(run.frame()).unwrap_or(Frame::NONE);
            std::iter::repeat_n(frame, usize::from(count)).map(place)
        })
    }

    pub(super) fn is_sound(&self) -> bool {
        if self.words.len() < self.behind_frames() || self.frames > TOLD {
            return false;
        }
        let mut counts = vec![0u16; usize::from(self.frames)];
        let mut len = 0;
        for run in self.runs() {
            let samples = run.samples().0;
            let Some(count) = counts.get_mut(run.frame()).filter(|_| samples > 0) else {
                return false;
            };
            *count = count.saturating_add(u16::from(samples));
            len += usize::from(samples);
        }
        let finite = self.frames().all(|frame| frame.expected.is_finite());
        let mut counted = self.frames().zip(counts);
        counted.all(|(frame, count)| frame.count == count)
            && len == self.len as usize
            && finite
            && self.base.is_finite()
    }
}

/// Makes room for so many more words where there is none: few to spare, since there are millions of signals.
fn reserve(words: &mut Vec<u16>, more: usize) {
    if words.capacity() - words.len() < more {
        words.reserve_exact(more.max(4));
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
    use super::*;

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
}
