//! How many may be away from normal at once.

use std::fmt;
use std::str::FromStr;

use crate::config::decode::BadText;
use crate::config::units::{Share, as_text};

/// How many services of a group may be away from normal at once: so many, or such a share of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowance {
    /// So many services.
    Count(u32),
    /// A share of those that are known.
    Share(Share),
}

impl FromStr for Allowance {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        text.parse().map(Self::Share).map_err(|bad: BadText| {
            let hint = bad
                .hint
                .unwrap_or_else(|| "a number is one of services".into());
            BadText::new("expected a number of services or a share such as 50%").hint(hint)
        })
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            // `1` would be read as one service.
            Self::Share(share) => share.fmt(f),
        }
    }
}

as_text!(Allowance, "Allowance", "a number of services or a share such as 50%", {
    "type": ["string", "number"],
    "pattern": "^([0-9]+|[0-9]+([.][0-9]+)? *%)$",
    "minimum": 0
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_of_services_or_a_share() {
        for (text, expected) in [
            ("1", Some("1")),
            ("0", Some("0")),
            ("50%", Some("50%")),
            ("0.25", Some("25%")),
            ("100 %", Some("100%")),
            ("1.5", None),
            ("-1", None),
            ("101%", None),
            ("all", None),
            ("", None),
        ] {
            let read = text.parse::<Allowance>().ok();
            assert_eq!(read.map(|a| a.to_string()).as_deref(), expected, "{text}");
            if let Some(read) = read {
                assert_eq!(read.to_string().parse::<Allowance>().ok(), Some(read));
            }
        }
    }
}
