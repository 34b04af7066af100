use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::packed::{self, Reader};

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
    /// The same value, borrowed.
    pub fn as_ref(&self) -> AttributeRef<'_> {
        match self {
            Self::Str(text) => AttributeRef::Str(text),
            Self::Bool(value) => AttributeRef::Bool(*value),
            Self::Int(number) => AttributeRef::Int(*number),
            Self::Double(number) => AttributeRef::Double(*number),
            Self::Json(text) => AttributeRef::Json(text),
        }
    }

    /// See [`AttributeRef::as_text`].
    pub fn as_text(&self) -> Cow<'_, str> {
        self.as_ref().as_text()
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// An [`AttributeValue`] as it stands in a set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum AttributeRef<'a> {
    /// Text.
    Str(&'a str),
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Bytes, an array, a map, or no value at all, in their JSON form.
    Json(&'a str),
}

impl<'a> AttributeRef<'a> {
    /// The value as a label value or for a person: text as it is, the others in their JSON form.
    pub fn as_text(self) -> Cow<'a, str> {
        match self {
            Self::Str(text) | Self::Json(text) => Cow::Borrowed(text),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Double(number) => Cow::Owned(number.to_string()),
        }
    }

    /// Feeds a form to `hasher` that differs whenever type or value differ.
    fn digest(self, hasher: &mut Sha256) {
        match self {
            Self::Str(text) => {
                hasher.update([1]);
                digest_text(hasher, text);
            }
            Self::Bool(value) => hasher.update([2, u8::from(value)]),
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

impl<'a> From<&'a str> for AttributeRef<'a> {
    fn from(text: &'a str) -> Self {
        Self::Str(text)
    }
}

impl fmt::Display for AttributeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_text())
    }
}

/// Feeds text with its length before it, so that neighbours cannot run into each other.
pub(super) fn digest_text(hasher: &mut Sha256, text: &str) {
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// The keys of a set, in order: their number, then each behind its length. Most series of a metric have
/// the same, so whoever keeps many sets keeps these once.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AttributeKeys(Box<str>);

impl AttributeKeys {
    /// About how much memory they take.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.0.len()
    }

    /// `packed` if it is what one of these consists of: at least one key, each greater than the one before.
    fn checked(packed: &str) -> Option<Self> {
        let mut keys = Reader::new(packed);
        let (mut count, mut before) = (0, "");
        let claimed = keys.number();
        while !keys.is_at_end() {
            let key = keys.text();
            if key <= before {
                return None;
            }
            before = key;
            count += 1;
        }
        (count > 0 && count == claimed).then(|| Self(packed.into()))
    }

    fn len(&self) -> usize {
        Reader::new(&self.0).number() as usize
    }
}

/// In its packed form.
impl Serialize for AttributeKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AttributeKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let packed = Cow::<str>::deserialize(deserializer)?;
        Self::checked(&packed).ok_or_else(|| D::Error::custom("no keys of attributes"))
    }
}

/// A set of attributes, sorted by key, each key once; keys and values are packed, so that a set costs
/// two allocations however many there are, and one where its keys are shared. Cheap to clone.
///
/// Sets are equal whose types and values are the same to the bit, as [`SeriesIdentity::id`] has it.
///
/// [`SeriesIdentity::id`]: super::SeriesIdentity::id
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Attributes {
    /// `None` of an empty set.
    keys: Option<Arc<AttributeKeys>>,
    /// In the order of the keys.
    values: Arc<str>,
}

