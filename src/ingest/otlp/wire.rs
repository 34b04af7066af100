//! The protobuf wire format, read from borrowed bytes. Nothing is allocated: memory follows what a
//! request says and not how it is cut up. (Decoding into structs turns each empty two-byte message
//! into a hundred bytes or more, so that 64 MiB of them would become gigabytes.)

use crate::ingest::otlp::schema::{Field, KEY_VALUE, Kind, Message};

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A length or a number reaches beyond the end.
    #[error("the message is cut short")]
    Truncated,
    /// More than 64 bits.
    #[error("a number does not fit 64 bits")]
    Varint,
    /// 0, or beyond 32 bits.
    #[error("a field has an impossible number")]
    Number,
    /// Not one of the six, or not the one that the field has.
    #[error("a field has the wrong wire type")]
    WireType,
    /// A group that does not end, or an end without a group.
    #[error("a group is not closed")]
    Group,
    /// Text that is not UTF-8.
    #[error("a text is not valid UTF-8")]
    Utf8,
    /// More than [`MAX_DEPTH`] messages in each other.
    #[error("messages are nested too deep")]
    Depth,
}

/// How deep messages and groups may nest; the limit of prost and of protobuf's own libraries.
const MAX_DEPTH: u32 = 100;

/// One value as the wire has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// A varint.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Begins a group: old, unused by OTLP, still to be skipped.
    GroupStart,
    /// Ends a group.
    GroupEnd,
    /// Four bytes.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// As text. The check has seen to UTF-8 already.
    pub(crate) fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Utf8)
    }

    /// As bytes.
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::WireType),
        }
    }

    /// As a number of 64 bits, whichever way it was written.
    pub(crate) fn number(self) -> Result<u64, WireError> {
        match self {
            Self::Varint(number) | Self::Fixed64(number) => Ok(number),
            Self::Fixed32(number) => Ok(u64::from(number)),
            _ => Err(WireError::WireType),
        }
    }

    /// As a number of 32 bits; protobuf cuts what is longer.
    pub(crate) fn int32(self) -> Result<i32, WireError> {
        Ok(self.number()? as i32)
    }

    /// As a zigzag number.
    pub(crate) fn sint32(self) -> Result<i32, WireError> {
        let number = self.number()? as u32;
        Ok(((number >> 1) as i32) ^ -((number & 1) as i32))
    }

    /// As a double.
    pub(crate) fn double(self) -> Result<f64, WireError> {
        Ok(f64::from_bits(self.number()?))
    }
}

/// Reads values one after another.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next varint.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            // Tags, lengths and most numbers are one byte.
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0_u64;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            // The tenth byte has room for one bit.
            if index == 9 && *byte > 1 {
                return Err(WireError::Varint);
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(if self.rest.len() < 10 {
            WireError::Truncated
        } else {
            WireError::Varint
        })
    }

    /// The bytes that are not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Skips `tag`, which takes one byte, if it comes next.
    #[inline(always)]
    pub(crate) fn skip_tag(&mut self, tag: u8) -> bool {
        match self.rest {
            [byte, rest @ ..] if *byte == tag => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// The next text, bytes or message: a length and so many bytes.
    #[inline(always)]
    pub(crate) fn chunk(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.varint()?;
        self.take(length)
    }

    #[inline(always)]
    fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next field; `None` at the end.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| WireError::Number)?;
        let number = key >> 3;
        if number == 0 {
            return Err(WireError::Number);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Value::Bytes(self.chunk()?),
            3 => Value::GroupStart,
            4 => Value::GroupEnd,
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(WireError::WireType),
        };
        Ok(Some((number, value)))
    }
}

/// The fields of a message without its groups.
pub(crate) struct Fields<'a> {
    reader: Reader<'a>,
}

