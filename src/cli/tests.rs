use clap::CommandFactory as _;

use super::*;

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example() {
    fn check(command: &clap::Command) {
        let name = command.get_name();
        assert!(
            command.get_about().is_some(),
            "{name} says nothing of itself"
        );
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(help.contains("xample"), "{name} has no example");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {argument}");
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[track_caller]
fn usage(arguments: &[&str], code: i32) {
    let arguments = ["tidewatch"].iter().chain(arguments);
    let found = match Cli::try_parse_from(arguments.clone()) {
        Ok(_) => 0,
        Err(error) => error.exit_code(),
    };
    assert_eq!(found, code, "{:?}", arguments.collect::<Vec<_>>());
}

#[test]
fn wrong_usage_has_exit_code_2() {
    usage(&[], 0);
    usage(&["--config", "f"], 0);
    usage(&["run", "-c", "f"], 0);
    usage(&["demo", "--once", "--speed", "20", "--seed", "7"], 0);
    usage(
        &[
            "mode", "set", "a", "degraded", "--reason", "r", "--author", "me", "--for", "1h30m",
        ],
        0,
    );
    usage(&["mode", "--url", "http://h:1", "list"], 0);
    usage(
        &["mode", "list", "--url", "http://h:1", "--output", "json"],
        0,
    );
    usage(&["--help"], 0);
    usage(&["--version"], 0);
    usage(&["dance"], 2);
    usage(&["check"], 2);
    usage(&["demo", "--speed", "0"], 2);
    usage(&["mode", "set", "a", "degraded", "--author", "me"], 2);
    usage(
        &[
            "mode", "set", "a", "b", "--reason", "r", "--author", "me", "--for", "soon",
        ],
        2,
    );
    usage(&["alerts", "--match", "{service"], 2);
    usage(&["silence", "add", "--comment", "c"], 2);
    usage(&["silence", "add", "a=b"], 2);
    usage(&["silence", "add", "=b", "--comment", "c"], 2);
    usage(&["alerts", "--url", "h:1"], 2);
    usage(&["series", "--output", "xml"], 2);
}

/// Answers every request with `answer`, and tells what was asked.
async fn daemon(
    status: u16,
    answer: &'static str,
) -> (String, tokio::sync::mpsc::Receiver<(String, String)>) {
    let (asked, questions) = tokio::sync::mpsc::channel(16);
    let app = axum::Router::new().fallback(move |request: axum::extract::Request| async move {
        let line = format!("{} {}", request.method(), request.uri());
        // Not frozen.
        let answer = match request.uri().path().ends_with("/freeze") {
            true => r#"{"status":"success","data":null}"#,
            false => answer,
        };
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
        let body = String::from_utf8_lossy(&body.expect("body")).into_owned();
        asked.try_send((line, body)).expect("room");
        (http::StatusCode::from_u16(status).expect("status"), answer)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
    (url, questions)
}

fn client(url: &str) -> Client {
    // Somebody else may have installed it already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Client::new(client::base_url(url).expect("url")).expect("client")
}

/// What a command asks of the daemon.
async fn asked(arguments: &[&str], answer: &'static str) -> Vec<(String, String)> {
    let (url, mut questions) = daemon(200, answer).await;
    drop(client(&url));
    let mut whole = vec!["tidewatch"];
    whole.extend(arguments);
    whole.extend(["--url", &url]);
    let cli = Cli::try_parse_from(whole).expect("arguments");
    match cli.command.expect("a command") {
        Command::Alerts(args) => args.execute().await,
        Command::Silence(args) => args.execute().await,
        Command::Mode(args) => args.execute().await,
        Command::Series(args) => args.execute().await,
        Command::Report(args) => args.execute().await,
        other => panic!("{other:?} asks nobody"),
    }
    .expect("an answer");
    let mut found = Vec::new();
    while let Ok(question) = questions.try_recv() {
        found.push(question);
    }
    found
}

#[tokio::test]
async fn commands_ask_as_the_api_wants_it() {
    let list = r#"{"status":"success","data":[],"next":null}"#;
    let ask = async |arguments: &[&str]| {
        let questions = asked(arguments, list).await;
        questions
            .into_iter()
            .map(|(line, body)| format!("{line} {body}").trim().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ask(&["alerts", "--match", r#"{service="a b",x=~"y"}"#]).await,
        ["GET /api/v2/alerts?filter=service%3D%22a+b%22&filter=x%3D%7E%22y%22"]
    );
    assert_eq!(
        ask(&["series", "--match", r#"{signal="p99"}"#, "--sort", "sigma"]).await,
        ["GET /api/v1/series?match=%7Bsignal%3D%22p99%22%7D&limit=50&sort=sigma"]
    );
    assert_eq!(
        ask(&["report", "--markdown"]).await,
        ["GET /api/v1/report?format=markdown"]
    );
    assert_eq!(
        ask(&["report", "--output", "json"]).await,
        ["GET /api/v1/report"]
    );
    assert_eq!(
        ask(&["mode", "list"]).await,
        ["GET /api/v1/modes", "GET /api/v1/modes/freeze"]
    );
    assert_eq!(
        ask(&["mode", "clear", "a/b c", "--author", "ada"]).await,
        ["DELETE /api/v1/modes/a%2Fb%20c/override?author=ada"]
    );
    assert_eq!(
        ask(&["mode", "freeze", "--reason", "r", "--author", "ada"]).await,
        [r#"PUT /api/v1/modes/freeze {"author":"ada","reason":"r"}"#]
    );
    assert_eq!(
        ask(&["mode", "unfreeze", "--author", "ada"]).await,
        ["DELETE /api/v1/modes/freeze?author=ada"]
    );
}

#[tokio::test]
async fn silences_are_asked_for_as_alertmanager_wants_it() {
    let list = asked(&["silence", "list", "service=a", "Slow"], "[]").await;
    let path = "GET /api/v2/silences?filter=service%3D%22a%22&filter=alertname%3D%22Slow%22";
    assert_eq!(list, [(path.to_owned(), String::new())]);
    let arguments = [
        "silence",
        "add",
        "service!=a",
        "--comment",
        "c",
        "--author",
        "ada",
        "--start",
        "2030-01-01T00:00:00Z",
        "--duration",
        "90m",
    ];
    let added = asked(&arguments, r#"{"silenceID":"x"}"#).await;
    assert_eq!(added[0].0, "POST /api/v2/silences");
    let body: serde_json::Value = serde_json::from_str(&added[0].1).expect("json");
    assert_eq!(
        body,
        serde_json::json!({
            "matchers": [{"name": "service", "value": "a", "isRegex": false, "isEqual": false}],
            "startsAt": "2030-01-01T00:00:00Z",
            "endsAt": "2030-01-01T01:30:00Z",
            "createdBy": "ada",
            "comment": "c",
        })
    );
    let expired = asked(&["silence", "expire", "a/b", "c"], "").await;
    let paths: Vec<_> = expired.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(
        paths,
        ["DELETE /api/v2/silence/a%2Fb", "DELETE /api/v2/silence/c"]
    );
}

#[tokio::test]
async fn setting_a_mode_sends_who_why_and_until_when() {
    let state = r#"{"status":"success","data":{"service":"a","mode":"degraded","level":1,
        "since":"2026-01-01T00:00:00Z","why":[],"features":{},"override":null,
        "lease_expires_at":"2026-01-01T00:00:30Z","sequence":1}}"#;
    let arguments = [
        "mode", "set", "a", "degraded", "--reason", "r", "--author", "ada", "--for", "1h",
    ];
    let questions = asked(&arguments, state).await;
    assert_eq!(questions.len(), 1);
    assert_eq!(questions[0].0, "PUT /api/v1/modes/a/override");
    let body: serde_json::Value = serde_json::from_str(&questions[0].1).expect("json");
    assert_eq!(
        (&body["mode"], &body["author"], &body["reason"]),
        (&"degraded".into(), &"ada".into(), &"r".into())
    );
    assert_eq!(body["duration"], "1h");
}

#[tokio::test]
async fn bad_answers_are_told_in_a_sentence() {
    for (status, answer, expected) in [
        (
            400,
            r#"{"status":"error","errorType":"bad_data","error":"unknown level `\u001b[1mx`"}"#,
            "unknown level `\\u{1b}[1mx` (400 Bad Request)",
        ),
        (400, r#""bad filter""#, "bad filter (400 Bad Request)"),
        (502, "<html>", "no tidewatch daemon"),
        (200, "<html>", "no tidewatch daemon"),
    ] {
        let (url, _questions) = daemon(status, answer).await;
        let error = client(&url).get(&["x"], &[]).await.expect_err(answer);
        assert!(error.to_string().contains(expected), "{answer}: {error}");
    }
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_told_with_a_hint() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let error = client(&format!("http://{address}")).get(&["x"], &[]).await;
    let error = error.expect_err("nobody listens").to_string();
    assert!(
        error.starts_with(&format!("cannot reach the daemon at http://{address}/: ")),
        "{error}"
    );
    assert!(
        error.contains("refused") && error.contains("hint: start it with `tidewatch run`"),
        "{error}"
    );
}
