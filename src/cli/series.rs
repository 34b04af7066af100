//! `tidewatch series`: signals with their window and baseline.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::model::{BaselineView, Selector, SignalView};

use super::Remote;
use super::alerts::selector;
use super::client;
use super::output::{Output, cell, digits, graded, quantity};

/// Most signals that one request asks for.
const PAGE: usize = 1000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidewatch series --match '{service=\"checkout\",signal=\"p99\"}'
  tidewatch series --sort sigma --limit 10
  tidewatch series --limit 100000 --output json | jq -r '.[].id'")]
pub(super) struct SeriesArgs {
    /// Only signals that match: service, metric, signal, unit and attributes
    #[arg(long = "match", value_name = "SELECTOR", default_value = "{}", value_parser = selector)]
    selector: Selector,
    /// Show so many at most
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// In which order; `sigma` has the most surprising of the watched ones first
    #[arg(long, value_enum, default_value_t = Sort::Id)]
    sort: Sort,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Id,
    Sigma,
}

impl SeriesArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
        let mut signals = Vec::new();
        let mut cursor = None;
        let more = loop {
            let wanted = self.limit.saturating_sub(signals.len()).min(PAGE);
            let mut query = vec![
                ("match", self.selector.to_string()),
                ("limit", wanted.max(1).to_string()),
            ];
            if self.sort == Sort::Sigma {
                query.push(("sort", "sigma".into()));
            }
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let answer = client.get(&["api", "v1", "series"], &query).await?;
            let next = answer["next"].as_str().map(str::to_owned);
            let page = client::list(answer)?;
            let is_empty = page.is_empty();
            signals.extend(page);
            if signals.len() >= self.limit || is_empty || next.is_none() {
                signals.truncate(self.limit);
                break next.is_some();
            }
            cursor = next;
        };
        let answer = Value::Array(signals);
        output.show(&answer, |output| table(output, &answer, more))
    }
}

fn table(output: Output, signals: &Value, more: bool) -> String {
    let views = signals.as_array().map(Vec::as_slice).unwrap_or_default();
    if views.is_empty() {
        return "No signals.\n".into();
    }
    let rows = views
        .iter()
        // What a newer daemon answers differently is left out rather than shown wrong.
        .filter_map(|value| serde_json::from_value::<SignalView>(value.clone()).ok())
        .map(|signal| {
            let attributes: Vec<_> = signal
                .attributes
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            let unit = signal.unit.as_str();
            let last = signal.last.as_ref();
            let state = match signal.baseline {
                BaselineView::Unwatched => "unwatched".into(),
                BaselineView::Learning { remaining } => format!("learning, {remaining} to go"),
                BaselineView::Ready => match signal.season.as_deref() {
                    Some(season) => format!("ready, by {season}"),
                    None => "ready".into(),
                },
            };
            vec![
                cell(&signal.service),
                cell(&signal.metric),
                cell(&signal.signal),
                cell(&attributes.join(",")),
                cell(&quantity(last.map(|last| last.value), unit)),
                cell(&quantity(last.and_then(|last| last.expected), unit)),
                cell(&last.and_then(|last| last.sigma).map_or("-".into(), digits)),
                cell(&quantity(Some(signal.window.mean), unit)),
                cell(&quantity(Some(signal.window.p95), unit)),
                graded(&state),
            ]
        })
        .collect();
    let header = [
        "SERVICE",
        "METRIC",
        "SIGNAL",
        "ATTRIBUTES",
        "LAST",
        "EXPECTED",
        "SIGMA",
        "MEAN",
        "P95",
        "STATE",
    ];
    let mut shown = output.table(&header, rows);
    if more {
        shown.push_str("There are more: raise --limit or narrow --match.\n");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_a_table() {
        let signal = serde_json::json!({
            "id": "9f0c-p99", "service": "checkout", "metric": "http.server.request.duration",
            "signal": "p99", "unit": "s", "attributes": {"http.route": "/pay"}, "resource": {},
            "window": {"size": 100, "count": 100, "mean": 0.12, "stddev": 0.01, "min": 0.1, "max": 0.4,
                       "p50": 0.11, "p90": 0.14, "p95": 0.15, "p99": 0.3},
            "baseline": {"state": "ready"},
            "last": {"time": "2026-01-01T00:00:00Z", "value": 0.31, "expected": 0.12, "lower": 0.09,
                     "upper": 0.16, "sigma": 6.1},
            "overflow": false, "rule": "LatencyDeviation",
        });
        let mut young = signal.clone();
        young["baseline"] = serde_json::json!({"state": "learning", "remaining": 12});
        young["last"] = Value::Null;
        let output = Output::PLAIN;
        let signals = serde_json::json!([signal, young]);
        insta::assert_snapshot!(table(output, &signals, true), @r"
SERVICE   METRIC                        SIGNAL  ATTRIBUTES       LAST   EXPECTED  SIGMA  MEAN   P95    STATE
checkout  http.server.request.duration  p99     http.route=/pay  310ms  120ms     6.1    120ms  150ms  ready
checkout  http.server.request.duration  p99     http.route=/pay  -      -         -      120ms  150ms  learning, 12 to go
There are more: raise --limit or narrow --match.
");
        assert_eq!(
            table(output, &serde_json::json!([]), false),
            "No signals.\n"
        );
    }
}
