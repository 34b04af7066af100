use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: nanoseconds since the Unix epoch, UTC. Arithmetic saturates at the ends of the
/// range (the years 1677 and 2262), so that no input can make it overflow.
///
/// In formats for people (JSON) it is an RFC 3339 string, in others a number.
///
/// Within an `Option` it takes no more room than alone, since there are very many of them: the nanoseconds
/// are kept with their sign turned, which keeps their order, and the one that then is zero is left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64);

/// The sign of an `i64`.
const SIGN: u64 = 1 << 63;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self::from_nanos(0);

    /// From nanoseconds since the epoch. The first of all, `i64::MIN`, becomes the one after it.
    pub const fn from_nanos(nanos: i64) -> Self {
        match NonZeroU64::new(nanos as u64 ^ SIGN) {
            Some(turned) => Self(turned),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// From whole seconds since the epoch.
    pub const fn from_secs(seconds: i64) -> Self {
        Self::from_nanos(seconds.saturating_mul(1_000_000_000))
    }

    /// From seconds with a fraction since the epoch; NaN becomes the epoch.
    pub fn from_secs_f64(seconds: f64) -> Self {
        Self::from_nanos((seconds * 1e9) as i64)
    }

    /// From OTLP's unsigned nanoseconds; `None` for 0 (absent) and for what no `i64` holds.
    pub fn from_otlp(nanos: u64) -> Option<Self> {
        match i64::try_from(nanos) {
            Ok(0) | Err(_) => None,
            Ok(nanos) => Some(Self::from_nanos(nanos)),
        }
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        (self.0.get() ^ SIGN) as i64
    }

    /// Seconds since the epoch, with a fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.as_nanos() as f64 / 1e9
    }

    /// The time from `earlier` to this one; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(
            u64::try_from(self.as_nanos().saturating_sub(earlier.as_nanos())).unwrap_or(0),
        )
    }

    /// Seconds from `earlier` to this one, negative if it is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        match self.as_nanos().checked_sub(earlier.as_nanos()) {
            Some(nanos) => nanos as f64 / 1e9,
            None => (i128::from(self.as_nanos()) - i128::from(earlier.as_nanos())) as f64 / 1e9,
        }
    }

    /// This time and `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self::from_nanos(
            self.as_nanos()
                .saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// This time less `by`.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self::from_nanos(
            self.as_nanos()
                .saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// RFC 3339 in UTC, with as many decimals of the second as there are.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_nanosecond(i128::from(self.as_nanos()))
            .map_or_else(|_| self.as_nanos().to_string(), |t| t.to_string())
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_rfc3339(text: &str) -> Result<Self, String> {
        let parsed: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| e.to_string())?;
        i64::try_from(parsed.as_nanosecond())
            .map(Self::from_nanos)
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
        Ok(Self::from_nanos(i64::try_from(nanos).unwrap_or(nearest)))
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::EPOCH
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.as_nanos()).finish()
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
            serializer.serialize_i64(self.as_nanos())
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            Self::parse_rfc3339(&text).map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self::from_nanos)
        }
    }
}
