//! Stands before every route: who may ask, how long the question may be, and what the browser is told
//! about the answer.
//!
//! There are no users here, so a page from elsewhere in the operator's browser is the attacker to think
//! of. It is kept out by the name in `Host` (a name of its own that it points at us by DNS is not
//! among ours) and by `Origin` and `Sec-Fetch-Site`, which browsers set and pages cannot.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::answer::ApiError;
use super::state::{Settings, State};

/// Longest path that can be one of ours; names of services are at most 1,024 bytes, escaped thrice that.
const MAX_PATH: usize = 4 * 1024;
/// Longest query: a selector of the largest size in escaped form fits.
const MAX_QUERY: usize = 60 * 1024;
/// Most parameters of a query.
const MAX_PARAMETERS: usize = 256;
/// Where other systems send their alerts, many at once.
const ALERTS: &str = "/api/v2/alerts";
/// Largest message of a gRPC call; ours are names.
const MAX_GRPC_BODY: usize = 1024 * 1024;

/// What the server knows of the connection that a request came on.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// The address of ours that it reached.
    pub(super) local: SocketAddr,
}

/// The middleware.
pub(super) async fn guard(
    extract::State(state): extract::State<State>,
    request: Request,
    next: Next,
) -> Response {
    let connection = request.extensions().get::<Connection>();
    let local = connection.map(|connection| connection.local.ip());
    let admitted = match admit(&state, local, &request) {
        Ok(()) => with_bounded_body(&state.settings, request).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = match admitted {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in SECURITY_HEADERS {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Everything on the page comes from here; nobody frames it or learns where a link was followed from.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

fn admit(state: &State, local: Option<IpAddr>, request: &Request) -> Result<(), ApiError> {
    let host = named_host(request.uri(), request.headers())?;
    if !is_ours(&state.settings, local, host.host()) {
        return Err(ApiError::forbidden(format!(
            "`{}` is not a name of this server; add it to http.allowed_hosts if it is",
            host.host()
        )));
    }
    check_origin(&state.settings, &host, request)?;
    check_size(request.uri())
}

/// The one name that the request was sent to.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, ApiError> {
    let mut header = headers.get_all(header::HOST).iter();
    let named = header
        .next()
        .map(|value| Authority::try_from(value.as_bytes()));
    let named = match (named, header.next()) {
        (Some(Err(_)), _) | (Some(_), Some(_)) => None,
        (Some(Ok(name)), None) => match uri.authority() {
            Some(target) if target != &name => None,
            _ => Some(name),
        },
        (None, _) => uri.authority().cloned(),
    };
    named
        // What stands before an @ would make the host look like another.
        .filter(|name| !name.as_str().contains('@'))
        .ok_or_else(|| ApiError::bad_data("the request names no host, or more than one"))
}

/// Whether `host` is loopback, configured, or the very address that was reached.
fn is_ours(settings: &Settings, local: Option<IpAddr>, host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let address = address.to_canonical();
        if address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address) {
            return true;
        }
    }
    host.eq_ignore_ascii_case("localhost") || is_configured(settings, host)
}

fn is_configured(settings: &Settings, host: &str) -> bool {
    let external = settings
        .external_url
        .as_deref()
        .and_then(|url| url.parse::<Uri>().ok());
    settings
        .allowed_hosts
        .iter()
        .map(String::as_str)
        .chain(external.as_ref().and_then(Uri::host))
        .any(|name| name.eq_ignore_ascii_case(host))
}

/// A page from elsewhere may neither write nor watch.
fn check_origin(settings: &Settings, host: &Authority, request: &Request) -> Result<(), ApiError> {
    let elsewhere = || {
        Err(ApiError::forbidden(
            "this comes from a page of another origin",
        ))
    };
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = Uri::try_from(origin.as_bytes()).ok();
        let origin = origin.as_ref().and_then(Uri::authority);
        // A proxy may have written another `Host`; a configured name is ours on any port.
        let same = origin
            .is_some_and(|origin| is_same(origin, host) || is_configured(settings, origin.host()));
        if !same {
            return elsewhere();
        }
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"same-origin" | b"none") | None => Ok(()),
        // Following a link to the page is a read from elsewhere, and harmless.
        Some(_) if reads => Ok(()),
        Some(_) => elsewhere(),
    }
}

fn is_same(a: &Authority, b: &Authority) -> bool {
    a.host().eq_ignore_ascii_case(b.host()) && a.port_u16() == b.port_u16()
}

fn check_size(uri: &Uri) -> Result<(), ApiError> {
    let query = uri.query().unwrap_or_default();
    if uri.path().len() > MAX_PATH {
        return Err(ApiError::bad_data(format!(
            "the path is longer than {MAX_PATH} bytes"
        )));
    }
    if uri.path().contains("%00") {
        return Err(ApiError::bad_data("the path holds a zero byte"));
    }
    if query.len() > MAX_QUERY {
        return Err(ApiError::bad_data(format!(
            "the query is longer than {MAX_QUERY} bytes"
        )));
    }
    if query.bytes().filter(|byte| *byte == b'&').count() >= MAX_PARAMETERS {
        return Err(ApiError::bad_data(format!(
            "more than {MAX_PARAMETERS} parameters"
        )));
    }
    Ok(())
}

