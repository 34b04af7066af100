//! What texts see of one message, and what is said when they fail.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use minijinja::Value;
use prometheus::IntCounter;

use super::labels::LabelSet;
use super::time::Time;
use super::{BUILT_IN, Target, Text, is_template, words};
use crate::dispatch::Notification;
use crate::model::{Alert, ModeChange, Timestamp};
use crate::notify::message::{self, Message, Resolved};

/// One message as texts see it.
pub(in crate::notify) struct View<'a> {
    context: Value,
    receiver: &'a str,
    /// Templates are written for alerts; mode changes come in the built-in words.
    about_alerts: bool,
    errors: Option<IntCounter>,
}

impl<'a> View<'a> {
    /// `message` for `receiver`; `None` when there is nothing left to say to it.
    pub(in crate::notify) fn new(
        message: &Message,
        receiver: &'a str,
        resolved: Resolved,
        external_url: &str,
        zone: &TimeZone,
    ) -> Option<Self> {
        let context = match message {
            Message::Alerts(notification) => {
                let alerts: Vec<_> = message::alerts(notification, resolved).collect();
                if alerts.is_empty() {
                    return None;
                }
                of_alerts(notification, &alerts, receiver, external_url, zone)
            }
            Message::Mode { change, at } => of_mode(change, *at, receiver, external_url, zone),
        };
        Some(Self {
            context,
            receiver,
            about_alerts: matches!(message, Message::Alerts(_)),
            errors: None,
        })
    }

    /// Counts what fails.
    pub(in crate::notify) fn counting(mut self, errors: IntCounter) -> Self {
        self.errors = Some(errors);
        self
    }

    /// `text`, or the built-in one (a template for the same `target`) when there is none, it fails, or
    /// the message is not what templates are written for.
    pub(in crate::notify) fn text(
        &self,
        text: Option<&Text>,
        built_in: &str,
        target: Target,
    ) -> String {
        let own = text.filter(|text| self.about_alerts || !text.is_template);
        match own.map(|text| text.render(&self.context)) {
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                self.failed(&error);
                self.built_in(built_in, target)
            }
            None => self.built_in(built_in, target),
        }
    }

    /// `text` where it is there and says something.
    pub(in crate::notify) fn maybe(&self, text: Option<&Text>) -> Option<String> {
        let text = text?;
        Some(self.text(Some(text), "", text.target)).filter(|text| !text.is_empty())
    }

    /// `text`, which may be a value of any type; `None` when it fails.
    pub(in crate::notify) fn value(&self, text: &Text) -> Option<serde_json::Value> {
        let value = text.value(&self.context);
        value.map_err(|error| self.failed(&error)).ok()
    }

    /// `text` as a whole; `None` when it fails.
    pub(in crate::notify) fn whole(&self, text: &Text) -> Option<String> {
        let whole = text.render(&self.context);
        whole.map_err(|error| self.failed(&error)).ok()
    }

    /// Whether it is about alerts.
    pub(in crate::notify) fn is_about_alerts(&self) -> bool {
        self.about_alerts
    }

    /// Says and counts that a text failed for `reason`.
    pub(in crate::notify) fn fail(&self, reason: &str) {
        let receiver = self.receiver;
        tracing::warn!(
            receiver,
            reason,
            "a template failed: the built-in text is sent"
        );
        if let Some(errors) = &self.errors {
            errors.inc();
        }
    }

    fn failed(&self, error: &minijinja::Error) {
        self.fail(&super::check::describe(error));
    }

    fn built_in(&self, source: &str, target: Target) -> String {
        if !is_template(source) {
            return source.to_owned();
        }
        let text = BUILT_IN.text(target, source);
        let text = text.expect("the built-in texts are tested");
        match text.render(&self.context) {
            Ok(text) => text,
            Err(error) => {
                self.failed(&error);
                String::new()
            }
        }
    }

    pub(super) fn context(&self) -> &Value {
        &self.context
    }
}

type Map = BTreeMap<&'static str, Value>;

