//! Another Alertmanager: it is sent the alerts as Prometheus would send them, by
//! `POST /api/v2/alerts`.

use std::time::Duration;

use http::Method;
use serde::Serialize;

use super::AttemptError;
use super::http::{Client, Endpoint, Interest, Outgoing};
use crate::model::{Labels, Timestamp};
use crate::notify::message::{self, Message};

/// Another Alertmanager.
#[derive(Debug, Clone)]
pub struct Alertmanager {
    /// Where it is, without `/api/v2`.
    pub endpoint: Endpoint,
    /// How long it takes a firing alert for firing when it hears nothing more.
    pub resolve_timeout: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: Timestamp,
    ends_at: Timestamp,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
}

impl Alertmanager {
    /// The request; `None` also for mode changes, which are no alerts.
    pub(super) fn prepare(&self, external_url: &str, message: &Message) -> Option<Outgoing> {
        let Message::Alerts(notification) = message else {
            return None;
        };
        let alerts: Vec<_> = message::alerts(notification, self.endpoint.resolved)
            .map(|alert| {
                let resolved_at = alert.resolved_at.filter(|_| !message::is_firing(alert));
                let ends_at = resolved_at
                    .unwrap_or_else(|| notification.decided_at.plus(self.resolve_timeout));
                Posted {
                    labels: &alert.labels,
                    annotations: &alert.annotations,
                    starts_at: alert.fired_at.unwrap_or(alert.since).min(ends_at),
                    ends_at,
                    generator_url: message::generator_url(alert, external_url),
                }
            })
            .collect();
        let body = serde_json::to_vec(&alerts);
        (!alerts.is_empty()).then(|| Outgoing {
            method: Method::POST,
            path: ["api", "v2", "alerts"].map(Into::into).into(),
            query: None,
            body: body.expect("keys are strings and every value has a form in JSON"),
        })
    }

    pub(super) async fn attempt(
        &self,
        client: &Client,
        outgoing: &Outgoing,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        let sent = client.send(
            &self.endpoint,
            outgoing,
            Default::default(),
            Interest::Status,
            now,
        );
        sent.await.map(drop)
    }
}
