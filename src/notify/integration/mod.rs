//! The ways to reach a receiver, one file each: a single attempt, and whether its failure is worth
//! another. Repeating is not their business.
//!
//! [`Integration::prepare`] brings a message to its form, once; [`Integration::attempt`] sends that form,
//! as often as it takes. What must be fresh at each attempt (signatures, credentials from files) is made
//! in the attempt.

mod alertmanager;
mod email;
mod file;
mod http;
mod log;
mod opsgenie;
mod pagerduty;
mod poster;
mod rate;
mod slack;
mod teams;
mod webhook;

pub use alertmanager::Alertmanager;
pub use email::{Email, Part, Secured, Tls, Trust};
pub use file::LogFile;
pub(super) use http::Client;
pub use http::{Address, Authorization, Credential, Endpoint, Http, TransportSettings};
pub use opsgenie::{Opsgenie, Responder};
pub use pagerduty::PagerDuty;
pub use poster::Poster;
pub use slack::Slack;
pub use teams::{Card, Teams};
pub use webhook::{Payload, Tree, Webhook};

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use prometheus::IntCounterVec;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::message::{Message, Resolved};
use super::template::View;
use crate::model::Timestamp;

/// Why an attempt failed. Reasons are for the operator's eyes and hold no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// Worth another attempt.
    #[error("{reason}")]
    Retryable {
        /// How long the receiver asked to be left alone.
        after: Option<Duration>,
        /// What happened.
        reason: String,
    },
    /// The receiver works, but takes no more for now. It is left alone as a whole until then.
    #[error("{reason}")]
    Limited {
        /// How long it asked to be left alone; `None`: it did not say.
        after: Option<Duration>,
        /// What happened.
        reason: String,
    },
    /// The same again would fail the same way.
    #[error("{reason}")]
    Permanent {
        /// What happened.
        reason: String,
    },
    /// The receiver is gone for good and wants nothing more.
    #[error("{reason}")]
    Gone {
        /// What happened.
        reason: String,
    },
}

/// One way to reach one receiver: one file each beside this one.
#[derive(Debug, Clone)]
pub enum Integration {
    /// Alertmanager's webhook: an HTTP request.
    Webhook(Box<Webhook>),
    /// Slack.
    Slack(Box<Slack>),
    /// PagerDuty, Events API v2.
    PagerDuty(Box<PagerDuty>),
    /// Opsgenie.
    Opsgenie(Box<Opsgenie>),
    /// Microsoft Teams.
    Teams(Box<Teams>),
    /// Mail by SMTP.
    Email(Box<Email>),
    /// Another Alertmanager.
    Alertmanager(Box<Alertmanager>),
    /// A log file.
    File(Box<LogFile>),
    /// Lines in the daemon's log.
    Log,
}

/// What attempts of all integrations share. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// Makes the requests.
    pub(super) client: Client,
    /// Where people reach this daemon, for links; without a slash at the end.
    pub(super) external_url: Arc<str>,
    /// Counts templates that failed, by receiver and integration.
    pub(super) template_errors: IntCounterVec,
}

impl Context {
    /// `message` as texts of an integration by HTTP see it; `None` when there is nothing left to say.
    fn view<'a>(
        &self,
        message: &Message,
        receiver: &'a str,
        kind: &str,
        endpoint: &Endpoint,
    ) -> Option<View<'a>> {
        self.view_in(message, receiver, kind, endpoint.resolved, &endpoint.zone)
    }

    fn view_in<'a>(
        &self,
        message: &Message,
        receiver: &'a str,
        kind: &str,
        resolved: Resolved,
        zone: &TimeZone,
    ) -> Option<View<'a>> {
        let errors = self.template_errors.with_label_values(&[receiver, kind]);
        let view = View::new(message, receiver, resolved, &self.external_url, zone)?;
        Some(view.counting(errors))
    }
}

/// A message in the form in which an integration sends it, the same over all attempts.
pub(super) enum Prepared<'a> {
    /// One request.
    Request(http::Outgoing),
    /// Several, one after the other.
    Requests(Vec<http::Outgoing>),
    /// An event of PagerDuty, without the key.
    Event(Value),
    /// A mail.
    Mail(Box<email::Mail>),
    /// A line of a file.
    Line(file::Line),
    /// The message itself.
    Message(&'a Message),
}

