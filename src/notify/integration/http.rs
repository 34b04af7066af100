//! One HTTP request to a receiver, and what its answer means.
//!
//! Redirects are not followed, proxies of the environment not used (they would connect where we must
//! not), at most 64 KiB of an answer read, and the whole attempt has a time limit. TLS is checked
//! always; there is no switch for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use jiff::tz::TimeZone;
use reqwest::Url;
use tokio::io::AsyncReadExt as _;

use super::AttemptError;
use super::rate::asked;
use crate::model::Timestamp;
use crate::notify::address::{Guard, Refused};
use crate::notify::message::Resolved;

/// More of an answer is not read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// So much of an answer is shown to the operator.
const SHOWN_CHARS: usize = 200;
/// A delivered notification does not wait longer for the rest of its answer. Reading it is only good
/// for using the connection again.
const DRAIN: Duration = Duration::from_millis(500);
/// Longest content of a file that holds a credential.
const MAX_CREDENTIAL_BYTES: u64 = 64 << 10;

/// A setting that nobody may see: as it stands, or in a file, which is read at each attempt, so that it
/// can be changed there. It shows itself nowhere.
#[derive(Clone)]
pub enum Credential {
    /// As it stands.
    Text(String),
    /// What this file holds, without white space around it.
    File(PathBuf),
}

impl Credential {
    /// The credential. A file that cannot be read may be there at the next attempt.
    pub(super) async fn read(&self) -> Result<String, AttemptError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let failed = |error: std::io::Error| AttemptError::Retryable {
            after: None,
            reason: format!("{} cannot be read: {error}", path.display()),
        };
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut text = String::new();
        let mut limited = file.take(MAX_CREDENTIAL_BYTES);
        limited.read_to_string(&mut text).await.map_err(failed)?;
        Ok(text.trim().to_owned())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("<secret>"),
            Self::File(path) => write!(f, "<secret in {}>", path.display()),
        }
    }
}

/// The address of a receiver. Of its URL only scheme, host and port are ever shown: paths hold tokens.
#[derive(Clone)]
pub enum Address {
    /// This one.
    Url(Url),
    /// What this file holds, read at each attempt.
    File(PathBuf),
}

impl Address {
    /// The address `url`.
    ///
    /// # Errors
    /// It is no `http` or `https` URL. The message does not contain it, for it may hold a token.
    pub fn parse(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|e| format!("not a URL: {e}"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Url(url)),
            _ => Err("not an http or https URL".into()),
        }
    }

    async fn read(&self) -> Result<Url, AttemptError> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::File(path) => {
                let text = Credential::File(path.clone()).read().await?;
                match Self::parse(&text) {
                    Ok(Self::Url(url)) => Ok(url),
                    Ok(Self::File(_)) | Err(_) => Err(AttemptError::Permanent {
                        reason: format!("{} holds no http or https URL", path.display()),
                    }),
                }
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => {
                let host = url.host_str().unwrap_or_default();
                let port = url.port().map(|port| format!(":{port}"));
                write!(f, "{}://{host}{}/…", url.scheme(), port.unwrap_or_default())
            }
            Self::File(path) => write!(f, "the address in {}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The header `Authorization` of every request.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Credential,
    },
    /// A scheme and what follows it, as `Bearer` and a token.
    Scheme {
        /// The scheme.
        scheme: String,
        /// What follows it.
        credentials: Credential,
    },
}

/// How HTTP is spoken with a receiver. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Http {
    /// Says who we are. Default: nothing.
    pub authorization: Option<Authorization>,
    /// Further headers; their values are secret. Default: none.
    pub headers: HeaderMap,
    transport: Option<Arc<Transport>>,
}

/// What needs a client of its own.
#[derive(Debug, Default)]
struct Transport {
    settings: TransportSettings,
    client: OnceLock<Result<reqwest::Client, String>>,
}

/// How connections are made, where not as usual.
#[derive(Debug, Clone, Default)]
pub struct TransportSettings {
    /// A proxy that requests go through.
    pub proxy: Option<Url>,
    /// Certificate authorities in PEM that are trusted beside the machine's.
    pub roots: Option<Vec<u8>>,
    /// Our own certificate and its key in PEM, one after the other.
    pub identity: Option<Vec<u8>>,
    /// Whether only HTTP/1.1 is spoken.
    pub http1_only: bool,
}

