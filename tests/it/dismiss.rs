//! "This was normal": a person's answer ends an alert, teaches the baseline and is remembered.

use serde_json::{Value, json};

use crate::harness::{Daemon, eventually, otlp, stdout};

const CONFIG: &str = r#"
window: {tick: 200ms}
rules:
  - {alert: Odd, match: '{metric="queue"}', detector: adaptive, sigma: {warning: 4}, for: 2 of 3, min_samples: 30}
  - {alert: Full, match: '{metric="disk"}', detector: threshold, upper: 50, for: 1 of 1}
route: {receiver: log}
"#;

/// Sends samples around `level`, a tick apart in event time, the newest a while ago so that none is early.
struct Feed {
    at: u64,
    noise: u64,
}

impl Feed {
    async fn give(&mut self, daemon: &Daemon, metric: &str, level: f64, count: u32) {
        let points: Vec<_> = (0..count)
            .map(|_| {
                self.at += 200_000_000;
                self.noise ^= self.noise << 13;
                self.noise ^= self.noise >> 7;
                self.noise ^= self.noise << 17;
                let noise = (self.noise >> 11) as f64 / (1_u64 << 53) as f64;
                (self.at, level * (0.98 + 0.04 * noise))
            })
            .collect();
        otlp::post_metrics(&daemon.http, &otlp::gauge("shop", metric, &points)).await;
    }
}

/// The alert of that name, if it is in that state.
async fn alert(daemon: &Daemon, name: &str, state: &str) -> Option<Value> {
    let alerts = daemon.get("/api/v1/alerts").await;
    let mut alerts = alerts["data"].as_array()?.iter();
    let found = alerts.find(|alert| alert["labels"]["alertname"] == name)?;
    (found["state"] == state).then(|| found.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_was_normal_ends_teaches_and_is_remembered() {
    let daemon = Daemon::start(CONFIG).await;
    let mut feed = Feed {
        at: otlp::now_nanos() - 110_000_000_000,
        noise: 0x9e37_79b9_7f4a_7c15,
    };
    feed.give(&daemon, "queue", 100.0, 200).await;
    feed.give(&daemon, "queue", 160.0, 4).await;
    let firing = eventually("the deviation is told", || alert(&daemon, "Odd", "firing")).await;
    let fingerprint = firing["fingerprint"].as_str().expect("a fingerprint");

    let dismiss = |fingerprint: &str| {
        let comment = ["--comment", "nightly import", "--author", "ada"];
        daemon.cli(&[&["alerts", "dismiss", fingerprint], &comment[..]].concat())
    };
    assert_eq!(
        stdout(&dismiss(fingerprint)),
        "Odd of shop counts as normal.\n"
    );
    let over = alert(&daemon, "Odd", "resolved").await.expect("it is over");
    let reason = over["annotations"]["resolved_reason"].as_str();
    assert_eq!(reason, Some("called normal by ada: nightly import"));
    let explanation = over["annotations"]["explanation"]
        .as_str()
        .expect("explained");
    assert!(
        explanation.contains("Resolved: called normal by ada: nightly import."),
        "{explanation}"
    );
    // The learning is on the disk soon, so that a crash takes nothing of it away.
    eventually("the learning is saved", || async {
        let saved = daemon.metric("tidewatch_snapshot_timestamp_seconds").await;
        saved.filter(|saved| *saved > 0.0)
    })
    .await;
    let daemon = daemon.kill_and_restart().await;
    feed.give(&daemon, "queue", 160.0, 100).await;
    let view = |metric: &str| {
        let daemon = &daemon;
        let selector = format!("{{metric=\"{metric}\"}}");
        async move { daemon.series(&selector).await.pop() }
    };
    let series = eventually("the samples are judged", || async {
        view("queue").await.filter(|view| {
            let last = &view["last"];
            last["value"].as_f64() > Some(150.0) && last["expected"].as_f64() > Some(150.0)
        })
    })
    .await;
    assert!(series["last"]["sigma"].as_f64().expect("judged").abs() < 4.0);
    assert!(alert(&daemon, "Odd", "firing").await.is_none());

    // Another deviation of the signal says what was said before.
    feed.give(&daemon, "queue", 900.0, 4).await;
    let again = eventually("another is told", || alert(&daemon, "Odd", "firing")).await;
    let said = again["annotations"]["dismissed"]
        .as_str()
        .expect("remembered");
    assert!(said.starts_with("called normal by ada on 20"), "{said}");
    assert!(said.ends_with(": nightly import"), "{said}");
    let grounds = &again["grounds"]["dismissed"];
    assert_eq!(grounds["author"], "ada");

    // What cannot be taught is refused with what helps.
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge("shop", "disk", &[(otlp::now_nanos(), 60.0)]),
    )
    .await;
    let full = eventually("the disk is full", || alert(&daemon, "Full", "firing")).await;
    let comment = ["--comment", "x", "--author", "ada"];
    let refused = |fingerprint: &str| {
        let output = daemon.cli(&[&["alerts", "dismiss", fingerprint], &comment[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(full["fingerprint"].as_str().expect("a fingerprint"));
    assert!(said.contains("silence the alert"), "{said}");
    let said = refused("0123456789abcdef");
    assert!(said.contains("there is no such alert"), "{said}");
    let url = format!("http://{}", daemon.api);
    let posted = reqwest::Client::new()
        .post(format!("{url}/api/v2/alerts"))
        .json(&json!([{"labels": {"alertname": "Down"}}]))
        .send()
        .await
        .expect("posted");
    assert!(posted.status().is_success());
    let down = alert(&daemon, "Down", "firing").await.expect("it fires");
    let said = refused(down["fingerprint"].as_str().expect("a fingerprint"));
    assert!(said.contains("another system reports this alert"), "{said}");
}
