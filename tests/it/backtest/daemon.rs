//! A daemon that is sent data over its ports, and a backtest of the same data in a file.

use serde_json::{Value, json};

use super::command::{backtest, folder, lines};
use crate::harness::{Daemon, otlp};
use crate::modes::Events;

const SECOND: u64 = 1_000_000_000;
const TICKS: u64 = 150;

const CONFIG: &str = r#"
window: {tick: 1s, samples: 60}
rules:
  - {alert: Deep, match: '{metric="queue.depth"}', detector: robust, sigma: {warning: 4, critical: 40}, direction: above, for: 3 of 5}
  - {alert: Busy, match: '{metric="requests",signal="rate"}', detector: zscore, sigma: {warning: 5}, direction: both, for: 2 of 3, min_samples: 20}
  - {alert: Slow, match: '{metric="duration",signal=~"p95|p99"}', detector: robust, direction: above, for: 3s, labels: {team: payments}}
  - {alert: Hot, match: '{metric="temperature"}', detector: threshold, upper: 90, for: 1 of 1}
"#;

/// One request: what happened in the second that ends at `time`, the `n`th.
fn request(n: u64, time: u64) -> Value {
    let wave = (n as f64 * 0.9).sin();
    let noise = |range: u64| (n * 7919 % range) as f64 / range as f64;
    let wrong = (90..110).contains(&n);
    let depth = if wrong { 900.0 } else { 100.0 + 3.0 * wave };
    let heat = if (100..104).contains(&n) || n > 140 {
        95.0
    } else {
        60.0 + wave
    };
    // A total since the start, which jumps up faster for a while.
    let total = n * 50 + n * 13 % 7 + 400 * n.saturating_sub(95).min(8);
    let (fast, slow) = if wrong { (10, 90) } else { (90 + n % 5, 0) };
    let start = (time - (n + 1) * SECOND).to_string();
    let at = time.to_string();
    let number = |key: &str, value: Value| json!({"timeUnixNano": at, "startTimeUnixNano": start, key: value});
    let histogram = json!({
        "timeUnixNano": at,
        "startTimeUnixNano": (time - SECOND).to_string(),
        "count": (fast + slow).to_string(),
        "sum": fast as f64 * 0.05 + slow as f64 * (1.0 + noise(10)),
        "explicitBounds": [0.025, 0.05, 0.1, 0.5, 1.0, 2.0],
        "bucketCounts": ["0", (fast / 2).to_string(), (fast - fast / 2).to_string(), "0", "0", slow.to_string(), "0"],
    });
    otlp::metrics(
        "checkout",
        json!([
            {"name": "queue.depth", "unit": "1", "gauge": {"dataPoints": [number("asDouble", json!(depth))]}},
            {"name": "temperature", "unit": "Cel", "gauge": {"dataPoints": [number("asDouble", json!(heat))]}},
            {"name": "requests", "unit": "1", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": [number("asInt", json!(total.to_string()))]}},
            {"name": "duration", "unit": "s", "histogram": {"aggregationTemporality": 1, "dataPoints": [histogram]}},
        ]),
    )
}

/// What an event says but when it was noticed: the daemon hears of all of it at once.
fn said(event: &Value) -> Value {
    let alert = &event["alert"];
    let mut said = json!({"from": event["from"], "state": alert["state"]});
    for name in [
        "labels",
        "since",
        "observed",
        "expected",
        "lower",
        "upper",
        "sigma",
        "worst_sigma",
        "anomalous_samples",
        "updated_at",
        "fingerprint",
        "signal_id",
        "severity_score",
    ] {
        said[name] = alert[name].clone();
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backtest_alerts_on_what_the_daemon_alerted_on() {
    let daemon = Daemon::start(CONFIG).await;
    let mut events = Events::open(&daemon, "", None).await;
    assert_eq!(events.next().await.name, "snapshot");
    // One point of each series a second, and the last of them long enough ago that none is cut in two
    // by the daemon's clock.
    let end = otlp::now_nanos() / SECOND * SECOND - 30 * SECOND;
    let seconds: Vec<Value> = (0..TICKS)
        .map(|n| request(n, end - (TICKS - 1 - n) * SECOND - SECOND / 4))
        .collect();
    let together = |seconds: &[Value]| {
        let resources = seconds
            .iter()
            .flat_map(|one| one["resourceMetrics"].as_array());
        json!({"resourceMetrics": resources.flatten().collect::<Vec<_>>()})
    };
    let requests: Vec<Value> = seconds.chunks(10).map(together).collect();

    let folder = folder();
    let file = folder.path().join("metrics.json");
    let text: String = requests
        .iter()
        .map(|request| format!("{request}\n"))
        .collect();
    std::fs::write(&file, text).expect("written");
    let config = folder.path().join("tidewatch.yaml");
    std::fs::write(&config, CONFIG).expect("written");
    let (config, file) = (config.display().to_string(), file.display().to_string());
    let replayed = backtest(&["--config", &config, "--output", "json", &file]);
    let summary = lines(&replayed).pop().expect("a summary");
    let mut replayed: Vec<Value> = lines(&replayed)
        .into_iter()
        .filter(|line| line["type"] == "alert")
        .map(|line| said(&line))
        .collect();
    let told = replayed
        .iter()
        .map(|said| format!("{} {}", said["labels"], said["state"]));
    assert!(
        replayed.len() >= 8,
        "{:#?} {summary}",
        told.collect::<Vec<_>>()
    );

    for request in &requests {
        otlp::post_metrics(&daemon.http, request).await;
    }
    let mut live = Vec::new();
    while live.len() < replayed.len() {
        let event = events.next().await;
        if event.data["alert"]["state"] != "pending" {
            live.push(said(&event.data));
        }
    }
    // Of one tick, the order is that of the series; over several that the daemon took in at once, of
    // each alert.
    let order = |said: &Value| {
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        (text("fingerprint"), text("updated_at"), text("state"))
    };
    live.sort_by_key(order);
    replayed.sort_by_key(order);
    for (live, replayed) in live.iter().zip(&replayed) {
        assert_eq!(live, replayed);
    }
}
