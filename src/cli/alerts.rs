//! `tidewatch alerts`: what fires now.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::model::{Fingerprint, Selector, Timestamp};

use super::Remote;
use super::client;
use super::mode::Author;
use super::output::{Output, ago, cell, clean, graded, text};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidewatch alerts
  tidewatch alerts --match '{service=\"checkout\",severity=\"critical\"}'
  tidewatch alerts dismiss 0f3c9a417b5d2e68 --comment \"nightly import\"
  tidewatch alerts --output json | jq '.[].labels.service'")]
pub(super) struct AlertsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only alerts whose labels match, such as '{service="checkout"}'
    #[arg(long = "match", value_name = "SELECTOR", default_value = "{}", value_parser = selector)]
    selector: Selector,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say that what an alert tells of is normal: it ends, and the signal's baseline learns it
    #[command(
        after_help = "Example:\n  tidewatch alerts dismiss 0f3c9a417b5d2e68 --comment \"nightly import\""
    )]
    Dismiss {
        /// Fingerprint of the alert
        fingerprint: Fingerprint,
        /// Why; kept, and shown with later alerts of the signal
        #[arg(long, short)]
        comment: String,
        #[command(flatten)]
        author: Author,
    },
}

pub(super) fn selector(text: &str) -> Result<Selector, String> {
    Selector::parse(text).map_err(|error| error.to_string())
}

impl AlertsArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
        if let Some(Action::Dismiss {
            fingerprint,
            comment,
            author,
        }) = self.action
        {
            let fingerprint = fingerprint.to_string();
            let path = ["api", "v1", "alerts", &fingerprint, "dismiss"];
            let body = json!({"author": author.author, "comment": comment});
            let mut answer = client.post(&path, &body).await?;
            let alert = answer["data"].take();
            return output.show(&alert, |_| dismissed(&alert));
        }
        let matchers = self.selector.matchers().iter();
        let query: Vec<_> = matchers
            .map(|matcher| ("filter", matcher.to_string()))
            .collect();
        let alerts = client::list(client.get(&["api", "v2", "alerts"], &query).await?)?;
        let now = Clock::System.now();
        let answer = Value::Array(alerts);
        output.show(&answer, |output| table(output, &answer, now))
    }
}

fn dismissed(alert: &Value) -> String {
    let labels = &alert["labels"];
    let (name, service) = (text(labels, "alertname"), text(labels, "service"));
    format!("{} of {} counts as normal.\n", clean(name), clean(service))
}

/// Worst first, then oldest.
fn table(output: Output, alerts: &Value, now: Timestamp) -> String {
    let mut alerts: Vec<&Value> = alerts
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .collect();
    if alerts.is_empty() {
        return "No alerts.\n".into();
    }
    alerts.sort_by_key(|alert| {
        let is_critical = text(&alert["labels"], "severity") == "critical";
        (!is_critical, text(alert, "startsAt"))
    });
    let rows = alerts
        .into_iter()
        .map(|alert| {
            let (labels, annotations) = (&alert["labels"], &alert["annotations"]);
            let why = ["explanation", "summary", "description"]
                .into_iter()
                .map(|key| text(annotations, key))
                .find(|text| !text.is_empty());
            let signal = format!("{} {}", text(labels, "metric"), text(labels, "signal"));
            vec![
                cell(text(alert, "fingerprint")),
                graded(text(labels, "severity")),
                cell(text(labels, "alertname")),
                cell(text(labels, "service")),
                cell(signal.trim()),
                cell(&ago(text(alert, "startsAt"), now)),
                cell(text(annotations, "sigma")),
                cell(why.unwrap_or_default()),
            ]
        })
        .collect();
    let header = [
        "FINGERPRINT",
        "SEVERITY",
        "ALERT",
        "SERVICE",
        "SIGNAL",
        "FOR",
        "SIGMA",
        "WHY",
    ];
    output.table(&header, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_a_table_with_the_worst_first() {
        let now = Timestamp::parse_rfc3339("2026-01-01T00:10:00Z").expect("time");
        let alert = |name: &str, severity: &str, starts: &str| {
            serde_json::json!({
                "startsAt": starts, "fingerprint": "0f3c9a417b5d2e68",
                "labels": {"alertname": name, "severity": severity, "service": "checkout\u{1b}[2J",
                           "metric": "span.duration", "signal": "p99"},
                "annotations": {"sigma": "6.1", "explanation": "p99 is 310ms, 120ms expected"},
            })
        };
        let alerts = serde_json::json!([
            alert("Slow", "warning", "2026-01-01T00:00:00Z"),
            alert("Slower", "critical", "2026-01-01T00:09:00Z"),
        ]);
        let output = Output::PLAIN;
        insta::assert_snapshot!(table(output, &alerts, now), @r"
FINGERPRINT       SEVERITY  ALERT   SERVICE            SIGNAL             FOR  SIGMA  WHY
0f3c9a417b5d2e68  critical  Slower  checkout\u{1b}[2J  span.duration p99  1m   6.1    p99 is 310ms, 120ms expected
0f3c9a417b5d2e68  warning   Slow    checkout\u{1b}[2J  span.duration p99  10m  6.1    p99 is 310ms, 120ms expected
");
        assert_eq!(table(output, &serde_json::json!([]), now), "No alerts.\n");
    }
}
