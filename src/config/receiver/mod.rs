//! Who can be told of alerts, and how. Alertmanager's words and meaning.
//!
//! A receiver has any number of integrations, one file each or two beside this one. Their texts are
//! templates; [`Receiver::texts`] lists them, so that each is checked when the configuration is loaded.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Period;

mod chat;
mod email;
mod global;
mod http;
mod paging;
mod paths;
mod templates;
mod time_zone;
mod webhook;

pub use chat::{Card, Slack, SlackAction, SlackField, Teams};
pub use email::{Email, HostPort, LogFile};
pub use global::Global;
pub use http::{Authorization, BasicAuth, HttpConfig, TlsConfig};
pub use paging::{Opsgenie, PagerDuty, PagerDutyImage, PagerDutyLink, Responder};
pub use templates::{TemplateError, TemplateFile, read_templates};
pub use time_zone::TimeZone;
pub use webhook::{Alertmanager, Webhook};

/// The receiver that is always there: a line in the daemon's log.
pub const LOG_RECEIVER: &str = "log";

/// How long one attempt over HTTP may take by default.
const TIMEOUT: Period = Period::secs(10);

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Its name, which routes refer to. `log` is taken.
    pub name: String,
    /// HTTP addresses that take JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhook_configs: Vec<Webhook>,
    /// Channels of Slack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slack_configs: Vec<Slack>,
    /// Services of PagerDuty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pagerduty_configs: Vec<PagerDuty>,
    /// Teams of Opsgenie.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opsgenie_configs: Vec<Opsgenie>,
    /// Channels of Microsoft Teams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub msteams_configs: Vec<Teams>,
    /// The same; Alertmanager keeps its two kinds of webhooks apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub msteamsv2_configs: Vec<Teams>,
    /// People who get mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_configs: Vec<Email>,
    /// Other Alertmanagers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alertmanager_configs: Vec<Alertmanager>,
    /// Log files, a line a notification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_configs: Vec<LogFile>,
    /// In which time zone its texts say times. Unset: `global.time_zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TimeZone>,
    /// The receiver that is told when this one cannot be reached. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// Where a text goes, which says how the values in it are written so that they stay values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextKind {
    /// A line: values have no line breaks.
    Line,
    /// Text as it is.
    Plain,
    /// HTML.
    Html,
    /// A line in Slack's markup.
    SlackLine,
    /// Slack's markup.
    Slack,
    /// A line in Markdown.
    MarkdownLine,
    /// Markdown.
    Markdown,
    /// JSON: values are written as JSON.
    Json,
    /// A text inside a JSON tree.
    Leaf,
}

/// The texts of an integration, with their places in it.
#[derive(Debug, Default)]
pub struct Texts<'a> {
    prefix: String,
    found: Vec<(String, TextKind, &'a str)>,
}

impl<'a> Texts<'a> {
    fn add(&mut self, key: &str, kind: TextKind, text: &'a str) {
        self.found
            .push((format!("{}.{key}", self.prefix), kind, text));
    }

    fn maybe(&mut self, key: &str, kind: TextKind, text: &'a Option<String>) {
        if let Some(text) = text {
            self.add(key, kind, text);
        }
    }
}

impl Receiver {
    /// All texts that are templates, with their paths below the receiver and where they go.
    pub fn texts(&self) -> Vec<(String, TextKind, &str)> {
        let mut texts = Texts::default();
        macro_rules! each {
            ($($key:ident),*) => {$(
                for (at, integration) in self.$key.iter().enumerate() {
                    texts.prefix = format!("{}[{at}]", stringify!($key));
                    integration.texts(&mut texts);
                }
            )*};
        }
        each!(
            webhook_configs,
            slack_configs,
            pagerduty_configs,
            opsgenie_configs,
            msteams_configs,
            msteamsv2_configs,
            email_configs,
            file_configs
        );
        texts.found
    }

    /// Whether it has no integration at all.
    pub fn is_empty(&self) -> bool {
        self.webhook_configs.is_empty()
            && self.slack_configs.is_empty()
            && self.pagerduty_configs.is_empty()
            && self.opsgenie_configs.is_empty()
            && self.msteams_configs.is_empty()
            && self.msteamsv2_configs.is_empty()
            && self.email_configs.is_empty()
            && self.alertmanager_configs.is_empty()
            && self.file_configs.is_empty()
    }
}
