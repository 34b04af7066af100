//! A webhook: Alertmanager's JSON, or one of the user's own, signed as Standard Webhooks says.

use std::time::Duration;

use serde_json::Value;

use super::http::{Address, Client, Endpoint, Interest, Outgoing, header};
use super::{AttemptError, Context};
use crate::model::Timestamp;
use crate::notify::message::{Message, Resolved};
use crate::notify::signature::{self, Secret};
use crate::notify::template::{Text, View};

/// Headers that are ours to set.
const RESERVED: [&str; 7] = [
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    signature::ID,
    signature::TIMESTAMP,
    signature::SIGNATURE,
];

/// Where a notification is posted, and how. `Debug` shows neither the path of the URL nor headers:
/// both often hold tokens.
#[derive(Debug, Clone)]
pub struct Webhook {
    endpoint: Endpoint,
    secret: Option<Secret>,
    max_alerts: usize,
    payload: Option<Payload>,
}

/// A body of the user's own.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A template of all of the JSON.
    Whole(Text),
    /// JSON with templates in place of its texts.
    Tree(Tree),
}

/// A piece of JSON.
#[derive(Debug, Clone)]
pub enum Tree {
    /// A text.
    Text(Text),
    /// A list.
    List(Vec<Tree>),
    /// An object.
    Map(Vec<(String, Tree)>),
    /// Anything else.
    Value(Value),
}

impl Webhook {
    /// A webhook at `url` without signature or further headers, 10 s an attempt.
    ///
    /// # Errors
    /// It is no `http` or `https` URL. The message does not contain it, for it may hold a token.
    pub fn new(url: &str) -> Result<Self, String> {
        Address::parse(url).map(|address| Self::at(Endpoint::new(address)))
    }

    /// A webhook at `endpoint`.
    pub fn at(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            secret: None,
            max_alerts: usize::MAX,
            payload: None,
        }
    }

    /// Signs requests with `secret`.
    #[must_use]
    pub fn signed(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Says whether it is told about resolved alerts.
    #[must_use]
    pub fn resolved(mut self, resolved: Resolved) -> Self {
        self.endpoint.resolved = resolved;
        self
    }

    /// Gives a whole attempt so much time, from resolving the name to the end of the answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.timeout = timeout;
        self
    }

    /// Lists no more alerts than this in a request.
    #[must_use]
    pub fn max_alerts(mut self, limit: usize) -> Self {
        self.max_alerts = limit;
        self
    }

    /// Sends this body instead of Alertmanager's.
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Adds a header, such as `Authorization`.
    ///
    /// # Errors
    /// The name or value cannot be a header's, or the header is ours to set. The value is not shown.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, String> {
        let (header, value) = header(name, value)?;
        if RESERVED.contains(&header.as_str()) {
            return Err(format!("`{name}` is set by Tidewatch itself"));
        }
        self.endpoint.http.headers.insert(header, value);
        Ok(self)
    }

    /// The URL without what may be secret in it.
    pub(super) fn shown(&self) -> String {
        self.endpoint.address.to_string()
    }

    pub(super) fn prepare(
        &self,
        context: &Context,
        receiver: &str,
        message: &Message,
    ) -> Option<Outgoing> {
        let body = self.own(context, receiver, message);
        let standard = || {
            let resolved = self.endpoint.resolved;
            message.to_json(receiver, resolved, &context.external_url, self.max_alerts)
        };
        let body = body.or_else(standard)?;
        Some(Outgoing {
            method: http::Method::POST,
            path: Vec::new(),
            query: None,
            body,
        })
    }

    /// The user's own body; `None` when there is none, it fails, or there is nothing to say.
    fn own(&self, context: &Context, receiver: &str, message: &Message) -> Option<Vec<u8>> {
        let payload = self.payload.as_ref()?;
        let view = context.view(message, receiver, "webhook", &self.endpoint)?;
        if !view.is_about_alerts() {
            return None;
        }
        match payload {
            Payload::Tree(tree) => tree.render(&view).map(|body| body.to_string().into_bytes()),
            Payload::Whole(text) => {
                let body = view.whole(text)?;
                if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body) {
                    view.fail(&format!("it yields no JSON: {error}"));
                    return None;
                }
                Some(body.into_bytes())
            }
        }
    }

    pub(super) async fn attempt(
        &self,
        client: &Client,
        id: &str,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        let headers = signature::headers(self.secret.as_ref(), id, now, &outgoing.body);
        let headers = headers.ok_or_else(|| AttemptError::Permanent {
            reason: "the id of the message is no header".into(),
        })?;
        let sent = client.send(&self.endpoint, outgoing, headers, Interest::Status, now);
        sent.await.map(drop)
    }
}

impl Tree {
    fn render(&self, view: &View<'_>) -> Option<Value> {
        Some(match self {
            Self::Text(text) => view.value(text)?,
            Self::Value(value) => value.clone(),
            Self::List(list) => list
                .iter()
                .map(|child| child.render(view))
                .collect::<Option<Vec<_>>>()?
                .into(),
            Self::Map(map) => {
                let pairs = map
                    .iter()
                    .map(|(key, child)| Some((key.clone(), child.render(view)?)));
                Value::Object(pairs.collect::<Option<_>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Webhook;
    use crate::notify::signature::Secret;

    #[test]
    fn nothing_secret_is_shown() {
        let webhook = Webhook::new("https://user:hunter2@hooks.example:8443/T0/hunter2?k=hunter2")
            .unwrap()
            .signed(Secret::parse("hunter2").unwrap())
            .header("Authorization", "Bearer hunter2")
            .unwrap();
        let shown = format!("{webhook:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("https://hooks.example:8443/…"), "{shown}");
        let error = Webhook::new("hunter2").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let error = webhook.header("X-Token", "hunter2\n").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_early() {
        for url in [
            "",
            "hooks.example",
            "ftp://hooks.example",
            "javascript:alert(1)",
            "http://",
        ] {
            Webhook::new(url).unwrap_err();
        }
        for name in ["Webhook-Signature", "content-type", "Host", "a b", ""] {
            let webhook = Webhook::new("http://hooks.example").unwrap();
            webhook.header(name, "x").unwrap_err();
        }
    }
}
