//! Strings, numbers and bools in OTLP's JSON.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::Writer;
use crate::ingest::otlp::schema::{Field, Kind};

/// Reads a string: text, or bytes in their JSON form.
pub(super) struct Text<'w> {
    pub(super) field: &'static Field,
    pub(super) writer: &'w mut Writer,
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
pub(super) struct Scalar<'w> {
    pub(super) kind: Kind,
    pub(super) writer: &'w mut Writer,
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
