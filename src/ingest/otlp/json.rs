//! OTLP's JSON, turned into the wire form as it is read, so that both encodings go through one reader
//! and give the same series. Section 3 of the protocol's specification says where it differs from
//! proto3's JSON: ids in hexadecimal, enums as integers only, keys in lowerCamelCase only.
//!
//! No tree is built. Memory is the wire form, which [`to_wire`] bounds: only arrays of short numbers
//! grow at all when written as doubles.

use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::ingest::otlp::schema::{Field, Kind, MAX_NUMBER, Message};

/// Why JSON was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// It is broken, or says what its message has no place for. Names fields, never values.
    Malformed(String),
    /// Its wire form would be larger than is allowed.
    TooLarge,
}

/// How much larger than the JSON its wire form may be, plus [`EXPANSION_FLOOR`]. Real requests
/// shrink to a third; only arrays like `[0,1,2]` of doubles grow, up to four times.
const EXPANSION: usize = 2;
/// What every request may use, in bytes.
const EXPANSION_FLOOR: usize = 1 << 20;

/// Reads `bytes` as the JSON form of `message` and returns its wire form.
pub(crate) fn to_wire(bytes: &[u8], message: &'static Message) -> Result<Vec<u8>, JsonError> {
    // Once for the whole body: serde_json does not look into strings that it skips.
    let text = std::str::from_utf8(bytes)
        .map_err(|e| JsonError::Malformed(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    let mut writer = Writer {
        out: Vec::with_capacity(bytes.len() / 2),
        limit: bytes
            .len()
            .saturating_mul(EXPANSION)
            .saturating_add(EXPANSION_FLOOR),
        trail: Vec::new(),
        full: false,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let object = Object {
        message,
        writer: &mut writer,
    };
    match object.deserialize(&mut json).and_then(|()| json.end()) {
        Ok(()) => Ok(writer.out),
        Err(_) if writer.full => Err(JsonError::TooLarge),
        Err(error) => Err(JsonError::Malformed(writer.explain(&error))),
    }
}

/// Where the wire form is written.
struct Writer {
    out: Vec<u8>,
    limit: usize,
    /// The keys that lead to an error, the innermost first.
    trail: Vec<&'static str>,
    full: bool,
}

impl Writer {
    /// serde_json quotes values in its messages; an answer must not, so only its position is used.
    fn explain(&self, error: &serde_json::Error) -> String {
        let what = if error.is_data() {
            "a value that does not fit"
        } else {
            "broken JSON"
        };
        let path: Vec<_> = self.trail.iter().rev().copied().collect();
        let (line, column) = (error.line(), error.column());
        if path.is_empty() {
            format!("{what} at line {line} column {column}")
        } else {
            format!(
                "{what} in {} at line {line} column {column}",
                path.join(".")
            )
        }
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }

    fn key(&mut self, field: &Field, wire_type: u32) {
        self.varint(u64::from(field.number << 3 | wire_type));
    }

    /// Writes what `content` writes, with its length before it.
    fn with_length<T, E>(
        &mut self,
        content: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // Five bytes hold any length up to 2^35; the padding saves moving the content.
        let at = self.out.len();
        self.out.extend([0; 5]);
        let result = content(self)?;
        let length = self.out.len() - at - 5;
        for (index, byte) in self.out.iter_mut().skip(at).take(5).enumerate() {
            *byte = (length >> (7 * index)) as u8 & 0x7f | if index < 4 { 0x80 } else { 0 };
        }
        Ok(result)
    }

    fn bytes(&mut self, field: &Field, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn check_room<E: Error>(&mut self) -> Result<(), E> {
        if self.out.len() > self.limit {
            self.full = true;
            return Err(E::custom("too large"));
        }
        Ok(())
    }
}

/// Reads an object as `message`.
struct Object<'w> {
    message: &'static Message,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Where each slot was written, so that a later key can take the place of an earlier one.
        let mut written: [Range<usize>; MAX_NUMBER + 1] = std::array::from_fn(|_| 0..0);
        while let Some(field) = map.next_key_seed(Key(self.message))? {
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if let Some(earlier) = written.get_mut(field.slot).map(std::mem::take)
                && !earlier.is_empty()
            {
                let length = earlier.len();
                for other in &mut written {
                    if other.start >= earlier.end {
                        *other = other.start - length..other.end - length;
                    }
                }
                self.writer.out.drain(earlier);
            }
            let start = self.writer.out.len();
            let seed = FieldValue {
                field,
                writer: self.writer,
            };
            if let Err(error) = map.next_value_seed(seed) {
                self.writer.trail.push(field.json);
                return Err(error);
            }
            self.writer.check_room()?;
            if let Some(place) = written.get_mut(field.slot) {
                *place = start..self.writer.out.len();
            }
        }
        Ok(())
    }
}

/// Reads a key; `None` for one that the message does not have.
struct Key(&'static Message);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.field_named(key))
    }
}

/// Reads the value of a field: `null`, one value, or an array where the field is repeated.
struct FieldValue<'w> {
    field: &'static Field,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for FieldValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, writer } = self;
        if field.repeated {
            deserializer.deserialize_seq(Elements { field, writer })
        } else {
            Element { field, writer }.deserialize(deserializer)
        }
    }
}

