//! OTLP's JSON, turned into the wire form as it is read, so that both encodings go through one reader
//! and give the same series. Section 3 of the protocol's specification says where it differs from
//! proto3's JSON: ids in hexadecimal, enums as integers only, keys in lowerCamelCase only.
//!
//! No tree is built. Memory is the wire form, which [`to_wire`] bounds: only arrays of short numbers
//! grow at all when written as doubles.

mod scalar;

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::ingest::otlp::schema::{Field, Kind, MAX_NUMBER, Message};
use scalar::{Scalar, Text};

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
