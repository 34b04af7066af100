//! Microsoft Teams: a webhook of Workflows, or of an old connector.
//!
//! Both take an Adaptive Card in a message:
//! <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>.

use serde_json::{Value, json};

use super::http::{Client, Endpoint, Outgoing, shown};
use super::{AttemptError, Context, cut};
use crate::model::Timestamp;
use crate::notify::message::Message;
use crate::notify::template::{Target, Text, View, words};

/// Teams takes 28 KB; the rest is for what is around the text, and for characters of several bytes.
const MAX_TEXT_BYTES: usize = 20_000;
const MAX_TITLE_CHARS: usize = 1024;

/// A channel of Microsoft Teams.
#[derive(Debug, Clone)]
pub struct Teams {
    /// Where messages are posted.
    pub endpoint: Endpoint,
    /// Which form they have.
    pub card: Card,
    /// Title. Default: the built-in one.
    pub title: Option<Text>,
    /// What a list of messages shows. Default: the title.
    pub summary: Option<Text>,
    /// Text. Default: the built-in one.
    pub text: Option<Text>,
}

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// An Adaptive Card.
    Adaptive,
    /// A MessageCard, the form before it.
    Message,
}

/// Colours of an Adaptive Card, and of a MessageCard.
const COLOR: &str = "{% if mode %}Default{% elif status == 'resolved' %}Good\
                     {% elif severity == 'critical' %}Attention{% else %}Warning{% endif %}";
const THEME: &str = "{% if mode %}808080{% elif status == 'resolved' %}2DC72D\
                     {% elif severity == 'critical' %}8C1A1A{% else %}C77700{% endif %}";

impl Teams {
    pub(super) fn prepare(
        &self,
        context: &Context,
        receiver: &str,
        message: &Message,
    ) -> Option<Outgoing> {
        let view = context.view(message, receiver, "msteams", &self.endpoint)?;
        Some(Outgoing::post(&match self.card {
            Card::Adaptive => self.adaptive(&view),
            Card::Message => self.message_card(&view),
        }))
    }

    fn texts(&self, view: &View<'_>) -> (String, String, String, String) {
        let title = view.text(self.title.as_ref(), words::TITLE, Target::MarkdownLine);
        // Lists show it as it is.
        let summary = match &self.summary {
            Some(_) => view.text(self.summary.as_ref(), words::TITLE, Target::Line),
            None => view.text(None, words::TITLE, Target::Line),
        };
        let text = view.text(self.text.as_ref(), words::MARKDOWN, Target::Markdown);
        let url = view.text(None, words::URL, Target::Line);
        let title = cut(&title, MAX_TITLE_CHARS);
        (title, cut(&summary, MAX_TITLE_CHARS), cut_bytes(&text), url)
    }

    fn adaptive(&self, view: &View<'_>) -> Value {
        let (title, summary, text, url) = self.texts(view);
        let mut card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.2",
            "msteams": {"width": "Full"},
            "body": [
                {
                    "type": "TextBlock",
                    "text": title,
                    "weight": "Bolder",
                    "size": "Medium",
                    "wrap": true,
                    "color": view.text(None, COLOR, Target::Line),
                },
                {"type": "TextBlock", "text": text, "wrap": true},
            ],
        });
        if !url.is_empty() {
            card["actions"] =
                json!([{"type": "Action.OpenUrl", "title": "Open in Tidewatch", "url": url}]);
        }
        json!({
            "type": "message",
            "summary": summary,
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": card,
            }],
        })
    }

    fn message_card(&self, view: &View<'_>) -> Value {
        let (own, summary, text, url) = self.texts(view);
        // Its title is no Markdown.
        let title = match &self.title {
            Some(_) => own,
            None => view.text(None, words::TITLE, Target::Line),
        };
        let mut card = json!({
            "@context": "https://schema.org/extensions",
            "@type": "MessageCard",
            "title": title,
            "summary": summary,
            "text": text,
            "themeColor": view.text(None, THEME, Target::Line),
        });
        if !url.is_empty() {
            card["potentialAction"] = json!([{
                "@type": "OpenUri",
                "name": "Open in Tidewatch",
                "targets": [{"os": "default", "uri": url}],
            }]);
        }
        card
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

/// A connector answers 200 also when Teams did not take the message, and says so in words:
/// `… Microsoft Teams endpoint returned HTTP error 429 …`.
fn judge(answer: &str) -> Result<(), AttemptError> {
    const SIGN: &str = "returned HTTP error ";
    let Some((_, status)) = answer.split_once(SIGN) else {
        return Ok(());
    };
    let reason = format!("Teams says: {}", shown(answer));
    let status: String = status.chars().take_while(char::is_ascii_digit).collect();
    match status.parse::<u16>() {
        Ok(429) => Err(AttemptError::Limited {
            after: None,
            reason,
        }),
        Ok(400..=407 | 409..=428 | 430..=499) => Err(AttemptError::Permanent { reason }),
        _ => Err(AttemptError::Retryable {
            after: None,
            reason,
        }),
    }
}

fn cut_bytes(text: &str) -> String {
    match text.len() <= MAX_TEXT_BYTES {
        true => text.to_owned(),
        false => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]),
    }
}

#[cfg(test)]
mod tests {
    use super::{AttemptError, MAX_TEXT_BYTES, cut_bytes, judge};

    #[test]
    fn a_success_may_still_be_a_failure() {
        for answer in ["1", "", "{\"x\":1}"] {
            assert_eq!(judge(answer), Ok(()), "{answer}");
        }
        let said = |status| {
            judge(&format!(
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {status} with ContextId x"
            ))
        };
        assert!(matches!(said(429), Err(AttemptError::Limited { .. })));
        assert!(matches!(said(503), Err(AttemptError::Retryable { .. })));
        assert!(matches!(said(413), Err(AttemptError::Permanent { .. })));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = cut_bytes(&"ü€".repeat(MAX_TEXT_BYTES));
        assert!(text.len() <= MAX_TEXT_BYTES + 3 && text.ends_with('…'));
    }
}
