//! Slack: an incoming webhook, or `chat.postMessage` with a bot's token.
//!
//! The message is an attachment, as Alertmanager sends it:
//! <https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments>.

use serde_json::{Value, json};

use super::http::{Client, Endpoint, Outgoing, shown};
use super::{AttemptError, Context, cut, object};
use crate::model::Timestamp;
use crate::notify::message::Message;
use crate::notify::template::{Target, Text, View, words};

/// Longest title, as in Alertmanager.
const MAX_TITLE_CHARS: usize = 1024;
/// Slack shows no longer text.
const MAX_TEXT_CHARS: usize = 40_000;

/// A channel of Slack.
#[derive(Debug, Clone)]
pub struct Slack {
    /// Where messages are posted.
    pub endpoint: Endpoint,
    /// Texts that stand in the message or its attachment under the name given, if they say something:
    /// `channel`, `username`, `icon_emoji`, `icon_url`; `pretext`, `callback_id`, `footer`, `image_url`,
    /// `thumb_url`.
    pub plain: Vec<(&'static str, Text)>,
    /// Colour of the bar. Default: by status and severity.
    pub color: Option<Text>,
    /// Title. Default: the built-in one.
    pub title: Option<Text>,
    /// Where the title leads. Default: to the alert.
    pub title_link: Option<Text>,
    /// Text. Default: the built-in one.
    pub text: Option<Text>,
    /// Text where attachments are not shown. Default: the title.
    pub fallback: Option<Text>,
    /// Small texts: title, value, whether it stands beside others.
    pub fields: Vec<(Text, Text, bool)>,
    /// Buttons: text, URL, style.
    pub actions: Vec<(Text, Text, Option<Text>)>,
    /// Whether `@name` and `#channel` become links.
    pub link_names: bool,
    /// Which texts are in Slack's markup.
    pub mrkdwn_in: Vec<String>,
}

/// Texts of the message itself; the others are the attachment's.
const OF_MESSAGE: [&str; 4] = ["channel", "username", "icon_emoji", "icon_url"];

const COLOR: &str = "{% if mode %}#808080{% elif status == 'resolved' %}good\
                     {% elif severity == 'critical' %}danger{% else %}warning{% endif %}";

impl Slack {
    pub(super) fn prepare(
        &self,
        context: &Context,
        receiver: &str,
        message: &Message,
    ) -> Option<Outgoing> {
        let view = context.view(message, receiver, "slack", &self.endpoint)?;
        Some(Outgoing::post(&self.message(&view)))
    }

    fn message(&self, view: &View<'_>) -> Value {
        let line =
            |text: &Option<Text>, built_in| view.text(text.as_ref(), built_in, Target::SlackLine);
        let title = cut(&line(&self.title, words::TITLE), MAX_TITLE_CHARS);
        let text = view.text(self.text.as_ref(), words::SLACK, Target::Slack);
        let fields = self.fields.iter().map(|(title, value, short)| {
            json!({
                "title": view.text(Some(title), "", Target::SlackLine),
                "value": view.text(Some(value), "", Target::Slack),
                "short": short,
            })
        });
        let actions = self.actions.iter().map(|(text, url, style)| {
            object([
                ("type", Some("button".into())),
                (
                    "text",
                    Some(
                        view.text(Some(text), words::TITLE, Target::SlackLine)
                            .into(),
                    ),
                ),
                (
                    "url",
                    Some(view.text(Some(url), words::URL, Target::Line).into()),
                ),
                ("style", view.maybe(style.as_ref()).map(Into::into)),
            ])
        });
        let list = |values: Vec<Value>| (!values.is_empty()).then(|| values.into());
        let mut attachment = object([
            (
                "fallback",
                Some(
                    view.maybe(self.fallback.as_ref())
                        .unwrap_or_else(|| title.clone())
                        .into(),
                ),
            ),
            (
                "color",
                Some(view.text(self.color.as_ref(), COLOR, Target::Line).into()),
            ),
            ("title", Some(title.into())),
            (
                "title_link",
                Some(view.text(self.title_link.as_ref(), words::URL, Target::Line))
                    .filter(|link| !link.is_empty())
                    .map(Into::into),
            ),
            ("text", Some(cut(&text, MAX_TEXT_CHARS).into())),
            ("fields", list(fields.collect())),
            ("actions", list(actions.collect())),
            ("mrkdwn_in", Some(self.mrkdwn_in.clone().into())),
        ]);
        let mut message = object([("link_names", self.link_names.then_some(true.into()))]);
        for (key, text) in &self.plain {
            let place = if OF_MESSAGE.contains(key) {
                &mut message
            } else {
                &mut attachment
            };
            if let Some(text) = view.maybe(Some(text)) {
                place[*key] = text.into();
            }
        }
        if message.get("username").is_none() {
            message["username"] = "Tidewatch".into();
        }
        message["attachments"] = Value::Array(vec![attachment]);
        message
    }

    pub(super) async fn attempt(
        &self,
        client: &Client,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        judge(&client.ask(&self.endpoint, outgoing, now).await?)
    }
}

/// The Web API answers 200 with `ok: false`; a webhook says `ok`.
fn judge(answer: &str) -> Result<(), AttemptError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        ok: bool,
        #[serde(default)]
        error: String,
    }
    match serde_json::from_str(answer) {
        Ok(Answer { ok: false, error }) => {
            let reason = format!("Slack says: {}", shown(&error));
            // <https://docs.slack.dev/reference/methods/chat.postMessage>: these pass.
            match error.as_str() {
                "ratelimited" | "rate_limited" => Err(AttemptError::Limited {
                    after: None,
                    reason,
                }),
                "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
                    Err(AttemptError::Retryable {
                        after: None,
                        reason,
                    })
                }
                _ => Err(AttemptError::Permanent { reason }),
            }
        }
        Ok(Answer { ok: true, .. }) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{AttemptError, judge};

    #[test]
    fn a_success_may_still_be_a_failure() {
        for answer in ["ok", "", r#"{"ok":true,"ts":"1"}"#, "[1]", "{}"] {
            assert_eq!(judge(answer), Ok(()), "{answer}");
        }
        let gone = judge(r#"{"ok":false,"error":"channel_not_found"}"#).unwrap_err();
        assert!(
            matches!(&gone, AttemptError::Permanent { reason } if reason.contains("channel_not_found"))
        );
        let busy = judge(r#"{"ok":false,"error":"ratelimited"}"#).unwrap_err();
        assert!(matches!(busy, AttemptError::Limited { .. }));
    }
}
