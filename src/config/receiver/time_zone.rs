//! Time zones by their names.

use std::fmt;
use std::str::FromStr;

use crate::config::decode::BadText;
use crate::config::units::as_text;

/// A time zone by its name in the IANA database: `Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone(jiff::tz::TimeZone);

impl TimeZone {
    /// The zone.
    pub fn zone(&self) -> &jiff::tz::TimeZone {
        &self.0
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

impl FromStr for TimeZone {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        if text == "UTC" {
            return Ok(Self::default());
        }
        let zone = jiff::tz::TimeZone::get(text);
        zone.map(Self).map_err(|_| {
            BadText::new("expected a time zone such as Europe/Berlin")
                .hint("names are those of the IANA database; `UTC` is one")
        })
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

as_text!(TimeZone, "TimeZone", "a time zone such as Europe/Berlin", { "type": "string" });
