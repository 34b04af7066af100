use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::expose::fakes::{FakeEngine, NOW, Site, alert, modes, pairs, signal};
use crate::model::{
    AlertState, EdgeView, Incident, IncidentAlert, IncidentState, ServiceView, SeverityLabel,
};

fn ids(answer: &Value) -> Vec<u64> {
    let list = answer["data"].as_array().expect("a list");
    list.iter()
        .map(|each| {
            let id = each["id"].as_str().expect("an id").split('-').next();
            u64::from_str_radix(id.unwrap_or_default(), 16).expect("hexadecimal")
        })
        .collect()
}

fn ten_signals() -> FakeEngine {
    let mut signals: Vec<_> = (1..=10).map(signal).collect();
    for (at, signal) in signals.iter_mut().enumerate() {
        signal.metric = ["even", "odd"][(at + 1) % 2].into();
    }
    FakeEngine {
        signals,
        ..FakeEngine::default()
    }
}

#[tokio::test]
async fn a_signal_has_the_shape_of_the_contract() {
    let mut shown = signal(0x9f0c);
    shown.resource = pairs(&[("host.name", "a")]);
    let site = Site::over(FakeEngine {
        signals: vec![shown],
        ..FakeEngine::default()
    });
    assert_eq!(
        site.get("/api/v1/series").await.json(),
        json!({"status":"success","next":null,"data":[{
            "id":"00000000000000000000000000009f0c-p99","service":"checkout",
            "metric":"http.server.request.duration","signal":"p99","unit":"s",
            "attributes":{"http.route":"/pay"},
            "window":{"size":100,"count":100,"mean":0.12,"stddev":0.01,"min":0.1,"max":0.4,
                      "p50":0.11,"p90":0.14,"p95":0.15,"p99":0.3},
            "last":{"time":"2026-01-01T00:00:00Z","value":0.31,"expected":0.12,"lower":0.09,
                    "upper":0.16,"sigma":6.1},
            "baseline":{"state":"ready"},"resource":{"host.name":"a"},
            "rule":"LatencyDeviation","overflow":false,
        }]})
    );
}

#[tokio::test]
async fn pages_follow_each_other_also_over_several_selectors() {
    let site = Site::over(ten_signals());
    for (query, expected) in [
        ("limit=3", (1..=10).collect::<Vec<u64>>()),
        ("limit=2&match=metric%3Deven", vec![2, 4, 6, 8, 10]),
        ("limit=5&match[]=metric%3Deven", vec![2, 4, 6, 8, 10]),
        (
            "limit=3&match=metric%3Deven&match=metric%3Dodd&match=metric%3Dodd",
            (1..=10).collect(),
        ),
        ("limit=1&match=metric%3Dnone", vec![]),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/series?{query}&cursor={cursor}&unknown=1");
            let answer = site.get(&path).await.json();
            seen.extend(ids(&answer));
            match answer["next"].as_str() {
                Some(next) => cursor = next.into(),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{query}");
    }
}

#[tokio::test]
async fn bad_questions_are_told_so() {
    let site = Site::over(ten_signals());
    for path in [
        "/api/v1/series?limit=-1",
        "/api/v1/series?limit=1e18",
        "/api/v1/series?cursor=forged",
        "/api/v1/series?match=%7B",
        "/api/v1/series?match=a%3D~%22(%22",
        "/api/v1/series?sort=name",
        "/api/v1/series?sort=sigma&cursor=00000000000000000000000000000001-p99",
        "/api/v1/series/00000000000000000000000000000001-p99/samples?from=x",
        "/api/v1/series/00000000000000000000000000000001-p99/samples?from=2&to=1",
        "/api/v1/report?format=pdf",
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        let body = answer.json();
        assert_eq!(body["status"], "error");
        assert_eq!(body["errorType"], "bad_data");
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()));
    }
    for path in [
        "/api/v1/series/nonsense/samples",
        "/api/v1/series/000000000000000000000000000000ff-p99/samples",
        "/api/v1/nothing",
    ] {
        let answer = site.get(path).await;
        assert_eq!(
            (answer.status, &answer.json()["errorType"]),
            (404, &json!("not_found"))
        );
    }
}

