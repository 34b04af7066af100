//! `tidewatch alerts`: what fires now.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::clock::Clock;
use crate::model::{Selector, Timestamp};

use super::Remote;
use super::client;
use super::output::{Output, ago, cell, graded, text};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidewatch alerts
  tidewatch alerts --match '{service=\"checkout\",severity=\"critical\"}'
  tidewatch alerts --output json | jq '.[].labels.service'")]
pub(super) struct AlertsArgs {
    /// Only alerts whose labels match, such as '{service="checkout"}'
    #[arg(long = "match", value_name = "SELECTOR", default_value = "{}", value_parser = selector)]
    selector: Selector,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn selector(text: &str) -> Result<Selector, String> {
    Selector::parse(text).map_err(|error| error.to_string())
}

impl AlertsArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
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
        "SEVERITY", "ALERT", "SERVICE", "SIGNAL", "FOR", "SIGMA", "WHY",
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
                "startsAt": starts,
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
SEVERITY  ALERT   SERVICE            SIGNAL             FOR  SIGMA  WHY
critical  Slower  checkout\u{1b}[2J  span.duration p99  1m   6.1    p99 is 310ms, 120ms expected
warning   Slow    checkout\u{1b}[2J  span.duration p99  10m  6.1    p99 is 310ms, 120ms expected
");
        assert_eq!(table(output, &serde_json::json!([]), now), "No alerts.\n");
    }
}