impl Integration {
    /// What it is called in configurations, metrics and on the API: `slack` for `slack_configs`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::PagerDuty(_) => "pagerduty",
            Self::Opsgenie(_) => "opsgenie",
            Self::Teams(_) => "msteams",
            Self::Email(_) => "email",
            Self::Alertmanager(_) => "alertmanager",
            Self::File(_) => "file",
            Self::Log => "log",
        }
    }

    /// Its name in logs and on the API; shows no secrets.
    pub(super) fn name(&self) -> String {
        let at = |endpoint: &Endpoint| format!("{} {}", self.kind(), endpoint.address);
        match self {
            Self::Webhook(webhook) => webhook.shown(),
            Self::Slack(slack) => at(&slack.endpoint),
            Self::PagerDuty(pagerduty) => at(&pagerduty.endpoint),
            Self::Opsgenie(opsgenie) => at(&opsgenie.endpoint),
            Self::Teams(teams) => at(&teams.endpoint),
            Self::Email(email) => format!("email {}", email.shown()),
            Self::Alertmanager(alertmanager) => at(&alertmanager.endpoint),
            Self::File(file) => format!("file {}", file.path.display()),
            Self::Log => "log".into(),
        }
    }

    /// Brings `message` to its form; `None` when it has nothing to say to this receiver.
    pub(super) fn prepare<'m>(
        &self,
        context: &Context,
        receiver: &str,
        message: &'m Message,
    ) -> Option<Prepared<'m>> {
        let url = &context.external_url;
        Some(match self {
            Self::Webhook(one) => Prepared::Request(one.prepare(context, receiver, message)?),
            Self::Slack(one) => Prepared::Request(one.prepare(context, receiver, message)?),
            Self::PagerDuty(one) => Prepared::Event(one.prepare(context, receiver, message)?),
            Self::Opsgenie(one) => Prepared::Requests(one.prepare(context, receiver, message)?),
            Self::Teams(one) => Prepared::Request(one.prepare(context, receiver, message)?),
            Self::Email(one) => Prepared::Mail(Box::new(one.prepare(context, receiver, message)?)),
            Self::Alertmanager(one) => Prepared::Request(one.prepare(url, message)?),
            Self::File(one) => Prepared::Line(one.prepare(context, receiver, message)?),
            Self::Log => Prepared::Message(message),
        })
    }

    /// One attempt at `now` to deliver what [`Integration::prepare`] made.
    pub(super) async fn attempt(
        &self,
        context: &Context,
        id: &str,
        prepared: &Prepared<'_>,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        let client = &context.client;
        match (self, prepared) {
            (Self::Webhook(one), Prepared::Request(request)) => {
                one.attempt(client, id, request, now).await
            }
            (Self::Slack(one), Prepared::Request(request)) => {
                one.attempt(client, request, now).await
            }
            (Self::PagerDuty(one), Prepared::Event(event)) => one.attempt(client, event, now).await,
            (Self::Opsgenie(one), Prepared::Requests(requests)) => {
                one.attempt(client, requests, now).await
            }
            (Self::Teams(one), Prepared::Request(request)) => {
                one.attempt(client, request, now).await
            }
            (Self::Email(one), Prepared::Mail(mail)) => one.attempt(client, id, mail, now).await,
            (Self::Alertmanager(one), Prepared::Request(request)) => {
                one.attempt(client, request, now).await
            }
            (Self::File(one), Prepared::Line(line)) => one.attempt(id, line, now).await,
            (Self::Log, Prepared::Message(message)) => {
                log::write(id, message);
                Ok(())
            }
            _ => unreachable!("an integration prepared it for itself"),
        }
    }
}

/// What identifies a group to a receiver, over all its notifications: SHA-256 of the group key in
/// hexadecimal, as Alertmanager computes it, so that either may take over from the other.
fn group_hash(group_key: &str) -> String {
    let mut hash = String::with_capacity(64);
    for byte in Sha256::digest(group_key.as_bytes()) {
        write!(hash, "{byte:02x}").expect("a text takes everything");
    }
    hash
}

/// At most `limit` characters of `text`, the last of them an ellipsis where it is longer.
fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => {
            let kept = text.char_indices().nth(limit.saturating_sub(1));
            format!("{}…", &text[..kept.map_or(0, |(at, _)| at)])
        }
    }
}

/// An object of the pairs that are there.
fn object<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Value {
    let pairs = pairs.into_iter();
    let map: Map<_, _> = pairs
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::{cut, group_hash};

    #[test]
    fn a_group_is_known_by_the_hash_of_its_key() {
        assert_eq!(
            group_hash("test"),
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        );
    }

    #[test]
    fn long_texts_are_cut() {
        for (text, limit, expected) in [
            ("", 3, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("äöüß", 3, "äö…"),
        ] {
            assert_eq!(cut(text, limit), expected);
        }
    }
}
