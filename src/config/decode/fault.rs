//! Why something cannot be read, and how a setting's own reader says so through serde.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Expected, Unexpected, Visitor};

use crate::config::diagnostic::{Position, suggest};
use crate::config::yaml::{Key, Node, NodeId, Value};

/// Why a node cannot be read. Boxed, since it travels through every `Result` of the decoder.
#[derive(Debug)]
pub(super) struct Fault(pub(super) Box<FaultBody>);

#[derive(Debug)]
pub(super) struct FaultBody {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Column inside the scalar's text.
    pub(super) column: Option<usize>,
    /// Whether to add what was found instead.
    pub(super) tell_found: bool,
    pub(super) place: Option<Place>,
    /// The required key that is missing.
    pub(super) missing: Option<&'static str>,
    /// It only follows from a mistake that is known already.
    pub(super) consequence: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) id: NodeId,
    pub(super) at: Position,
}

/// What a setting's own reader may say of a text that it does not take. It passes through serde as
/// text, so it is packed into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadText {
    /// What is wrong. If it begins with `expected`, what was found is added, as the file has it.
    pub(in crate::config) message: String,
    /// What to do about it.
    pub(in crate::config) hint: Option<String>,
    /// Where in the text, in characters from 1.
    pub(in crate::config) column: Option<usize>,
    /// Whether the text may be shown.
    pub(in crate::config) private: bool,
}

/// Separates the parts of a packed [`BadText`].
const SEPARATOR: char = '\u{1f}';

impl BadText {
    /// Something is wrong, and nothing more to say.
    pub(in crate::config) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            column: None,
            private: false,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub(in crate::config) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for BadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

struct Packed<'a>(&'a BadText);

impl fmt::Display for Packed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadText {
            message,
            hint,
            column,
            private,
        } = self.0;
        let hint = hint.as_deref().unwrap_or_default();
        let column = column.unwrap_or(0);
        let s = SEPARATOR;
        write!(f, "{message}{s}{hint}{s}{column}{s}{private}")
    }
}

/// Reads a text by its `FromStr`; `expected` completes the sentence "expected …" for anything that is
/// no text.
pub(in crate::config) fn from_text<'de, T, D>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error>
where
    T: FromStr<Err = BadText>,
    D: Deserializer<'de>,
{
    struct TextVisitor<T>(&'static str, PhantomData<T>);

    impl<T: FromStr<Err = BadText>> Visitor<'_> for TextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(|bad| E::custom(Packed(&bad)))
        }
    }
    deserializer.deserialize_str(TextVisitor(expected, PhantomData))
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(FaultBody {
            tell_found: message.starts_with("expected"),
            message,
            hint: None,
            column: None,
            place: None,
            missing: None,
            consequence: false,
        }))
    }

    /// Names the place, unless a node further inside has done so.
    pub(super) fn or_at(mut self, node: &Node) -> Self {
        let fault = &mut self.0;
        if fault.place.is_some() {
            return self;
        }
        fault.place = Some(Place {
            id: node.id,
            at: node.at,
        });
        if fault.tell_found {
            match &node.value {
                // A key without a value is as good as no key: its default holds. Where it is
                // required, that is said of the mapping.
                Value::Null => fault.consequence = true,
                Value::Scalar(scalar) => {
                    fault.message.push_str(&format!(", found `{}`", scalar.raw));
                    let quoted = !scalar.plain && !scalar.substituted;
                    if fault.hint.is_none() && quoted && scalar.text.parse::<f64>().is_ok() {
                        fault.hint = Some("leave out the quotes".into());
                    }
                }
                Value::List(_) => fault.message.push_str(", found a list"),
                Value::Map(_) => fault.message.push_str(", found a mapping"),
            }
        }
        self
    }

    pub(super) fn or_at_key(mut self, key: &Key) -> Self {
        self.0.place.get_or_insert(Place {
            id: key.id,
            at: key.at,
        });
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let mut parts = text.split(SEPARATOR);
        let mut fault = Self::new(parts.next().unwrap_or_default());
        fault.0.hint = parts.next().filter(|hint| !hint.is_empty()).map(Into::into);
        fault.0.column = parts.next().and_then(|c| c.parse().ok()).filter(|c| *c > 0);
        fault.0.tell_found &= parts.next() != Some("true");
        fault
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}", in_words(&expected.to_string())))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let mut fault = Self::new(format!("unknown key `{field}`"));
        fault.0.hint = Some(
            later(field).map_or_else(|| suggest(field, known.iter().copied(), "keys"), Into::into),
        );
        fault
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let mut fault = Self::new(format!("expected one of {}", known.join(", ")));
        fault.0.hint = Some(suggest(variant, known.iter().copied(), "values"));
        fault
    }

    fn missing_field(field: &'static str) -> Self {
        let mut fault = Self::new(format!("the key `{field}` is missing"));
        fault.0.missing = Some(field);
        fault
    }
}

/// Keys of Alertmanager that people will try and that are not there yet.
fn later(key: &str) -> Option<&'static str> {
    match key {
        "telegram_configs" | "discord_configs" | "sns_configs" | "pushover_configs"
        | "victorops_configs" | "webex_configs" | "wechat_configs" => {
            Some("not supported; `webhook_configs` with a `payload` of your own reaches most")
        }
        "service_key" | "service_key_file" => {
            Some("only the Events API v2 is spoken: make an integration key for it, `routing_key`")
        }
        _ => None,
    }
}

/// What Rust's types are called for people.
fn in_words(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "u64" | "usize" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        "a string" => "a text".into(),
        other if other.starts_with("struct ") => "a mapping of settings".into(),
        other => other.into(),
    }
}
