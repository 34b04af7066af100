use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: nanoseconds since the Unix epoch, UTC. Arithmetic saturates at the ends of the
/// range (the years 1677 and 2262), so that no input can make it overflow.
///
/// In formats for people (JSON) it is an RFC 3339 string, in others a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// From seconds with a fraction since the epoch; NaN becomes the epoch.
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self((seconds * 1e9) as i64)
    }

    /// From OTLP's unsigned nanoseconds; `None` for 0 (absent) and for what no `i64` holds.
    pub fn from_otlp(nanos: u64) -> Option<Self> {
        match i64::try_from(nanos) {
            Ok(0) | Err(_) => None,
            Ok(nanos) => Some(Self(nanos)),
        }
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, with a fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The time from `earlier` to this one; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Seconds from `earlier` to this one, negative if it is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        match self.0.checked_sub(earlier.0) {
            Some(nanos) => nanos as f64 / 1e9,
            None => (i128::from(self.0) - i128::from(earlier.0)) as f64 / 1e9,
        }
    }

    /// This time and `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// This time less `by`.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// RFC 3339 in UTC, with as many decimals of the second as there are.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_nanosecond(i128::from(self.0))
            .map_or_else(|_| self.0.to_string(), |t| t.to_string())
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_rfc3339(text: &str) -> Result<Self, String> {
        let parsed: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| e.to_string())?;
        i64::try_from(parsed.as_nanosecond())
            .map(Self)
            .map_err(|_| format!("{text} is out of range"))
    }
}

impl Timestamp {
    /// Reads RFC 3339, and takes a time out of range for the end of the range that is nearest. Other
    /// programs write their zero time, which is in the year 1, for none.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_saturating(text: &str) -> Result<Self, String> {
        let parsed: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| e.to_string())?;
        let nanos = parsed.as_nanosecond();
        let nearest = if nanos < 0 { i64::MIN } else { i64::MAX };
        Ok(Self(i64::try_from(nanos).unwrap_or(nearest)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.rfc3339())
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse_rfc3339(&text).map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}
