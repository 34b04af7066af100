//! The example services: each refuses what Tidewatch tells it to, serves the rest, and says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::StatusCode;
use serde_json::Value;

use crate::follow::runs;
use crate::harness::child::Program;
use crate::harness::{Daemon, eventually, root, stdout, with_tls};
use crate::modes::set;
use crate::openfeature::daemon;

/// One request of a priority: the status, how long to stay away, and what was served.
async fn ask(address: &str, priority: &str) -> (StatusCode, Option<String>, Value) {
    let request = reqwest::Client::new().get(format!("http://{address}/"));
    let answer = request.header("x-priority", priority).send().await;
    let answer = answer.expect("the service answers");
    let header = answer.headers().get("retry-after");
    let retry_after = header.map(|value| value.to_str().expect("text").to_owned());
    (
        answer.status(),
        retry_after,
        answer.json().await.unwrap_or_default(),
    )
}

/// Waits until Tidewatch has heard that `mode` runs.
async fn acknowledged(daemon: &Daemon, mode: &str) {
    eventually(&format!("{mode} is acknowledged"), || async {
        let answer = daemon.get("/api/v1/modes/cart").await;
        let state = &answer["data"];
        (state["acknowledged"] == true && runs(state, mode)).then_some(())
    })
    .await;
}

/// The story of every example.
async fn story(daemon: &Daemon, mut service: Command) {
    service
        .env("TIDEWATCH_URL", format!("http://{}", daemon.api))
        .env("SERVICE", "cart");
    let mut service = Program::start(&mut service);
    let address = service.address();
    acknowledged(daemon, "normal").await;
    for priority in ["low", "normal", "high", "critical"] {
        let (status, _, served) = ask(&address, priority).await;
        assert_eq!(status, 200, "{priority}");
        assert_eq!(served["recommendations"], true, "{served}");
    }

    set(daemon, "cart", "degraded", "sale tonight");
    acknowledged(daemon, "degraded").await;
    for priority in ["low", "normal"] {
        let (status, retry_after, _) = ask(&address, priority).await;
        assert_eq!(status, 503, "{priority}");
        assert_eq!(retry_after.as_deref(), Some("5"), "{priority}");
    }
    for _ in 0..8 {
        let (status, _, served) = ask(&address, "critical").await;
        assert_eq!(status, 200);
        assert_eq!(served["mode"], "degraded", "{served}");
        assert_eq!(served["recommendations"], false, "{served}");
    }
    let mut refused = 0;
    for _ in 0..40 {
        refused += usize::from(ask(&address, "high").await.0 == 503);
    }
    assert_eq!(refused, 10, "a quarter of what is above the floor");

    stdout(&daemon.cli(&["mode", "clear", "cart", "--author", "ann"]));
    acknowledged(daemon, "normal").await;
    assert_eq!(ask(&address, "low").await.0, 200);
}

/// The example, built as the daemon under test is.
fn built() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_tidewatch"))
        .parent()
        .expect("a folder");
    let program = folder.join("examples/axum");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--example", "axum"])
        .current_dir(root());
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo").success());
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn the_axum_service_sheds_by_priority() {
    let daemon = daemon(0, "").await;
    with_tls();
    let mut service = Command::new(built());
    service.env("LISTEN", "127.0.0.1:0");
    story(&daemon, service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_service_sheds_by_priority() {
    let daemon = daemon(0, "").await;
    let mut service = Command::new("node");
    service
        .arg(root().join("examples/node/service.js"))
        .env("LISTEN", "0");
    story(&daemon, service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_service_sheds_by_priority() {
    let daemon = daemon(0, "").await;
    let mut service = Command::new(root().join("tests/clients/python/.venv/bin/python"));
    service
        .arg(root().join("examples/python/service.py"))
        .env("LISTEN", "0");
    story(&daemon, service).await;
}
