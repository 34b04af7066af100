use std::process::Command;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::dispatch::{AlertView, GroupView, Notifying};
use crate::expose::Settings;
use crate::expose::fakes::{Answer, FakeEngine, Site, alert};
use crate::model::{AlertState, Fingerprint, Labels};
use crate::mute::Muted;

fn fingerprint(name: &str) -> Fingerprint {
    alert(name, "checkout", AlertState::Firing).fingerprint
}

/// Both alerts of one service go to one receiver, those of one name to another one beside.
fn notifying() -> Notifying {
    let group = |receiver: &str, labels: Labels, mut alerts: Vec<Fingerprint>| {
        alerts.sort_unstable();
        GroupView {
            key: format!("{{}}:{labels:?}"),
            receiver: receiver.into(),
            labels: Arc::new(labels),
            alerts,
            muted_by: Vec::new(),
        }
    };
    let (slow, errors) = (fingerprint("Slow"), fingerprint("Errors"));
    let view = |receivers: &[&str]| AlertView {
        receivers: receivers.iter().map(|name| Arc::from(*name)).collect(),
        muted: Muted::default(),
    };
    let by_name = [("alertname", "Errors")].into_iter().collect();
    let by_service = [("service", "checkout")].into_iter().collect();
    Notifying {
        alerts: [
            (slow, view(&["oncall"])),
            (errors, view(&["oncall", "team"])),
        ]
        .into(),
        groups: vec![
            group("team", by_name, vec![errors]),
            group("oncall", by_service, vec![slow, errors]),
        ],
    }
}

/// Two alerts fire, one is pending, one over.
fn site() -> Site {
    let settings = Settings {
        receivers: vec!["log".into(), "oncall".into()],
        external_url: Some("https://tide.example.com/".into()),
        configuration: "route: {receiver: oncall}\n".into(),
        ..Settings::default()
    };
    let site = Site::build(FakeEngine::default(), settings);
    site.board.set_notifying(notifying());
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
        // Alertmanager takes what does not mean yes for no.
        ("active=perhaps", vec![]),
        (
            "silenced=false&inhibited=false&unprocessed=false&active=true",
            vec!["Errors", "Slow"],
        ),
        ("receiver=on.*", vec!["Errors", "Slow"]),
        ("receiver=other", vec![]),
        ("receiver=team", vec!["Errors"]),
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
    let groups = async |query: &str| -> Vec<(Value, String, usize)> {
        let path = format!("/api/v2/alerts/groups{query}");
        let answer = site.get(&path).await.json();
        let groups = answer.as_array().expect("a list").iter();
        let receiver = |group: &Value| group["receiver"]["name"].as_str().map(str::to_owned);
        groups
            .map(|group| {
                let count = names(&group["alerts"]).len();
                (
                    group["labels"].clone(),
                    receiver(group).expect("a receiver"),
                    count,
                )
            })
            .collect()
    };
    let by_name = (json!({"alertname": "Errors"}), "team".to_owned(), 1);
    let by_service = (json!({"service": "checkout"}), "oncall".to_owned(), 2);
    assert_eq!(groups("").await, [by_name.clone(), by_service.clone()]);
    assert_eq!(groups("?receiver=on.*").await, [by_service]);
    assert_eq!(groups("?filter=alertname=Slow").await.len(), 1);
    assert_eq!(groups("?receiver=team").await, [by_name]);
    let none = site.get("/api/v2/alerts/groups?active=false").await.json();
    assert_eq!(none, json!([]));
}

async fn send(site: &Site, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v2/{path}"))
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .expect("a request");
    site.ask(request).await
}

/// A silence of alerts of a service, an hour long.
fn silence(service: &str, id: &str) -> String {
    json!({
        "id": id,
        "matchers": [{"name": "service", "value": service, "isRegex": false}],
        "startsAt": "2026-01-01T00:00:00.000Z",
        "endsAt": "2026-01-01T01:00:00.000Z",
        "createdBy": "ada",
        "comment": "maintenance",
    })
    .to_string()
}

#[tokio::test]
async fn a_silence_is_made_shown_and_ended() {
    let mut site = site();
    site.decide();
    let made = send(&site, "POST", "silences", &silence("checkout", "")).await;
    assert_eq!(made.status, 200);
    let made = made.json();
    let id = made["silenceID"].as_str().expect("an id");
    let shown = json!({
        "id": id,
        "status": {"state": "active"},
        "updatedAt": "2026-01-01T00:00:00Z",
        "comment": "maintenance",
        "createdBy": "ada",
        "endsAt": "2026-01-01T01:00:00Z",
        "matchers": [{"isEqual": true, "isRegex": false, "name": "service", "value": "checkout"}],
        "startsAt": "2026-01-01T00:00:00Z",
    });
    let path = format!("silence/{id}");
    assert_eq!(send(&site, "GET", &path, "").await.json(), shown);
    for (query, expected) in [
        ("", json!([shown])),
        ("?filter=service=checkout", json!([shown])),
        ("?filter=service=cart", json!([])),
        ("?filter=service=~checkout", json!([])),
        ("?creator=ada&creator=bob", json!([shown])),
        ("?creator=bob", json!([])),
    ] {
        let list = send(&site, "GET", &format!("silences{query}"), "").await;
        assert_eq!(list.json(), expected, "{query}");
    }

    let alerts = site.get("/api/v2/alerts").await.json();
    let status = json!({"inhibitedBy": [], "silencedBy": [id], "state": "suppressed"});
    assert_eq!(alerts[0]["status"], status);
    for (query, count) in [
        ("silenced=false", 0),
        ("active=false", 2),
        ("inhibited=false", 2),
    ] {
        let alerts = site.get(&format!("/api/v2/alerts?{query}")).await.json();
        assert_eq!(names(&alerts).len(), count, "{query}");
    }

    assert_eq!(send(&site, "DELETE", &path, "").await.status, 200);
    assert_eq!(
        send(&site, "GET", &path, "").await.json()["status"]["state"],
        "expired"
    );
    assert_eq!(send(&site, "DELETE", &path, "").await.status, 200);
    let other = "silence/0d5a6eb2-0c1f-4d38-9f06-000000000abc";
    let other = send(&site, "DELETE", other, "").await;
    assert_eq!(
        (other.status, other.json()),
        (500, json!("silence not found"))
    );
    let alerts = site.get("/api/v2/alerts?silenced=false").await.json();
    assert_eq!(names(&alerts).len(), 2);
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
