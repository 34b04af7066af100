//! The ways to reach a receiver, one file each: a single attempt, and whether its failure is worth
//! another. Repeating is not their business.

mod log;
mod webhook;

pub(super) use webhook::Client;
pub use webhook::Webhook;

use std::sync::Arc;
use std::time::Duration;

use super::message::Message;
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
}

/// A message in the form in which an integration sends it, the same over all attempts.
pub(super) enum Prepared<'a> {
    /// A request's body.
    Body(Vec<u8>),
    /// The message itself.
    Message(&'a Message),
}

impl Integration {
    /// The word for its kind, as in `KIND_configs`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Log => "log",
        }
    }

    /// Its name in logs and on the API; shows no secrets.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.shown(),
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
        match self {
            Self::Webhook(webhook) => message
                .to_json(receiver, webhook.resolved, &context.external_url)
                .map(Prepared::Body),
            Self::Log => Some(Prepared::Message(message)),
        }
    }

    /// One attempt at `now` to deliver what [`Integration::prepare`] made.
    pub(super) async fn attempt(
        &self,
        context: &Context,
        id: &str,
        prepared: &Prepared<'_>,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        match (self, prepared) {
            (Self::Webhook(webhook), Prepared::Body(body)) => {
                context.client.attempt(webhook, id, body, now).await
            }
            (Self::Log, Prepared::Message(message)) => {
                log::write(id, message);
                Ok(())
            }
            (Self::Webhook(_), Prepared::Message(_)) | (Self::Log, Prepared::Body(_)) => {
                unreachable!("an integration prepared it for itself")
            }
        }
    }
}
