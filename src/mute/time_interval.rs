//! Times of the day, the week and the year, as Alertmanager's `time_intervals` describe them.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::model::Timestamp;

/// A name for some spans of time.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeInterval {
    /// The name that routes refer to.
    pub name: Arc<str>,
    /// It is when any of these is; without any, it is never.
    pub spans: Vec<Span>,
}

/// A span of time that comes again and again. Of each condition that is set, one element must hold; what
/// is not set holds always.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Minutes of the day, 0 to 1440, without the last.
    pub times: Option<Vec<Range<u16>>>,
    /// Days of the week, 0 (Sunday) to 6.
    pub weekdays: Option<Vec<RangeInclusive<i8>>>,
    /// Days of the month as (first, last), 1 to 31, or -1 (the last day) to -31. A range that begins
    /// after the end of a month has no day in it; one that ends after it ends with the month.
    pub days_of_month: Option<Vec<(i8, i8)>>,
    /// Months, 1 to 12.
    pub months: Option<Vec<RangeInclusive<i8>>>,
    /// Years.
    pub years: Option<Vec<RangeInclusive<i16>>>,
    /// Where the clock hangs that all of these are read from.
    pub location: TimeZone,
}

impl Default for Span {
    /// Always.
    fn default() -> Self {
        Self {
            times: None,
            weekdays: None,
            days_of_month: None,
            months: None,
            years: None,
            location: TimeZone::UTC,
        }
    }
}

impl TimeInterval {
    /// Whether it is that time.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.spans.iter().any(|span| span.contains(now))
    }
}

impl Span {
    /// Whether it is that time.
    pub fn contains(&self, now: Timestamp) -> bool {
        // A timestamp of ours is within jiff's range, which is from the year -9999 to 9999.
        let Ok(now) = jiff::Timestamp::from_nanosecond(i128::from(now.as_nanos())) else {
            return false;
        };
        let local = self.location.to_datetime(now);
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let weekday = local.weekday().to_sunday_zero_offset();
        holds(&self.times, |times| times.contains(&minute))
            && holds(&self.days_of_month, |days| is_in_month(*days, local))
            && holds(&self.months, |months| months.contains(&local.month()))
            && holds(&self.weekdays, |days| days.contains(&weekday))
            && holds(&self.years, |years| years.contains(&local.year()))
    }
}

fn holds<T>(condition: &Option<Vec<T>>, is: impl Fn(&T) -> bool) -> bool {
    condition.as_ref().is_none_or(|all| all.iter().any(is))
}

