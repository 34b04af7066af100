use axum::extract::{FromRequestParts, Query as Pairs};
use http::request::Parts;

use super::answer::ApiError;
use crate::model::{Selector, SignalId, Timestamp};

/// Most selectors in one request.
const MAX_SELECTORS: usize = 16;

/// The parameters behind the `?`. Names nobody asks for are ignored, as Prometheus does; of a repeated
/// one the first counts, unless all are asked for.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Pairs::try_from_uri(&parts.uri)
            .map(|Pairs(pairs)| Self(pairs))
            .map_err(|error| ApiError::bad_data(error.to_string()))
    }
}

impl Params {
    /// The first value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of `name`, also of `name[]`.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key.strip_suffix("[]").unwrap_or(key) == name)
            .map(|(_, value)| value.as_str())
    }

    /// The selectors under `match`; a signal is meant when any of them holds. Without one, all are.
    pub(super) fn selectors(&self) -> Result<Vec<Selector>, ApiError> {
        let selectors = self
            .all("match")
            .map(|text| {
                Selector::parse(text).map_err(|error| {
                    ApiError::bad_data(format!("invalid parameter `match`: {error}"))
                })
            })
            .take(MAX_SELECTORS + 1)
            .collect::<Result<Vec<_>, _>>()?;
        match selectors.len() {
            0 => Ok(vec![Selector::default()]),
            count if count > MAX_SELECTORS => Err(ApiError::bad_data(format!(
                "more than {MAX_SELECTORS} parameters `match`"
            ))),
            _ => Ok(selectors),
        }
    }

    /// How many elements are wanted: `default` if it is not said, at most `most`. 0 is as many as there
    /// may be, as in Prometheus.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else {
            return Ok(default.min(most));
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(invalid("limit", text, "a whole number from 0"));
        }
        // Digits that no number type holds are more than there may be.
        match text.parse().unwrap_or(usize::MAX) {
            0 => Ok(most),
            limit => Ok(most.min(limit)),
        }
    }

    /// Where the page begins.
    pub(super) fn cursor(&self) -> Result<Option<SignalId>, ApiError> {
        self.get("cursor")
            .filter(|text| !text.is_empty())
            .map(|text| {
                text.parse()
                    .map_err(|_| invalid("cursor", text, "the `next` of an earlier answer"))
            })
            .transpose()
    }

    /// A time: RFC 3339, or seconds since 1970 with or without a fraction.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        parse_time(text)
            .map(Some)
            .ok_or_else(|| invalid(name, text, "RFC 3339 or seconds since 1970"))
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    /// Beyond this many seconds nanoseconds leave the range of 64 bits.
    const END_SECONDS: f64 = 9_223_372_036.0;
    match text.parse::<f64>() {
        Ok(seconds) => (seconds.abs() <= END_SECONDS).then(|| Timestamp::from_secs_f64(seconds)),
        Err(_) => Timestamp::parse_rfc3339(text).ok(),
    }
}

fn invalid(name: &str, text: &str, expected: &str) -> ApiError {
    // Echoed so that the mistake is seen, but never at length.
    let shown: String = text.chars().take(64).collect();
    ApiError::bad_data(format!(
        "invalid parameter `{name}`: `{shown}` is not {expected}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("/?{query}").parse().expect(query);
        Params(Pairs::try_from_uri(&uri).expect(query).0)
    }

    #[test]
    fn limits_are_capped_and_nonsense_is_refused() {
        for (query, expected) in [
            ("", Some(100)),
            ("limit=7", Some(7)),
            ("limit=5000", Some(1000)),
            ("limit=1000000000000000000", Some(1000)),
            ("limit=99999999999999999999999999", Some(1000)),
            ("limit=0", Some(1000)),
            ("limit=-1", None),
            ("limit=%2B1", None),
            ("limit=1e18", None),
            ("limit=1.5", None),
            ("limit=", None),
        ] {
            assert_eq!(params(query).limit(100, 1000).ok(), expected, "{query}");
        }
    }

    #[test]
    fn times_are_rfc_3339_or_unix_seconds() {
        let at = |query: &str| {
            params(query)
                .time("from")
                .map(|t| t.map(Timestamp::as_nanos))
        };
        assert_eq!(at(""), Ok(None));
        assert_eq!(at("from=1.5"), Ok(Some(1_500_000_000)));
        assert_eq!(at("from=1970-01-01T00:00:02Z"), Ok(Some(2_000_000_000)));
        assert_eq!(
            at("from=1970-01-01T01:00:02%2B01:00"),
            Ok(Some(2_000_000_000))
        );
        for bad in [
            "NaN",
            "inf",
            "1e300",
            "yesterday",
            "",
            "2026-13-01T00:00:00Z",
        ] {
            assert!(at(&format!("from={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn selectors_and_cursors_are_checked() {
        let ok = |query: &str| params(query).selectors().map(|s| s.len()).ok();
        assert_eq!(ok(""), Some(1));
        assert_eq!(ok("match=%7Ba%3D%22b%22%7D&match%5B%5D=c%3Dd"), Some(2));
        assert_eq!(ok("match=%7B"), None);
        assert_eq!(ok(&"match=a%3Db&".repeat(17)), None);
        assert_eq!(ok(&format!("match={}", "x".repeat(20_000))), None);
        assert_eq!(ok("match=a%3D~%22(a%2B)%2B%24%22"), Some(1));
        assert!(params("cursor=forged").cursor().is_err());
        assert_eq!(params("cursor=").cursor(), Ok(None));
        let id = format!("cursor={:032x}-p99", 7);
        assert!(params(&id).cursor().is_ok_and(|id| id.is_some()));
    }
}
