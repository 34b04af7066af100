use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The value of an OpenTelemetry attribute. The type is part of it: the number 1 is not the text "1".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// Text.
    Str(Box<str>),
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Bytes, an array, a map, or no value at all, in their JSON form.
    Json(Box<str>),
}

impl AttributeValue {
    /// The value as a label value or for a person: text as it is, the others in their JSON form.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Str(text) | Self::Json(text) => Cow::Borrowed(text),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Double(number) => Cow::Owned(number.to_string()),
        }
    }

    /// Feeds a form to `hasher` that differs whenever type or value differ.
    fn digest(&self, hasher: &mut Sha256) {
        match self {
            Self::Str(text) => {
                hasher.update([1]);
                digest_text(hasher, text);
            }
            Self::Bool(value) => hasher.update([2, u8::from(*value)]),
            Self::Int(number) => {
                hasher.update([3]);
                hasher.update(number.to_le_bytes());
            }
            Self::Double(number) => {
                hasher.update([4]);
                hasher.update(number.to_bits().to_le_bytes());
            }
            Self::Json(text) => {
                hasher.update([5]);
                digest_text(hasher, text);
            }
        }
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_text())
    }
}

/// Feeds text with its length before it, so that neighbours cannot run into each other.
pub(super) fn digest_text(hasher: &mut Sha256, text: &str) {
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// A set of attributes, sorted by key, each key once. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Attributes(Arc<[(Box<str>, AttributeValue)]>);

impl Attributes {
    /// From pairs in any order. Empty keys are ignored; of a repeated key the last value wins.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Box<str>, AttributeValue)>) -> Self {
        let mut pairs: Vec<_> = pairs
            .into_iter()
            .filter(|(key, _)| !key.is_empty())
            .collect();
        // The sort is stable, so of equal keys the later one stays behind the earlier.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.reverse();
        pairs.dedup_by(|a, b| a.0 == b.0);
        pairs.reverse();
        Self(pairs.into())
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&AttributeValue> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &AttributeValue)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Feeds the set to `hasher`; equal sets feed equal bytes.
    pub(super) fn digest(&self, hasher: &mut Sha256) {
        hasher.update((self.0.len() as u64).to_le_bytes());
        for (key, value) in self.0.iter() {
            digest_text(hasher, key);
            value.digest(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_repeated_key_wins_and_empty_keys_are_ignored() {
        let set = Attributes::from_pairs([
            ("b".into(), AttributeValue::Int(1)),
            ("".into(), AttributeValue::Int(9)),
            ("a".into(), AttributeValue::from("x")),
            ("b".into(), AttributeValue::Int(2)),
        ]);
        assert_eq!(set.len(), 2);
        assert_eq!(set.get("b"), Some(&AttributeValue::Int(2)));
        assert_eq!(set.get("a"), Some(&AttributeValue::from("x")));
        assert_eq!(set.get("c"), None);
    }
}
