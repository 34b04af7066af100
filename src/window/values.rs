//! Values in the order they came, in as few bytes as keep them.
//!
//! They lie in blocks of up to [`FULL`] values, each behind a head with the form of the block and a base:
//! values that equal the base take nothing, decimals with few digits one, two or four bytes each as whole
//! multiples of a power of ten beside it, and others three: their distance from it in steps of a power of two,
//! of which there are some half a million in the distances at hand. The last form rounds, but the digits that
//! are lost are those of the deviation and not of the level. Where that would be coarser than a share of
//! [`COARSEST`] of the last change, a new block begins, with the value itself for its base. Values that may
//! not be rounded are kept in whole instead.

use serde::{Deserialize, Serialize};

/// Form, number of values, base.
const HEAD: usize = 10;
/// And the size of a step, where there are such.
const LONG_HEAD: usize = 12;
/// Most values of a block, but for those that are all equal.
const FULL: u8 = 64;
/// A value is rounded by at most this share of its distance from the value before it.
const COARSEST: f64 = 1.0 / 2048.0;
/// A value so many times as large as the second one is no base for it …
const LARGEST_BASE: f64 = 1024.0;
/// … nor one that is so many times as far from it as the base before.
const FAR: f64 = 16.0;
/// The first distance of a block is 2¹⁹ steps, or up to twice as many; if those of the block before are larger or
/// smaller by no more than so many powers of two, they are as good.
const DIGITS: i16 = 19;
const LARGER: i16 = 4;
const SMALLER: i16 = 3;
/// The most steps in either direction.
const MOST_STEPS: f64 = 8_388_607.0;
/// So many bytes, and a 64th of all, may lie idle at the front.
const SPARE: usize = 12;
/// Powers of ten by which decimals are told.
const TENS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
/// Whole numbers up to here are doubles.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A queue of finite values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Values {
    #[serde(with = "crate::model::raw")]
    bytes: Vec<u8>,
    /// Bytes at the front that are past.
    skip: u32,
    /// Where the newest block begins.
    open: u32,
}

/// How the values of a block are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All are the base.
    Equal,
    /// `(base + n) / 10^digits`, `n` in so many bytes.
    Decimal { width: u8, digits: u8 },
    /// `base + n` steps of a power of two.
    Steps,
    /// As they are.
    Raw,
}

