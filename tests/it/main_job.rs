//! The main job from end to end: OTLP becomes windows, a deviation, an alert, a webhook and a degraded
//! service, and all of it is undone when the deviation ends.

use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::harness::hook::Hook;
use crate::harness::{Daemon, eventually, otlp, program, stdout};

const SECOND: u64 = 1_000_000_000;

/// Points one second apart, ending `ago` seconds before now; `value(i)` is the i-th.
pub fn seconds(count: u64, ago: u64, value: impl Fn(u64) -> f64) -> Vec<(u64, f64)> {
    let end = otlp::now_nanos() / SECOND * SECOND - ago * SECOND;
    (0..count)
        .map(|i| (end - (count - 1 - i) * SECOND - SECOND / 2, value(i)))
        .collect()
}

/// A value around 100 that never repeats exactly.
pub fn calm(i: u64) -> f64 {
    100.0 + (i as f64 * 0.7).sin() * 2.0
}

fn config(hook: &Hook) -> String {
    format!(
        r#"
window: {{tick: 1s, samples: 60}}
rules:
  - alert: DepthDeviation
    match: '{{metric="queue.depth"}}'
    detector: robust
    sigma: {{warning: 4, critical: 8}}
    direction: above
    for: 3 of 5
    min_samples: 30
    labels: {{team: payments}}
    annotations: {{summary: "queue of {{{{ service }}}} is long"}}
route: {{receiver: oncall, group_by: [service], group_wait: 100ms, group_interval: 1s}}
receivers:
  - name: oncall
    webhook_configs: [{{url: "{url}", secret: "${{env:HOOK_SECRET}}", send_resolved: true}}]
modes:
  receiver: oncall
  settle: 0
  policies:
    - name: long-queue
      when: '{{alertname="DepthDeviation",severity="critical"}}'
      service: "{{{{ service }}}}"
      level: degraded
      features: {{recommendations: false, max_steps: 1}}
      hold: 1s
      recover: 1s
"#,
        url = hook.url
    )
}

async fn mode(daemon: &Daemon, service: &str) -> Option<String> {
    let answer = daemon.get(&format!("/api/v1/modes/{service}")).await;
    answer["data"]["mode"].as_str().map(str::to_owned)
}

/// Gives data until automation has seen enough of it, and goes on.
async fn sighted(daemon: &Daemon) -> otlp::Pulse {
    let pulse = otlp::Pulse::of("checkout", &daemon.http);
    eventually("automation may change modes", || async {
        let blind = daemon.metric("tidewatch_modes_blind").await;
        (blind == Some(0.0)).then_some(())
    })
    .await;
    pulse
}

