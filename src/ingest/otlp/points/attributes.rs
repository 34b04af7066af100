use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::Problem;
use super::known::{Look, Print};
use crate::ingest::otlp::schema::{RESOURCE, SCOPE};
use crate::ingest::otlp::wire::{self, WireError};
use crate::model::{AttributeRef, AttributeValue, Attributes, Reject, Resource, Scope};

/// Most attributes of a point or scope.
pub(super) const MAX_ATTRIBUTES: usize = 64;
/// Most attributes of a resource: it is shared by all series of a process, and agents add labels and
/// annotations of pod and node to it.
const MAX_RESOURCE_ATTRIBUTES: usize = 256;
/// Longest key or value, in bytes; a longer one is cut and its hash added.
const MAX_TEXT: usize = 1024;
/// Most keys of a map that are brought into order, since the order of a map means nothing. A longer
/// map keeps the order it came in: sorting it would cost many times its bytes.
const MAX_SORTED: usize = 1024;

/// The name of a service that does not say its name.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// What was made, or why it was refused.
type Made<T> = Result<Arc<T>, Reject>;

/// The resource in field 1 of an envelope, whose bytes have this print. They are checked, and it is made,
/// only if they are new.
pub(super) fn known_resource(
    envelope: &[u8],
    print: Print,
    look: &mut Look<'_>,
) -> Result<Made<Resource>, WireError> {
    if let Some(resource) = look.resource(print) {
        return Ok(Ok(resource));
    }
    for message in wire::all(envelope, 1) {
        wire::check(message?, &RESOURCE, 2)?;
    }
    let made = reason(resource(envelope))?;
    if let Ok(resource) = &made {
        look.note_resource(print, resource);
    }
    Ok(made)
}

/// The scope in field 1 of an envelope, whose bytes have this print. They are checked, and it is made,
/// only if they are new.
pub(super) fn known_scope(
    envelope: &[u8],
    print: Print,
    look: &mut Look<'_>,
) -> Result<Made<Scope>, WireError> {
    if let Some(scope) = look.scope(print) {
        return Ok(Ok(scope));
    }
    for message in wire::all(envelope, 1) {
        wire::check(message?, &SCOPE, 3)?;
    }
    let made = reason(scope(envelope))?;
    if let Ok(scope) = &made {
        look.note_scope(print, scope);
    }
    Ok(made)
}

/// A refusal as a value; bytes that cannot be read stay an error.
fn reason<T>(made: Result<T, Problem>) -> Result<Result<T, Reject>, WireError> {
    match made {
        Ok(made) => Ok(Ok(made)),
        Err(Problem::Reject(reason)) => Ok(Err(reason)),
        Err(Problem::Wire(error)) => Err(error),
    }
}

/// The resource in field 1 of an envelope.
fn resource(envelope: &[u8]) -> Result<Arc<Resource>, Problem> {
    let mut set = Set::new(MAX_RESOURCE_ATTRIBUTES);
    for resource in wire::all(envelope, 1) {
        for attribute in wire::all(resource?, 1) {
            set.add(attribute?)?;
        }
    }
    let attributes = set.finish()?;
    let service = attributes
        .get("service.name")
        .map(AttributeRef::as_text)
        .filter(|name| !name.is_empty())
        .map_or_else(|| UNKNOWN_SERVICE.into(), Arc::from);
    Ok(Arc::new(Resource {
        service,
        attributes,
    }))
}

/// The scope in field 1 of an envelope.
fn scope(envelope: &[u8]) -> Result<Arc<Scope>, Problem> {
    let (mut name, mut version) = ("", "");
    let mut set = Set::new(MAX_ATTRIBUTES);
    for scope in wire::all(envelope, 1) {
        for field in wire::fields(scope?) {
            match field? {
                (1, value) => name = value.text()?,
                (2, value) => version = value.text()?,
                (3, value) => set.add(value.bytes()?)?,
                _ => {}
            }
        }
    }
    Ok(Arc::new(Scope {
        name: cut(name),
        version: cut(version),
        attributes: set.finish()?,
    }))
}