impl Http {
    /// With a transport of its own.
    ///
    /// # Errors
    /// A certificate or key cannot be read.
    pub fn over(mut self, settings: TransportSettings) -> Result<Self, String> {
        // What is wrong with it is said now, not when there is an alert.
        settings.build(reqwest::Client::builder())?;
        self.transport = Some(Arc::new(Transport {
            settings,
            client: OnceLock::new(),
        }));
        Ok(self)
    }
}

impl TransportSettings {
    fn build(&self, mut builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
        let wrong = |what: &str, error: reqwest::Error| format!("{what}: {}", causes(&error));
        // Whoever was first (`main`, or another test) has installed the same one.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        if let Some(proxy) = &self.proxy {
            let proxy = reqwest::Proxy::all(proxy.clone());
            builder =
                builder.proxy(proxy.map_err(|error| wrong("the proxy", error.without_url()))?);
        }
        if let Some(roots) = &self.roots {
            let certificates = reqwest::Certificate::from_pem_bundle(roots);
            let certificates = certificates.map_err(|error| wrong("`ca_file`", error))?;
            if certificates.is_empty() {
                return Err("`ca_file` holds no certificate".into());
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(identity) = &self.identity {
            let identity = reqwest::Identity::from_pem(identity);
            builder =
                builder.identity(identity.map_err(|e| wrong("`cert_file` and `key_file`", e))?);
        }
        if self.http1_only {
            builder = builder.http1_only();
        }
        builder
            .build()
            .map_err(|error| wrong("the HTTP client", error))
    }
}

/// Where requests go, and how; what all integrations by HTTP have.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// How HTTP is spoken.
    pub http: Http,
    /// So long may a whole attempt take, from resolving the name to the end of the answer.
    pub timeout: Duration,
    /// Whether it is told about resolved alerts.
    pub resolved: Resolved,
    /// In which time zone texts say times.
    pub zone: TimeZone,
}

impl Endpoint {
    /// One at `address`: 10 s an attempt, resolved alerts are told, UTC.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            http: Http::default(),
            timeout: Duration::from_secs(10),
            resolved: Resolved::Send,
            zone: TimeZone::UTC,
        }
    }
}

/// One request; what it says stays the same over all attempts.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::notify) struct Outgoing {
    pub(super) method: Method,
    /// Added to the address, piece by piece.
    pub(super) path: Vec<String>,
    pub(super) query: Option<(&'static str, &'static str)>,
    pub(super) body: Vec<u8>,
}

impl Outgoing {
    /// Posts `body` to the address itself.
    pub(super) fn post(body: &serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            path: Vec::new(),
            query: None,
            body: body.to_string().into_bytes(),
        }
    }
}

/// Whether the answer of a request that succeeded is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// What it says does not matter.
    Status,
    /// It may still be a failure.
    Answer,
}

/// The HTTP client of all integrations. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::notify) struct Client {
    http: reqwest::Client,
    pub(super) guard: Guard,
    pub(super) connect_timeout: Duration,
}