fn verify_signature(delivery: &crate::harness::hook::Delivery, secret: &str) {
    let id = delivery.header("webhook-id");
    let time = delivery.header("webhook-timestamp");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(&delivery.raw);
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(
        delivery.header("webhook-signature"),
        format!("v1,{expected}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_becomes_windows_a_deviation_an_alert_a_webhook_and_a_degraded_service() {
    let hook = Hook::start().await;
    // The first attempt fails, so that the second shows the same id.
    hook.answer(&[503]);
    let secret = "a secret that is long enough";
    let daemon = Daemon::start_with(&config(&hook), &[("HOOK_SECRET", secret)]).await;

    // Given two minutes of calm.
    let history = seconds(120, 12, calm);
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge("checkout", "queue.depth", &history),
    )
    .await;
    let signal = eventually("the window is there", || async {
        let found = daemon
            .series("{service=\"checkout\",metric=\"queue.depth\"}")
            .await;
        found
            .into_iter()
            .find(|signal| signal["last"]["value"] == calm(119))
    })
    .await;
    // The window holds the last 60 samples, exactly.
    let values: Vec<f64> = (60..120).map(calm).collect();
    let mean = values.iter().sum::<f64>() / 60.0;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 59.0;
    let close = |name: &str, expected: f64| {
        let value = signal["window"][name].as_f64().expect(name);
        assert!(
            (value - expected).abs() < 1e-9,
            "{name}: {value}, expected {expected}"
        );
    };
    close("mean", mean);
    close("stddev", variance.sqrt());
    close("min", values.iter().copied().fold(f64::INFINITY, f64::min));
    close(
        "max",
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    assert_eq!(signal["window"]["count"], 60);
    assert_eq!(signal["signal"], "value");
    assert_eq!(signal["baseline"]["state"], "ready");

    // When it jumps for ten seconds, and enough is known for modes to change.
    let _pulse = sighted(&daemon).await;
    let jump = seconds(10, 2, |_| 400.0);
    otlp::post_metrics(&daemon.http, &otlp::gauge("checkout", "queue.depth", &jump)).await;

    // Then there is an alert that says observed, expected, band, sigma, severity and since when.
    let alert = eventually("the alert", || async {
        let alerts = daemon.get("/api/v2/alerts").await;
        alerts.as_array().and_then(|alerts| alerts.first().cloned())
    })
    .await;
    let labels = &alert["labels"];
    assert_eq!(labels["alertname"], "DepthDeviation");
    assert_eq!(labels["service"], "checkout");
    assert_eq!(labels["severity"], "critical");
    assert_eq!(labels["team"], "payments");
    assert_eq!(alert["annotations"]["summary"], "queue of checkout is long");
    for annotation in [
        "observed",
        "expected",
        "lower",
        "upper",
        "sigma",
        "severity_score",
        "since",
        "explanation",
        "recommendation",
    ] {
        assert!(
            !alert["annotations"][annotation]
                .as_str()
                .unwrap_or_default()
                .is_empty(),
            "{annotation}: {alert}"
        );
    }
    let score: f64 = alert["annotations"]["severity_score"]
        .as_str()
        .and_then(|s| s.parse().ok())
        .expect("a number");
    assert!((0.0..=1.0).contains(&score));
    let listed = stdout(&program(
        "amtool",
        &[
            "--alertmanager.url",
            &format!("http://{}", daemon.api),
            "alert",
            "query",
            "service=checkout",
        ],
    ));
    assert!(listed.contains("DepthDeviation"), "{listed}");

    // And a signed webhook in Alertmanager's shape.
    let firing = eventually("the webhook", || async {
        let deliveries = hook.deliveries();
        deliveries
            .into_iter()
            .find(|d| d.body["version"] == "4" && d.body["status"] == "firing")
    })
    .await;
    let body = &firing.body;
    assert_eq!(body["receiver"], "oncall");
    assert_eq!(body["groupLabels"]["service"], "checkout");
    assert_eq!(body["alerts"][0]["status"], "firing");
    assert_eq!(body["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(body["alerts"][0]["fingerprint"], alert["fingerprint"]);

    // And the service is told to degrade, with its features.
    let state = daemon.get("/api/v1/modes/checkout").await;
    assert_eq!(state["data"]["mode"], "degraded", "{state}");
    assert_eq!(state["data"]["features"]["max_steps"], 1);
    assert_eq!(state["data"]["why"][0]["fingerprint"], alert["fingerprint"]);
    eventually("the webhook about the mode", || async {
        hook.deliveries()
            .into_iter()
            .find(|d| d.body["data"]["state"]["mode"] == "degraded")
    })
    .await;

    // What was answered 503 came again under its id; everything is signed.
    let deliveries = eventually("what was refused comes again", || async {
        let deliveries = hook.deliveries();
        let refused = deliveries.first()?.header("webhook-id");
        let times = deliveries
            .iter()
            .filter(|d| d.header("webhook-id") == refused)
            .count();
        (times == 2).then_some(deliveries)
    })
    .await;
    for delivery in &deliveries {
        verify_signature(delivery, secret);
    }

    // When it is calm again.
    let mut again = 0;
    eventually("the service is back to normal", || {
        again += 1;
        let calm = seconds(1, 0, |_| calm(again));
        let daemon = &daemon;
        async move {
            otlp::post_metrics(&daemon.http, &otlp::gauge("checkout", "queue.depth", &calm)).await;
            (mode(daemon, "checkout").await.as_deref() == Some("normal")).then_some(())
        }
    })
    .await;
    assert_eq!(daemon.get("/api/v2/alerts").await, Value::Array(Vec::new()));
    let resolved = eventually("the webhook about the end", || async {
        hook.deliveries()
            .into_iter()
            .find(|d| d.body["status"] == "resolved")
    })
    .await;
    assert_eq!(
        resolved.body["alerts"][0]["fingerprint"],
        alert["fingerprint"]
    );
    verify_signature(&resolved, secret);
    assert!(
        daemon
            .metric("tidewatch_notifications_total{receiver=\"oncall\",result=\"retried\"}")
            .await
            >= Some(1.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_delays_nothing_else() {
    let hook = Hook::start().await;
    // A port that accepts and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let silent_url = format!("http://{}/", silent.local_addr().expect("bound"));
    let config = config(&hook).replace(
        "webhook_configs: [{url:",
        &format!("webhook_configs: [{{url: \"{silent_url}\"}}, {{url:"),
    );
    let daemon =
        Daemon::start_with(&config, &[("HOOK_SECRET", "a secret that is long enough")]).await;
    let history = seconds(100, 12, calm);
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge("checkout", "queue.depth", &history),
    )
    .await;
    let _pulse = sighted(&daemon).await;
    let jump = seconds(10, 2, |_| 400.0);
    otlp::post_metrics(&daemon.http, &otlp::gauge("checkout", "queue.depth", &jump)).await;
    let start = tokio::time::Instant::now();
    eventually("the other receiver hears of it", || async {
        hook.deliveries().first().cloned()
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "the hanging one was waited for"
    );
    assert_eq!(mode(&daemon, "checkout").await.as_deref(), Some("degraded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn zscore_is_the_sample_against_mean_and_standard_deviation_of_the_window_before_it() {
    let config = "window: {tick: 1s}\nrules: [{alert: Classic, match: '{}', detector: zscore}]";
    let daemon = Daemon::start(config).await;
    let points = seconds(150, 2, calm);
    otlp::post_metrics(&daemon.http, &otlp::gauge("checkout", "depth", &points)).await;
    let signal = eventually("all samples are there", || async {
        let found = daemon.series("{metric=\"depth\"}").await;
        found
            .into_iter()
            .find(|signal| signal["last"]["value"] == calm(149))
    })
    .await;
    assert_eq!(signal["window"]["size"], 100, "the default window");
    let id = signal["id"].as_str().expect("an id");
    let samples = daemon.get(&format!("/api/v1/series/{id}/samples")).await;
    let samples = samples["data"].as_array().expect("samples");
    assert_eq!(samples.len(), 100);
    // The i-th sample in the answer is the (50 + i)-th of all; its window is the 100 before it.
    for (i, sample) in (50_u64..150).zip(samples).filter(|(i, _)| *i >= 100) {
        let before: Vec<f64> = (i - 100..i).map(calm).collect();
        let mean = before.iter().sum::<f64>() / 100.0;
        let stddev = (before.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 99.0).sqrt();
        let sigma = sample["sigma"].as_f64().expect("judged");
        let expected = (calm(i) - mean) / stddev;
        assert!(
            (sigma - expected).abs() < 1e-6,
            "{i}: {sigma}, expected {expected}"
        );
        let upper = sample["upper"].as_f64().expect("a band");
        assert!(
            (upper - (mean + 2.5 * stddev)).abs() < 1e-4,
            "{i}: {sample}"
        );
    }
}