impl Form {
    fn to_byte(self) -> u8 {
        match self {
            Self::Equal => 0,
            Self::Decimal { width, digits } => 1 | width << 2 | digits << 5,
            Self::Steps => 2,
            Self::Raw => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let (width, digits) = (byte >> 2 & 7, byte >> 5);
        match byte & 3 {
            0 if byte == 0 => Some(Self::Equal),
            1 if matches!(width, 1 | 2 | 4) && usize::from(digits) < TENS.len() => {
                Some(Self::Decimal { width, digits })
            }
            2 if byte == 2 => Some(Self::Steps),
            3 if byte == 3 => Some(Self::Raw),
            _ => None,
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Equal => 0,
            Self::Decimal { width, .. } => usize::from(width),
            Self::Steps => 3,
            Self::Raw => 8,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Head {
    form: Form,
    count: u8,
    /// A double's bits, or a whole number.
    base: u64,
    /// The power of two that a step is.
    step: i16,
}

impl Head {
    fn of(value: f64) -> Self {
        Self {
            form: Form::Equal,
            count: 1,
            base: value.to_bits(),
            step: 0,
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[form, count, ref base @ ..], behind) = bytes.split_first_chunk::<HEAD>()?;
        let form = Form::from_byte(form)?;
        let step = match form {
            Form::Steps => i16::from_le_bytes(*behind.first_chunk()?),
            Form::Equal | Form::Decimal { .. } | Form::Raw => 0,
        };
        Some(Self {
            form,
            count,
            base: u64::from_le_bytes(*base.first_chunk()?),
            step,
        })
    }

    fn bytes(self) -> [u8; LONG_HEAD] {
        let mut bytes = [0; LONG_HEAD];
        let (marks, rest) = bytes.split_at_mut(2);
        let (base, step) = rest.split_at_mut(8);
        marks.copy_from_slice(&[self.form.to_byte(), self.count]);
        base.copy_from_slice(&self.base.to_le_bytes());
        step.copy_from_slice(&self.step.to_le_bytes());
        bytes
    }

    /// Bytes before the values.
    fn own_len(self) -> usize {
        match self.form {
            Form::Steps => LONG_HEAD,
            Form::Equal | Form::Decimal { .. } | Form::Raw => HEAD,
        }
    }

    /// Bytes of the block.
    fn len(self) -> usize {
        self.own_len() + self.form.width() * usize::from(self.count)
    }

    /// Whether all values of the block are certain to be finite.
    fn is_finite(self) -> bool {
        let base = f64::from_bits(self.base);
        match self.form {
            Form::Equal => base.is_finite(),
            Form::Decimal { .. } => true,
            Form::Steps => {
                let size = power_of_two(self.step).unwrap_or(0.0);
                (base.abs() + (MOST_STEPS + 1.0) * size).is_finite()
            }
            Form::Raw => false,
        }
    }

    /// How many steps `value` is from the base, and by how much that is wrong; `None` where it is too far.
    fn steps(self, value: f64) -> Option<([u8; 3], f64)> {
        let (base, size) = (f64::from_bits(self.base), power_of_two(self.step)?);
        let steps = ((value - base) / size).round();
        if steps.is_nan() || steps.abs() > MOST_STEPS {
            return None;
        }
        let [a, b, c, _] = (steps as i32).to_le_bytes();
        Some(([a, b, c], (base + steps * size - value).abs()))
    }

    /// Reads one value, of which `payload` has the bytes, and by how much it may have been rounded.
    fn decode(self, payload: &[u8]) -> (f64, f64) {
        let base = f64::from_bits(self.base);
        match self.form {
            Form::Equal => (base, 0.0),
            Form::Decimal { digits, .. } => {
                let whole = (self.base as i64).wrapping_add(read_whole(payload));
                (decimal(whole, digits), 0.0)
            }
            Form::Steps => {
                let [a, b, c] = payload.first_chunk().copied().unwrap_or_default();
                let steps = i32::from_le_bytes([0, a, b, c]) >> 8;
                let size = power_of_two(self.step).unwrap_or(0.0);
                // The base has all its digits.
                let lost = if steps == 0 { 0.0 } else { 0.5 * size };
                (base + f64::from(steps) * size, lost)
            }
            Form::Raw => {
                let bytes = payload.first_chunk().copied().unwrap_or_default();
                (f64::from_le_bytes(bytes), 0.0)
            }
        }
    }
}

/// Two to the power of a number, which must have all digits.
fn power_of_two(exponent: i16) -> Option<f64> {
    let biased = u64::try_from(i64::from(exponent) + 1023).ok()?;
    (1..2047)
        .contains(&biased)
        .then(|| f64::from_bits(biased << 52))
}

fn decimal(whole: i64, digits: u8) -> f64 {
    match TENS.get(usize::from(digits)) {
        None | Some(1.0) => whole as f64,
        Some(tens) => whole as f64 / tens,
    }
}

/// The whole number of which `value` is that multiple of a power of ten, exactly.
fn whole(value: f64, digits: u8) -> Option<i64> {
    let scaled = (value * TENS.get(usize::from(digits))?).round();
    let found = (scaled.abs() <= WHOLE).then_some(scaled as i64)?;
    (decimal(found, digits).to_bits() == value.to_bits()).then_some(found)
}

/// A whole number of one, two or four bytes.
fn read_whole(bytes: &[u8]) -> i64 {
    match *bytes {
        [a] => i64::from(i8::from_le_bytes([a])),
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => 0,
    }
}

/// The fewest bytes that hold `number`.
fn width_of(number: i64) -> Option<u8> {
    if i8::try_from(number).is_ok() {
        Some(1)
    } else if i16::try_from(number).is_ok() {
        Some(2)
    } else {
        i32::try_from(number).is_ok().then_some(4)
    }
}

impl Values {
    fn head(&self, at: usize) -> Option<Head> {
        Head::read(self.bytes.get(at..)?)
    }

    fn set_head(&mut self, at: usize, head: Head) {
        let bytes = head.bytes();
        if let Some(place) = self.bytes.get_mut(at..at + head.own_len()) {
            place.copy_from_slice(bytes.get(..head.own_len()).unwrap_or_default());
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() - self.bytes.len() < bytes.len() {
            // There are millions of windows: no room to spare.
            self.bytes.reserve_exact(bytes.len().max(8));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for so many more values like the newest ones where there is hardly any, and not for many times
    /// what it holds.
    pub(super) fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() >= LONG_HEAD + size_of::<f64>() {
            return;
        }
        let newest = self.head(self.open as usize);
        let width = newest.map_or(0, |head| head.form.width());
        if width == 0 {
            return;
        }
        let heads = LONG_HEAD * (1 + more / usize::from(FULL));
        let room = more * width + heads + SPARE;
        self.bytes
            .reserve_exact(room.min((4 * self.bytes.len()).max(512)));
    }

    /// Reads what the next value will need: where the oldest and the newest block begin, and the end.
    pub(super) fn glance(&self) -> u64 {
        let ends = [
            self.bytes.get(self.skip as usize),
            self.bytes.get(self.open as usize),
            self.bytes.last(),
        ];
        ends.into_iter()
            .flatten()
            .map(|byte| u64::from(*byte))
            .sum()
    }

    /// Takes in a value that is finite; the one before was `newest`. `exact`: it must not be rounded.
    pub(super) fn push(&mut self, value: f64, newest: f64, exact: bool) {
        let at = self.open as usize;
        let taken = self
            .head(at)
            .is_some_and(|head| self.extend(at, head, value, newest, exact));
        if !taken {
            self.begin(value);
        }
    }

    fn begin(&mut self, value: f64) {
        self.open = self.bytes.len() as u32;
        let head = Head::of(value).bytes();
        self.append(head.get(..HEAD).unwrap_or_default());
    }

    /// Puts `value` into the newest block; whether it fits.
    fn extend(&mut self, at: usize, head: Head, value: f64, newest: f64, exact: bool) -> bool {
        let more = Head {
            count: head.count.saturating_add(1),
            ..head
        };
        match head.form {
            Form::Equal => {
                if head.base == value.to_bits() {
                    self.set_head(at, more);
                    return head.count < u8::MAX;
                }
                head.count < FULL && self.differ(at, head, value, exact)
            }
            _ if head.count >= FULL => false,
            Form::Decimal { width, digits } => {
                let base = head.base as i64;
                let same = whole(value, digits).map(|whole| whole.saturating_sub(base));
                match same.map(|offset| (offset, width_of(offset))) {
                    Some((offset, Some(needed))) if needed <= width => {
                        self.set_head(at, more);
                        let bytes = offset.to_le_bytes();
                        self.append(bytes.get(..usize::from(width)).unwrap_or_default());
                        true
                    }
                    _ => self.rewrite(at, head, digits, value),
                }
            }
            Form::Steps => match head.steps(value) {
                Some((steps, lost)) if lost <= COARSEST * (value - newest).abs() => {
                    self.set_head(at, more);
                    self.append(&steps);
                    true
                }
                Some(_) | None => false,
            },
            Form::Raw => {
                self.set_head(at, more);
                self.append(&value.to_le_bytes());
                true
            }
        }
    }

    /// Gives the block of equal values another form, in which `value` fits too.
    fn differ(&mut self, at: usize, head: Head, value: f64, exact: bool) -> bool {
        let base = f64::from_bits(head.base);
        let digits = (0..TENS.len() as u8).find_map(|digits| Some((digits, whole(base, digits)?)));
        if let Some((digits, whole)) = digits {
            let form = Form::Decimal { width: 0, digits };
            let decimals = Head {
                form,
                base: whole as u64,
                ..head
            };
            if self.rewrite(at, decimals, digits, value) {
                return true;
            }
        }
        let count = usize::from(head.count);
        let more = head.count + 1;
        if exact {
            self.set_head(
                at,
                Head {
                    form: Form::Raw,
                    count: more,
                    base: 0,
                    step: 0,
                },
            );
            for _ in 0..count {
                self.append(&base.to_le_bytes());
            }
            self.append(&value.to_le_bytes());
            return true;
        }
        let far = (value - base).abs();
        let (before, step) = self.before(at);
        let known = before.is_some_and(|before| far > FAR * (value - before).abs());
        if known || far > LARGEST_BASE * value.abs() {
            return false;
        }
        let own = (far.to_bits() >> 52) as i16 - 1023 - DIGITS;
        let step = step.filter(|step| (own - SMALLER..=own + LARGER).contains(step));
        let stepped = Head {
            form: Form::Steps,
            count: more,
            step: step.unwrap_or(own),
            ..head
        };
        let Some((steps, lost)) = stepped.steps(value) else {
            return false;
        };
        if lost > COARSEST * far {
            return false;
        }
        self.bytes.truncate(at);
        self.append(&stepped.bytes());
        for _ in 0..count {
            self.append(&[0; 3]);
        }
        self.append(&steps);
        true
    }

    /// The base and the step of the block before the one at `at`.
    fn before(&self, at: usize) -> (Option<f64>, Option<i16>) {
        let before = self.heads().take_while(|(start, _)| *start < at).last();
        let Some((_, head)) = before else {
            return (None, None);
        };
        match head.form {
            Form::Decimal { digits, .. } => (Some(decimal(head.base as i64, digits)), None),
            Form::Equal => (Some(f64::from_bits(head.base)), None),
            Form::Steps => (Some(f64::from_bits(head.base)), Some(head.step)),
            Form::Raw => (None, None),
        }
    }

    /// Writes the newest block, which is of decimals of some digits, anew with as many digits and bytes as
    /// `value` needs, too; whether there are such.
    fn rewrite(&mut self, at: usize, head: Head, digits: u8, value: f64) -> bool {
        let found = (digits..TENS.len() as u8)
            .find_map(|digits| whole(value, digits).map(|whole| (digits, whole)));
        let Some((needed, new)) = found else {
            return false;
        };
        let times = 10i64.pow(u32::from(needed - digits));
        let Some(base) = (head.base as i64).checked_mul(times) else {
            return false;
        };
        let Some(width) = width_of(new.saturating_sub(base)) else {
            return false;
        };
        let mut offsets = [0i64; FULL as usize];
        let mut wide = width;
        let old = head.form.width();
        let payload = self.bytes.get(at + HEAD..).unwrap_or_default();
        let count = usize::from(head.count);
        for (n, offset) in offsets.iter_mut().take(count).enumerate() {
            let bytes = payload.get(n * old..(n + 1) * old).unwrap_or_default();
            *offset = read_whole(bytes).saturating_mul(times);
            match width_of(*offset) {
                Some(width) => wide = wide.max(width),
                None => return false,
            }
        }
        if let Some(last) = offsets.get_mut(count) {
            *last = new - base;
        }
        if base.unsigned_abs() > WHOLE as u64 {
            return false;
        }
        self.bytes.truncate(at + HEAD);
        self.set_head(
            at,
            Head {
                form: Form::Decimal {
                    width: wide,
                    digits: needed,
                },
                count: head.count + 1,
                base: base as u64,
                step: 0,
            },
        );
        for offset in offsets.iter().take(count + 1) {
            let bytes = offset.to_le_bytes();
            self.append(bytes.get(..usize::from(wide)).unwrap_or_default());
        }
        true
    }

    /// Takes out the oldest value.
    pub(super) fn pop(&mut self) -> Option<f64> {
        let at = self.skip as usize;
        let head = self.head(at)?;
        let width = head.form.width();
        let from = at + head.own_len();
        let (value, _) = head.decode(self.bytes.get(from..from + width)?);
        if head.count > 1 {
            // The head follows the values that are left.
            let less = Head {
                count: head.count - 1,
                ..head
            };
            self.skip += width as u32;
            if at == self.open as usize {
                self.open = self.skip;
            }
            self.set_head(self.skip as usize, less);
        } else {
            self.skip += head.len() as u32;
        }
        let skip = self.skip as usize;
        if skip >= self.bytes.len() {
            self.bytes.clear();
            (self.skip, self.open) = (0, 0);
        } else if skip > SPARE + self.bytes.len() / 64 {
            self.bytes.drain(..skip);
            self.open -= self.skip;
            self.skip = 0;
            if self.bytes.capacity() > self.bytes.len() + self.bytes.len() / 8 + 32 {
                self.bytes.shrink_to(self.bytes.len() + 16);
            }
        }
        Some(value)
    }

    /// Where blocks begin, with their heads.
    fn heads(&self) -> impl Iterator<Item = (usize, Head)> + Clone {
        let mut at = self.skip as usize;
        std::iter::from_fn(move || {
            let head = self.head(at)?;
            let start = at;
            at += head.len();
            Some((start, head))
        })
    }

    /// The values, oldest first, each with the most it may have been rounded by.
    pub(super) fn iter(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.heads()
            .flat_map(move |(start, head)| self.block(start, head))
    }

    /// The same with the most that each *was* rounded by: it was not taken into a block whose steps were too large
    /// for its distance from the value before it.
    pub(super) fn told(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        let mut before = None;
        self.iter().map(move |(value, lost)| {
            let far = (value - before.replace(value).unwrap_or(0.0)).abs();
            // What is told of the distance is as rounded as the value.
            (value, lost.min(2.0 * COARSEST * far))
        })
    }

    fn block(&self, start: usize, head: Head) -> impl Iterator<Item = (f64, f64)> + Clone {
        let width = head.form.width();
        (0..usize::from(head.count)).map(move |n| {
            let from = start + head.own_len() + n * width;
            let payload = self.bytes.get(from..from + width).unwrap_or_default();
            head.decode(payload)
        })
    }

    /// Whether what was read back can be so many values.
    pub(super) fn is_sound(&self, count: usize) -> bool {
        let (mut end, mut open, mut found) = (self.skip as usize, self.skip as usize, 0);
        for (start, head) in self.heads() {
            if head.count == 0 || head.form != Form::Equal && head.count > FULL {
                return false;
            }
            // Mostly the head tells that no value can be infinite.
            if !head.is_finite() && !self.block(start, head).all(|(value, _)| value.is_finite()) {
                return false;
            }
            (open, end) = (start, start + head.len());
            found += usize::from(head.count);
        }
        let whole = end == self.bytes.len() && (found == 0 || open == self.open as usize);
        whole && found == count
    }

    /// Gives back what room there is to spare.
    pub(super) fn shrink(&mut self) {
        self.bytes
            .drain(..(self.skip as usize).min(self.bytes.len()));
        self.open = self.open.saturating_sub(self.skip);
        self.skip = 0;
        self.bytes.shrink_to_fit();
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        self.bytes.capacity()
    }
}

/// The decimal with the fewest digits within `lost` of `value`: what was most likely meant by a number that was
/// rounded by at most that.
pub(super) fn shortest(value: f64, lost: f64) -> f64 {
    if lost <= 0.0 {
        return value;
    }
    let (mut tens, mut unit) = (1.0, 1.0);
    for _ in 0..18 {
        let whole = nearest(value * tens);
        // Nearly the decimal, without the time that a division takes.
        let slack = 0.01 * lost + 4e-15 * value.abs();
        if (whole * unit - value).abs() <= lost + slack {
            // Not less than nothing.
            let rounded = whole / tens + 0.0;
            if (rounded - value).abs() <= lost {
                return rounded;
            }
        }
        tens *= 10.0;
        unit *= 0.1;
    }
    value
}

/// The whole number next to `value`: of two the even one.
fn nearest(value: f64) -> f64 {
    // From here on doubles have no room for a fraction.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    if value.abs() < WHOLE {
        let push = WHOLE.copysign(value);
        (value + push) - push
    } else {
        value
    }
}
