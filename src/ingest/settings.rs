use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What the OTLP servers need to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where OTLP/gRPC listens; `None`: nowhere. Default `127.0.0.1:4317`. Port 0 takes a free one.
    pub grpc: Option<SocketAddr>,
    /// Where OTLP/HTTP listens; `None`: nowhere. Default `127.0.0.1:4318`.
    pub http: Option<SocketAddr>,
    /// Most bytes of one request, on the wire and inflated. Default 64 MiB, as OTLP recommends.
    pub max_request_bytes: usize,
    /// Most bytes of all requests in work, inflated; the number for [`Admission::new`]. Default 512 MiB,
    /// a quarter of the default memory limit. A request that is alone is let in even if it is larger.
    ///
    /// [`Admission::new`]: super::Admission::new
    pub inflight_bytes: u64,
    /// Most series that are known again by the bytes of their attributes. Default 1,000,000.
    pub known_series: usize,
    /// Most connections over both ports; one more is closed at once. Default 2,048. The process must
    /// be allowed as many open files.
    pub max_connections: usize,
    /// How long a client may take to say hello and to send the head of a request; idle HTTP/1
    /// connections are closed after it, too. Default 10 s.
    pub header_timeout: Duration,
    /// How long the body of a request may take. Default 30 s.
    pub body_timeout: Duration,
    /// How long requests in work may take once the server is told to stop. Default 10 s.
    pub drain_timeout: Duration,
    /// Origins whose pages may send telemetry from a browser, such as `https://shop.example`; `*`
    /// for all. Default empty: CORS is off.
    pub cors_origins: Vec<String>,
    /// Headers that such pages may send besides `content-type` and `content-encoding`.
    pub cors_headers: Vec<String>,
    /// Who may send. Default `None`: everybody who can connect.
    pub auth: Option<Auth>,
    /// Encryption on both ports. Default `None`.
    pub tls: Option<Tls>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grpc: Some((Ipv4Addr::LOCALHOST, 4317).into()),
            http: Some((Ipv4Addr::LOCALHOST, 4318).into()),
            max_request_bytes: 64 << 20,
            inflight_bytes: 512 << 20,
            known_series: 1_000_000,
            max_connections: 2048,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            cors_origins: Vec::new(),
            cors_headers: Vec::new(),
            auth: None,
            tls: None,
        }
    }
}

/// Credentials, any of which opens the door. They are never shown.
#[derive(Clone, Default)]
pub struct Auth {
    /// The tokens of `Authorization: Bearer TOKEN`.
    pub bearer: Vec<String>,
    /// `Authorization: Basic …` of (user, password).
    pub basic: Vec<(String, String)>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(<secret>)")
    }
}

/// Files for TLS, in PEM. They are read again when they change, so that renewed certificates need no
/// restart.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The server's certificate and its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities whose certificates clients must show; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}
