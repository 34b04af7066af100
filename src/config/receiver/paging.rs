//! Receivers that wake people: PagerDuty and Opsgenie.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpConfig;
use super::{TIMEOUT, TextKind, Texts};
use crate::config::listen::HttpUrl;
use crate::config::secret::Secret;
use crate::config::units::Period;

/// A service of PagerDuty, by the Events API v2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDuty {
    /// The integration key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<Secret>,
    /// A file that holds it, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key_file: Option<PathBuf>,
    /// Where events are sent. Unset: `global.pagerduty_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// Name of the sender. Unset: `Tidewatch`. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Where `client` leads. Unset: to the alert. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_url: Option<String>,
    /// What the incident is called, up to 1,024 characters. Unset: status, service and names of the alerts. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `critical`, `error`, `warning` or `info`. Unset: that of the worst alert. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// What the incident is about. Unset: the service. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The kind of the event. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The part that is broken. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// What it belongs to. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Further facts, beside the built-in ones. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// Pictures that the incident shows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PagerDutyImage>,
    /// Links. Empty: one to the alert.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<PagerDutyLink>,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    pub timeout: Period,
    /// How HTTP is spoken: authentication, TLS, proxy. Unset: `global.http_config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
}

impl Default for PagerDuty {
    fn default() -> Self {
        Self {
            routing_key: None,
            routing_key_file: None,
            url: None,
            client: None,
            client_url: None,
            description: None,
            severity: None,
            source: None,
            class: None,
            component: None,
            group: None,
            details: BTreeMap::new(),
            images: Vec::new(),
            links: Vec::new(),
            send_resolved: true,
            timeout: TIMEOUT,
            http_config: None,
        }
    }
}

/// A picture of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyImage {
    /// Where it is, https. A template.
    pub src: String,
    /// Where it leads. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub href: Option<String>,
    /// What it shows. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt: Option<String>,
}

/// A link of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyLink {
    /// Where it leads. A template.
    pub href: String,
    /// What it is called. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl PagerDuty {
    pub(super) fn texts<'a>(&'a self, texts: &mut Texts<'a>) {
        texts.maybe("client", TextKind::Line, &self.client);
        texts.maybe("client_url", TextKind::Line, &self.client_url);
        texts.maybe("description", TextKind::Line, &self.description);
        texts.maybe("severity", TextKind::Line, &self.severity);
        texts.maybe("source", TextKind::Line, &self.source);
        texts.maybe("class", TextKind::Line, &self.class);
        texts.maybe("component", TextKind::Line, &self.component);
        texts.maybe("group", TextKind::Line, &self.group);
        for (key, text) in &self.details {
            texts.add(&format!("details.{key}"), TextKind::Plain, text);
        }
        for (at, image) in self.images.iter().enumerate() {
            texts.add(&format!("images[{at}].src"), TextKind::Line, &image.src);
            texts.maybe(&format!("images[{at}].href"), TextKind::Line, &image.href);
            texts.maybe(&format!("images[{at}].alt"), TextKind::Line, &image.alt);
        }
        for (at, link) in self.links.iter().enumerate() {
            texts.add(&format!("links[{at}].href"), TextKind::Line, &link.href);
            texts.maybe(&format!("links[{at}].text"), TextKind::Line, &link.text);
        }
    }
}

/// A team of Opsgenie, by its Alert API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Opsgenie {
    /// The key of the API integration. Unset: `global.opsgenie_api_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// A file that holds it, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Where the API is. Unset: `global.opsgenie_api_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<HttpUrl>,
    /// Title, up to 130 characters. Unset: status, service and names of the alerts. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Text, up to 15,000 characters. Unset: explanation, recommendation and link of each alert, up to ten. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it comes from. Unset: the link to the alert. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it is about. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// `P1` to `P5`. Unset: `P1` for critical alerts, else `P3`. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// A note on it. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Tags, separated by commas. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// Actions that people may take, separated by commas. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<String>,
    /// Further facts, beside the labels. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// Who is to answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub responders: Vec<Responder>,
    /// Whether title and text of an alert that exists follow the later notifications.
    pub update_alerts: bool,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    pub timeout: Period,
    /// How HTTP is spoken: authentication, TLS, proxy. Unset: `global.http_config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
}

impl Default for Opsgenie {
    fn default() -> Self {
        Self {
            api_key: None,
            api_key_file: None,
            api_url: None,
            message: None,
            description: None,
            source: None,
            entity: None,
            priority: None,
            note: None,
            tags: None,
            actions: None,
            details: BTreeMap::new(),
            responders: Vec::new(),
            update_alerts: false,
            send_resolved: true,
            timeout: TIMEOUT,
            http_config: None,
        }
    }
}

/// Somebody of Opsgenie: one of `id`, `name` and `username`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Responder {
    /// Id of a team, user, schedule or escalation. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of a team, schedule or escalation. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of a user. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// `team`, `teams` (several names, separated by commas), `user`, `escalation` or `schedule`. A template.
    pub r#type: String,
}

impl Opsgenie {
    pub(super) fn texts<'a>(&'a self, texts: &mut Texts<'a>) {
        texts.maybe("message", TextKind::Line, &self.message);
        texts.maybe("description", TextKind::Plain, &self.description);
        texts.maybe("source", TextKind::Line, &self.source);
        texts.maybe("entity", TextKind::Line, &self.entity);
        texts.maybe("priority", TextKind::Line, &self.priority);
        texts.maybe("note", TextKind::Plain, &self.note);
        texts.maybe("tags", TextKind::Line, &self.tags);
        texts.maybe("actions", TextKind::Line, &self.actions);
        for (key, text) in &self.details {
            texts.add(&format!("details.{key}"), TextKind::Plain, text);
        }
        for (at, responder) in self.responders.iter().enumerate() {
            texts.maybe(
                &format!("responders[{at}].id"),
                TextKind::Line,
                &responder.id,
            );
            texts.maybe(
                &format!("responders[{at}].name"),
                TextKind::Line,
                &responder.name,
            );
            texts.maybe(
                &format!("responders[{at}].username"),
                TextKind::Line,
                &responder.username,
            );
            texts.add(
                &format!("responders[{at}].type"),
                TextKind::Line,
                &responder.r#type,
            );
        }
    }
}