impl Attributes {
    /// From pairs in any order. Empty keys are ignored; of a repeated key the last value wins.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Box<str>, AttributeValue)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let mut refs: Vec<_> = pairs.iter().map(|(k, v)| (&**k, v.as_ref())).collect();
        Self::from_refs(&mut refs)
    }

    /// The same from what somebody else owns; `pairs` is left in an order of its own.
    pub fn from_refs(pairs: &mut [(&str, AttributeRef<'_>)]) -> Self {
        // The sort is stable, so of equal keys the later one stays behind the earlier.
        pairs.sort_by_key(|(key, _)| *key);
        let kept = |at: usize, key: &str| {
            !key.is_empty() && pairs.get(at + 1).is_none_or(|(next, _)| *next != key)
        };
        let kept = || {
            let all = pairs.iter().enumerate();
            all.filter(|(at, (key, _))| kept(*at, key)).map(|(_, p)| *p)
        };
        let count = kept().count();
        if count == 0 {
            return Self::default();
        }
        let (mut keys, mut values) = (String::new(), String::new());
        packed::push_number(&mut keys, count as u64);
        for (key, value) in kept() {
            packed::push_text(&mut keys, key);
            packed::push_value(&mut values, value);
        }
        Self {
            keys: Some(Arc::new(AttributeKeys(keys.into()))),
            values: values.into(),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<AttributeRef<'_>> {
        // Keys are in order, but to look at one costs less than to find the middle.
        self.iter()
            .find_map(|(found, value)| (found == key).then_some(value))
    }

    /// All pairs, by key.
    pub fn iter(&self) -> AttributesIter<'_> {
        let mut keys = Reader::new(self.keys.as_ref().map_or("", |keys| &keys.0));
        AttributesIter {
            left: keys.number() as usize,
            keys,
            values: Reader::new(&self.values),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_none()
    }

    /// About how much memory the values take; the keys are shared by many sets.
    pub fn bytes(&self) -> usize {
        // The counts of an `Arc` stand before its content.
        match self.keys {
            Some(_) => 2 * size_of::<usize>() + self.values.len(),
            None => 0,
        }
    }

    /// The keys, and the values in their packed form: for whoever keeps keys apart. `None` of an empty set.
    pub fn parts(&self) -> Option<(&Arc<AttributeKeys>, &str)> {
        Some((self.keys.as_ref()?, &self.values))
    }

    /// The set of these [`parts`](Self::parts); `None` if the values are none for the keys.
    pub fn from_parts(keys: Arc<AttributeKeys>, values: &str) -> Option<Self> {
        let mut reader = Reader::new(values);
        for _ in 0..keys.len() {
            if reader.is_at_end() {
                return None;
            }
            reader.value();
        }
        reader.is_at_end().then(|| Self {
            keys: Some(keys),
            values: values.into(),
        })
    }

    /// The keys, to be replaced by equal ones that others have, too; `None` of an empty set.
    pub fn keys_mut(&mut self) -> Option<&mut Arc<AttributeKeys>> {
        self.keys.as_mut()
    }

    /// Feeds the set to `hasher`; equal sets feed equal bytes.
    pub(super) fn digest(&self, hasher: &mut Sha256) {
        hasher.update((self.len() as u64).to_le_bytes());
        for (key, value) in self.iter() {
            digest_text(hasher, key);
            value.digest(hasher);
        }
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = (&'a str, AttributeRef<'a>);
    type IntoIter = AttributesIter<'a>;

    fn into_iter(self) -> AttributesIter<'a> {
        self.iter()
    }
}

/// See [`Attributes::iter`].
#[derive(Debug, Clone)]
pub struct AttributesIter<'a> {
    left: usize,
    keys: Reader<'a>,
    values: Reader<'a>,
}

impl<'a> Iterator for AttributesIter<'a> {
    type Item = (&'a str, AttributeRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.keys.text(), self.values.value()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for AttributesIter<'_> {}

/// As a list of pairs.
impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from_pairs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(set.get("b"), Some(AttributeRef::Int(2)));
        assert_eq!(set.get("a"), Some(AttributeRef::Str("x")));
        assert_eq!(set.get("c"), None);
        let empty = Attributes::from_pairs([("".into(), AttributeValue::Int(9))]);
        assert_eq!((empty.len(), empty.is_empty()), (0, true));
        assert_eq!(empty, Attributes::default());
    }

    #[test]
    fn sets_are_equal_to_the_bit() {
        let of = |number| Attributes::from_pairs([("x".into(), AttributeValue::Double(number))]);
        assert_eq!(of(f64::NAN), of(f64::NAN));
        assert_ne!(of(0.0), of(-0.0));
        let one = Attributes::from_pairs([("x".into(), AttributeValue::Int(1))]);
        assert_ne!(one, of(1.0));
    }

    fn values() -> impl Strategy<Value = AttributeValue> {
        prop_oneof![
            ".{0,8}".prop_map(|text| AttributeValue::Str(text.into())),
            "[ä-ü]{50,200}".prop_map(|text| AttributeValue::Str(text.into())),
            any::<bool>().prop_map(AttributeValue::Bool),
            any::<i64>().prop_map(AttributeValue::Int),
            (-300..300_i64).prop_map(AttributeValue::Int),
            any::<u64>().prop_map(|bits| AttributeValue::Double(f64::from_bits(bits))),
            ".{0,300}".prop_map(|text| AttributeValue::Json(text.into())),
        ]
    }

    proptest! {
        #[test]
        fn a_set_is_a_sorted_map(pairs in prop::collection::vec(("[a-dä]{0,2}|k{60,200}", values()), 0..70)) {
            let set = Attributes::from_pairs(pairs.iter().map(|(k, v)| (k.as_str().into(), v.clone())));
            let model: std::collections::BTreeMap<&str, &AttributeValue> = pairs
                .iter()
                .filter(|(key, _)| !key.is_empty())
                .map(|(key, value)| (key.as_str(), value))
                .collect();
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            let bits = |value: AttributeRef<'_>| match value {
                AttributeRef::Double(number) => format!("{:x}", number.to_bits()),
                other => format!("{other:?}"),
            };
            for ((key, value), (wanted_key, wanted)) in set.iter().zip(&model) {
                prop_assert_eq!(key, *wanted_key);
                prop_assert_eq!(bits(value), bits(wanted.as_ref()));
                prop_assert_eq!(set.get(key).map(bits), Some(bits(value)));
            }
            prop_assert_eq!(set.get("e"), None);
            let bytes = postcard::to_allocvec(&set).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Attributes>(&bytes).unwrap(), set.clone());
            let mut turned: Vec<_> = model.iter().map(|(k, v)| (*k, v.as_ref())).rev().collect();
            prop_assert_eq!(Attributes::from_refs(&mut turned), set);
        }
    }
}
