//! Opsgenie: the Alert API, <https://docs.opsgenie.com/docs/alert-api>. One alert a group.

use http::Method;
use serde_json::{Map, Value, json};

use super::http::{Client, Endpoint, Interest, Outgoing};
use super::{AttemptError, Context, cut, group_hash, object};
use crate::dispatch::Status;
use crate::model::Timestamp;
use crate::notify::message::Message;
use crate::notify::template::{Target, Text, View, words};

/// Longest texts that the API takes.
const MAX_MESSAGE_CHARS: usize = 130;
const MAX_DESCRIPTION_CHARS: usize = 15_000;

/// A team of Opsgenie.
#[derive(Debug, Clone)]
pub struct Opsgenie {
    /// Where the API is; the key is its authorization, `GenieKey`.
    pub endpoint: Endpoint,
    /// Title. Default: the built-in one.
    pub message: Option<Text>,
    /// Text. Default: the built-in one.
    pub description: Option<Text>,
    /// Where it comes from. Default: the link to the alert.
    pub source: Option<Text>,
    /// What it is about.
    pub entity: Option<Text>,
    /// `P1` to `P5`. Default: by severity.
    pub priority: Option<Text>,
    /// A note.
    pub note: Option<Text>,
    /// Separated by commas.
    pub tags: Option<Text>,
    /// Separated by commas.
    pub actions: Option<Text>,
    /// Further facts, beside the common labels.
    pub details: Vec<(String, Text)>,
    /// Who is to answer.
    pub responders: Vec<Responder>,
    /// Whether title and text follow later notifications.
    pub update_alerts: bool,
}

/// Somebody of Opsgenie.
#[derive(Debug, Clone)]
pub struct Responder {
    /// `id`, `name` or `username`.
    pub key: &'static str,
    /// Which one.
    pub value: Text,
    /// `team`, `teams`, `user`, `escalation` or `schedule`.
    pub kind: Text,
}

const PRIORITY: &str = "{% if severity == 'critical' %}P1{% else %}P3{% endif %}";

impl Opsgenie {
    /// The requests, in their order; `None` also for mode changes, which nobody must answer.
    pub(super) fn prepare(
        &self,
        context: &Context,
        receiver: &str,
        message: &Message,
    ) -> Option<Vec<Outgoing>> {
        let view = context.view(message, receiver, "opsgenie", &self.endpoint)?;
        let Message::Alerts(notification) = message else {
            return None;
        };
        let alias = group_hash(&notification.group_key);
        let source = view.text(self.source.as_ref(), words::URL, Target::Line);
        let request = |method, path: &[&str], body: Value| {
            let alerts = ["v2", "alerts"].iter().chain(path);
            Outgoing {
                method,
                path: alerts.map(|piece| (*piece).to_owned()).collect(),
                query: (!path.is_empty()).then_some(("identifierType", "alias")),
                body: body.to_string().into_bytes(),
            }
        };
        if notification.status == Status::Resolved {
            let close = request(Method::POST, &[&alias, "close"], json!({"source": source}));
            return Some(vec![close]);
        }
        let title = view.text(self.message.as_ref(), words::TITLE, Target::Line);
        let title = cut(&title, MAX_MESSAGE_CHARS);
        let description = view.text(self.description.as_ref(), words::PLAIN, Target::Plain);
        let description = cut(&description, MAX_DESCRIPTION_CHARS);
        let mut details = Map::new();
        for (name, value) in notification.common_labels.iter() {
            details.insert(name.into(), value.into());
        }
        for (key, text) in &self.details {
            details.insert(key.clone(), view.text(Some(text), "", Target::Plain).into());
        }
        let priority = view.text(self.priority.as_ref(), PRIORITY, Target::Line);
        let is_priority = ["P1", "P2", "P3", "P4", "P5"].contains(&priority.as_str());
        let create = object([
            ("alias", Some(alias.clone().into())),
            ("message", Some(title.clone().into())),
            ("description", Some(description.clone().into())),
            ("details", Some(details.into())),
            (
                "source",
                Some(source).filter(|s| !s.is_empty()).map(Into::into),
            ),
            ("responders", list(self.responders(&view))),
            ("tags", list(split(&view, self.tags.as_ref()))),
            ("actions", list(split(&view, self.actions.as_ref()))),
            ("note", view.maybe(self.note.as_ref()).map(Into::into)),
            ("entity", view.maybe(self.entity.as_ref()).map(Into::into)),
            ("priority", is_priority.then(|| priority.into())),
        ]);
        let mut requests = vec![request(Method::POST, &[], create)];
        if self.update_alerts {
            // Creating one that exists only counts it.
            requests.push(request(
                Method::PUT,
                &[&alias, "message"],
                json!({"message": title}),
            ));
            let description = json!({"description": description});
            requests.push(request(Method::PUT, &[&alias, "description"], description));
        }
        Some(requests)
    }

    fn responders(&self, view: &View<'_>) -> Vec<Value> {
        let mut found = Vec::new();
        for Responder { key, value, kind } in &self.responders {
            let (Some(value), Some(kind)) = (view.maybe(Some(value)), view.maybe(Some(kind)))
            else {
                continue;
            };
            let kind = kind.to_lowercase();
            match kind.as_str() {
                "teams" => {
                    found.extend(pieces(&value).map(|name| json!({*key: name, "type": "team"})))
                }
                "team" | "user" | "escalation" | "schedule" => {
                    found.push(json!({*key: value, "type": kind}));
                }
                other => view.fail(&format!("`{other}` is no type of a responder")),
            }
        }
        found
    }

    pub(super) async fn attempt(
        &self,
        client: &Client,
        requests: &[Outgoing],
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        // Repeated from the first on after a failure: each says what is to be, not what is to change.
        for request in requests {
            client
                .send(
                    &self.endpoint,
                    request,
                    Default::default(),
                    Interest::Status,
                    now,
                )
                .await?;
        }
        Ok(())
    }
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
}

fn split(view: &View<'_>, text: Option<&Text>) -> Vec<Value> {
    let text = view.maybe(text).unwrap_or_default();
    pieces(&text).map(Value::from).collect()
}

fn list(values: Vec<Value>) -> Option<Value> {
    (!values.is_empty()).then(|| values.into())
}