#[tokio::test]
async fn the_most_surprising_come_first_and_the_silent_not_at_all() {
    let mut engine = ten_signals();
    for (at, signal) in engine.signals.iter_mut().enumerate() {
        let last = signal.last.as_mut().expect("a sample");
        last.sigma = [Some(1.0), Some(-9.0), Some(3.0), None][at % 4];
        if at >= 8 {
            last.time = NOW.minus(Duration::from_secs(3600));
        }
    }
    let site = Site::over(engine);
    let answer = site.get("/api/v1/series?sort=sigma&limit=4").await.json();
    assert_eq!(ids(&answer), [2, 6, 3, 7]);
    assert_eq!(answer["next"], Value::Null);
    let path = "/api/v1/series?sort=sigma&match=%7Bmetric%3D%22odd%22,http_route%3D%22/pay%22%7D";
    assert_eq!(ids(&site.get(path).await.json()), [3, 7, 1, 5]);
}

#[tokio::test]
async fn samples_are_within_the_time_asked_for() {
    let site = Site::over(ten_signals());
    for (query, expected) in [
        ("", 1),
        ("?from=2025-12-31T23:59:59Z&to=2026-01-01T00:00:00Z", 1),
        ("?from=1767225601", 0),
        ("?to=1767225599.5", 0),
    ] {
        let path = format!("/api/v1/series/{:032x}-p99/samples{query}", 1);
        let answer = site.get(&path).await.json();
        let list = answer["data"].as_array().expect("a list");
        assert_eq!(list.len(), expected, "{query}");
    }
}

#[tokio::test]
async fn services_are_as_well_as_their_alerts_and_modes_say() {
    let seen = |service: &str| ServiceView {
        service: service.into(),
        first_seen: NOW,
        last_seen: NOW,
        series: 12,
        refused_series: 1,
        versions: Vec::new(),
    };
    let site = Site::over(FakeEngine {
        services: vec![seen("cart"), seen("checkout")],
        ..FakeEngine::default()
    });
    let mut mild = alert("Odd", "checkout", AlertState::Firing);
    mild.severity = SeverityLabel::Warning;
    site.board.set_alerts(vec![
        Arc::new(alert("Slow", "checkout", AlertState::Firing)),
        Arc::new(mild),
        Arc::new(alert("Slow", "cart", AlertState::Pending)),
        Arc::new(alert("Slow", "cart", AlertState::Resolved)),
    ]);
    site.board
        .set_modes(modes(&[("checkout", "degraded"), ("gone", "critical")]));
    let answer = site.get("/api/v1/services").await.json();
    let short: Vec<_> = answer["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| {
            let alerts = &s["alerts"];
            json!([
                s["service"],
                s["health"],
                s["mode"],
                s["level"],
                alerts["firing"],
                alerts["pending"],
                s["series"],
                s["state_bytes"]
            ])
        })
        .collect();
    assert_eq!(
        json!(short),
        json!([
            ["cart", "healthy", "normal", 0, 0, 1, 12, 1_000],
            ["checkout", "critical", "degraded", 1, 2, 0, 12, 1_000],
            ["gone", "healthy", "critical", 2, 0, 0, 0, 0],
        ])
    );
}

