//! How long a receiver asks to be left alone.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};

use crate::model::Timestamp;

/// Headers that say when the limit is lifted, the most precise first: the IETF's draft, and what was
/// there before it. PagerDuty and GitHub send the second and third, Discord the first.
const RESETS: [&str; 4] = [
    "x-ratelimit-reset-after",
    "ratelimit-reset",
    "x-ratelimit-reset",
    "x-rate-limit-reset",
];
/// From here on a number is a point in time, below a length of it: 30 years, in seconds.
const EPOCH_SECONDS: f64 = 946_684_800.0;
/// From here on it is one in milliseconds.
const EPOCH_MILLIS: f64 = EPOCH_SECONDS * 100.0;

/// What the headers of an answer of `status` ask for: `Retry-After` (seconds or a date), else, where the
/// answer says that there were too many requests, the reset of its rate limit.
pub(super) fn asked(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if let Some(after) = retry_after(headers, now) {
        return Some(after);
    }
    // On other answers these headers only inform.
    let is_limited = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    is_limited.then(|| reset(headers, now)).flatten()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER.as_str())?;
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => date(text, now),
    }
}

fn reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let plain = RESETS
        .into_iter()
        .find_map(|name| until(text(headers, name)?, now));
    // The draft's newer form: `RateLimit: "default";r=0;t=30`.
    plain.or_else(|| {
        let mut parameters = text(headers, "ratelimit")?.split(';');
        until(parameters.find_map(|p| p.trim().strip_prefix("t="))?, now)
    })
}

fn until(text: &str, now: Timestamp) -> Option<Duration> {
    let Ok(number) = text.parse::<f64>() else {
        return date(text, now);
    };
    let seconds = match number {
        n if !n.is_finite() || n < 0.0 => return None,
        n if n >= EPOCH_MILLIS => n / 1000.0 - now.as_secs_f64(),
        n if n >= EPOCH_SECONDS => n - now.as_secs_f64(),
        n => n,
    };
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

fn date(text: &str, now: Timestamp) -> Option<Duration> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let date = i64::try_from(date.as_nanosecond()).ok()?;
    Some(Timestamp::from_nanos(date).since(now))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, StatusCode};

    use super::asked;
    use crate::model::Timestamp;

    #[track_caller]
    fn check(status: u16, headers: &[(&str, &str)], milliseconds: Option<u64>) {
        let now = Timestamp::parse_rfc3339("2026-11-06T08:49:00Z").unwrap();
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = pairs.collect();
        let found = asked(StatusCode::from_u16(status).unwrap(), &headers, now);
        let rounded =
            found.map(|d| Duration::from_millis(d.as_secs_f64().mul_add(1000.0, 0.5) as u64));
        assert_eq!(
            rounded,
            milliseconds.map(Duration::from_millis),
            "{status} {headers:?}"
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, seconds) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("Fri, 06 Nov 2026 08:49:37 GMT", Some(37)),
            ("Fri, 06 Nov 2026 08:48:37 GMT", Some(0)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            for status in [429, 500, 503] {
                check(
                    status,
                    &[("retry-after", text)],
                    seconds.map(|s: u64| s * 1000),
                );
            }
        }
        check(429, &[], None);
    }

    #[test]
    fn rate_limits_are_lengths_or_points_of_time() {
        // 2026-11-06T08:49:00Z is 1,793,954,940.
        for (name, text, expected) in [
            ("ratelimit-reset", "30", Some(30_000)),
            ("x-ratelimit-reset", "1793954952", Some(12_000)),
            ("x-ratelimit-reset", "1793954952500", Some(12_500)),
            ("x-ratelimit-reset", "1793954000", Some(0)),
            ("x-rate-limit-reset", "5", Some(5_000)),
            ("x-ratelimit-reset-after", "0.25", Some(250)),
            (
                "x-ratelimit-reset",
                "Fri, 06 Nov 2026 08:49:37 GMT",
                Some(37_000),
            ),
            ("ratelimit", "\"default\";r=0;t=42", Some(42_000)),
            ("ratelimit", "\"default\";r=0", None),
            ("ratelimit-reset", "-3", None),
            ("ratelimit-reset", "NaN", None),
            ("ratelimit-reset", "inf", None),
            ("ratelimit-reset", "1e300", None),
        ] {
            check(429, &[(name, text)], expected);
        }
        // Not limited: it only informs. And whoever says when to come back is taken at their word.
        check(500, &[("x-ratelimit-reset", "30")], None);
        check(
            429,
            &[("retry-after", "3"), ("x-ratelimit-reset", "30")],
            Some(3_000),
        );
        check(
            503,
            &[("x-ratelimit-reset-after", "2"), ("x-ratelimit-reset", "9")],
            Some(2_000),
        );
    }
}
