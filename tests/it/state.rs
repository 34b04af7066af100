//! What survives: a restart, `kill -9` in the middle of ingest, and a damaged store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Daemon, eventually, otlp, stdout};
use crate::main_job::{calm, seconds};

const CONFIG: &str = r#"
window: {tick: 1s, samples: 60}
rules:
  - {alert: DepthDeviation, match: '{metric="queue.depth"}', detector: robust, sigma: {warning: 4, critical: 8}, direction: above, for: 3 of 5, min_samples: 30}
modes:
  settle: 0
  policies: [{name: long-queue, when: '{alertname="DepthDeviation"}', service: "{{ service }}", level: degraded, hold: 1h, recover: 1h}]
"#;

/// A daemon with a firing alert on `checkout`, which is degraded, and an override on `cart`.
async fn with_decisions() -> Daemon {
    let daemon = Daemon::start(CONFIG).await;
    for service in ["checkout", "cart"] {
        let history = seconds(100, 12, calm);
        otlp::post_metrics(&daemon.http, &otlp::gauge(service, "queue.depth", &history)).await;
    }
    let jump = seconds(10, 2, |_| 400.0);
    otlp::post_metrics(&daemon.http, &otlp::gauge("checkout", "queue.depth", &jump)).await;
    let _pulse = otlp::Pulse::of("cart", &daemon.http);
    eventually("checkout is degraded", || async {
        let state = daemon.get("/api/v1/modes/checkout").await;
        (state["data"]["mode"] == "degraded").then_some(())
    })
    .await;
    stdout(&daemon.cli(&[
        "mode",
        "set",
        "cart",
        "critical",
        "--author",
        "ann",
        "--reason",
        "moving house",
    ]));
    daemon
}

/// What must be the same after a restart.
async fn decisions(daemon: &Daemon) -> Value {
    let alerts = daemon.get("/api/v2/alerts").await;
    let fingerprints: Vec<&Value> = alerts
        .as_array()
        .expect("alerts")
        .iter()
        .map(|alert| &alert["fingerprint"])
        .collect();
    let mut modes = Vec::new();
    for service in ["checkout", "cart"] {
        let state = daemon.get(&format!("/api/v1/modes/{service}")).await;
        let data = &state["data"];
        modes.push(serde_json::json!([
            data["mode"],
            data["since"],
            data["why"],
            data["override"],
            data["sequence"]
        ]));
    }
    // All that was decided about modes, the newest first; services that come to be known say nothing.
    let audit = daemon.get("/api/v1/modes/audit?limit=1000").await;
    let audit = audit["data"].as_array().expect("the audit").iter();
    let audit: Vec<_> = audit.map(|entry| &entry["sequence"]).collect();
    assert!(audit.len() >= 3, "{audit:?}");
    serde_json::json!({"alerts": fingerprints, "modes": modes, "audit": audit})
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_modes_overrides_and_learning_survive_a_restart() {
    let mut daemon = with_decisions().await;
    let before = decisions(&daemon).await;
    let status = daemon.terminate().await;
    assert!(status.success(), "{status}");
    let daemon = daemon.restart().await;
    assert_eq!(decisions(&daemon).await, before);
    let signals = daemon
        .series("{service=\"cart\",metric=\"queue.depth\"}")
        .await;
    assert_eq!(
        signals.first().map(|s| s["window"]["count"].clone()),
        Some(60.into()),
        "{signals:?}"
    );
    assert_eq!(signals[0]["baseline"]["state"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_nine_during_ingest_twenty_times() {
    let mut daemon = with_decisions().await;
    let expected = decisions(&daemon).await;
    let sent = Arc::new(AtomicU64::new(0));
    let mut ready_after = Vec::new();
    for round in 0..20 {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, flag, count) = (daemon.http.clone(), Arc::clone(&stop), Arc::clone(&sent));
        let ingest = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut i = 0;
            while !flag.load(Ordering::Relaxed) {
                i += 1;
                let body = otlp::gauge(
                    &format!("noise-{}", i % 50),
                    "noise",
                    &[(otlp::now_nanos(), f64::from(i % 7))],
                );
                let url = format!("http://{address}/v1/metrics");
                if client.post(url).json(&body).send().await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let before = sent.load(Ordering::Relaxed);
        eventually("ingest is going on", || {
            let now = sent.load(Ordering::Relaxed);
            async move { (now > before + 20).then_some(()) }
        })
        .await;
        let start = tokio::time::Instant::now();
        daemon = daemon.kill_and_restart().await;
        ready_after.push(start.elapsed());
        stop.store(true, Ordering::Relaxed);
        ingest.await.expect("the client ends");
        assert_eq!(decisions(&daemon).await, expected, "round {round}");
    }
    // Some 60 ms each; two seconds are what is promised of every one.
    let slowest = ready_after.iter().max();
    assert!(slowest < Some(&Duration::from_secs(2)), "{ready_after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_set_aside_and_the_daemon_starts() {
    let mut daemon = with_decisions().await;
    daemon.terminate().await;
    for entry in std::fs::read_dir(daemon.data()).expect("the data folder") {
        let path = entry.expect("an entry").path();
        let length = std::fs::metadata(&path).expect("a file").len();
        let garbage: Vec<u8> = (0..length).map(|i| (i * 131 % 251) as u8).collect();
        std::fs::write(&path, garbage).expect("written");
    }
    let daemon = daemon.restart().await;
    assert!(daemon.log_line("set aside").is_some(), "{}", daemon.log());
    let names: Vec<String> = std::fs::read_dir(daemon.data())
        .expect("the data folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert!(
        names.iter().filter(|name| name.contains("damaged")).count() >= 2,
        "{names:?}"
    );
    assert_eq!(daemon.get("/api/v2/alerts").await, Value::Array(Vec::new()));
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge("after", "metric", &[(otlp::now_nanos(), 1.0)]),
    )
    .await;
}

/// The database's library panics over such a file; nobody should have to read a backtrace.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_hole_in_it_is_set_aside_without_what_looks_like_a_crash() {
    let mut daemon = with_decisions().await;
    daemon.terminate().await;
    let path = daemon.data().join("tidewatch.redb");
    let mut bytes = std::fs::read(&path).expect("the store");
    for (i, byte) in bytes.iter_mut().enumerate().skip(3 * 4096).take(100 * 4096) {
        *byte = (i * 131 % 251) as u8;
    }
    std::fs::write(&path, bytes).expect("written");
    let daemon = daemon.restart().await;
    assert!(daemon.log_line("set aside").is_some(), "{}", daemon.log());
    for never in ["thread '", "stack backtrace"] {
        assert!(!daemon.log().contains(never), "{}", daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_do_not_share_a_folder() {
    let daemon = Daemon::start("").await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("second.yaml");
    let text = format!(
        "otlp: {{grpc: \"127.0.0.1:0\", http: \"127.0.0.1:0\"}}\nhttp: {{listen: \"127.0.0.1:0\"}}\nstorage: {{path: {:?}}}\n",
        daemon.data()
    );
    std::fs::write(&config, text).expect("written");
    let output = crate::harness::tidewatch(&["run", "--config", config.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another"), "{said}");
}
