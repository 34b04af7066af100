//! `tidewatch mode follow`: the sidecar of a service that cannot ask Tidewatch itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::child::Program;
use crate::harness::{Daemon, eventually, free_port, stdout};
use crate::modes::set;
use crate::openfeature::{daemon, known};

fn follow(daemon: &Daemon, arguments: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command
        .args(["mode", "follow", "cart", "--instance", "cart-1", "--url"])
        .arg(format!("http://{}", daemon.api))
        .args(arguments);
    Program::start(&mut command)
}

async fn written(file: &Path, mode: &str, source: &str) -> Value {
    eventually(&format!("the file says {mode} by {source}"), || async {
        let text = fs::read_to_string(file).ok()?;
        let value: Value = serde_json::from_str(&text).expect("never half a file");
        (value["mode"] == mode && value["source"] == source).then_some(value)
    })
    .await
}

/// Whether the one instance that reports runs in `mode`.
pub fn runs(state: &Value, mode: &str) -> bool {
    state["actual"] == serde_json::json!([{"mode": mode, "instances": 1}])
}

/// What Tidewatch knows of the service, once it fits.
async fn shown(daemon: &Daemon, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || async {
        let mut answer = daemon.get("/api/v1/modes/cart").await;
        let state = answer["data"].take();
        fits(&state).then_some(state)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_follows_the_mode_and_goes_back_when_tidewatch_is_not_heard() {
    let mut daemon = daemon(free_port(), "  lease: 2s\n").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mode.json");
    let mut sidecar = follow(&daemon, &["--write", file.to_str().expect("UTF-8")]);
    written(&file, "normal", "tidewatch").await;
    set(&daemon, "cart", "degraded", "sale tonight");
    let told = written(&file, "degraded", "tidewatch").await;
    assert_eq!(told["priority_floor"], "high", "{told}");
    assert_eq!(told["features"]["max_steps"], 1, "{told}");
    assert_eq!(told["reason"], "set by ann: sale tonight", "{told}");
    let state = shown(&daemon, "it is acknowledged", |state| {
        state["acknowledged"] == true && runs(state, "degraded")
    })
    .await;
    assert_eq!(state["mode"], "degraded", "{state}");

    daemon.terminate().await;
    let alone = written(&file, "normal", "default").await;
    assert_eq!(alone["features"], serde_json::json!({}), "{alone}");
    assert!(
        alone["reason"]
            .as_str()
            .expect("a reason")
            .contains("lease"),
        "{alone}"
    );
    let daemon = daemon.restart().await;
    known(&daemon).await;
    written(&file, "degraded", "tidewatch").await;

    assert!(sidecar.terminate().success());
    let left = written(&file, "normal", "default").await;
    assert_eq!(left["reason"], "the sidecar has stopped", "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_on_each_change_and_its_failure_is_told() {
    let daemon = daemon(0, "").await;
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let env = folder.path().join("mode.env");
    let command = format!(
        "printf '%s %s %s\\n' \"$TIDEWATCH_MODE\" \"$TIDEWATCH_SHED\" \"$TIDEWATCH_FEATURE_MAX_STEPS\" \
         >> {}; test \"$TIDEWATCH_MODE\" != critical",
        log.display()
    );
    let env_file = env.to_str().expect("UTF-8");
    let mut sidecar = follow(
        &daemon,
        &["--write", env_file, "--exec", &command, "-o", "json"],
    );
    let ran = |count: usize| {
        let log = &log;
        async move {
            eventually(&format!("the command has run {count} times"), || async {
                let text = fs::read_to_string(log).ok()?;
                let lines: Vec<_> = text.lines().map(String::from).collect();
                (lines.len() >= count).then_some(lines)
            })
            .await
        }
    };
    assert_eq!(ran(1).await, ["normal 0 "]);
    set(&daemon, "cart", "degraded", "first");
    assert_eq!(ran(2).await[1], "degraded 0.25 1");
    assert!(
        fs::read_to_string(&env)
            .expect("a file")
            .contains("TIDEWATCH_QUALITY=reduced\n")
    );
    shown(&daemon, "degraded is acknowledged", |state| {
        state["acknowledged"] == true && runs(state, "degraded")
    })
    .await;
    // It stays where it was, says so, and tries again.
    set(&daemon, "cart", "critical", "second");
    shown(&daemon, "critical is refused", |state| {
        state["mode"] == "critical" && runs(state, "degraded") && state["differs_since"].is_string()
    })
    .await;
    assert_eq!(ran(4).await[3], "critical 0 ");
    stdout(&daemon.cli(&["mode", "clear", "cart", "--author", "ann"]));
    shown(&daemon, "normal is acknowledged", |state| {
        state["acknowledged"] == true && runs(state, "normal")
    })
    .await;
    let lines: Vec<Value> = (0..3)
        .map(|_| serde_json::from_str(&sidecar.line()).expect("JSON"))
        .collect();
    let modes: Vec<_> = lines.iter().map(|line| line["mode"].as_str()).collect();
    assert_eq!(modes, [Some("normal"), Some("degraded"), Some("normal")]);
}