/// The request with its body read whole, so that no handler waits for a slow one or holds a large one.
/// gRPC reads its own, message by message, under a limit.
async fn with_bounded_body(settings: &Settings, request: Request) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let grpc = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        let body = Body::new(Limited::new(body, MAX_GRPC_BODY));
        return Ok(Request::from_parts(parts, body));
    }
    let limit = match parts.uri.path() {
        ALERTS => settings.max_alerts_bytes,
        _ => settings.max_body_bytes,
    };
    let whole = Limited::new(body, limit).collect();
    let error = |status, message: String| ApiError {
        status,
        error_type: "bad_data",
        message,
    };
    match tokio::time::timeout(settings.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body.to_bytes()))),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => Err(error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {limit} bytes"),
        )),
        Ok(Err(_)) => Err(ApiError::bad_data("the body broke off")),
        Err(_) => Err(error(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expose::fakes;

    /// The status of `method path` with these headers; `local` is the address of ours that was reached.
    async fn status(method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let settings = Settings {
            allowed_hosts: vec!["tide.example.com".into()],
            ..Settings::default()
        };
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(Connection {
            local: "10.0.0.5:9517".parse().expect("an address"),
        });
        fakes::Site::with(settings).ask(request).await.status
    }

    #[tokio::test]
    async fn only_our_own_names_are_answered() {
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:9517", 200),
            ("127.0.0.1:9517", 200),
            ("127.9.9.9", 200),
            ("[::1]:9517", 200),
            ("[::ffff:127.0.0.1]:9517", 200),
            ("tide.example.com", 200),
            ("Tide.Example.com:443", 200),
            ("10.0.0.5:9517", 200),
            ("10.0.0.6:9517", 403),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost@evil.example", 400),
            ("evil.example:9517", 403),
            ("a b", 400),
            ("", 400),
        ] {
            let got = status("GET", "/healthz", &[("host", host)]).await;
            assert_eq!(got, expected, "Host: {host}");
            let unknown = status("GET", "/nowhere", &[("host", host)]).await;
            assert_eq!(unknown == 404, expected == 200, "Host: {host}");
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status("GET", "/healthz", &two).await, 400);
        assert_eq!(status("GET", "/healthz", &[]).await, 400);
        // HTTP/2 names the host in the target.
        assert_eq!(status("GET", "http://localhost/healthz", &[]).await, 200);
        assert_eq!(status("GET", "http://evil.example/healthz", &[]).await, 403);
        let both = [("host", "localhost")];
        assert_eq!(
            status("GET", "http://evil.example/healthz", &both).await,
            400
        );
    }

    #[tokio::test]
    async fn pages_of_other_origins_neither_write_nor_watch() {
        const HOST: (&str, &str) = ("host", "localhost:9517");
        for (method, header, expected) in [
            ("POST", ("origin", "http://localhost:9517"), 405),
            ("POST", ("origin", "https://tide.example.com"), 405),
            ("POST", ("origin", "http://localhost:3000"), 403),
            ("POST", ("origin", "http://evil.example"), 403),
            ("POST", ("origin", "null"), 403),
            ("GET", ("origin", "http://evil.example"), 403),
            ("POST", ("sec-fetch-site", "cross-site"), 403),
            ("PUT", ("sec-fetch-site", "same-site"), 403),
            ("DELETE", ("sec-fetch-site", "cross-site"), 403),
            ("OPTIONS", ("sec-fetch-site", "cross-site"), 403),
            ("POST", ("sec-fetch-site", "same-origin"), 405),
            ("POST", ("sec-fetch-site", "none"), 405),
            ("GET", ("sec-fetch-site", "cross-site"), 200),
            ("POST", ("accept", "*/*"), 405),
        ] {
            let got = status(method, "/healthz", &[HOST, header]).await;
            assert_eq!(got, expected, "{method} with {header:?}");
        }
        let evil = &[HOST, ("origin", "http://evil.example")];
        for (method, path) in [
            ("GET", "/api/v1/events"),
            ("PUT", "/api/v1/modes/freeze"),
            ("POST", "/tidewatch.v1.Modes/Watch"),
        ] {
            assert_eq!(status(method, path, evil).await, 403, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn paths_and_queries_are_bounded_and_open_no_file() {
        const HOST: &[(&str, &str)] = &[("host", "localhost")];
        for (target, expected) in [
            ("/../../etc/passwd".to_owned(), 404),
            ("/%2e%2e%2f%2e%2e%2fetc/passwd".into(), 404),
            ("/%2e%2e/etc/passwd".into(), 404),
            ("/ui/..%2f..%2fetc%2fpasswd".into(), 404),
            ("/api/v1/series/%00/samples".into(), 400),
            (format!("/{}", "a".repeat(60_000)), 400),
            (format!("/api/v1/series?{}", "k=v&".repeat(10_000)), 400),
            (format!("/api/v1/series?match={}", "x".repeat(59_000)), 400),
            (format!("/api/v1/series?match={}", "x".repeat(61_000)), 400),
            ("/api/v1/series?unknown=1&%ff=%fe".into(), 200),
            ("/api/v1/series/%ff/samples".into(), 400),
        ] {
            let shown: String = target.chars().take(40).collect();
            assert_eq!(status("GET", &target, HOST).await, expected, "{shown}");
        }
    }

    #[tokio::test]
    async fn bodies_are_bounded_and_every_answer_carries_the_security_headers() {
        let site = fakes::Site::new();
        let request = Request::post("/healthz")
            .header("host", "localhost")
            .body(Body::from(vec![b'x'; 64 * 1024 + 1]))
            .expect("a request");
        let answer = site.ask(request).await;
        assert_eq!(answer.status, 413);
        for path in ["/", "/nowhere", "/metrics", "/api/v1/series?limit=-1"] {
            let answer = site.get(path).await;
            let policy = &answer.headers["content-security-policy"];
            assert!(policy.as_bytes().starts_with(b"default-src 'self';"));
            assert_eq!(
                answer.headers["x-content-type-options"], "nosniff",
                "{path}"
            );
        }
    }
}