fn is_in_month((first, last): (i8, i8), local: DateTime) -> bool {
    let days = local.days_in_month();
    let day = |day: i8| if day < 0 { days + day + 1 } else { day };
    (day(first)..=day(last)).contains(&local.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(zone: &str) -> Span {
        Span {
            location: TimeZone::get(zone).expect("a time zone"),
            ..Span::default()
        }
    }

    fn minutes(from: u16, to: u16) -> Option<Vec<Range<u16>>> {
        Some(std::iter::once(from..to).collect())
    }

    #[track_caller]
    fn check(span: &Span, when: &[(&str, bool)]) {
        for (time, expected) in when {
            let at = Timestamp::parse_rfc3339(time).expect("a time");
            assert_eq!(span.contains(at), *expected, "{time}");
        }
    }

    #[test]
    fn no_condition_is_always_and_an_empty_one_never() {
        check(&Span::default(), &[("2026-01-01T00:00:00Z", true)]);
        let never = Span {
            months: Some(Vec::new()),
            ..Span::default()
        };
        check(&never, &[("2026-01-01T00:00:00Z", false)]);
        let none = TimeInterval {
            name: "none".into(),
            spans: Vec::new(),
        };
        assert!(!none.contains(Timestamp::EPOCH));
    }

    #[test]
    fn office_hours_follow_the_clocks_of_the_place() {
        let office = Span {
            times: minutes(9 * 60, 17 * 60),
            weekdays: Some(vec![1..=5]),
            ..span("Europe/Berlin")
        };
        check(
            &office,
            &[
                // Winter: one hour ahead of UTC.
                ("2026-01-05T07:59:59Z", false),
                ("2026-01-05T08:00:00Z", true),
                ("2026-01-05T15:59:59.999Z", true),
                ("2026-01-05T16:00:00Z", false),
                // Summer: two.
                ("2026-07-06T07:00:00Z", true),
                ("2026-07-06T15:00:00Z", false),
                // A weekend, which there begins before it does in UTC.
                ("2026-01-10T10:00:00Z", false),
                ("2026-01-11T10:00:00Z", false),
            ],
        );
        let friday = Span {
            weekdays: Some(vec![5..=5]),
            ..span("Australia/Sydney")
        };
        check(
            &friday,
            &[
                ("2026-01-08T12:59:00Z", false),
                ("2026-01-08T13:00:00Z", true),
                ("2026-01-09T13:00:00Z", false),
            ],
        );
    }

    #[test]
    fn the_hour_that_is_skipped_or_repeated() {
        let early = Span {
            times: minutes(2 * 60, 3 * 60),
            ..span("America/New_York")
        };
        check(
            &early,
            &[
                // 2026-03-08: from 01:59:59 to 03:00:00.
                ("2026-03-08T06:59:59Z", false),
                ("2026-03-08T07:00:00Z", false),
            ],
        );
        let twice = Span {
            times: minutes(60, 2 * 60),
            ..span("America/New_York")
        };
        check(
            &twice,
            &[
                ("2026-11-01T05:30:00Z", true),
                ("2026-11-01T06:30:00Z", true),
                ("2026-11-01T07:00:00Z", false),
            ],
        );
    }

    #[test]
    fn days_count_from_both_ends_of_the_month() {
        let last_three = Span {
            days_of_month: Some(vec![(-3, -1)]),
            ..Span::default()
        };
        check(
            &last_three,
            &[
                ("2026-02-25T12:00:00Z", false),
                ("2026-02-26T12:00:00Z", true),
                ("2026-02-28T12:00:00Z", true),
                ("2028-02-26T12:00:00Z", false),
                ("2028-02-29T12:00:00Z", true),
                ("2026-03-28T12:00:00Z", false),
                ("2026-03-31T12:00:00Z", true),
            ],
        );
        // The month in which the clocks go forward has all of its days, too.
        let last = Span {
            days_of_month: Some(vec![(-1, -1)]),
            ..span("Europe/Berlin")
        };
        check(
            &last,
            &[
                ("2026-03-30T12:00:00Z", false),
                ("2026-03-31T12:00:00Z", true),
            ],
        );
        let beyond = Span {
            days_of_month: Some(vec![(30, 31)]),
            ..Span::default()
        };
        check(
            &beyond,
            &[
                ("2026-02-28T12:00:00Z", false),
                ("2026-04-30T12:00:00Z", true),
            ],
        );
        let whole = Span {
            days_of_month: Some(vec![(-31, -1)]),
            ..Span::default()
        };
        check(&whole, &[("2026-02-01T00:00:00Z", true)]);
    }

    #[test]
    fn months_and_years() {
        let summer = Span {
            months: Some(vec![6..=8]),
            years: Some(vec![2025..=2026, 2030..=2030]),
            times: minutes(23 * 60, 24 * 60),
            ..Span::default()
        };
        check(
            &summer,
            &[
                ("2026-06-01T23:00:00Z", true),
                ("2026-06-01T22:59:59Z", false),
                ("2026-08-31T23:59:59Z", true),
                ("2026-09-01T23:00:00Z", false),
                ("2027-07-01T23:00:00Z", false),
                ("2030-07-01T23:00:00Z", true),
            ],
        );
    }
}