/// Gathers attributes up to a limit.
pub(super) struct Set {
    pairs: Vec<(Box<str>, AttributeValue)>,
    limit: usize,
    too_many: bool,
}

impl Set {
    /// Takes up to `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            pairs: Vec::new(),
            limit,
            too_many: false,
        }
    }

    /// Adds a `KeyValue`.
    pub(super) fn add(&mut self, key_value: &[u8]) -> Result<(), WireError> {
        if self.pairs.len() == self.limit {
            self.too_many = true;
            return Ok(());
        }
        let (key, any_value) = pair(key_value)?;
        // An empty key is ignored, whatever its value.
        if !key.is_empty() {
            self.pairs.push((cut(key), attribute_value(&any_value)?));
        }
        Ok(())
    }

    /// The set, if it kept to the limit.
    pub(super) fn finish(self) -> Result<Attributes, Reject> {
        if self.too_many {
            Err(Reject::Attributes)
        } else if self.pairs.is_empty() {
            Ok(Attributes::default())
        } else {
            Ok(Attributes::from_pairs(self.pairs))
        }
    }
}

/// Key and `AnyValue` of a `KeyValue`.
fn pair(key_value: &[u8]) -> Result<(&str, Cow<'_, [u8]>), WireError> {
    let (mut key, mut value) = ("", Cow::Borrowed(&[][..]));
    for field in wire::fields(key_value) {
        match field? {
            (1, text) => key = text.text()?,
            (2, any_value) => merge(&mut value, any_value.bytes()?),
            _ => {}
        }
    }
    Ok((key, value))
}

/// Adds another occurrence of one message: protobuf merges them, which is the same as to put their bytes
/// one after the other.
fn merge<'a>(message: &mut Cow<'a, [u8]>, again: &'a [u8]) {
    if message.is_empty() {
        *message = Cow::Borrowed(again);
    } else {
        message.to_mut().extend_from_slice(again);
    }
}

