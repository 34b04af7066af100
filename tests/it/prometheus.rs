//! A real Prometheus scrapes a running daemon: every query of every dashboard returns data, promtool
//! finds nothing to say against `/metrics`, and the shipped rules do what their tests say.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::hook::Hook;
use crate::harness::prometheus::Prometheus;
use crate::harness::{Daemon, eventually, otlp, program, root, stdout};

const CONFIG: &str = r#"
window: {tick: 200ms}
rules:
  - {alert: LatencyDeviation, match: '{signal=~"p95|p99|rate|error_ratio"}', detector: zscore, sigma: {warning: 4, critical: 6}, direction: above, for: 1 of 1, min_samples: 5}
  - {alert: TooHot, match: '{metric="temperature"}', detector: threshold, upper: 50, for: 1 of 1}
route: {receiver: oncall, group_by: [service], group_wait: 100ms}
receivers: [{name: oncall, webhook_configs: [{url: "HOOK"}]}]
modes:
  policies: [{name: hot, when: '{alertname="TooHot"}', service: "{{ service }}", level: degraded, hold: 1h, recover: 1h}]
"#;

/// Spans of two services now, the second called by the first, and a gauge beyond its threshold.
async fn feed(daemon: &Daemon, round: u64) {
    let now = otlp::now_nanos();
    let millis = |i: u64| Duration::from_millis(20 + (round * 7 + i * 3) % 11);
    let id = |i: u64| round * 1_000 + i + 1;
    let front: Vec<Value> = (0..20)
        .map(|i| {
            otlp::span(
                id(i).into(),
                id(i),
                None,
                "GET /",
                now,
                millis(i) * 2,
                false,
            )
        })
        .collect();
    let back: Vec<Value> = (0..20)
        .map(|i| {
            otlp::span(
                id(i).into(),
                id(i) + 500,
                Some(id(i)),
                "load",
                now,
                millis(i),
                i % 9 == 0,
            )
        })
        .collect();
    for (service, spans) in [("shop", front), ("store", back)] {
        let (status, answer) =
            otlp::post(&daemon.http, "traces", &otlp::traces(service, &spans)).await;
        assert_eq!(status, 200, "{answer}");
    }
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge("shop", "temperature", &[(now, 60.0)]),
    )
    .await;
}

/// The queries of a dashboard: of its panels, annotations and variables.
fn queries(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push(target["expr"].as_str().expect("a query").to_owned());
        }
    }
    for annotation in dashboard["annotations"]["list"]
        .as_array()
        .into_iter()
        .flatten()
    {
        found.push(annotation["expr"].as_str().expect("a query").to_owned());
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .into_iter()
        .flatten()
    {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().expect("a query");
            let inner = query
                .strip_prefix("label_values(")
                .and_then(|q| q.strip_suffix(')'));
            let (selector, label) = inner
                .and_then(|inner| inner.rsplit_once(", "))
                .expect("label_values(…, …)");
            found.push(format!("count by ({label}) ({selector})"));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_every_dashboard_returns_data_from_a_real_prometheus() {
    let hook = Hook::start().await;
    let daemon = Daemon::start(&CONFIG.replace("HOOK", &hook.url)).await;
    let prometheus = Prometheus::scraping(&daemon.api).await;
    let mut waiting = Vec::new();
    for file in ["overview.json", "service.json"] {
        let text = std::fs::read_to_string(root().join("dashboards").join(file)).expect(file);
        let dashboard: Value = serde_json::from_str(&text).expect(file);
        assert!(dashboard["id"].is_null(), "{file} has a fixed id");
        assert!(dashboard.get("uid").is_none(), "{file} has a fixed uid");
        assert!(
            !text.contains("\"uid\": \"P"),
            "{file} names a data source by id"
        );
        for query in queries(&dashboard) {
            let query = query
                .replace("$service", "shop")
                .replace("$operation", ".*");
            waiting.push((file, query));
        }
    }
    assert!(waiting.len() > 40, "{}", waiting.len());
    let mut round = 0;
    eventually("every query returns data", || {
        round += 1;
        let queries = waiting.clone();
        let (daemon, prometheus) = (&daemon, &prometheus);
        async move {
            feed(daemon, round).await;
            let mut empty = Vec::new();
            for (file, query) in queries {
                if prometheus
                    .query(&query)
                    .await
                    .is_none_or(|result| result.is_empty())
                {
                    empty.push((file, query));
                }
            }
            if round % 100 == 0 {
                eprintln!("still without data: {empty:#?}");
            }
            empty.is_empty().then_some(())
        }
    })
    .await;
    let up = prometheus.query("up{job=\"tidewatch\"} == 1").await;
    assert_eq!(up.map(|up| up.len()), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say_against_the_metrics() {
    let hook = Hook::start().await;
    let daemon = Daemon::start(&CONFIG.replace("HOOK", &hook.url)).await;
    // Names and values that want escaping are among them.
    let hostile = "\"quo\\te\"\n{{x}} <script> ../ \u{202e}";
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge(hostile, "temperature", &[(otlp::now_nanos(), 60.0)]),
    )
    .await;
    eventually("the signal is exposed", || async {
        let text = daemon.text("/metrics").await;
        text.contains("tidewatch_signal{").then_some(())
    })
    .await;
    let metrics = daemon.text("/metrics").await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool
        .stdin
        .take()
        .expect("piped")
        .write_all(metrics.as_bytes())
        .expect("written");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{metrics}"
    );
}

#[test]
fn the_shipped_rules_fire_when_they_should() {
    let rules = root().join("alerts/tidewatch.rules.yml");
    stdout(&program(
        "promtool",
        &["check", "rules", rules.to_str().expect("UTF-8")],
    ));
    let tests = root().join("alerts/tidewatch.rules.test.yml");
    stdout(&program(
        "promtool",
        &["test", "rules", tests.to_str().expect("UTF-8")],
    ));
}

#[test]
fn the_shipped_rules_ask_only_for_metrics_that_exist() {
    let rules = std::fs::read_to_string(root().join("alerts/tidewatch.rules.yml")).expect("rules");
    let source = std::fs::read_to_string(root().join("src/telemetry.rs")).expect("telemetry");
    for word in rules.split(|c: char| !c.is_alphanumeric() && c != '_') {
        if word.starts_with("tidewatch_") {
            let name = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(
                source.contains(&format!("\"{name}\"")),
                "no metric `{name}`"
            );
        }
    }
}