/// Reads an array.
struct Elements<'w> {
    field: &'static Field,
    writer: &'w mut Writer,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { field, writer } = self;
        match field.kind {
            Kind::Text | Kind::Hex | Kind::Base64 => {
                while elements
                    .next_element_seed(Element { field, writer })?
                    .is_some()
                {
                    writer.check_room()?;
                }
                Ok(())
            }
            Kind::Message(_) => {
                // A `null` among messages is absent, as it is everywhere else.
                while elements
                    .next_element_seed(FieldElement { field, writer })?
                    .is_some()
                {
                    writer.check_room()?;
                }
                Ok(())
            }
            kind => {
                writer.key(field, 2);
                writer.with_length(|writer| {
                    while elements
                        .next_element_seed(Scalar { kind, writer })?
                        .is_some()
                    {
                        writer.check_room()?;
                    }
                    Ok(())
                })
            }
        }
    }
}

/// Reads an element that may be `null`.
struct FieldElement<'w> {
    field: &'static Field,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for FieldElement<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldElement<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, writer } = self;
        Element { field, writer }.deserialize(deserializer)
    }
}

/// Reads one value with the field's key before it.
struct Element<'w> {
    field: &'static Field,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, writer } = self;
        match field.kind {
            Kind::Message(message) => {
                writer.key(field, 2);
                writer.with_length(|writer| Object { message, writer }.deserialize(deserializer))
            }
            Kind::Text | Kind::Hex | Kind::Base64 => {
                deserializer.deserialize_str(Text { field, writer })
            }
            kind => {
                writer.key(field, wire_type(kind));
                Scalar { kind, writer }.deserialize(deserializer)
            }
        }
    }
}

fn wire_type(kind: Kind) -> u32 {
    match kind {
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 1,
        Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => 2,
        Kind::Fixed32 => 5,
        Kind::Bool
        | Kind::Enum
        | Kind::Int32
        | Kind::Uint32
        | Kind::Sint32
        | Kind::Int64
        | Kind::Uint64 => 0,
    }
}

/// Reads a string: text, or bytes in their JSON form.
struct Text<'w> {
    field: &'static Field,
    writer: &'w mut Writer,
}

/// proto3's JSON takes both alphabets, with and without padding.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let decoded;
        let bytes = match self.field.kind {
            Kind::Hex => {
                decoded = unhex(text).ok_or_else(|| E::custom("not hexadecimal"))?;
                &decoded
            }
            Kind::Base64 => {
                decoded = BASE64
                    .decode(text)
                    .or_else(|_| BASE64_URL.decode(text))
                    .map_err(|_| E::custom("not base64"))?;
                &decoded
            }
            _ => text.as_bytes(),
        };
        self.writer.bytes(self.field, bytes);
        Ok(())
    }
}

/// Bytes from hexadecimal digits in either case.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let (high, low) = (digit(pair.first()?)?, digit(pair.get(1)?)?);
            u8::try_from(high << 4 | low).ok()
        })
        .collect()
}

/// Reads a number or a bool and writes it without a key.
struct Scalar<'w> {
    kind: Kind,
    writer: &'w mut Writer,
}

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Scalar<'_> {
    fn double(self, number: f64) {
        self.writer.out.extend(number.to_le_bytes());
    }

    fn integer<E: Error>(self, number: i128) -> Result<(), E> {
        let out_of_range = || E::custom("a number out of range");
        let narrow = |_| out_of_range();
        match self.kind {
            Kind::Enum | Kind::Int32 => {
                let number = i32::try_from(number).map_err(narrow)?;
                self.writer.varint(i64::from(number) as u64);
            }
            Kind::Sint32 => {
                let number = i32::try_from(number).map_err(narrow)?;
                self.writer
                    .varint(u64::from(((number << 1) ^ (number >> 31)) as u32));
            }
            Kind::Uint32 => {
                let number = u32::try_from(number).map_err(narrow)?;
                self.writer.varint(u64::from(number));
            }
            Kind::Int64 => {
                let number = i64::try_from(number).map_err(narrow)?;
                self.writer.varint(number as u64);
            }
            Kind::Uint64 => {
                let number = u64::try_from(number).map_err(narrow)?;
                self.writer.varint(number);
            }
            Kind::Fixed32 => {
                let number = u32::try_from(number).map_err(narrow)?;
                self.writer.out.extend(number.to_le_bytes());
            }
            Kind::Fixed64 => {
                let number = u64::try_from(number).map_err(narrow)?;
                self.writer.out.extend(number.to_le_bytes());
            }
            Kind::Sfixed64 => {
                let number = i64::try_from(number).map_err(narrow)?;
                self.writer.out.extend(number.to_le_bytes());
            }
            Kind::Double => self.double(number as f64),
            Kind::Bool | Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => {
                return Err(E::custom("a number where there is none"));
            }
        }
        Ok(())
    }
}

impl Visitor<'_> for Scalar<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or true or false")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.kind {
            Kind::Bool => {
                self.writer.varint(u64::from(value));
                Ok(())
            }
            _ => Err(E::custom("true or false where a number is due")),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.integer(i128::from(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.integer(i128::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if matches!(self.kind, Kind::Double) {
            self.double(number);
            Ok(())
        } else if number.fract() == 0.0 && number.abs() < 1e20 {
            // `1e3` and `1.0` are whole numbers in proto3's JSON.
            self.integer(number as i128)
        } else {
            Err(E::custom("not a whole number"))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.kind {
            Kind::Enum => Err(E::custom("an enum is written as its number")),
            Kind::Double => {
                let number = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => serde_json::from_str(text).map_err(|_| E::custom("not a number"))?,
                };
                self.double(number);
                Ok(())
            }
            _ => match text.parse() {
                Ok(number) if !text.starts_with('+') => self.integer(number),
                _ => Err(E::custom("not a whole number")),
            },
        }
    }
}
