//! Who can be told of alerts, and how. Alertmanager's words and meaning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::{Secret, SecretUrl};
use super::units::Period;

/// The receiver that is always there: a line in the daemon's log.
pub const LOG_RECEIVER: &str = "log";

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Its name, which routes refer to. `log` is taken.
    pub name: String,
    /// Where notifications are sent, each to all.
    #[serde(default)]
    pub webhook_configs: Vec<Webhook>,
    /// The receiver that is told when this one cannot be reached. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// An HTTP address that takes Alertmanager's webhook JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The address, http or https. Redirects are not followed.
    pub url: SecretUrl,
    /// Signs each request as the Standard Webhooks specification says. Unset: no signature. A key of that
    /// specification (`whsec_` and base64), or any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Whether it also hears of alerts that are over.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    #[serde(default = "default_timeout")]
    pub timeout: Period,
    /// Headers added to each request, such as `Authorization`. Values are kept secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

fn yes() -> bool {
    true
}

fn default_timeout() -> Period {
    Period::secs(10)
}
