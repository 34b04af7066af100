//! A service that reaches a limit on series is said to have, once.

use serde_json::json;

use crate::harness::{Daemon, eventually, otlp};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_too_many_series_gets_one_alert_that_says_what_to_do() {
    let config = "window: {tick: 200ms}\nlimits: {series_per_service: 3}\nrules: []";
    let daemon = Daemon::start(config).await;
    let now = otlp::now_nanos();
    let metrics: Vec<_> = (0..5)
        .map(|i| {
            let point = json!({"timeUnixNano": now.to_string(), "asDouble": 1.0});
            json!({"name": format!("metric-{i}"), "unit": "1", "gauge": {"dataPoints": [point]}})
        })
        .collect();
    let body = otlp::metrics("greedy", json!(metrics));
    let (status, answer) = otlp::post(&daemon.http, "metrics", &body).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer["partialSuccess"]["rejectedDataPoints"], "2",
        "{answer}"
    );
    let alerts = eventually("the alert", || async {
        let alerts = daemon.get("/api/v2/alerts").await;
        alerts
            .as_array()
            .filter(|alerts| !alerts.is_empty())
            .cloned()
    })
    .await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["labels"]["alertname"], "SeriesLimitReached");
    assert_eq!(alerts[0]["labels"]["service"], "greedy");
    let explanation = alerts[0]["annotations"]["explanation"]
        .as_str()
        .expect("an explanation");
    assert!(
        explanation.starts_with("New series of greedy are refused"),
        "{explanation}"
    );
    // Known series go on, and when nothing is refused any more it is over.
    eventually("it is over", || async {
        let point = otlp::gauge("greedy", "metric-0", &[(otlp::now_nanos(), 2.0)]);
        let (status, _) = otlp::post(&daemon.http, "metrics", &point).await;
        assert_eq!(status, 200);
        let alerts = daemon.get("/api/v2/alerts").await;
        alerts.as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
}
