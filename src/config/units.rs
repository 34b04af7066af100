//! Quantities as people write them: `1m30s`, `2GiB`, `50%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::Dimension;

use super::decode::BadText;

/// A length of time as Prometheus writes it: `500ms`, `10s`, `1m30s`, `2h`, `1d`; `0` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Period(pub Duration);

/// Units from large to small, in milliseconds; a year has 365 days, as in Prometheus.
const TIME_UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longest period; it keeps all sums of times far from overflow.
const MAX_MILLIS: u64 = 100 * 31_536_000_000;

impl Period {
    /// From seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Period {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || BadText::new("expected a duration such as 500ms, 10s, 1m30s, 2h or 1d");
        if text == "0" {
            return Ok(Self::default());
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad().hint(format!("add the unit: `{text}s`?")));
        }
        let mut millis = 0u64;
        let mut smaller = TIME_UNITS.as_slice();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            let number: u64 = number.parse().map_err(|_| bad())?;
            let Some(at) = smaller.iter().position(|(name, _)| *name == unit) else {
                let known = TIME_UNITS.iter().any(|(name, _)| *name == unit);
                return Err(bad().hint(if known {
                    "each unit once, from large to small"
                } else {
                    "units are y, w, d, h, m, s and ms"
                }));
            };
            let (unit, after_unit) = smaller.split_at(at + 1);
            smaller = after_unit;
            millis = unit
                .last()
                .and_then(|(_, size)| number.checked_mul(*size))
                .and_then(|part| millis.checked_add(part))
                .filter(|millis| *millis <= MAX_MILLIS)
                .ok_or_else(|| BadText::new("expected a duration of at most 100 years"))?;
            rest = after;
        }
        if text.is_empty() {
            return Err(bad());
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0");
        }
        // Years and weeks read worse than days where they are not whole.
        for (unit, size) in TIME_UNITS.iter().skip(2) {
            if millis >= *size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

/// A number of bytes: `64MiB`, `2GiB`, `500kB`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || {
            BadText::new("expected a size such as 64MiB, 2GiB or 500kB")
                .hint("units are B, kB, MB, GB, TB and KiB, MiB, GiB, TiB; whole numbers")
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = unit.trim_start();
        let size = match BYTE_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, size)) => *size,
            None if unit.is_empty() => 1,
            None => return Err(bad()),
        };
        number.checked_mul(size).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, size): &&(&str, u64)| self.0 >= *size && self.0.is_multiple_of(*size);
        // The binary units, and bytes.
        match BYTE_UNITS.iter().take(4).find(whole) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A share of a whole: `50%`, or a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || BadText::new("expected a share such as 50% or 0.5");
        let (number, whole) = match text.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 100.0),
            None => (text, 1.0),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        if (0.0..=whole).contains(&number) {
            Ok(Self(number / whole))
        } else if (1.0..=100.0).contains(&number) {
            Err(bad().hint(format!("add the sign: `{number}%`?")))
        } else {
            Err(bad().hint("from 0% to 100%"))
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A percentage that reads back as the same number, else the number itself.
        let percent = format!("{}%", self.0 * 100.0);
        match percent.parse::<Self>() {
            Ok(again) if again == *self => f.write_str(&percent),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// A bound on a signal: a number in the signal's own unit, or a time, a size or a share that is converted
/// to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    text: String,
    /// The number; of a dimension in seconds, bytes or parts of one.
    pub value: f64,
    /// What it is; `None`: a number in the signal's unit.
    pub dimension: Option<Dimension>,
}

impl FromStr for Quantity {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let of = |value: f64, dimension: Option<Dimension>| {
            Ok(Self {
                text: text.into(),
                value,
                dimension,
            })
        };
        if let Ok(value) = text.parse::<f64>()
            && value.is_finite()
        {
            return of(value, None);
        }
        if let Some(percent) = text.strip_suffix('%')
            && let Ok(percent) = percent.trim_end().parse::<f64>()
            && percent.is_finite()
        {
            return of(percent / 100.0, Some(Dimension::Share));
        }
        if let Ok(period) = text.parse::<Period>() {
            return of(period.0.as_secs_f64(), Some(Dimension::Time));
        }
        if let Ok(size) = text.parse::<ByteSize>() {
            return of(size.0 as f64, Some(Dimension::Bytes));
        }
        Err(
            BadText::new("expected a number, or a quantity such as 300ms, 2GiB or 90%")
                .hint("a number alone is in the signal's own unit"),
        )
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `Deserialize` and `Serialize` as text, and the schema of that text.
macro_rules! as_text {
    ($type:ty, $name:literal, $expected:literal, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::config::decode::from_text(deserializer, $expected)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(super) use as_text;

as_text!(Period, "Duration", "a duration such as 10s, 1m30s or 2h", {
    "type": ["string", "integer"],
    "pattern": "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
    "maximum": 0
});
as_text!(ByteSize, "ByteSize", "a size such as 64MiB or 2GiB", {
    "type": ["string", "integer"],
    "pattern": "^[0-9]+ *([KMGT]iB|[kKMGT]?B)?$",
    "minimum": 0
});
as_text!(Quantity, "Quantity", "a number, or a quantity such as 300ms, 2GiB or 90%", {
    "type": ["string", "number"]
});
as_text!(Share, "Share", "a share such as 50% or 0.5", {
    "type": ["string", "number"],
    "pattern": "^[0-9]+([.][0-9]+)? *%$",
    "minimum": 0,
    "maximum": 1
});

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = BadText> + fmt::Display>(text: &str, printed: &str) {
        let shown = match text.parse::<T>() {
            Ok(value) => {
                let again: T = value.to_string().parse().expect("what we print we read");
                assert_eq!(again.to_string(), value.to_string());
                value.to_string()
            }
            Err(bad) => match bad.hint {
                Some(hint) => format!("! {hint}"),
                None => "!".into(),
            },
        };
        assert_eq!(shown, printed, "{text}");
    }

    #[test]
    fn durations_read_as_in_prometheus() {
        for (text, printed) in [
            ("10s", "10s"),
            ("1m30s", "1m30s"),
            ("90s", "1m30s"),
            ("2h", "2h"),
            ("500ms", "500ms"),
            ("1d", "1d"),
            ("36h", "1d12h"),
            ("1w", "7d"),
            ("0", "0"),
            ("0s", "0"),
            ("", "!"),
            ("ten", "!"),
            ("-5s", "!"),
            ("1.5h", "! units are y, w, d, h, m, s and ms"),
            ("10", "! add the unit: `10s`?"),
            ("10 s", "! units are y, w, d, h, m, s and ms"),
            ("10sec", "! units are y, w, d, h, m, s and ms"),
            ("1s1m", "! each unit once, from large to small"),
            ("1s1s", "! each unit once, from large to small"),
            ("101y", "!"),
            ("99999999999999999999s", "!"),
            ("9999999999999999y", "!"),
            ("ä", "!"),
        ] {
            check::<Period>(text, printed);
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        let units = "! units are B, kB, MB, GB, TB and KiB, MiB, GiB, TiB; whole numbers";
        for (text, printed) in [
            ("2GiB", "2GiB"),
            ("2 GiB", "2GiB"),
            ("2048MiB", "2GiB"),
            ("1GB", "1000000000B"),
            ("500kB", "500000B"),
            ("64", "64B"),
            ("0", "0B"),
            ("2G", units),
            ("GiB", units),
            ("-1B", units),
            ("99999999999TiB", units),
        ] {
            check::<ByteSize>(text, printed);
        }
    }

    #[test]
    fn shares_are_percentages_or_fractions() {
        for (text, printed) in [
            ("50%", "50%"),
            ("12.5%", "12.5%"),
            ("50 %", "50%"),
            ("0.5", "50%"),
            ("1", "100%"),
            ("0%", "0%"),
            ("50", "! add the sign: `50%`?"),
            ("101%", "! from 0% to 100%"),
            ("-1%", "! from 0% to 100%"),
            ("NaN%", "! from 0% to 100%"),
            ("half", "!"),
        ] {
            check::<Share>(text, printed);
        }
    }
}
