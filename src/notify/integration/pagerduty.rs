//! PagerDuty: the Events API v2,
//! <https://developer.pagerduty.com/docs/send-alert-event>. One incident a group.

use serde_json::{Map, Value};

use super::http::{Client, Credential, Endpoint, Interest, Outgoing};
use super::{AttemptError, Context, cut, group_hash, object};
use crate::dispatch::Status;
use crate::model::Timestamp;
use crate::notify::message::Message;
use crate::notify::template::{Target, Text, View, words};

/// Longest summary.
const MAX_SUMMARY_CHARS: usize = 1024;
/// Longest event.
const MAX_EVENT_BYTES: usize = 512_000;

/// A service of PagerDuty.
#[derive(Debug, Clone)]
pub struct PagerDuty {
    /// Where events are posted.
    pub endpoint: Endpoint,
    /// The integration key.
    pub routing_key: Credential,
    /// Name of the sender. Default: `Tidewatch`.
    pub client: Option<Text>,
    /// Where it leads. Default: to the alert.
    pub client_url: Option<Text>,
    /// The summary. Default: the built-in title.
    pub description: Option<Text>,
    /// `critical`, `error`, `warning` or `info`. Default: that of the worst alert.
    pub severity: Option<Text>,
    /// What it is about. Default: the service.
    pub source: Option<Text>,
    /// The kind of the event.
    pub class: Option<Text>,
    /// The part that is broken.
    pub component: Option<Text>,
    /// What it belongs to.
    pub group: Option<Text>,
    /// Further facts.
    pub details: Vec<(String, Text)>,
    /// Pictures: source, link, description.
    pub images: Vec<(Text, Option<Text>, Option<Text>)>,
    /// Links: address, text. Empty: one to the alert.
    pub links: Vec<(Text, Option<Text>)>,
}

/// What is told beside the summary, unless the configuration says it otherwise.
const DETAILS: [(&str, &str); 3] = [
    ("alerts", words::PLAIN),
    ("num_firing", "{{ firing | length + truncated_alerts }}"),
    ("num_resolved", "{{ resolved | length }}"),
];
const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];

impl PagerDuty {
    /// The event without the key; `None` also for mode changes, which are nobody's incident.
    pub(super) fn prepare(
        &self,
        context: &Context,
        receiver: &str,
        message: &Message,
    ) -> Option<Value> {
        let view = context.view(message, receiver, "pagerduty", &self.endpoint)?;
        let Message::Alerts(notification) = message else {
            return None;
        };
        let action = match notification.status {
            Status::Firing => "trigger",
            Status::Resolved => "resolve",
        };
        let mut event = object([
            ("event_action", Some(action.into())),
            (
                "dedup_key",
                Some(group_hash(&notification.group_key).into()),
            ),
            ("payload", Some(self.payload(&view))),
            (
                "client",
                Some(
                    view.text(self.client.as_ref(), "Tidewatch", Target::Line)
                        .into(),
                ),
            ),
            (
                "client_url",
                link(view.text(self.client_url.as_ref(), words::URL, Target::Line)),
            ),
            ("links", list(self.links(&view))),
            ("images", list(self.images(&view))),
        ]);
        if event.to_string().len() > MAX_EVENT_BYTES {
            event["payload"]["custom_details"] =
                object([("error", Some("left out: the event was too long".into()))]);
        }
        Some(event)
    }

    fn payload(&self, view: &View<'_>) -> Value {
        let summary = view.text(self.description.as_ref(), words::TITLE, Target::Line);
        let severity = view.text(self.severity.as_ref(), "{{ severity }}", Target::Line);
        let severity = severity.to_lowercase();
        let severity = SEVERITIES.into_iter().find(|known| *known == severity);
        let mut details = Map::new();
        for (key, built_in) in DETAILS {
            details.insert(key.into(), view.text(None, built_in, Target::Plain).into());
        }
        for (key, text) in &self.details {
            details.insert(key.clone(), view.text(Some(text), "", Target::Plain).into());
        }
        let source = "{{ common_labels.service | default('Tidewatch') }}";
        let maybe = |text: &Option<Text>| view.maybe(text.as_ref()).map(Value::from);
        object([
            ("summary", Some(cut(&summary, MAX_SUMMARY_CHARS).into())),
            (
                "source",
                Some(view.text(self.source.as_ref(), source, Target::Line).into()),
            ),
            ("severity", Some(severity.unwrap_or("error").into())),
            (
                "timestamp",
                Some(
                    view.text(
                        None,
                        "{{ alerts | map(attribute='starts_at') | map('string') | min }}",
                        Target::Line,
                    )
                    .into(),
                ),
            ),
            ("class", maybe(&self.class)),
            ("component", maybe(&self.component)),
            ("group", maybe(&self.group)),
            ("custom_details", Some(details.into())),
        ])
    }

    fn links(&self, view: &View<'_>) -> Vec<Value> {
        let built_in = || {
            let url = link(view.text(None, words::URL, Target::Line))?;
            Some(object([
                ("href", Some(url)),
                ("text", Some("Open in Tidewatch".into())),
            ]))
        };
        if self.links.is_empty() {
            return built_in().into_iter().collect();
        }
        let links = self.links.iter().filter_map(|(href, text)| {
            let href = view.maybe(Some(href))?;
            let text = view.maybe(text.as_ref());
            Some(object([
                ("href", Some(href.into())),
                ("text", text.map(Into::into)),
            ]))
        });
        links.collect()
    }

    fn images(&self, view: &View<'_>) -> Vec<Value> {
        let images = self.images.iter().filter_map(|(src, href, alt)| {
            let src = view.maybe(Some(src))?;
            Some(object([
                ("src", Some(src.into())),
                ("href", view.maybe(href.as_ref()).map(Into::into)),
                ("alt", view.maybe(alt.as_ref()).map(Into::into)),
            ]))
        });
        images.collect()
    }

    pub(super) async fn attempt(
        &self,
        client: &Client,
        event: &Value,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        let mut event = event.clone();
        event["routing_key"] = self.routing_key.read().await?.into();
        let outgoing = Outgoing::post(&event);
        let sent = client.send(
            &self.endpoint,
            &outgoing,
            Default::default(),
            Interest::Status,
            now,
        );
        sent.await.map(drop)
    }
}

fn link(url: String) -> Option<Value> {
    (!url.is_empty()).then(|| url.into())
}

fn list(values: Vec<Value>) -> Option<Value> {
    (!values.is_empty()).then(|| values.into())
}
