//! OpenFeature's own SDKs with their OFREP providers, while the mode of a service is changed.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::child::Program;
use crate::harness::{Daemon, eventually, otlp, root, stdout};
use crate::modes::set;

/// A level that means something, and a feature that only a policy sets.
pub const CONFIG: &str = r#"
window: {tick: 200ms}
modes:
  levels:
    - normal
    - name: degraded
      features: {recommendations: false, max_steps: 1, ratio: 0.5, model: small, limits: {rate: 5}}
      priority_floor: high
      quality: reduced
      shed: 25%
    - critical
  policies:
    - {name: never, when: '{alertname="Never"}', service: "{{ service }}", level: degraded,
       features: {beta: false}}
"#;

/// A daemon with [`CONFIG`] that knows `cart`.
pub async fn daemon(port: u16, more: &str) -> Daemon {
    let config = CONFIG.replace("modes:\n", &format!("modes:\n{more}"));
    let daemon = Daemon::start_api(port, &config).await;
    known(&daemon).await;
    daemon
}

/// Lets the daemon know `cart`.
pub async fn known(daemon: &Daemon) {
    let body = otlp::gauge("cart", "a.gauge", &[(otlp::now_nanos(), 1.0)]);
    otlp::post_metrics(&daemon.http, &body).await;
    eventually("cart is known", || async {
        let modes = daemon.get("/api/v1/modes").await;
        (modes["data"].as_array().map_or(0, Vec::len) == 1).then_some(())
    })
    .await;
}

fn node(kind: &str, daemon: &Daemon, service: &str) -> Program {
    let script = root().join("tests/clients/node/flags.js");
    let base = format!("http://{}", daemon.api);
    Program::start(
        Command::new("node")
            .arg(script)
            .args([kind, &base, service]),
    )
}

fn python(daemon: &Daemon, service: &str) -> Program {
    let folder = root().join("tests/clients/python");
    let base = format!("http://{}", daemon.api);
    let python = folder.join(".venv/bin/python");
    Program::start(
        Command::new(python)
            .arg(folder.join("flags.py"))
            .args([&base, service]),
    )
}

/// What the code asks for without Tidewatch.
fn defaults() -> Value {
    json!({
        "recommendations": true, "max_steps": 7, "ratio": 0.75, "model": "large",
        "limits": {"rate": 100}, "beta": true, "nonsense": true, "tidewatch.mode": "own",
        "tidewatch.level": -1, "tidewatch.priority_floor": "own", "tidewatch.quality": "own",
        "tidewatch.shed": -1.0,
    })
}

/// The defaults with some of them replaced.
fn with(changed: &Value) -> Value {
    let mut values = defaults();
    for (key, value) in changed.as_object().expect("an object") {
        values[key] = value.clone();
    }
    values
}

fn values(answer: &Value) -> Value {
    let seen = answer["seen"].as_object().expect("flags");
    let number = |value: &Value| match value.as_i64() {
        // Node writes -1.0 as -1.
        Some(-1) => json!(-1.0),
        Some(0) => json!(0.0),
        _ => value.clone(),
    };
    let pairs = seen.iter().map(|(key, flag)| {
        let value = match key.as_str() {
            "tidewatch.shed" => number(&flag["value"]),
            _ => flag["value"].clone(),
        };
        (key.clone(), value)
    });
    Value::Object(pairs.collect())
}

/// Asks until the values are these.
async fn until(client: &mut Program, expected: &Value) -> Value {
    let mut answer = Value::Null;
    let asked = eventually("the flags are as expected", || {
        answer = client.ask();
        let fits = values(&answer) == *expected;
        let now = answer.clone();
        async move { fits.then_some(now) }
    });
    match tokio::time::timeout(std::time::Duration::from_secs(30), asked).await {
        Ok(answer) => answer,
        Err(_) => panic!("{answer:#}\nis not\n{expected:#}"),
    }
}

/// The story that every SDK sees. `knows_absence`: it takes an answer without a value for what it is.
async fn story(daemon: &Daemon, client: &mut Program, knows_absence: bool) {
    let normal = with(&json!({
        "tidewatch.mode": "normal", "tidewatch.level": 0, "tidewatch.priority_floor": "low",
        "tidewatch.shed": 0.0,
    }));
    let answer = until(client, &normal).await;
    if knows_absence {
        let recommendations = &answer["seen"]["recommendations"];
        assert!(recommendations["errorCode"].is_null(), "{answer:#}");
        assert_eq!(recommendations["reason"], "DISABLED", "{answer:#}");
    }
    let nonsense = &answer["seen"]["nonsense"];
    assert_eq!(nonsense["errorCode"], "FLAG_NOT_FOUND", "{answer:#}");

    set(daemon, "cart", "degraded", "sale tonight");
    let degraded = with(&json!({
        "recommendations": false, "max_steps": 1, "ratio": 0.5, "model": "small",
        "limits": {"rate": 5}, "tidewatch.mode": "degraded", "tidewatch.level": 1,
        "tidewatch.priority_floor": "high", "tidewatch.quality": "reduced", "tidewatch.shed": 0.25,
    }));
    let answer = until(client, &degraded).await;
    let model = &answer["seen"]["model"];
    assert_eq!(model["reason"], "TARGETING_MATCH", "{answer:#}");
    assert_eq!(model["variant"], "degraded", "{answer:#}");
    let metadata = &model["metadata"];
    assert_eq!(metadata["cause"], "set by ann: sale tonight", "{answer:#}");
    assert!(
        metadata["sequence"].as_u64().is_some_and(|n| n > 0),
        "{answer:#}"
    );

    stdout(&daemon.cli(&["mode", "clear", "cart", "--author", "ann"]));
    let answer = until(client, &normal).await;
    // Not a word in the log of a service over a feature that is not in force.
    assert_eq!(answer["logged"], json!([]), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_server_sdk() {
    let daemon = daemon(0, "").await;
    let mut client = node("server", &daemon, "cart");
    // This version of the provider takes a missing value for a wrong type; the default comes all the same.
    story(&daemon, &mut client, false).await;
    let answer = node("server", &daemon, "nobody").ask();
    assert_eq!(values(&answer), defaults(), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_web_sdk_over_all_flags_at_once() {
    let daemon = daemon(0, "").await;
    let mut client = node("web", &daemon, "cart");
    story(&daemon, &mut client, true).await;
    eventually("it is told that nothing has changed", || {
        let answer = client.ask();
        async move { answer["notModified"].as_u64().filter(|n| *n > 0) }
    })
    .await;
    let answer = node("web", &daemon, "nobody").ask();
    assert_eq!(values(&answer), defaults(), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk() {
    let mut daemon = daemon(0, "").await;
    let mut client = python(&daemon, "cart");
    story(&daemon, &mut client, true).await;
    let answer = python(&daemon, "nobody").ask();
    assert_eq!(values(&answer), defaults(), "{answer:#}");
    let mode = &answer["seen"]["tidewatch.mode"];
    assert_eq!(mode["reason"], "UNKNOWN", "{answer:#}");
    assert!(mode["errorCode"].is_null(), "{answer:#}");

    // Without Tidewatch the code's defaults hold, whatever was told last.
    set(&daemon, "cart", "degraded", "sale tonight");
    daemon.terminate().await;
    until(&mut client, &defaults()).await;
}
