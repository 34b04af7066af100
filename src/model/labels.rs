use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Fingerprint;

/// A set of labels as Prometheus and Alertmanager know them, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

impl Labels {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets `name` to `value`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// All pairs, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// FNV-1a over names and values with 0xff after each, as Prometheus' `common/model` computes it.
    pub fn fingerprint(&self) -> Fingerprint {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash = OFFSET;
        let mut feed = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        for (name, value) in self.iter() {
            name.bytes().for_each(&mut feed);
            feed(0xff);
            value.bytes().for_each(&mut feed);
            feed(0xff);
        }
        Fingerprint(hash)
    }

    /// `key` as a label name: characters outside `[a-zA-Z0-9_]` become `_`, a leading digit is
    /// prefixed with `key_`, and names reserved by Prometheus (`__…`) with `key`.
    pub fn name_from(key: &str) -> String {
        // Room for a prefix, too; whatever is longer in the key becomes one byte.
        let mut name = String::with_capacity(key.len() + 4);
        name.extend(key.chars().map(name_char));
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert_str(0, "key_");
        } else if name.starts_with("__") {
            name.insert_str(0, "key");
        }
        name
    }

    /// Whether `name` is what [`name_from`](Self::name_from) makes of `key`.
    pub fn is_name_from(name: &str, key: &str) -> bool {
        let mut made = key.chars().map(name_char);
        let rest = match (made.next(), made.next()) {
            (Some('0'..='9'), _) => name.strip_prefix("key_"),
            (Some('_'), Some('_')) => name.strip_prefix("key"),
            _ => Some(name),
        };
        rest.is_some_and(|rest| rest.chars().eq(key.chars().map(name_char)))
    }
}

/// A character of a key in a label's name.
fn name_char(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '_' {
        c
    } else {
        '_'
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_known_by_its_key(
            key in "[a1_.é]{0,4}",
            name in "(key)?_?[a1_]{0,4}",
        ) {
            let made = Labels::name_from(&key);
            prop_assert!(Labels::is_name_from(&made, &key));
            prop_assert_eq!(Labels::is_name_from(&name, &key), name == made);
        }
    }
}
