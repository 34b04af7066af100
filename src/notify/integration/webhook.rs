//! One HTTP request to a webhook.
//!
//! Redirects are not followed, proxies of the environment not used (they would connect where we must
//! not), at most 64 KiB of an answer read, and the whole attempt has a time limit. TLS is checked
//! always; there is no switch for it.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use super::AttemptError;
use crate::model::Timestamp;
use crate::notify::address::{Guard, Refused};
use crate::notify::message::Resolved;
use crate::notify::signature::{self, Secret};
use crate::notify::wish;

/// More of an answer is not read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// So much of an answer is shown to the operator.
const SHOWN_CHARS: usize = 200;
/// A delivered notification does not wait longer for the rest of its answer. Reading it is only good
/// for using the connection again.
const DRAIN: Duration = Duration::from_millis(500);
/// Headers that are ours to set.
const RESERVED: [&str; 7] = [
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    signature::ID,
    signature::TIMESTAMP,
    signature::SIGNATURE,
];

/// Where a notification is posted, and how. `Debug` shows neither the path of the URL nor headers:
/// both often hold tokens.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    secret: Option<Secret>,
    headers: HeaderMap,
    timeout: Duration,
    pub(in crate::notify) resolved: Resolved,
}

impl Webhook {
    /// A webhook at `url` without signature or further headers, 10 s an attempt.
    ///
    /// # Errors
    /// It is no `http` or `https` URL. The message does not contain it, for it may hold a token.
    pub fn new(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|e| format!("not a URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("not an http or https URL".into());
        }
        Ok(Self {
            url,
            secret: None,
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(10),
            resolved: Resolved::Send,
        })
    }

    /// Signs requests with `secret`.
    #[must_use]
    pub fn signed(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Says whether it is told about resolved alerts.
    #[must_use]
    pub fn resolved(mut self, resolved: Resolved) -> Self {
        self.resolved = resolved;
        self
    }

    /// Gives a whole attempt so much time, from resolving the name to the end of the answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Adds a header, such as `Authorization`.
    ///
    /// # Errors
    /// The name or value cannot be a header's, or the header is ours to set. The value is not shown.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, String> {
        let header =
            HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"))?;
        if RESERVED.contains(&header.as_str()) {
            return Err(format!("`{name}` is set by Tidewatch itself"));
        }
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| format!("the value of `{name}` has characters that no header may have"))?;
        value.set_sensitive(true);
        self.headers.insert(header, value);
        Ok(self)
    }

    /// The URL without what may be secret in it.
    pub(super) fn shown(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}"));
        let scheme = self.url.scheme();
        format!("{scheme}://{host}{}/…", port.unwrap_or_default())
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &self.shown())
            .field("secret", &self.secret)
            .field("timeout", &self.timeout)
            .field("resolved", &self.resolved)
            .finish_non_exhaustive()
    }
}

/// The HTTP client of all webhooks. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::notify) struct Client {
    http: reqwest::Client,
    guard: Guard,
}

impl Client {
    pub(in crate::notify) fn new(
        guard: Guard,
        connect_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        // Whoever was first (`main`, or another test) has installed the same one.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("tidewatch/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .no_gzip()
                .referer(false)
                .connect_timeout(connect_timeout)
                .dns_resolver(guard.clone())
        };
        let http = builder().build().or_else(|error| {
            // A machine without CA certificates can still do http; https fails at each attempt, with
            // the reason.
            tracing::warn!(%error, "no CA certificates: https webhooks will fail");
            builder().tls_certs_only([]).build()
        })?;
        Ok(Self { http, guard })
    }

    /// Posts `body` as message `id`.
    pub(super) async fn attempt(
        &self,
        webhook: &Webhook,
        id: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        self.guard
            .check_url(&webhook.url)
            .map_err(|refused| AttemptError::Permanent {
                reason: refused.to_string(),
            })?;
        let mut request = self
            .http
            .post(webhook.url.clone())
            .timeout(webhook.timeout)
            .headers(webhook.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(signature::ID, id)
            .header(signature::TIMESTAMP, signature::seconds(now));
        if let Some(secret) = &webhook.secret {
            request = request.header(signature::SIGNATURE, secret.sign(id, now, body));
        }
        let response = request.body(body.to_vec()).send().await.map_err(classify)?;
        let status = response.status();
        if status.is_success() {
            // What it says no longer matters.
            drop(tokio::time::timeout(DRAIN, read_answer(response)).await);
            return Ok(());
        }
        let after = wish::read(status, response.headers(), now);
        let answer = read_answer(response).await;
        Err(judge(status, after, &answer))
    }
}

/// What an answer other than success means.
fn judge(status: StatusCode, after: Option<Duration>, answer: &str) -> AttemptError {
    let mut reason = format!("it answered {status}");
    if !answer.is_empty() {
        reason.push_str(": ");
        reason.push_str(answer);
    }
    match status {
        StatusCode::GONE => AttemptError::Gone { reason },
        StatusCode::TOO_MANY_REQUESTS => AttemptError::Limited { after, reason },
        StatusCode::REQUEST_TIMEOUT => AttemptError::Retryable { after, reason },
        status if status.is_server_error() => AttemptError::Retryable { after, reason },
        _ => AttemptError::Permanent { reason },
    }
}

/// What it means that there was no answer.
fn classify(error: reqwest::Error) -> AttemptError {
    if let Some(refused) = Refused::is_behind(&error) {
        let reason = refused.to_string();
        return AttemptError::Permanent { reason };
    }
    // The URL may hold a token. The causes say more than the error: `connection refused`.
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    let reason = causes.join(": ");
    if error.is_builder() {
        AttemptError::Permanent { reason }
    } else {
        AttemptError::Retryable {
            after: None,
            reason,
        }
    }
}

/// The beginning of an answer, fit to be shown.
async fn read_answer(mut response: reqwest::Response) -> String {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER_BYTES - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if answer.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let shown = text.trim().chars().take(SHOWN_CHARS);
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{AttemptError, Webhook, judge};
    use crate::notify::signature::Secret;

    #[test]
    fn answers_are_judged() {
        let kind = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            match judge(status, None, "") {
                AttemptError::Retryable { .. } => "again",
                AttemptError::Limited { .. } => "later",
                AttemptError::Permanent { .. } => "final",
                AttemptError::Gone { .. } => "gone",
            }
        };
        assert_eq!(kind(429), "later");
        for status in [408, 500, 502, 503, 504, 529, 599] {
            assert_eq!(kind(status), "again", "{status}");
        }
        for status in [
            100, 300, 301, 302, 307, 308, 400, 401, 403, 404, 413, 422, 499, 600, 999,
        ] {
            assert_eq!(kind(status), "final", "{status}");
        }
        assert_eq!(kind(410), "gone");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let webhook = Webhook::new("https://user:hunter2@hooks.example:8443/T0/hunter2?k=hunter2")
            .unwrap()
            .signed(Secret::parse("hunter2").unwrap())
            .header("Authorization", "Bearer hunter2")
            .unwrap();
        let shown = format!("{webhook:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("https://hooks.example:8443/…"), "{shown}");
        let error = Webhook::new("hunter2").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let error = webhook.header("X-Token", "hunter2\n").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_early() {
        for url in [
            "",
            "hooks.example",
            "ftp://hooks.example",
            "javascript:alert(1)",
            "http://",
        ] {
            Webhook::new(url).unwrap_err();
        }
        for name in ["Webhook-Signature", "content-type", "Host", "a b", ""] {
            let webhook = Webhook::new("http://hooks.example").unwrap();
            webhook.header(name, "x").unwrap_err();
        }
    }
}