impl Client {
    pub(in crate::notify) fn new(
        guard: Guard,
        connect_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        // Whoever was first (`main`, or another test) has installed the same one.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let http = builder(&guard, connect_timeout).build().or_else(|error| {
            // A machine without CA certificates can still do http; https fails at each attempt, with
            // the reason.
            tracing::warn!(%error, "no CA certificates: https webhooks will fail");
            builder(&guard, connect_timeout).tls_certs_only([]).build()
        })?;
        Ok(Self {
            http,
            guard,
            connect_timeout,
        })
    }

    fn client(&self, http: &Http) -> Result<reqwest::Client, AttemptError> {
        let Some(transport) = &http.transport else {
            return Ok(self.http.clone());
        };
        let client = transport.client.get_or_init(|| {
            let builder = builder(&self.guard, self.connect_timeout);
            transport.settings.build(builder)
        });
        client
            .clone()
            .map_err(|reason| AttemptError::Permanent { reason })
    }

    /// Makes one request to a receiver whose answer says more than its status, and returns that answer.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<String, AttemptError> {
        let (further, interest) = (HeaderMap::new(), Interest::Answer);
        let answer = self
            .send(endpoint, outgoing, further, interest, now)
            .await?;
        Ok(answer.unwrap_or_default())
    }

    /// Makes one request. `further` headers are ours. Returns the answer, where it matters and came.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        outgoing: &Outgoing,
        further: HeaderMap,
        interest: Interest,
        now: Timestamp,
    ) -> Result<Option<String>, AttemptError> {
        let mut url = endpoint.address.read().await?;
        if !outgoing.path.is_empty()
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.pop_if_empty().extend(&outgoing.path);
        }
        if let Some((name, value)) = outgoing.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        self.guard
            .check_url(&url)
            .map_err(|refused| AttemptError::Permanent {
                reason: refused.to_string(),
            })?;
        let mut request = self
            .client(&endpoint.http)?
            .request(outgoing.method.clone(), url)
            .timeout(endpoint.timeout)
            .headers(endpoint.http.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .headers(further);
        match &endpoint.http.authorization {
            Some(Authorization::Basic { username, password }) => {
                request = request.basic_auth(username, Some(password.read().await?));
            }
            Some(Authorization::Scheme {
                scheme,
                credentials,
            }) => {
                let value = format!("{scheme} {}", credentials.read().await?);
                request = request.header(AUTHORIZATION, hidden("Authorization", &value)?);
            }
            None => {}
        }
        let sent = request.body(outgoing.body.clone()).send().await;
        let response = sent.map_err(classify)?;
        let status = response.status();
        if status.is_success() {
            let answer = tokio::time::timeout(DRAIN, read_answer(response)).await;
            return Ok(answer.ok().filter(|_| interest == Interest::Answer));
        }
        let after = asked(status, response.headers(), now);
        let answer = read_answer(response).await;
        Err(judge(status, after, &answer))
    }
}

fn builder(guard: &Guard, connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("tidewatch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .no_gzip()
        .referer(false)
        .connect_timeout(connect_timeout)
        .dns_resolver(guard.clone())
}

/// A header's value that is not shown.
fn hidden(name: &str, value: &str) -> Result<HeaderValue, AttemptError> {
    let mut value = HeaderValue::try_from(value).map_err(|_| AttemptError::Permanent {
        reason: format!("the value of `{name}` has characters that no header may have"),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header of a name and a value that is not shown.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let header = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"))?;
    let value = hidden(name, value).map_err(|error| error.to_string())?;
    Ok((header, value))
}

/// What an answer other than success means.
pub(super) fn judge(status: StatusCode, after: Option<Duration>, answer: &str) -> AttemptError {
    let mut reason = format!("it answered {status}");
    let answer = shown(answer);
    if !answer.is_empty() {
        reason.push_str(": ");
        reason.push_str(&answer);
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
    // The URL may hold a token.
    let error = error.without_url();
    let reason = causes(&error);
    if error.is_builder() {
        AttemptError::Permanent { reason }
    } else {
        AttemptError::Retryable {
            after: None,
            reason,
        }
    }
}

/// An error and what is behind it. The causes say more than the error: `connection refused`. Some errors
/// tell their cause themselves; it is not said twice.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !said.ends_with(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// The beginning of an answer.
async fn read_answer(mut response: reqwest::Response) -> String {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER_BYTES - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if answer.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The beginning of an answer, fit to be shown.
pub(super) fn shown(answer: &str) -> String {
    let shown = answer.trim().chars().take(SHOWN_CHARS);
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{Address, AttemptError, Credential, judge};

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

    #[tokio::test]
    async fn credentials_come_from_files_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let credential = Credential::File(path.clone());
        let missing = credential.read().await.unwrap_err();
        assert!(
            matches!(missing, AttemptError::Retryable { .. }),
            "{missing}"
        );
        std::fs::write(&path, " hunter2\n").unwrap();
        assert_eq!(credential.read().await.unwrap(), "hunter2");
        assert_eq!(
            format!("{:?}", Credential::Text("hunter2".into())),
            "<secret>"
        );
        // A file that holds no URL does not show what it holds.
        let address = Address::File(path);
        let wrong = address.read().await.unwrap_err().to_string();
        assert!(
            wrong.contains("holds no http") && !wrong.contains("hunter2"),
            "{wrong}"
        );
    }
}