fn of_alerts(
    notification: &Notification,
    alerts: &[&Alert],
    receiver: &str,
    external_url: &str,
    zone: &TimeZone,
) -> Value {
    let now = notification.decided_at;
    let values: Vec<Value> = alerts
        .iter()
        .map(|alert| of_alert(alert, now, external_url, zone))
        .collect();
    let of = |firing: bool| -> Value {
        let pairs = alerts.iter().zip(&values);
        pairs
            .filter(|(alert, _)| message::is_firing(alert) == firing)
            .map(|(_, value)| value.clone())
            .collect()
    };
    let url = match alerts {
        [alert] => message::url(alert, external_url),
        _ => message::base_url(external_url),
    };
    Value::from(Map::from([
        ("receiver", receiver.into()),
        ("status", notification.status.name().into()),
        ("severity", words::severity(alerts).into()),
        ("group_key", notification.group_key.as_str().into()),
        ("group_labels", LabelSet::value(&notification.group_labels)),
        (
            "common_labels",
            LabelSet::value(&notification.common_labels),
        ),
        (
            "common_annotations",
            LabelSet::value(&notification.common_annotations),
        ),
        ("alerts", Value::from(values.clone())),
        ("firing", of(true)),
        ("resolved", of(false)),
        ("truncated_alerts", notification.truncated.into()),
        ("mode", ().into()),
        ("title", words::title(notification, alerts).into()),
        ("external_url", external_url.into()),
        ("url", url.into()),
        ("time", Time::value(now, zone)),
    ]))
}

fn of_alert(alert: &Alert, now: Timestamp, external_url: &str, zone: &TimeZone) -> Value {
    let fires = message::is_firing(alert);
    let starts_at = alert.fired_at.unwrap_or(alert.since);
    let ends_at = alert.resolved_at.filter(|_| !fires);
    let annotation = |name: &str| alert.annotations.get(name).unwrap_or_default();
    let first = |names: &[&str]| -> Value {
        let mut texts = names.iter().map(|name| annotation(name));
        texts
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .into()
    };
    let finite = |number: f64| -> Value { number.is_finite().then_some(number).into() };
    let url = message::url(alert, external_url);
    Value::from(Map::from([
        ("status", message::status(alert).into()),
        ("name", alert.name().into()),
        ("service", alert.service.as_str().into()),
        (
            "severity",
            alert.labels.get("severity").unwrap_or_default().into(),
        ),
        ("severity_score", alert.severity_score.into()),
        ("labels", LabelSet::value(&alert.labels)),
        ("annotations", LabelSet::value(&alert.annotations)),
        ("starts_at", Time::value(starts_at, zone)),
        (
            "ends_at",
            ends_at.map_or_else(|| "".into(), |at| Time::value(at, zone)),
        ),
        ("since", Time::value(alert.since, zone)),
        (
            "duration",
            ends_at.unwrap_or(now).since(starts_at).as_secs_f64().into(),
        ),
        ("fingerprint", alert.fingerprint.to_string().into()),
        ("signal_id", alert.signal_id.as_str().into()),
        (
            "generator_url",
            message::generator_url(alert, external_url).into(),
        ),
        ("url", url.into()),
        ("unit", alert.unit.as_str().into()),
        ("observed", finite(alert.observed)),
        ("expected", finite(alert.expected)),
        ("lower", finite(alert.lower)),
        ("upper", finite(alert.upper)),
        ("sigma", finite(alert.sigma)),
        ("worst_sigma", finite(alert.worst_sigma)),
        ("summary", annotation("summary").into()),
        (
            "explanation",
            first(&["explanation", "description", "summary"]),
        ),
        ("recommendation", annotation("recommendation").into()),
        ("incident", annotation("incident").into()),
        (
            "trace_id",
            alert.trace_id.as_deref().unwrap_or_default().into(),
        ),
    ]))
}

fn of_mode(
    change: &ModeChange,
    at: Timestamp,
    receiver: &str,
    external_url: &str,
    zone: &TimeZone,
) -> Value {
    let nothing = || LabelSet::value(&crate::model::Labels::default());
    let none = || Value::from(Vec::<Value>::new());
    let state = &change.state;
    let mode = Value::from(Map::from([
        ("service", state.service.as_str().into()),
        ("mode", state.mode.as_str().into()),
        ("from", change.from.as_str().into()),
        ("cause", change.cause.as_str().into()),
    ]));
    Value::from(Map::from([
        ("receiver", receiver.into()),
        ("status", "".into()),
        ("severity", "".into()),
        ("group_key", "".into()),
        ("group_labels", nothing()),
        ("common_labels", nothing()),
        ("common_annotations", nothing()),
        ("alerts", none()),
        ("firing", none()),
        ("resolved", none()),
        ("truncated_alerts", 0.into()),
        ("mode", mode),
        ("title", words::mode_title(change).into()),
        ("external_url", external_url.into()),
        ("url", message::base_url(external_url).into()),
        ("time", Time::value(at, zone)),
    ]))
}
