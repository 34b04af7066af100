//! Attributes in one piece of text each for keys and values.
//!
//! Everything but the texts themselves is written in bytes below 128, so that the whole is text, too,
//! and every part of it can be lent out as text without a check.
//!
//! - A number is written six bits at a time, the lowest first; 64 is added to all but the last.
//! - A text is its length in bytes, as a number, and itself.
//! - A value begins with a byte: below [`STR`] it is a text of that length; else it says what follows.

use super::AttributeRef;

/// A text that is longer: length and text follow.
const STR: u8 = 0x70;
const JSON: u8 = 0x71;
const FALSE: u8 = 0x72;
const TRUE: u8 = 0x73;
/// An integer follows, its sign in the lowest bit.
const INT: u8 = 0x74;
/// A double's 64 bits follow as a number, turned around since most of the last are zero.
const DOUBLE: u8 = 0x75;

/// Appends a number.
pub(super) fn push_number(out: &mut String, mut number: u64) {
    while number >= 64 {
        out.push(char::from((number % 64) as u8 + 64));
        number /= 64;
    }
    out.push(char::from(number as u8));
}

/// Appends a text behind its length.
pub(super) fn push_text(out: &mut String, text: &str) {
    push_number(out, text.len() as u64);
    out.push_str(text);
}

/// Appends a value.
pub(super) fn push_value(out: &mut String, value: AttributeRef<'_>) {
    let tag = |out: &mut String, tag: u8| out.push(char::from(tag));
    match value {
        AttributeRef::Str(text) if text.len() < usize::from(STR) => {
            tag(out, text.len() as u8);
            out.push_str(text);
        }
        AttributeRef::Str(text) => {
            tag(out, STR);
            push_text(out, text);
        }
        AttributeRef::Json(text) => {
            tag(out, JSON);
            push_text(out, text);
        }
        AttributeRef::Bool(value) => tag(out, if value { TRUE } else { FALSE }),
        AttributeRef::Int(number) => {
            tag(out, INT);
            push_number(out, ((number << 1) ^ (number >> 63)) as u64);
        }
        AttributeRef::Double(number) => {
            tag(out, DOUBLE);
            push_number(out, number.to_bits().reverse_bits());
        }
    }
}

/// Reads what was written above, in the same order. Behind the end there are zeros and empty texts.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(packed: &'a str) -> Self {
        Self { rest: packed }
    }

    /// Whether there is nothing left.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.as_bytes().split_first() else {
            return 0;
        };
        // One byte below 128 is one character.
        self.rest = self.rest.get(self.rest.len() - rest.len()..).unwrap_or("");
        *byte
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte % 64) << shift;
            shift += 6;
            if byte < 64 || shift > 60 {
                return number;
            }
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (text, rest) = self.rest.split_at_checked(length).unwrap_or_default();
        self.rest = rest;
        text
    }

    /// The next text.
    pub(super) fn text(&mut self) -> &'a str {
        let length = self.number();
        self.take(length as usize)
    }

    /// The next value.
    pub(super) fn value(&mut self) -> AttributeRef<'a> {
        match self.byte() {
            STR => AttributeRef::Str(self.text()),
            JSON => AttributeRef::Json(self.text()),
            FALSE => AttributeRef::Bool(false),
            TRUE => AttributeRef::Bool(true),
            INT => {
                let number = self.number();
                AttributeRef::Int((number >> 1) as i64 ^ -((number & 1) as i64))
            }
            DOUBLE => AttributeRef::Double(f64::from_bits(self.number().reverse_bits())),
            length => AttributeRef::Str(self.take(usize::from(length))),
        }
    }
}
