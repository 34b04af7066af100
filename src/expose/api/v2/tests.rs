use std::process::Command;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::expose::fakes::{FakeEngine, Site, alert};
use crate::expose::{Routing, Settings};
use crate::model::AlertState;

/// Two alerts fire, one is pending, one over.
fn site() -> Site {
    let settings = Settings {
        routing: Routing {
            receiver: "oncall".into(),
            receivers: vec!["log".into(), "oncall".into()],
            group_by: vec!["service".into()],
        },
        external_url: Some("https://tide.example.com/".into()),
        configuration: "route: {receiver: oncall}\n".into(),
        ..Settings::default()
    };
    let site = Site::build(FakeEngine::default(), settings);
    site.board.set_alerts(vec![
        Arc::new(alert("Slow", "checkout", AlertState::Firing)),
        Arc::new(alert("Errors", "checkout", AlertState::Firing)),
        Arc::new(alert("Slow", "cart", AlertState::Pending)),
        Arc::new(alert("Slow", "search", AlertState::Resolved)),
    ]);
    site
}

fn names(alerts: &Value) -> Vec<&str> {
    let mut names: Vec<_> = alerts
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|alert| alert["labels"]["alertname"].as_str())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn an_alert_has_alertmanagers_shape() {
    let answer = site()
        .get("/api/v2/alerts?filter=alertname=%22Slow%22")
        .await
        .json();
    let fingerprint = alert("Slow", "checkout", AlertState::Firing).fingerprint;
    assert_eq!(
        answer,
        json!([{
            "annotations": {"explanation": "p99 is 0.31 s where 0.12 s was expected"},
            "endsAt": "2026-01-01T00:05:00Z",
            "fingerprint": fingerprint.to_string(),
            "receivers": [{"name": "oncall"}],
            "startsAt": "2026-01-01T00:00:00Z",
            "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
            "updatedAt": "2026-01-01T00:00:00Z",
            "generatorURL": "https://tide.example.com/#00000000000000000000000000000001-p99",
            "labels": {"alertname": "Slow", "service": "checkout", "severity": "critical", "signal": "p99"},
        }])
    );
}

#[tokio::test]
async fn filters_choose_as_alertmanagers_do() {
    let site = site();
    for (query, expected) in [
        ("", vec!["Errors", "Slow"]),
        ("filter=alertname%3DSlow", vec!["Slow"]),
        ("filter=alertname%3D~%22S.*%22", vec!["Slow"]),
        ("filter=alertname!%3D%22Slow%22", vec!["Errors"]),
        ("filter=alertname!~S.%2B", vec!["Errors"]),
        (
            "filter=service%3D%22checkout%22&filter=alertname%3D%22Slow%22",
            vec!["Slow"],
        ),
        ("filter=service%3D%22other%22", vec![]),
        ("filter=owner%3D%22%22", vec!["Errors", "Slow"]),
        ("filter=alertname%3Dno%20such%20name", vec![]),
        ("active=false", vec![]),
        (
            "silenced=false&inhibited=false&unprocessed=false&active=true",
            vec!["Errors", "Slow"],
        ),
        ("receiver=on.*", vec!["Errors", "Slow"]),
        ("receiver=other", vec![]),
        ("receiver=", vec!["Errors", "Slow"]),
    ] {
        let answer = site.get(&format!("/api/v2/alerts?{query}")).await.json();
        assert_eq!(names(&answer), expected, "{query}");
    }
    for query in [
        "filter=",
        "filter=%7B",
        "filter=alertname%3D~%22(%22",
        "filter=%22unclosed",
        "filter=a",
        "active=perhaps",
        "receiver=(",
    ] {
        let answer = site.get(&format!("/api/v2/alerts?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json().is_string(), "{query}");
    }
}

#[tokio::test]
async fn groups_hold_what_is_notified_together() {
    let site = site();
    let answer = site.get("/api/v2/alerts/groups").await.json();
    let [group] = answer.as_array().expect("a list").as_slice() else {
        panic!("one group: {answer}");
    };
    assert_eq!(group["labels"], json!({"service": "checkout"}));
    assert_eq!(group["receiver"], json!({"name": "oncall"}));
    assert_eq!(names(&group["alerts"]), ["Errors", "Slow"]);
    let none = site.get("/api/v2/alerts/groups?active=false").await.json();
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn there_are_no_silences_and_none_can_be_made() {
    let site = site();
    assert_eq!(site.get("/api/v2/silences").await.json(), json!([]));
    let get = |path: &'static str| site.get(path);
    assert_eq!(get("/api/v2/silence/1234").await.status, 404);
    for path in ["/api/v2/silences", "/api/v2/alerts"] {
        let request = Request::post(path)
            .header("host", "localhost")
            .body(Body::from("{}"))
            .expect("a request");
        let answer = site.ask(request).await;
        assert_eq!(answer.status, 405);
        assert!(answer.json().is_string());
    }
}

#[tokio::test]
async fn status_and_receivers_are_told() {
    let site = site();
    let status = site.get("/api/v2/status").await.json();
    assert_eq!(
        status["cluster"],
        json!({"status": "disabled", "peers": []})
    );
    assert_eq!(status["config"]["original"], "route: {receiver: oncall}\n");
    assert_eq!(status["uptime"], "2026-01-01T00:00:00Z");
    let receivers = site.get("/api/v2/receivers").await.json();
    assert_eq!(receivers, json!([{"name": "log"}, {"name": "oncall"}]));
}

/// The real amtool against a real port.
#[tokio::test(flavor = "multi_thread")]
async fn amtool_works_unchanged() {
    let site = site();
    let (address, stop, served) = site.serve().await;
    let url = format!("--alertmanager.url=http://{address}");
    let amtool = move |arguments: &[&str]| {
        let output = Command::new("amtool")
            .arg(&url)
            .args(arguments)
            .output()
            .expect("amtool must be installed: apt-get install prometheus-alertmanager");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "amtool {arguments:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    let ran = tokio::task::spawn_blocking(move || {
        let simple = amtool(&["alert", "query"]);
        assert!(
            simple.contains("Slow") && simple.contains("Errors"),
            "{simple}"
        );
        let json: Value =
            serde_json::from_str(&amtool(&["alert", "query", "-o", "json"])).expect("JSON");
        assert_eq!(names(&json), ["Errors", "Slow"]);
        let extended = amtool(&["alert", "query", "-o", "extended"]);
        assert!(
            extended.contains("https://tide.example.com/#"),
            "{extended}"
        );
        assert!(extended.contains("severity=\"critical\""), "{extended}");
        for (matchers, expected) in [
            (&["Slow"][..], vec!["Slow"]),
            (&["alertname=~Err.*"], vec!["Errors"]),
            (&["service=checkout", "alertname!=Slow"], vec!["Errors"]),
            (&["service=\"no such\""], vec![]),
        ] {
            let json = amtool(&[&["alert", "query", "-o", "json"], matchers].concat());
            let json: Value = serde_json::from_str(&json).expect("JSON");
            assert_eq!(names(&json), expected, "{matchers:?}");
        }
        assert_eq!(amtool(&["silence", "query", "-q"]).trim(), "");
        assert!(amtool(&["config", "show"]).contains("receiver: oncall"));
        amtool(&["cluster", "show"]);
    });
    ran.await.expect("amtool is content");
    stop.cancel();
    served.await.expect("the server ends");
}
