//! Receivers where people talk: Slack and Microsoft Teams.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::HttpConfig;
use super::{TIMEOUT, TextKind, Texts};
use crate::config::secret::SecretUrl;
use crate::config::units::Period;

/// A channel of Slack, by an incoming webhook or by `chat.postMessage` with a bot's token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slack {
    /// The address of the webhook. Unset: `global.slack_api_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<SecretUrl>,
    /// A file that holds it, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url_file: Option<PathBuf>,
    /// Channel or user. Unset: that of the webhook. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Name of the sender. Unset: `Tidewatch`. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Colour of the bar: `good`, `warning`, `danger` or `#rrggbb`. Unset: by status and severity. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// Title. Unset: status, service and names of the alerts. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where the title leads. Unset: to the alert. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title_link: Option<String>,
    /// Text above the attachment. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretext: Option<String>,
    /// Text. Unset: explanation, recommendation and link of each alert, up to ten. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Small text below. Unset: none. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// Text where attachments are not shown. Unset: the title. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Identifies the attachment to Slack. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_id: Option<String>,
    /// Emoji beside the name. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icon_emoji: Option<String>,
    /// Picture beside the name. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
    /// Picture below the text. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Small picture beside the text. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumb_url: Option<String>,
    /// Small texts in a table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<SlackField>,
    /// Whether fields stand beside each other where they do not say themselves.
    pub short_fields: bool,
    /// Links as buttons. The built-in text has a link to each alert.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<SlackAction>,
    /// Whether `@name` and `#channel` become links.
    pub link_names: bool,
    /// Which texts are in Slack's markup.
    pub mrkdwn_in: Vec<String>,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    pub timeout: Period,
    /// How HTTP is spoken: authentication, TLS, proxy. Unset: `global.http_config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
}

impl Default for Slack {
    fn default() -> Self {
        Self {
            api_url: None,
            api_url_file: None,
            channel: None,
            username: None,
            color: None,
            title: None,
            title_link: None,
            pretext: None,
            text: None,
            footer: None,
            fallback: None,
            callback_id: None,
            icon_emoji: None,
            icon_url: None,
            image_url: None,
            thumb_url: None,
            fields: Vec::new(),
            short_fields: false,
            actions: Vec::new(),
            link_names: false,
            mrkdwn_in: ["fallback", "pretext", "text"].map(Into::into).into(),
            send_resolved: false,
            timeout: TIMEOUT,
            http_config: None,
        }
    }
}

/// A small text in a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackField {
    /// Its title. A template.
    pub title: String,
    /// The text. A template.
    pub value: String,
    /// Whether it stands beside others. Unset: `short_fields`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<bool>,
}

/// A link as a button.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackAction {
    /// Only `button` is known.
    #[serde(default = "button")]
    pub r#type: String,
    /// What stands on it. A template.
    pub text: String,
    /// Where it leads. A template.
    pub url: String,
    /// `default`, `primary` or `danger`. A template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
}

fn button() -> String {
    "button".into()
}

impl Slack {
    pub(super) fn texts<'a>(&'a self, texts: &mut Texts<'a>) {
        texts.maybe("channel", TextKind::Line, &self.channel);
        texts.maybe("username", TextKind::Line, &self.username);
        texts.maybe("color", TextKind::Line, &self.color);
        texts.maybe("title", TextKind::SlackLine, &self.title);
        texts.maybe("title_link", TextKind::Line, &self.title_link);
        texts.maybe("pretext", TextKind::Slack, &self.pretext);
        texts.maybe("text", TextKind::Slack, &self.text);
        texts.maybe("footer", TextKind::SlackLine, &self.footer);
        texts.maybe("fallback", TextKind::SlackLine, &self.fallback);
        texts.maybe("callback_id", TextKind::Line, &self.callback_id);
        texts.maybe("icon_emoji", TextKind::Line, &self.icon_emoji);
        texts.maybe("icon_url", TextKind::Line, &self.icon_url);
        texts.maybe("image_url", TextKind::Line, &self.image_url);
        texts.maybe("thumb_url", TextKind::Line, &self.thumb_url);
        for (at, field) in self.fields.iter().enumerate() {
            texts.add(
                &format!("fields[{at}].title"),
                TextKind::SlackLine,
                &field.title,
            );
            texts.add(
                &format!("fields[{at}].value"),
                TextKind::Slack,
                &field.value,
            );
        }
        for (at, action) in self.actions.iter().enumerate() {
            texts.add(
                &format!("actions[{at}].text"),
                TextKind::SlackLine,
                &action.text,
            );
            texts.add(&format!("actions[{at}].url"), TextKind::Line, &action.url);
            texts.maybe(
                &format!("actions[{at}].style"),
                TextKind::Line,
                &action.style,
            );
        }
    }
}

/// A channel of Microsoft Teams, by a webhook of Workflows (Power Automate) or of an old connector. It is
/// sent an Adaptive Card, which both take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Teams {
    /// The address of the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<SecretUrl>,
    /// A file that holds it, read at each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
    /// The form: `adaptive_card`, or `message_card` for connectors that take no other.
    pub card: Card,
    /// Title. Unset: status, service and names of the alerts. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What a list of messages shows. Unset: the title. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Text, in the card's Markdown. Unset: explanation, recommendation and link of each alert, up to ten. A
    /// template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether it also hears of alerts that are over.
    pub send_resolved: bool,
    /// How long one attempt may take in all, 100ms to 5m. Failed attempts are repeated.
    pub timeout: Period,
    /// How HTTP is spoken: authentication, TLS, proxy. Unset: `global.http_config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
}

/// The form of a message to Teams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Card {
    /// An Adaptive Card.
    #[default]
    AdaptiveCard,
    /// The older MessageCard.
    MessageCard,
}

impl Default for Teams {
    fn default() -> Self {
        Self {
            webhook_url: None,
            webhook_url_file: None,
            card: Card::default(),
            title: None,
            summary: None,
            text: None,
            send_resolved: true,
            timeout: TIMEOUT,
            http_config: None,
        }
    }
}

impl Teams {
    pub(super) fn texts<'a>(&'a self, texts: &mut Texts<'a>) {
        texts.maybe("title", TextKind::MarkdownLine, &self.title);
        texts.maybe("summary", TextKind::Line, &self.summary);
        texts.maybe("text", TextKind::Markdown, &self.text);
    }
}
