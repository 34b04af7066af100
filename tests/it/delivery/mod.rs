//! Who is told what when receivers, fallbacks, the daemon or the machine fail.

mod faults;
mod kill;
mod storm;

use serde_json::{Value, json};

use crate::harness::{Daemon, otlp};

/// A rule that fires at once for every series of `level` above 100.
const RULE: &str = r#"
rules:
  - {alert: LevelHigh, match: '{metric="level"}', detector: threshold, upper: 100, for: 1 of 1}
"#;

/// Ticks that are over soon.
const TICK: &str = "window: {tick: 100ms, samples: 10}";

/// A request with one point above the threshold for each of `series` (service, attribute).
fn high<'s>(series: impl IntoIterator<Item = (&'s str, String)>) -> Value {
    // In the past, so that its tick is over whatever its length.
    let time = (otlp::now_nanos() - 1_500_000_000).to_string();
    let mut services: std::collections::BTreeMap<&str, Vec<Value>> = Default::default();
    for (service, part) in series {
        services.entry(service).or_default().push(json!({
            "timeUnixNano": time,
            "asDouble": 500.0,
            "attributes": [{"key": "part", "value": {"stringValue": part}}],
        }));
    }
    let resources: Vec<Value> = services
        .into_iter()
        .map(|(service, points)| {
            let gauge = json!([{"name": "level", "unit": "1", "gauge": {"dataPoints": points}}]);
            otlp::metrics(service, gauge)["resourceMetrics"][0].take()
        })
        .collect();
    json!({"resourceMetrics": resources})
}

/// `/api/v1/receivers`: what it says of `receiver`.
async fn receiver(daemon: &Daemon, receiver: &str) -> Value {
    let answer = daemon.get("/api/v1/receivers").await;
    let receivers = answer["data"].as_array().expect("receivers");
    let found = receivers.iter().find(|view| view["name"] == receiver);
    found
        .unwrap_or_else(|| panic!("{receiver}: {answer}"))
        .clone()
}

/// Messages that the first integration of `receiver` has still to deliver.
async fn pending(daemon: &Daemon, receiver: &str) -> u64 {
    let view = self::receiver(daemon, receiver).await;
    view["integrations"][0]["pending"]
        .as_u64()
        .expect("pending")
}

/// A daemon that does not log what it decides and delivers, for there is a lot of it.
async fn quiet(config: &str) -> Daemon {
    let filter = "error,tidewatch::app=info,tidewatch::app::decide=error";
    Daemon::start_with(config, &[("RUST_LOG", filter)]).await
}
