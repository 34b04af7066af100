//! Receivers that take JSON over HTTP: any webhook, and another Alertmanager.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpConfig;
use super::{TIMEOUT, TextKind, Texts};
use crate::config::listen::HttpUrl;
use crate::config::secret::{Secret, SecretUrl};
use crate::config::units::Period;

/// An HTTP address that takes Alertmanager's webhook JSON, or any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// The address, http or https. Redirects are not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretUrl>,
    /// A file that holds the address, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Signs each request as the Standard Webhooks specification says. Unset: no signature. A key of that
    /// specification (`whsec_` and base64), or any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Headers added to each request, such as `Authorization`. Values are kept secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Most alerts in one request; the rest is counted in `truncatedAlerts`. `0`: no limit of its own.
    pub max_alerts: u64,
    /// The body instead of Alertmanager's. A mapping or list: its texts are templates, and one that is a single
    /// expression (`"{{ alerts | length }}"`) keeps its type. A text: one template for all of the JSON, in which
    /// values are written as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    pub timeout: Period,
    /// How HTTP is spoken: authentication, TLS, proxy. Unset: `global.http_config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            secret: None,
            headers: BTreeMap::new(),
            max_alerts: 0,
            payload: None,
            send_resolved: true,
            timeout: TIMEOUT,
            http_config: None,
        }
    }
}

impl Webhook {
    pub(super) fn texts<'a>(&'a self, texts: &mut Texts<'a>) {
        match &self.payload {
            Some(serde_json::Value::String(text)) => texts.add("payload", TextKind::Json, text),
            Some(tree) => leaves("payload", tree, texts),
            None => {}
        }
    }
}

/// The texts of a tree.
fn leaves<'a>(path: &str, tree: &'a serde_json::Value, texts: &mut Texts<'a>) {
    match tree {
        serde_json::Value::String(text) => texts.add(path, TextKind::Leaf, text),
        serde_json::Value::Array(list) => {
            for (at, child) in list.iter().enumerate() {
                leaves(&format!("{path}[{at}]"), child, texts);
            }
        }
        serde_json::Value::Object(map) => {
            for (key, child) in map {
                leaves(&format!("{path}.{key}"), child, texts);
            }
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// Another Alertmanager, which is sent the alerts as Prometheus would send them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Alertmanager {
    /// Where it is: `http://alertmanager:9093`, with the path before `/api/v2` if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// How long it takes a firing alert for firing when it hears nothing more of it. Tidewatch tells it again
    /// every `repeat_interval`, so this must be longer.
    pub resolve_timeout: Period,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    pub timeout: Period,
    /// How HTTP is spoken: authentication, TLS, proxy. Unset: `global.http_config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
}

impl Default for Alertmanager {
    fn default() -> Self {
        Self {
            url: None,
            // Thrice the default of `repeat_interval`: two notifications may be lost.
            resolve_timeout: Period::secs(12 * 3600),
            send_resolved: true,
            timeout: TIMEOUT,
            http_config: None,
        }
    }
}
