//! How long a receiver asks to be left alone, as HTTP headers say it.

use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER};
use http::{HeaderName, StatusCode};

use crate::model::Timestamp;

/// Names under which answers say when a limit on rates ends, in the order in which they are believed:
/// the IETF draft "RateLimit header fields for HTTP" up to its seventh version, the names that were used
/// before it, and one that always counts from now.
static RESETS: [HeaderName; 4] = [
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("x-ratelimit-reset-after"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("x-rate-limit-reset"),
];
/// The draft's one field since then: `"default";r=0;t=30`, where `t` are seconds.
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// A number of seconds from here on is a time since 1970 and not a wait: it is September 2001, or a wait
/// of thirty years.
const EPOCH_SECONDS: f64 = 1e9;
/// And from here on it counts milliseconds.
const EPOCH_MILLIS: f64 = 1e12;

/// What the `headers` of an answer ask for, given at `now`. `Retry-After` is heard with any `status`;
/// other headers only with 429, since they come with every answer of a receiver that counts.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let asked = text(&RETRY_AFTER).and_then(|text| retry_after(text, now));
    if asked.is_some() || status != StatusCode::TOO_MANY_REQUESTS {
        return asked;
    }
    let resets = RESETS.iter().filter_map(text);
    resets
        .filter_map(|text| reset(text, now))
        .next()
        .or_else(|| text(&RATE_LIMIT).and_then(rate_limit))
}

/// Seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let date = i64::try_from(date.as_nanosecond()).ok()?;
    Some(Timestamp::from_nanos(date).since(now))
}

/// Seconds from now, or seconds or milliseconds since 1970.
fn reset(text: &str, now: Timestamp) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    let since_epoch = match number {
        n if n >= EPOCH_MILLIS => Duration::try_from_secs_f64(n / 1e3),
        n if n >= EPOCH_SECONDS => Duration::try_from_secs_f64(n),
        n => return Duration::try_from_secs_f64(n).ok(),
    };
    Some(Timestamp::EPOCH.plus(since_epoch.ok()?).since(now))
}

/// The longest `t` (or, in older versions, `reset`) among the limits that are named.
fn rate_limit(text: &str) -> Option<Duration> {
    let parameters = text.split([';', ',']).filter_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        matches!(name, "t" | "reset").then(|| value.parse().ok())?
    });
    parameters.max().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-11-06T08:49:00Z").unwrap()
    }

    #[track_caller]
    fn check(status: u16, headers: &[(&'static str, &str)], seconds: Option<f64>) {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let expected = seconds.map(Duration::from_secs_f64);
        assert_eq!(read(status, &map, now()), expected, "{status} {headers:?}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let cases = [
            ("7", Some(7.0)),
            (" 120 ", Some(120.0)),
            ("Fri, 06 Nov 2026 08:49:37 GMT", Some(37.0)),
            ("Fri, 06 Nov 2026 08:48:37 GMT", Some(0.0)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            for status in [429, 500, 503] {
                check(status, &[("retry-after", text)], seconds);
            }
        }
        check(503, &[], None);
    }

    #[test]
    fn limits_on_rates_are_heard_as_they_are_commonly_written() {
        let at = now().as_nanos() / 1_000_000_000;
        let in_30 = (at + 30).to_string();
        let in_30_millis = ((at + 30) * 1000).to_string();
        let past = (at - 30).to_string();
        let cases = [
            ("ratelimit-reset", "30", Some(30.0)),
            ("x-ratelimit-reset", "30", Some(30.0)),
            ("x-ratelimit-reset", in_30.as_str(), Some(30.0)),
            ("x-ratelimit-reset", in_30_millis.as_str(), Some(30.0)),
            ("x-ratelimit-reset", past.as_str(), Some(0.0)),
            ("x-ratelimit-reset-after", "0.5", Some(0.5)),
            ("x-rate-limit-reset", "30", Some(30.0)),
            ("ratelimit", "\"default\";r=0;t=30", Some(30.0)),
            ("ratelimit", "\"a\";r=0;t=30, \"b\";r=1;t=60", Some(60.0)),
            ("ratelimit", "limit=10, remaining=0, reset=30", Some(30.0)),
            ("ratelimit", "\"default\";r=0", None),
            ("x-ratelimit-reset", "soon", None),
            ("x-ratelimit-reset", "-5", None),
            ("x-ratelimit-reset", "NaN", None),
            ("x-ratelimit-reset", "inf", None),
            ("x-ratelimit-reset", "1e300", None),
        ];
        for (name, value, seconds) in cases {
            check(429, &[(name, value)], seconds);
            check(503, &[(name, value)], None);
        }
        check(
            429,
            &[("retry-after", "7"), ("ratelimit-reset", "30")],
            Some(7.0),
        );
    }
}
