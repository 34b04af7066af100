//! Spans of time that come again: `09:00` to `17:00`, `monday:friday`, `-3:-1`, `Europe/Berlin`.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::decode::BadText;
use crate::config::diagnostic::{resembles, suggest};
use crate::config::units::as_text;

/// A name for spans of time, which routes refer to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeInterval {
    /// Its name, which routes refer to.
    pub name: String,
    /// It is when any of these is.
    #[serde(default)]
    pub time_intervals: Vec<Span>,
}

/// A span of time. Of each key that is there one element must hold; one that is not there holds always.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Span {
    /// Times of the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Vec<TimeRange>>,
    /// Days of the week: `saturday`, `monday:friday`. A week begins with `sunday`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekdays: Option<Vec<WeekdayRange>>,
    /// Days of the month: `1`, `1:7`; from its end `-1`, `-3:-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_of_month: Option<Vec<DayRange>>,
    /// Months: `december`, `6:8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub months: Option<Vec<MonthRange>>,
    /// Years: `2026`, `2026:2028`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub years: Option<Vec<YearRange>>,
    /// Whose clock is meant: a name of the IANA time zone database such as `Europe/Berlin`, or `Local` for that
    /// of this machine. Unset: `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// From one time of the day to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeRange {
    /// The first minute: `09:00`.
    pub start_time: TimeOfDay,
    /// The minute after the last: `17:00`; `24:00` is the end of the day.
    pub end_time: TimeOfDay,
}

/// A time of the day in minutes, 0 to 1440.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(pub u16);

/// Days of the week from and to, 0 (Sunday) to 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekdayRange(pub i8, pub i8);

/// Days of the month from and to; negative ones count from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRange(pub i8, pub i8);

/// Months from and to, 1 to 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthRange(pub i8, pub i8);

/// Years from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YearRange(pub i16, pub i16);

/// A place whose clock is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    name: String,
    /// Its clock.
    pub zone: TimeZone,
}

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl FromStr for TimeOfDay {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || BadText::new("expected a time of the day as HH:MM, from 00:00 to 24:00");
        let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
        let number = |part: &str| {
            let good = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u16>().ok().filter(|_| good)
        };
        match (number(hour), number(minute)) {
            (Some(24), Some(0)) => Ok(Self(24 * 60)),
            (Some(hour @ 0..24), Some(minute @ 0..60)) => Ok(Self(hour * 60 + minute)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// `FIRST:LAST`, or one for both.
fn range<T: Copy>(
    text: &str,
    member: impl Fn(&str) -> Result<T, BadText>,
) -> Result<(T, T), BadText> {
    let text = text.to_lowercase();
    match text.split_once(':') {
        Some((first, last)) => Ok((member(first)?, member(last)?)),
        None => member(&text).map(|one| (one, one)),
    }
}

impl FromStr for WeekdayRange {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let (first, last) = range(text, |name| {
            let bad = || {
                BadText::new("expected a day of the week such as saturday or monday:friday")
                    .hint(suggest(name, WEEKDAYS, "days"))
            };
            let at = WEEKDAYS.iter().position(|day| *day == name);
            at.and_then(|at| i8::try_from(at).ok()).ok_or_else(bad)
        })?;
        if first > last {
            let message = "the first day is after the last: a week begins with sunday";
            return Err(BadText::new(message)
                .hint("write two ranges: ['friday:saturday', 'sunday:monday']"));
        }
        Ok(Self(first, last))
    }
}

impl FromStr for DayRange {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let (first, last) = range(text, |day| {
            let good = |day: &i8| (1..=31).contains(&day.unsigned_abs());
            day.parse().ok().filter(good).ok_or_else(|| {
                BadText::new("expected a day of the month such as 1, 1:7, -1 or -3:-1")
                    .hint("1 to 31, or -1 (the last day) to -31")
            })
        })?;
        if first < 0 && last > 0 {
            return Err(
                BadText::new("the last day must be negative where the first is")
                    .hint("as in -3:-1"),
            );
        }
        // In the shortest month; what may be in order in longer ones is let pass.
        let day = |day: i8| if day < 0 { 28 + day } else { day };
        if day(first) > day(last) {
            return Err(
                BadText::new("the first day is always after the last").hint("write two ranges")
            );
        }
        Ok(Self(first, last))
    }
}

impl FromStr for MonthRange {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let (first, last) = range(text, |month| {
            let by_name = MONTHS.iter().position(|name| *name == month);
            let number = by_name.map(|at| at + 1).or_else(|| month.parse().ok());
            let number = number.and_then(|number| i8::try_from(number).ok());
            let good = |number: &i8| (1..=12).contains(number);
            number.filter(good).ok_or_else(|| {
                BadText::new("expected a month such as 12, december or june:august")
                    .hint(suggest(month, MONTHS, "months"))
            })
        })?;
        if first > last {
            return Err(BadText::new("the first month is after the last")
                .hint("write two ranges: ['november:december', 'january']"));
        }
        Ok(Self(first, last))
    }
}

