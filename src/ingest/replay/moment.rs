//! Texts that are times.

use crate::model::Timestamp;

/// Reads `YYYY-MM-DD HH:MM:SS[.fff]` (UTC), RFC 3339, or seconds, milliseconds, microseconds or
/// nanoseconds since the epoch, told by their size: until the year 5138 seconds have at most 11 digits,
/// and so on by steps of a thousand. `None`: it is none of these, or out of range.
pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
    let text = text.trim_ascii();
    match civil(text) {
        Some(moment) => Some(moment),
        None if text.iter().take(5).any(|byte| *byte == b'-') && text.first() != Some(&b'-') => {
            // Rare forms: a zone, a lower-case t.
            zoned(std::str::from_utf8(text).ok()?)
        }
        None => since_epoch(text),
    }
}

/// `YYYY-MM-DD HH:MM[:SS[.fff]]`, with a `T` or a space, in UTC, with or without a `Z`; also
/// `YYYY-MM-DD`.
fn civil(text: &[u8]) -> Option<Timestamp> {
    let text = text.strip_suffix(b"Z").unwrap_or(text);
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        text.get(range)?.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + i64::from(byte - b'0'))
        })
    };
    let is = |at: usize, wanted: u8| text.get(at) == Some(&wanted);
    if !(is(4, b'-') && is(7, b'-')) {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (mut hour, mut minute, mut second, mut nanos) = (0, 0, 0, 0);
    if text.len() > 10 {
        if !matches!(text.get(10), Some(b' ' | b'T')) || !is(13, b':') {
            return None;
        }
        (hour, minute) = (digits(11..13)?, digits(14..16)?);
        if text.len() > 16 {
            if !is(16, b':') {
                return None;
            }
            second = digits(17..19)?;
        }
        if text.len() > 19 {
            if !is(19, b'.') || !(21..=29).contains(&text.len()) {
                return None;
            }
            let fraction = digits(20..text.len())?;
            let places = u32::try_from(text.len() - 20).ok()?;
            nanos = fraction * 10i64.pow(9 - places);
        }
    }
    let in_range = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !in_range {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(nanos)
        .map(Timestamp::from_nanos)
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar, in eras of 400 years that begin in March (Howard
/// Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// RFC 3339 with any zone, or a space in place of the `T`, or `+00` and `+0000` for zones.
fn zoned(text: &str) -> Option<Timestamp> {
    let text = text.replacen(' ', "T", 1).replace(' ', "");
    let moment: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(moment.as_nanosecond())
        .ok()
        .map(Timestamp::from_nanos)
}

fn since_epoch(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    // Exactly, where it is a whole number: a double has not digits enough for nanoseconds.
    if let Ok(number) = text.parse::<i64>() {
        let unit = match number.unsigned_abs() {
            0..100_000_000_000 => 1_000_000_000,
            100_000_000_000..100_000_000_000_000 => 1_000_000,
            100_000_000_000_000..100_000_000_000_000_000 => 1_000,
            _ => 1,
        };
        return number.checked_mul(unit).map(Timestamp::from_nanos);
    }
    let number: f64 = text.parse().ok()?;
    let nanos = match number.abs() {
        size if size < 1e11 => number * 1e9,
        size if size < 1e14 => number * 1e6,
        size if size < 1e17 => number * 1e3,
        _ => number,
    };
    // Doubles of this size are some 200 ns apart; whole microseconds are what was meant.
    let micros = (nanos / 1e3).round();
    (micros.abs() < 9e15).then(|| Timestamp::from_nanos(micros as i64 * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let moment = parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a time"));
        assert_eq!(moment.rfc3339(), expected, "{text}");
    }

    #[test]
    fn the_usual_forms_are_read() {
        check("2014-02-14 14:30:00", "2014-02-14T14:30:00Z");
        check("2014-02-14T14:30:00Z", "2014-02-14T14:30:00Z");
        check("2014-02-14 14:30:00.5", "2014-02-14T14:30:00.5Z");
        check(
            "2014-02-14 14:30:00.123456789",
            "2014-02-14T14:30:00.123456789Z",
        );
        check("2014-02-14 14:30", "2014-02-14T14:30:00Z");
        check("2014-02-14", "2014-02-14T00:00:00Z");
        check("2014-02-14T14:30:00+01:00", "2014-02-14T13:30:00Z");
        check("2014-02-14 14:30:00+0100", "2014-02-14T13:30:00Z");
        check("2014-02-14 14:30:00 +01:00", "2014-02-14T13:30:00Z");
        check("2000-02-29 23:59:59", "2000-02-29T23:59:59Z");
        check("1969-12-31 23:59:59", "1969-12-31T23:59:59Z");
        check("1767225600", "2026-01-01T00:00:00Z");
        check("1767225600.25", "2026-01-01T00:00:00.25Z");
        check("1767225600250", "2026-01-01T00:00:00.25Z");
        check("1767225600250000", "2026-01-01T00:00:00.25Z");
        check("1767225600250000001", "2026-01-01T00:00:00.250000001Z");
        check("1.7672256e9", "2026-01-01T00:00:00Z");
        check("0", "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "timestamp",
            "2014-02-30 00:00:00",
            "2014-13-01",
            "2014-02-14 25:00:00",
            "12:30",
            "2014-02-14 14:30:00.",
            "2014-02-14 14:30:0x",
            "NaN",
            "inf",
            "1e300",
            "14/02/2014",
            "2014-02-14x14:30:00",
            "é",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_moment_reads_as_it_is_written(seconds in -62_135_596_800i64..4_102_444_800, nanos in 0i64..1_000_000_000) {
            let seconds = seconds.clamp(-9_000_000_000, 9_000_000_000);
            let moment = Timestamp::from_nanos(seconds * 1_000_000_000 + nanos);
            proptest::prop_assert_eq!(parse(moment.rfc3339().as_bytes()), Some(moment));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _answer = parse(&bytes);
        }
    }
}
