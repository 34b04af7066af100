//! The doors: where the daemon listens, who may come in, and how much each may bring.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decode::BadText;
use super::secret::{Secret, http_url};
use super::units::{ByteSize, Period, as_text};

/// Where OTLP comes in, and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Where OTLP/gRPC is taken: an address, or `off`. Port 0 lets the system choose one. Anything but
    /// loopback lets other machines in: set `auth` and `tls` then.
    pub grpc: Listen,
    /// Where OTLP/HTTP is taken (`/v1/traces`, `/v1/metrics`; protobuf and JSON): an address, or `off`.
    pub http: Listen,
    /// Largest request, before and after decompression. A larger one is refused for good, and the client
    /// drops it. At least 1KiB.
    pub max_request_size: ByteSize,
    /// A connection whose request headers take longer than this is closed. More than 0.
    pub header_timeout: Period,
    /// A request whose body takes longer than this is refused. More than 0.
    pub body_timeout: Period,
    /// Certificates for both ports. Unset: no encryption, which is fine on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What a client has to show. Unset: nothing, which is fine on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Lets pages in browsers send OTLP/HTTP. Unset: none may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            grpc: Listen::At(loopback(4317)),
            http: Listen::At(loopback(4318)),
            max_request_size: ByteSize(64 << 20),
            header_timeout: Period::secs(10),
            body_timeout: Period::secs(30),
            tls: None,
            auth: None,
            cors: None,
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// Certificates, as PEM files; the Collector's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate and those between it and the root.
    pub cert_file: PathBuf,
    /// The certificate's private key.
    pub key_file: PathBuf,
    /// Certificates of those who may sign client certificates. Set: every client needs one (mTLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

/// What a client has to show: one of the two, or either where both are set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The token of `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Secret>,
    /// The name and password of `Authorization: Basic …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
}

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The name; without a colon.
    pub username: String,
    /// The password that goes with it.
    pub password: Secret,
}

/// Which pages may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins such as `https://shop.example.com`, or `*` for every page. Credentials are never allowed
    /// along with `*`.
    pub allowed_origins: Vec<String>,
}

/// The port of the UI, the API, `/metrics`, the modes and health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The address. Port 0 lets the system choose one. There is no authentication on this port: put a
    /// proxy in front before opening it to others.
    pub listen: Address,
    /// Further names by which the daemon may be called in `Host` and `Origin`, such as
    /// `tidewatch.example.com`; loopback and the host of `external_url` are always allowed. Other names
    /// are refused, which stops foreign web pages from reaching a daemon on loopback.
    pub allowed_hosts: Vec<String>,
    /// How people reach the UI; links in notifications begin with it. Unset: `http://` and the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_url: Option<HttpUrl>,
    /// Most signals shown as `tidewatch_signal` on `/metrics`, of those that a rule watches. `0`: none.
    /// Each makes some 11 series in Prometheus.
    pub metrics_signals: u32,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Address(loopback(9517)),
            allowed_hosts: Vec::new(),
            external_url: None,
            metrics_signals: 10_000,
        }
    }
}

/// An IP address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || BadText::new("expected an address such as 127.0.0.1:4317 or [::1]:4317");
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(bad().hint("an IP address, a colon and a port"));
        };
        let port: u16 = port
            .parse()
            .map_err(|_| bad().hint("the port is 0 to 65535"))?;
        match host {
            "localhost" => Ok(Self(loopback(port))),
            "" => Err(bad().hint(format!(
                "write 127.0.0.1:{port} for this machine only, 0.0.0.0:{port} for all interfaces"
            ))),
            _ => Err(bad().hint("names are not looked up; write the IP address")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Address, "Address", "an address such as 127.0.0.1:9517", {
    "type": "string",
    "pattern": "^(localhost|[0-9.]+|\\[[0-9a-fA-F:.%]+\\]):[0-9]{1,5}$"
});

/// An address to listen on, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// There.
    At(SocketAddr),
}

impl Listen {
    /// The address; `None` when off.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Listen {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        if text == "off" || text == "false" {
            return Ok(Self::Off);
        }
        Address::from_str(text)
            .map(|address| Self::At(address.0))
            .map_err(|mut bad| {
                bad.message.push_str(", or `off`");
                bad
            })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

as_text!(Listen, "Listen", "an address such as 127.0.0.1:4317, or `off`", {
    "type": ["string", "boolean"],
    "pattern": "^(off|(localhost|[0-9.]+|\\[[0-9a-fA-F:.%]+\\]):[0-9]{1,5})$"
});

/// An `http://` or `https://` address, without the slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its host, in lower case.
    pub fn host(&self) -> Option<String> {
        let url = reqwest::Url::parse(&self.0).ok()?;
        url.host_str().map(str::to_owned)
    }
}

impl FromStr for HttpUrl {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let url = http_url(text)?;
        if !url.username().is_empty() || url.password().is_some() {
            let mut bad = BadText::new("a URL that is shown to people must not hold a password");
            bad.private = true;
            return Err(bad);
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(HttpUrl, "HttpUrl", "a URL such as https://tidewatch.example.com", {
    "type": "string",
    "format": "uri",
    "pattern": "^https?://"
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ip_and_port() {
        for (text, expected) in [
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("[::1]:4317", Some("[::1]:4317")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("off", Some("off")),
            (":4317", None),
            ("4317", None),
            ("127.0.0.1", None),
            ("127.0.0.1:65536", None),
            ("example.com:80", None),
            ("", None),
        ] {
            let found = text.parse::<Listen>().ok().map(|listen| listen.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert!("off".parse::<Address>().is_err());
    }
}