impl FromStr for YearRange {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let (first, last) = range(text, |year| {
            year.parse()
                .map_err(|_| BadText::new("expected a year such as 2026 or 2026:2028"))
        })?;
        if first > last {
            return Err(BadText::new("the first year is after the last").hint("swap them"));
        }
        Ok(Self(first, last))
    }
}

impl FromStr for Location {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let zone = match text {
            // As Go reads them, in which Alertmanager is written.
            "" | "UTC" => TimeZone::UTC,
            "Local" => TimeZone::system(),
            name => TimeZone::get(name).map_err(|_| {
                let names: Vec<_> = jiff::tz::db()
                    .available()
                    .map(|known| known.to_string())
                    .filter(|known| resembles(name, known))
                    .collect();
                let hint = match names.is_empty() {
                    true => "a name of the IANA time zone database such as Europe/Berlin".into(),
                    false => suggest(name, names.iter().map(String::as_str), "time zones"),
                };
                BadText::new(format!("unknown time zone `{name}`")).hint(hint)
            })?,
        };
        Ok(Self {
            name: text.into(),
            zone,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// `first:last`, or `first` where it is the last, too.
fn write_range<T: PartialEq + fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    first: T,
    last: T,
) -> fmt::Result {
    match first == last {
        true => write!(f, "{first}"),
        false => write!(f, "{first}:{last}"),
    }
}

impl fmt::Display for WeekdayRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |at: i8| WEEKDAYS.get(usize::from(at.unsigned_abs())).copied();
        write_range(
            f,
            name(self.0).unwrap_or_default(),
            name(self.1).unwrap_or_default(),
        )
    }
}

impl fmt::Display for DayRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, self.0, self.1)
    }
}

impl fmt::Display for MonthRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, self.0, self.1)
    }
}

impl fmt::Display for YearRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, self.0, self.1)
    }
}

as_text!(TimeOfDay, "TimeOfDay", "a time of the day such as 09:00", {
    "type": "string",
    "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
});
as_text!(WeekdayRange, "WeekdayRange", "days of the week such as monday:friday", {
    "type": "string"
});
as_text!(DayRange, "DayRange", "days of the month such as 1:7 or -1", {
    "type": ["string", "integer"]
});
as_text!(MonthRange, "MonthRange", "months such as december or 6:8", {
    "type": ["string", "integer"]
});
as_text!(YearRange, "YearRange", "years such as 2026 or 2026:2028", {
    "type": ["string", "integer"]
});
as_text!(Location, "Location", "a time zone such as Europe/Berlin", {
    "type": "string"
});

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = BadText> + fmt::Display>(text: &str, printed: &str) {
        let shown = match text.parse::<T>() {
            Ok(value) => value.to_string(),
            Err(bad) => format!("! {}", bad.message),
        };
        assert!(shown.starts_with(printed), "{text}: {shown}");
    }

    #[test]
    fn times_of_the_day() {
        check::<TimeOfDay>("00:00", "00:00");
        check::<TimeOfDay>("09:30", "09:30");
        check::<TimeOfDay>("24:00", "24:00");
        for wrong in ["24:01", "9:30", "09:60", "0930", "09:3", "+9:30", "", ":"] {
            check::<TimeOfDay>(wrong, "! expected a time of the day");
        }
    }

    #[test]
    fn ranges() {
        check::<WeekdayRange>("Monday:FRIDAY", "monday:friday");
        check::<WeekdayRange>("sunday", "sunday");
        check::<WeekdayRange>("friday:monday", "! the first day is after the last");
        check::<WeekdayRange>("mon", "! expected a day of the week");
        check::<WeekdayRange>("monday:tuesday:friday", "! expected a day of the week");
        check::<DayRange>("1:5", "1:5");
        check::<DayRange>("-3:-1", "-3:-1");
        check::<DayRange>("15:-1", "15:-1");
        check::<DayRange>("-5:5", "! the last day must be negative");
        check::<DayRange>("29:-1", "! the first day is always after");
        check::<DayRange>("0", "! expected a day of the month");
        check::<DayRange>("1:32", "! expected a day of the month");
        check::<DayRange>("-1:-3", "! the first day is always after");
        check::<MonthRange>("june:8", "6:8");
        check::<MonthRange>("13", "! expected a month");
        check::<MonthRange>("december:january", "! the first month");
        check::<YearRange>("2026", "2026");
        check::<YearRange>("2028:2026", "! the first year");
        check::<YearRange>("soon", "! expected a year");
    }

    #[test]
    fn places() {
        for good in [
            "UTC",
            "Europe/Berlin",
            "Local",
            "America/New_York",
            "Etc/GMT-3",
        ] {
            check::<Location>(good, good);
        }
        let bad = "Europe/Berln"
            .parse::<Location>()
            .expect_err("no such place");
        assert_eq!(bad.hint.as_deref(), Some("did you mean `Europe/Berlin`?"));
    }
}