/// The member of a oneof that is set.
enum Member<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Array(Cow<'a, [u8]>),
    Map(Cow<'a, [u8]>),
    Bytes(&'a [u8]),
    None,
}

/// The member that is set: the last one.
fn member(any_value: &[u8]) -> Result<Member<'_>, WireError> {
    let mut last = Member::None;
    for field in wire::fields(any_value) {
        last = match (field?, last) {
            ((1, value), _) => Member::Text(value.text()?),
            ((2, value), _) => Member::Bool(value.number()? != 0),
            ((3, value), _) => Member::Int(value.number()? as i64),
            ((4, value), _) => Member::Double(value.double()?),
            ((5, value), Member::Array(mut array)) => {
                merge(&mut array, value.bytes()?);
                Member::Array(array)
            }
            ((5, value), _) => Member::Array(Cow::Borrowed(value.bytes()?)),
            ((6, value), Member::Map(mut map)) => {
                merge(&mut map, value.bytes()?);
                Member::Map(map)
            }
            ((6, value), _) => Member::Map(Cow::Borrowed(value.bytes()?)),
            ((7, value), _) => Member::Bytes(value.bytes()?),
            // An index into a table that only profiles have: as if nothing were set.
            ((8, _), _) => Member::None,
            (_, last) => last,
        };
    }
    Ok(last)
}

fn attribute_value(any_value: &[u8]) -> Result<AttributeValue, WireError> {
    Ok(match member(any_value)? {
        Member::Text(text) => AttributeValue::Str(cut(text)),
        Member::Bool(value) => AttributeValue::Bool(value),
        Member::Int(number) => AttributeValue::Int(number),
        Member::Double(number) => AttributeValue::Double(number),
        _ => {
            let mut json = Clipped::default();
            write_json(any_value, &mut json)?;
            AttributeValue::Json(json.finish())
        }
    })
}

/// `text`, or its beginning and its hash if it is longer than [`MAX_TEXT`].
pub(super) fn cut(text: &str) -> Box<str> {
    if text.len() <= MAX_TEXT {
        return text.into();
    }
    let mut clipped = Clipped::default();
    clipped.push(text);
    clipped.finish()
}

/// Text that keeps its first [`MAX_TEXT`] bytes, and a hash of all if there were more, so that texts
/// which differ late stay distinct and memory stays bounded while a long one is written.
#[derive(Default)]
struct Clipped {
    text: String,
    rest: Option<Sha256>,
}

impl Clipped {
    fn push(&mut self, text: &str) {
        if let Some(hasher) = &mut self.rest {
            hasher.update(text.as_bytes());
        } else if self.text.len() + text.len() <= MAX_TEXT {
            self.text.push_str(text);
        } else {
            let mut hasher = Sha256::new_with_prefix(self.text.as_bytes());
            hasher.update(text.as_bytes());
            self.rest = Some(hasher);
            let room = MAX_TEXT - self.text.len();
            self.text.push_str(&text[..text.floor_char_boundary(room)]);
        }
    }

    fn finish(mut self) -> Box<str> {
        if let Some(hasher) = self.rest {
            self.text.push('…');
            for byte in hasher.finalize().iter().take(8) {
                self.text.push_str(&format!("{byte:02x}"));
            }
        }
        self.text.into()
    }
}

impl Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// Writes a value in JSON; doubles keep a point or exponent, so that `1.0` differs from `1`. The
/// recursion is as deep as the request, which the check has bounded.
fn write_json(any_value: &[u8], out: &mut Clipped) -> Result<(), WireError> {
    // Writing to `Clipped` cannot fail.
    let ok = |_: fmt::Result| ();
    match member(any_value)? {
        Member::Text(text) => write_text(text, out),
        Member::Bool(value) => out.push(if value { "true" } else { "false" }),
        Member::Int(number) => ok(write!(out, "{number}")),
        Member::Double(number) if number.is_finite() => ok(write!(out, "{number:?}")),
        Member::Double(number) => ok(write!(out, "\"{number}\"")),
        Member::Array(array) => {
            out.push("[");
            for (index, element) in wire::all(&array, 1).enumerate() {
                out.push(if index > 0 { "," } else { "" });
                write_json(element?, out)?;
            }
            out.push("]");
        }
        Member::Map(map) => write_map(&map, out)?,
        Member::Bytes(bytes) => {
            let encoded = Base64Display::new(bytes, &STANDARD);
            ok(write!(out, "\"{encoded}\""));
        }
        Member::None => out.push("null"),
    }
    Ok(())
}

fn write_map(list: &[u8], out: &mut Clipped) -> Result<(), WireError> {
    let mut first = true;
    let mut write_pair = |key: &str, value: &[u8], out: &mut Clipped| {
        out.push(if first { "" } else { "," });
        first = false;
        write_text(key, out);
        out.push(":");
        write_json(value, out)
    };
    out.push("{");
    if wire::all(list, 1).nth(MAX_SORTED).is_some() {
        for key_value in wire::all(list, 1) {
            let (key, value) = pair(key_value?)?;
            write_pair(key, &value, out)?;
        }
    } else {
        let mut pairs = Vec::new();
        for key_value in wire::all(list, 1) {
            pairs.push(pair(key_value?)?);
        }
        // Stable, and the last of a repeated key wins, as for attributes.
        pairs.sort_by_key(|(key, _)| *key);
        pairs.reverse();
        pairs.dedup_by_key(|(key, _)| *key);
        for (key, value) in pairs.iter().rev() {
            write_pair(key, value, out)?;
        }
    }
    out.push("}");
    Ok(())
}

fn write_text(text: &str, out: &mut Clipped) {
    out.push("\"");
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
        let (plain, tail) = rest.split_at(at);
        out.push(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some('"') => out.push("\\\""),
            Some('\\') => out.push("\\\\"),
            Some('\n') => out.push("\\n"),
            Some('\r') => out.push("\\r"),
            Some('\t') => out.push("\\t"),
            Some(control) => out.push(&format!("\\u{:04x}", u32::from(control))),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push(rest);
    out.push("\"");
}
