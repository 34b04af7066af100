//! Mistakes in texts, found before they matter: each is read and tried on several notifications.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{Target, Templates, View};
use crate::dispatch::{Notification, Status};
use crate::model::{Alert, AlertState, Labels, SeverityLabel, Timestamp};
use crate::notify::message::{Message, Resolved};

/// Longest piece of a template that is shown.
const MAX_SHOWN_BYTES: usize = 100;

/// Says what is wrong with a text that goes to `target` and may use `files`; what to do about it follows
/// on a line of its own. `leaf` says that the text stands in a JSON tree.
///
/// # Errors
/// It cannot be read, names what is not there, or fails with one of the samples.
pub fn check_text<'f>(
    files: impl IntoIterator<Item = (&'f str, &'f str)> + Clone,
    target: Target,
    leaf: bool,
    source: &str,
) -> Result<(), String> {
    // A file with a mistake is told where it stands.
    let templates = match files.clone().into_iter().next() {
        Some(_) => Templates::new(files).unwrap_or_default(),
        None => Templates::default(),
    };
    let text = templates
        .text(target, source)
        .map_err(|reason| with_hint(source, reason))?;
    if !text.is_template {
        return match target {
            Target::Json => json(source),
            _ => Ok(()),
        };
    }
    let environment = templates.environment(target.escape());
    let compiled = environment
        .template_from_str(source)
        .map_err(|error| describe(&error))?;
    let samples = samples();
    if let Some(sample) = samples.first() {
        let known: BTreeSet<String> = sample
            .context()
            .try_iter()
            .into_iter()
            .flatten()
            .map(|name| name.to_string())
            .chain(environment.globals().map(|(name, _)| name.to_owned()))
            .collect();
        let mut used: Vec<_> = compiled.undeclared_variables(false).into_iter().collect();
        used.sort();
        if let Some(unknown) = used.iter().find(|name| !known.contains(*name)) {
            let known: Vec<_> = sample.context().try_iter().into_iter().flatten().collect();
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            return Err(format!(
                "there is no `{unknown}`\nthere are {}",
                known.join(", ")
            ));
        }
    }
    for sample in &samples {
        if leaf {
            text.value(sample.context()).map_err(|e| describe(&e))?;
            continue;
        }
        let rendered = text.render(sample.context()).map_err(|e| describe(&e))?;
        if target == Target::Json {
            json(&rendered)?;
        }
    }
    Ok(())
}

fn json(text: &str) -> Result<(), String> {
    let value: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    value.map(drop).map_err(|error| {
        format!("it does not yield JSON: {error}\nvalues are written as JSON: no quotes around {{{{ }}}}")
    })
}

/// What people who know Alertmanager write.
fn with_hint(source: &str, reason: String) -> String {
    let go = [
        "{{ .",
        "{{.",
        "{{-",
        "{{ template",
        "{{ range",
        "{{ $",
        "{{ if",
        "{{ end",
    ];
    match go.iter().any(|sign| source.contains(sign)) {
        true => format!(
            "{reason}\nthis looks like a template of Go; here `{{{{ .CommonLabels.team }}}}` is \
             `{{{{ common_labels.team }}}}`, see docs/receivers.md"
        ),
        false => reason,
    }
}

/// An error in one line.
pub(super) fn describe(error: &minijinja::Error) -> String {
    // The cause inside an include or a macro says more than that it failed.
    let mut innermost = error;
    while let Some(cause) = std::error::Error::source(innermost)
        .and_then(|cause| cause.downcast_ref::<minijinja::Error>())
    {
        innermost = cause;
    }
    let place = innermost
        .range()
        .zip(innermost.template_source())
        .and_then(|(range, source)| source.get(range));
    let what = match (innermost.detail(), place) {
        (Some(detail), _) => format!("{}: {detail}", innermost.kind()),
        (None, Some(place)) if place.len() <= MAX_SHOWN_BYTES && !place.contains('\n') => {
            format!("{}: `{place}`", innermost.kind())
        }
        (None, _) => innermost.kind().to_string(),
    };
    match innermost.line() {
        Some(line) if line > 1 => format!("{what} (line {line} of the text)"),
        _ => what,
    }
}

/// What a text must manage: alerts that fire, that are over, both, and one of which nearly nothing is
/// known.
fn samples() -> Vec<View<'static>> {
    let all: [&[(AlertState, bool)]; 4] = [
        &[(AlertState::Firing, true)],
        &[(AlertState::Resolved, true)],
        &[(AlertState::Firing, true), (AlertState::Resolved, true)],
        &[(AlertState::Firing, false)],
    ];
    let view = |alerts: &[(AlertState, bool)]| {
        let alerts: Vec<_> = alerts
            .iter()
            .map(|(state, known)| Arc::new(alert(*state, *known)))
            .collect();
        let fires = alerts.iter().any(|alert| alert.state == AlertState::Firing);
        let notification = Notification {
            receiver: "oncall".into(),
            group_key: "{}:{service=\"checkout\"}".into(),
            group_labels: Labels::from_iter([("service", "checkout")]),
            common_labels: alerts[0].labels.clone(),
            common_annotations: alerts[0].annotations.clone(),
            truncated: 0,
            status: if fires {
                Status::Firing
            } else {
                Status::Resolved
            },
            reason: Default::default(),
            decided_at: Timestamp::from_secs(1_700_000_060),
            alerts,
        };
        let message = Message::Alerts(Arc::new(notification));
        let url = "http://tidewatch.example";
        View::new(&message, "oncall", Resolved::Send, url, &TimeZone::UTC)
    };
    all.into_iter().filter_map(view).collect()
}

/// An alert that fires.
#[cfg(test)]
pub(super) fn sample() -> Alert {
    alert(AlertState::Firing, true)
}

fn alert(state: AlertState, known: bool) -> Alert {
    let now = Timestamp::from_secs(1_700_000_060);
    let labels = match known {
        true => Labels::from_iter([
            ("alertname", "LatencyDeviation"),
            ("service", "checkout"),
            ("severity", "critical"),
        ]),
        false => Labels::from_iter([("alertname", "External")]),
    };
    let annotations = match known {
        true => Labels::from_iter([
            ("summary", "checkout is slow"),
            ("explanation", "p99 is 3 times its usual 120 ms."),
            ("recommendation", "Look at the last deployment."),
        ]),
        false => Labels::default(),
    };
    Alert {
        fingerprint: labels.fingerprint(),
        annotations,
        labels,
        state,
        severity: SeverityLabel::Critical,
        severity_score: 0.9,
        service: if known {
            "checkout".into()
        } else {
            String::new()
        },
        signal_id: if known { "9f0c".into() } else { String::new() },
        unit: "s".into(),
        observed: 0.36,
        expected: 0.12,
        lower: if known { 0.09 } else { f64::NEG_INFINITY },
        upper: 0.16,
        sigma: 6.1,
        worst_sigma: 7.0,
        anomalous_samples: 3,
        since: now.minus(Duration::from_secs(60)),
        fired_at: Some(now.minus(Duration::from_secs(30))),
        resolved_at: (state == AlertState::Resolved).then_some(now),
        updated_at: now,
        trace_id: None,
        grounds: Box::default(),
    }
}
