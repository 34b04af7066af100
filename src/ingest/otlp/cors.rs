use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

use crate::ingest::Settings;

/// Whether pages of any origin may send at all.
pub(crate) fn is_on(settings: &Settings) -> bool {
    !settings.cors_origins.is_empty()
}

/// Tells a browser that the page which sends `request` may read the answer, if it may. Credentials
/// are never allowed along with it, so `*` may be listed.
pub(crate) fn allow(settings: &Settings, request: &HeaderMap, answer: &mut HeaderMap) {
    if !is_on(settings) {
        return;
    }
    answer.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = request.get(ORIGIN) else {
        return;
    };
    let listed = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
    if settings.cors_origins.iter().any(listed) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

/// What a preflight is told besides.
pub(crate) fn preflight(settings: &Settings, answer: &mut HeaderMap) {
    let mut allowed = "content-type, content-encoding".to_owned();
    for header in &settings.cors_headers {
        allowed.push_str(", ");
        allowed.push_str(header);
    }
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    answer.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST"),
    );
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
}
