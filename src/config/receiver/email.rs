//! Receivers that are read later: email and a log file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::TlsConfig;
use super::{TextKind, Texts};
use crate::config::decode::BadText;
use crate::config::secret::Secret;
use crate::config::units::{ByteSize, Period, as_text};

/// Mail by SMTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Email {
    /// Who gets it; several separated by commas. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who sends it. Unset: `global.smtp_from`. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The server and its port. Port 465: TLS from the first byte; else STARTTLS. Unset:
    /// `global.smtp_smarthost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smarthost: Option<HostPort>,
    /// What Tidewatch calls itself. Unset: `global.smtp_hello`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hello: Option<String>,
    /// User name; AUTH PLAIN or LOGIN. Unset: `global.smtp_auth_username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_username: Option<String>,
    /// Password. Unset: `global.smtp_auth_password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_password: Option<Secret>,
    /// A file that holds the password, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_password_file: Option<PathBuf>,
    /// Whether nothing is sent without TLS. `false`: STARTTLS is not used. Unset: `global.smtp_require_tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_tls: Option<bool>,
    /// How the server proves who it is. Unset: by the certificates of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    /// Further headers; `Subject` is status, service and names of the alerts unless it is here. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The mail in HTML. Unset: each alert with its explanation. Empty: none. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// The mail in plain text. Unset: as `html`. Empty: none. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    pub timeout: Period,
}

impl Default for Email {
    fn default() -> Self {
        Self {
            to: None,
            from: None,
            smarthost: None,
            hello: None,
            auth_username: None,
            auth_password: None,
            auth_password_file: None,
            require_tls: None,
            tls_config: None,
            headers: BTreeMap::new(),
            html: None,
            text: None,
            send_resolved: false,
            // A server may think for a while about whom it lets in.
            timeout: Period::secs(30),
        }
    }
}

impl Email {
    pub(super) fn texts<'a>(&'a self, texts: &mut Texts<'a>) {
        texts.maybe("to", TextKind::Line, &self.to);
        texts.maybe("from", TextKind::Line, &self.from);
        texts.maybe("html", TextKind::Html, &self.html);
        texts.maybe("text", TextKind::Plain, &self.text);
        for (key, text) in &self.headers {
            texts.add(&format!("headers.{key}"), TextKind::Line, text);
        }
    }
}

/// A host and a port: `smtp.example.org:587`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || {
            BadText::new("expected a host and a port such as smtp.example.org:587")
                .hint("587 is for STARTTLS, 465 for TLS from the first byte")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bare {
            Some(address) => address.parse().map(|_: std::net::Ipv6Addr| address),
            None => Ok(host),
        };
        let host = host.map_err(|_| bad())?;
        let is_host =
            !host.is_empty() && !host.contains(|c: char| c == '/' || c == '@' || c.is_whitespace());
        match port.parse() {
            Ok(port) if is_host && port != 0 => Ok(Self {
                host: host.into(),
                port,
            }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

as_text!(HostPort, "HostPort", "a host and a port such as smtp.example.org:587", {
    "type": "string",
    "pattern": "^.+:[0-9]{1,5}$"
});

/// A file to which each notification is appended as a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogFile {
    /// The file; it is made where it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The line. Unset: JSON, Alertmanager's webhook body with the notification's `id` and `time`. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// From this size on the file is renamed to `path.1`, over the one that has that name. At least 4KiB.
    pub max_size: ByteSize,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
}

impl Default for LogFile {
    fn default() -> Self {
        Self {
            path: None,
            text: None,
            max_size: ByteSize(64 << 20),
            send_resolved: true,
        }
    }
}

impl LogFile {
    pub(super) fn texts<'a>(&'a self, texts: &mut Texts<'a>) {
        texts.maybe("text", TextKind::Line, &self.text);
    }
}