/// Reads the fields of `message`, which [`check`] has accepted.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields {
        reader: Reader::new(message),
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut open_groups = 0_usize;
        loop {
            match self.reader.next() {
                Ok(Some((_, Value::GroupStart))) => open_groups += 1,
                Ok(Some((_, Value::GroupEnd))) => open_groups = open_groups.saturating_sub(1),
                Ok(Some(_)) if open_groups > 0 => {}
                Ok(field) => return field.map(Ok),
                Err(error) => {
                    // What cannot be read ends the message, so that no caller can loop on it.
                    self.reader.rest = &[];
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The messages (or texts) in field `number` of `message`.
pub(crate) fn all(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], WireError>> {
    fields(message).filter_map(move |field| match field {
        Ok((found, value)) if found == number => Some(value.bytes()),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Whether `bytes` are a `message` in every part, those included that nobody reads: wire types,
/// lengths, UTF-8 and depth. `level`: so many messages are around it. Accepts exactly what prost accepts,
/// as a property test says.
pub(crate) fn check(bytes: &[u8], message: &'static Message, level: u32) -> Result<(), WireError> {
    check_message(bytes, message, MAX_DEPTH.saturating_sub(level))
}

/// Whether a field is sound whose message has `level` others around it: one of the table, or one that is
/// unknown, whose groups are read to their end.
pub(crate) fn check_field(
    reader: &mut Reader<'_>,
    message: &'static Message,
    number: u32,
    value: Value<'_>,
    level: u32,
) -> Result<(), WireError> {
    let depth = MAX_DEPTH.saturating_sub(level);
    match message.field(number) {
        Some(field) => check_value(field, value, depth),
        None => skip(reader, number, value, depth),
    }
}

fn check_message(bytes: &[u8], message: &'static Message, depth: u32) -> Result<(), WireError> {
    // Its value is one message deeper.
    if depth > 0 && std::ptr::eq(message, &KEY_VALUE) && is_plain(bytes) {
        return Ok(());
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.next()? {
        match message.field(number) {
            Some(field) => check_value(field, value, depth)?,
            None => skip(&mut reader, number, value, depth)?,
        }
    }
    Ok(())
}

/// Whether `bytes` are a `KeyValue` as every client writes one: a key and a plain value, both valid. What
/// is not may still be sound, which takes longer to tell.
fn is_plain(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let mut parts = || -> Result<bool, WireError> {
        if !reader.skip_tag(KEY_TAG) || !is_text(reader.chunk()?) || !reader.skip_tag(VALUE_TAG) {
            return Ok(false);
        }
        let mut value = Reader::new(reader.chunk()?);
        let sound = if value.skip_tag(TEXT_TAG) {
            is_text(value.chunk()?)
        } else {
            // A truth or a number.
            (value.skip_tag(BOOL_TAG) || value.skip_tag(INT_TAG)) && value.varint().is_ok()
        };
        Ok(sound && value.is_empty())
    };
    parts().unwrap_or(false) && reader.is_empty()
}

/// `KeyValue.key` and `.value`; `AnyValue.string_value`, `.bool_value` and `.int_value`.
const KEY_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;
const TEXT_TAG: u8 = 0x0a;
const BOOL_TAG: u8 = 0x10;
const INT_TAG: u8 = 0x18;

#[inline]
fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// `bytes` if they are a text.
pub(crate) fn checked_text(bytes: &[u8]) -> Result<&[u8], WireError> {
    is_text(bytes).then_some(bytes).ok_or(WireError::Utf8)
}

fn check_value(field: &'static Field, value: Value<'_>, depth: u32) -> Result<(), WireError> {
    match (field.kind, value) {
        (Kind::Text, Value::Bytes(bytes)) => checked_text(bytes).map(drop),
        (Kind::Hex | Kind::Base64, Value::Bytes(_))
        | (Kind::Fixed32, Value::Fixed32(_))
        | (Kind::Fixed64 | Kind::Sfixed64 | Kind::Double, Value::Fixed64(_)) => Ok(()),
        (Kind::Message(inner), Value::Bytes(bytes)) => {
            check_message(bytes, inner, depth.checked_sub(1).ok_or(WireError::Depth)?)
        }
        (
            Kind::Bool
            | Kind::Enum
            | Kind::Int32
            | Kind::Uint32
            | Kind::Sint32
            | Kind::Int64
            | Kind::Uint64,
            Value::Varint(_),
        ) => Ok(()),
        (Kind::Fixed64 | Kind::Sfixed64 | Kind::Double, Value::Bytes(bytes)) if field.repeated => {
            (bytes.len() % 8 == 0)
                .then_some(())
                .ok_or(WireError::Truncated)
        }
        (Kind::Int64 | Kind::Uint64, Value::Bytes(bytes)) if field.repeated => {
            let mut packed = Reader::new(bytes);
            while !packed.is_empty() {
                packed.varint()?;
            }
            Ok(())
        }
        _ => Err(WireError::WireType),
    }
}

/// Skips an unknown field; only groups have more to them than has been read.
fn skip(
    reader: &mut Reader<'_>,
    number: u32,
    value: Value<'_>,
    depth: u32,
) -> Result<(), WireError> {
    let depth = depth.checked_sub(1).ok_or(WireError::Depth)?;
    match value {
        Value::GroupStart => loop {
            match reader.next()?.ok_or(WireError::Truncated)? {
                (inner, Value::GroupEnd) if inner == number => return Ok(()),
                (_, Value::GroupEnd) => return Err(WireError::Group),
                (inner, value) => skip(reader, inner, value, depth)?,
            }
        },
        Value::GroupEnd => Err(WireError::Group),
        Value::Varint(_) | Value::Fixed64(_) | Value::Bytes(_) | Value::Fixed32(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::otlp::schema::METRICS_REQUEST;

    #[track_caller]
    fn refused(bytes: &[u8], expected: WireError) {
        assert_eq!(check(bytes, &METRICS_REQUEST, 0), Err(expected));
    }

    #[test]
    fn broken_bytes_are_refused() {
        // Length beyond the end, of the message and of a message within it.
        refused(&[0x0a, 0x05, 0x0a], WireError::Truncated);
        refused(&[0x0a, 0x02, 0x0a, 0x05], WireError::Truncated);
        refused(&[0x0a], WireError::Truncated);
        // Length of almost 2^64.
        refused(
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            WireError::Truncated,
        );
        // A varint of eleven bytes, and one of ten that overflows.
        refused(
            &[
                0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1,
            ],
            WireError::Varint,
        );
        refused(
            &[
                0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2,
            ],
            WireError::Varint,
        );
        refused(&[0x00, 0x01], WireError::Number);
        refused(&[0x80, 0x80, 0x80, 0x80, 0x10, 0x01], WireError::Number);
        // resource_metrics as a varint; wire types 6 and 7.
        refused(&[0x08, 0x01], WireError::WireType);
        refused(&[0x16], WireError::WireType);
        refused(&[0x17], WireError::WireType);
        // Groups: without end, without start, closed by another number.
        refused(&[0x13], WireError::Truncated);
        refused(&[0x14], WireError::Group);
        refused(&[0x13, 0x1c], WireError::Group);
        // schema_url that is not UTF-8.
        refused(&[0x0a, 0x03, 0x1a, 0x01, 0xff], WireError::Utf8);
    }

    #[test]
    fn unknown_fields_and_groups_are_skipped() {
        let bytes = [
            0x12, 0x01, 0xff, // unknown bytes
            0x1b, 0x0a, 0x01, 0xff, 0x1c, // a group with a field 1 in it
            0x20, 0x01, // a number
            0x0a, 0x00, // resource_metrics
        ];
        assert_eq!(check(&bytes, &METRICS_REQUEST, 0), Ok(()));
        let found: Vec<_> = all(&bytes, 1).map(Result::unwrap).collect();
        assert_eq!(found, [b""]);
    }

    #[test]
    fn endless_groups_do_not_reach_the_stack() {
        refused(&[0x13; 100_000], WireError::Depth);
    }
}
