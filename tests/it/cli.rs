//! The command line: every command with help and an example, exit codes, and mistakes named with file,
//! line, column and a hint.

use serde_json::Value;

use crate::harness::{Daemon, eventually, otlp, root, stdout, tidewatch};

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "run",
        "demo",
        "check",
        "schema",
        "alerts",
        "incidents",
        "mode",
        "series",
    ] {
        let help = stdout(&tidewatch(&[command, "--help"]));
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains("tidewatch "), "{command}: {help}");
    }
    assert_eq!(tidewatch(&["--version"]).status.code(), Some(0));
    assert_eq!(tidewatch(&["nonsense"]).status.code(), Some(2));
    assert_eq!(tidewatch(&["check", "--nonsense"]).status.code(), Some(2));
}

/// (what is wrong, the file, line:column, part of the message).
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "an unknown key",
        "window: {tick: 10s}\nreciever: x\n",
        "2:1",
        "receiver",
    ),
    (
        "a wrong type",
        "window:\n  samples: many\n",
        "2:12",
        "samples",
    ),
    (
        "a bad duration",
        "window: {tick: 10 parsecs}\n",
        "1:16",
        "duration",
    ),
    (
        "a bad selector",
        "rules:\n  - alert: A\n    match: '{signal=}'\n",
        "3:",
        "selector",
    ),
    (
        "an unknown receiver",
        "route: {receiver: nobody}\n",
        "1:19",
        "nobody",
    ),
    (
        "an unknown detector",
        "rules:\n  - {alert: A, match: '{}', detector: crystal-ball}\n",
        "2:",
        "crystal-ball",
    ),
    (
        "thresholds the wrong way round",
        "rules:\n  - {alert: A, match: '{}', sigma: {warning: 8, critical: 6}}\n",
        "2:",
        "critical",
    ),
    (
        "a missing variable",
        "storage: {path: \"${env:TIDEWATCH_NOT_SET}\"}\n",
        "1:",
        "TIDEWATCH_NOT_SET",
    ),
    (
        "a key twice",
        "window: {tick: 1s}\nwindow: {tick: 2s}\n",
        "2:1",
        "window",
    ),
];

#[test]
fn check_names_file_line_column_and_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    for (what, text, place, part) in MISTAKES {
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, text).expect("written");
        let output = tidewatch(&["check", "--config", file.to_str().expect("UTF-8")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(
            said.contains(&format!("config.yaml:{place}")),
            "{what}: {said}"
        );
        assert!(said.contains(part), "{what}: {said}");
        // `run` with the same file says the same, and does not start.
        let output = tidewatch(&["run", "--config", file.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(1), "{what}");
    }
}

#[test]
fn the_examples_are_right_and_the_schema_is_json() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("examples")).expect("examples") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            seen += 1;
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidewatch"))
                .args(["check", "--config"])
                .arg(&path)
                .env("HOOK_SECRET", "a secret that is long enough")
                .env("SLACK_URL", "https://example.com/")
                .output()
                .expect("it runs");
            stdout(&output);
        }
    }
    assert!(seen >= 3, "{seen}");
    let schema: Value =
        serde_json::from_str(&stdout(&tidewatch(&["schema"]))).expect("the schema is JSON");
    assert!(schema["properties"]["rules"].is_object(), "{schema}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_for_people_and_json_for_scripts() {
    let daemon = Daemon::start("window: {tick: 200ms}").await;
    let body = otlp::gauge("cart", "queue.depth", &[(otlp::now_nanos(), 7.0)]);
    otlp::post_metrics(&daemon.http, &body).await;
    eventually("the signal is there", || async {
        (!daemon.series("{service=\"cart\"}").await.is_empty()).then_some(())
    })
    .await;
    let table = stdout(&daemon.cli(&["series", "--match", "{service=\"cart\"}"]));
    assert!(
        table.contains("queue.depth") && table.contains("value"),
        "{table}"
    );
    assert!(
        !table.contains('\u{1b}'),
        "colours without a terminal: {table:?}"
    );
    let json: Value =
        serde_json::from_str(&stdout(&daemon.cli(&["series", "--output", "json"]))).expect("JSON");
    assert!(json.to_string().contains("queue.depth"));
    let alerts = stdout(&daemon.cli(&["alerts", "--output", "json"]));
    assert_eq!(
        serde_json::from_str::<Value>(&alerts).expect("JSON"),
        Value::Array(Vec::new())
    );
    let modes = stdout(&daemon.cli(&["mode", "list"]));
    assert!(
        modes.contains("cart") && modes.contains("normal"),
        "{modes}"
    );
    // As the README has it.
    assert!(stdout(&daemon.cli(&["mode"])).contains("cart"));
    let unknown = daemon.cli(&[
        "mode", "set", "nobody", "degraded", "--author", "a", "--reason", "b",
    ]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_its_address() {
    let output = tidewatch(&["alerts", "--url", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("127.0.0.1:1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_said_once_and_with_what_to_do() {
    let daemon = Daemon::start("").await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("second.yaml");
    for (grpc, api, setting) in [
        (daemon.grpc.as_str(), "127.0.0.1:0", "`otlp.grpc`"),
        ("127.0.0.1:0", daemon.api.as_str(), "`http.listen`"),
    ] {
        let text = format!(
            "otlp: {{grpc: {grpc:?}, http: \"127.0.0.1:0\"}}\nhttp: {{listen: {api:?}}}\n\
             storage: {{path: {:?}}}\n",
            folder.path().join("data")
        );
        std::fs::write(&config, text).expect("written");
        let output = tidewatch(&["run", "--config", config.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.matches("Address already in use").count(), 1, "{said}");
        assert!(said.contains("hint:") && said.contains(setting), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_is_told_of_and_ends_nothing() {
    let daemon = Daemon::start("").await;
    let sent = std::process::Command::new("kill")
        .args(["-HUP", &daemon.pid().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
    eventually("it says so", || async { daemon.log_line("SIGHUP") }).await;
    stdout(&daemon.cli(&["alerts"]));
}

#[test]
fn the_demo_tells_its_story_to_the_end() {
    let output = tidewatch(&["demo", "--once", "--speed", "20"]);
    let story = stdout(&output);
    for part in [
        "Learning",
        "alert LatencyDeviation",
        "payment → degraded",
        "payment has heard it",
        "distance from what is expected 100 % →",
        "it helped",
        "shed",
        "back to normal",
    ] {
        assert!(story.contains(part), "{part}: {story}");
    }
    assert!(!story.contains("MISSED"), "{story}");
}
