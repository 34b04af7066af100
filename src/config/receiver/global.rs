//! What holds for all alerts and receivers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::email::HostPort;
use super::http::HttpConfig;
use super::time_zone::TimeZone;
use crate::config::listen::HttpUrl;
use crate::config::secret::{Secret, SecretUrl};
use crate::config::units::Period;

/// What receivers take where they do not say themselves, and how long reports hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    /// An alert that another system reported without an end is over so long after its last report.
    pub resolve_timeout: Period,
    /// The mail server and its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp_smarthost: Option<HostPort>,
    /// Who sends mail. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp_from: Option<String>,
    /// What Tidewatch calls itself to mail servers. Unset: `localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp_hello: Option<String>,
    /// User name at the mail server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp_auth_username: Option<String>,
    /// Password at the mail server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp_auth_password: Option<Secret>,
    /// A file that holds that password, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp_auth_password_file: Option<PathBuf>,
    /// Whether mail is sent over TLS only.
    pub smtp_require_tls: bool,
    /// The webhook of Slack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack_api_url: Option<SecretUrl>,
    /// A file that holds it, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack_api_url_file: Option<PathBuf>,
    /// Where events for PagerDuty are sent.
    pub pagerduty_url: HttpUrl,
    /// Where the API of Opsgenie is.
    pub opsgenie_api_url: HttpUrl,
    /// The key of Opsgenie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opsgenie_api_key: Option<Secret>,
    /// A file that holds it, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opsgenie_api_key_file: Option<PathBuf>,
    /// How HTTP is spoken with receivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
    /// In which time zone texts say times, as `Europe/Berlin`.
    pub time_zone: TimeZone,
}

impl Default for Global {
    fn default() -> Self {
        let url = |text: &str| text.parse().expect("a URL that is written here");
        Self {
            resolve_timeout: Period::secs(5 * 60),
            smtp_smarthost: None,
            smtp_from: None,
            smtp_hello: None,
            smtp_auth_username: None,
            smtp_auth_password: None,
            smtp_auth_password_file: None,
            smtp_require_tls: true,
            slack_api_url: None,
            slack_api_url_file: None,
            pagerduty_url: url("https://events.pagerduty.com/v2/enqueue"),
            opsgenie_api_url: url("https://api.opsgenie.com"),
            opsgenie_api_key: None,
            opsgenie_api_key_file: None,
            http_config: None,
            time_zone: TimeZone::default(),
        }
    }
}
