//! Why an alert that fires is not notified: silences that people set, alerts that explain it better, and
//! times at which nobody wants to hear of it.
//!
//! In: labels of alerts, and the time. Out: [`Muted`]. It decides nothing else: `dispatch` asks when it is
//! about to notify, and keeps what is muted for a later flush.
//!
//! What always holds: nothing here changes an alert; what is muted still fires, still flips modes and is
//! still shown.

mod inhibit;
mod silence;
mod time_interval;

pub use inhibit::{InhibitRule, Inhibitor};
pub use silence::{
    Condition, Draft, Silence, SilenceError, SilenceSettings, SilenceState, Silences, comparison,
    is_label_name,
};
pub use time_interval::{Span, TimeInterval};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{Fingerprint, Labels, Timestamp};

/// Identifies a silence: a UUID, shown as `8-4-4-4-12` hexadecimal digits, as in Alertmanager.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SilenceId(pub u128);

impl SilenceId {
    /// An id from 128 random bits: a UUID of version 4, as RFC 9562 section 5.4 lays it out.
    pub fn from_random(bits: u128) -> Self {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        Self(bits & !VERSION & !VARIANT | 4 << 76 | 0b10 << 62)
    }
}

/// Why one alert is not notified now. Empty: it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Muted {
    /// The active silences that match it, sorted.
    pub silenced_by: Vec<SilenceId>,
    /// The firing alerts that inhibit it, sorted: one for each rule that does.
    pub inhibited_by: Vec<Fingerprint>,
    /// The time intervals in which its route is mute (or outside of all of which it is), by name. In
    /// Alertmanager this belongs to a group, not to an alert.
    pub muted_by: Vec<String>,
}

/// Knows which alerts are silenced.
pub trait Silencer {
    /// The silences active at `now` that match an alert with these labels, sorted.
    fn silenced_by(&self, labels: &Labels, now: Timestamp) -> Vec<SilenceId>;
}

/// Nothing is silenced.
impl Silencer for () {
    fn silenced_by(&self, _: &Labels, _: Timestamp) -> Vec<SilenceId> {
        Vec::new()
    }
}

impl Muted {
    /// Whether nothing mutes it.
    pub fn is_empty(&self) -> bool {
        self.silenced_by.is_empty() && self.inhibited_by.is_empty() && self.muted_by.is_empty()
    }
}

impl fmt::Display for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let mut rest = digits.as_str();
        for length in [8, 4, 4, 4] {
            let (part, after) = rest.split_at(length);
            write!(f, "{part}-")?;
            rest = after;
        }
        f.write_str(rest)
    }
}

impl fmt::Debug for SilenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SilenceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not the id of a silence: a UUID");
        let lengths: Vec<_> = text.split('-').map(str::len).collect();
        let digits = text.replace('-', "");
        if lengths != [8, 4, 4, 4, 12] || digits.starts_with('+') {
            return Err(wrong());
        }
        u128::from_str_radix(&digits, 16)
            .map(Self)
            .map_err(|_| wrong())
    }
}

impl Serialize for SilenceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SilenceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_of_version_4() {
        let id = |bits| SilenceId::from_random(bits).to_string();
        assert_eq!(id(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(id(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn ids_are_uuids() {
        let text = "0d5a6eb2-0c1f-4d38-9f06-000000000abc";
        let id: SilenceId = text.parse().expect("a UUID");
        assert_eq!(id.to_string(), text);
        for wrong in [
            "",
            "0d5a6eb20c1f4d389f06000000000abc",
            "0d5a6eb2-0c1f-4d38-9f06-000000000abg",
            "+d5a6eb2-0c1f-4d38-9f06-000000000abc",
            "0d5a6eb2-0c1f-4d38-9f06-000000000abc0",
        ] {
            assert!(wrong.parse::<SilenceId>().is_err(), "{wrong}");
        }
    }
}