#[tokio::test]
async fn topology_and_report_are_passed_on() {
    let site = Site::over(FakeEngine {
        edges: vec![EdgeView {
            caller: "web".into(),
            callee: "cart".into(),
            rate: 2.0,
            error_ratio: 0.5,
            p50: Some(0.1),
            p95: None,
            p99: None,
            last_seen: NOW,
        }],
        ..FakeEngine::default()
    });
    assert_eq!(
        site.get("/api/v1/topology").await.json(),
        json!({"status":"success","data":[{"caller":"web","callee":"cart","rate":2.0,
            "error_ratio":0.5,"p50":0.1,"p95":null,"p99":null,"last_seen":"2026-01-01T00:00:00Z"}]})
    );
    let json = site.get("/api/v1/report").await.json();
    assert_eq!(json, json!({"status":"success","data":{"services":[]}}));
    let asked = site.get("/api/v1/report?format=markdown").await;
    let accepted = site
        .get_with("/api/v1/report", &[("accept", "text/markdown")])
        .await;
    for answer in [asked, accepted] {
        assert_eq!(answer.text(), "# Report\n");
        assert_eq!(
            answer.headers["content-type"],
            "text/markdown; charset=utf-8"
        );
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let site = Site::new();
    assert_eq!(site.get("/healthz").await.status, 200);
    for path in ["/readyz", "/-/ready"] {
        let answer = site.get(path).await;
        assert_eq!(
            (answer.status, answer.text()),
            (503, "not ready: starting\n")
        );
    }
    site.board.set_ready(None);
    assert_eq!(site.get("/readyz").await.status, 200);
    assert_eq!(site.get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn alerts_are_shown_with_all_that_is_known_of_them() {
    let site = Site::new();
    let mut alerts: Vec<_> = ["a", "b", "c"]
        .map(|service| alert("Slow", service, AlertState::Firing))
        .into();
    alerts.sort_by_key(|alert| alert.fingerprint);
    alerts[0].grounds.incident = Some("00ff".into());
    let fingerprint = alerts[0].fingerprint;
    site.board
        .set_alerts(alerts.iter().cloned().map(Arc::new).collect());
    let page = site.get("/api/v1/alerts?limit=2").await.json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(2));
    let next = page["next"].as_str().expect("there is more");
    let rest = site
        .get(&format!("/api/v1/alerts?cursor={next}"))
        .await
        .json();
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest["next"], Value::Null);
    let one = site
        .get(&format!("/api/v1/alerts/{fingerprint}"))
        .await
        .json();
    assert_eq!(one["data"]["grounds"]["incident"], "00ff");
    assert_eq!(one["data"]["grounds"]["moved"], json!([]));
    for (path, status) in [
        ("/api/v1/alerts/0000000000000000", 404),
        ("/api/v1/alerts/x", 404),
        ("/api/v1/alerts?cursor=x", 400),
        ("/api/v1/incidents/x", 404),
    ] {
        assert_eq!(site.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn incidents_are_listed_with_their_alerts() {
    let site = Site::new();
    let slow = alert("Slow", "pay", AlertState::Firing);
    let incident = Incident {
        id: "00000000000000ff".into(),
        state: IncidentState::Firing,
        since: NOW,
        resolved_at: None,
        origin: "pay".into(),
        services: vec!["pay".into(), "shop".into()],
        alerts: vec![IncidentAlert {
            fingerprint: slow.fingerprint,
            alertname: "Slow".into(),
            service: "pay".into(),
            severity: SeverityLabel::Critical,
            since: NOW,
            resolved_at: None,
        }],
        alerts_omitted: 0,
        explanation: "p99 is 3 times its usual 120 ms.".into(),
        recommendation: "Look at pay first.".into(),
    };
    site.board.set_incidents(vec![Arc::new(incident)]);
    let expected = json!({
        "id":"00000000000000ff","state":"firing","since":"2026-01-01T00:00:00Z","resolved_at":null,
        "origin":"pay","services":["pay","shop"],"alerts_omitted":0,
        "alerts":[{"fingerprint":slow.fingerprint.to_string(),"alertname":"Slow","service":"pay",
                   "severity":"critical","since":"2026-01-01T00:00:00Z","resolved_at":null}],
        "explanation":"p99 is 3 times its usual 120 ms.","recommendation":"Look at pay first.",
    });
    let list = site.get("/api/v1/incidents").await.json();
    assert_eq!(
        list,
        json!({"status":"success","next":null,"data":[expected.clone()]})
    );
    let one = site.get("/api/v1/incidents/00000000000000ff").await.json();
    assert_eq!(one["data"], expected);
}

#[tokio::test]
async fn receivers_are_shown_with_how_delivery_goes() {
    let site = Site::new();
    let expected = json!({"status": "success", "next": null, "data": [{
        "name": "oncall",
        "fallback": "log",
        "failing": true,
        "integrations": [{
            "integration": "webhook[0]",
            "target": "https://hooks.example/…",
            "breaker": {"state": "open", "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:01:00Z"},
            "trouble": {"since": "2026-01-01T00:00:00Z", "reason": "it answered 500"},
            "gone": null,
            "limited_until": null,
            "pending": 1,
            "underway": 0,
            "statistics": {
                "attempts": 5, "delivered": 0, "retried": 4, "recovered": 0, "resumed": 0,
                "fallen_back": 0, "failed": 0,
            },
            "last_delivered_at": null,
            "last_failed_at": "2026-01-01T00:00:00Z",
            "last_error": "it answered 500",
        }],
    }]});
    assert_eq!(site.get("/api/v1/receivers").await.json(), expected);
}
