//! OTLP requests by hand, where a test needs control over times and values that no SDK gives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Nanoseconds since the epoch, now.
pub fn now_nanos() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    u64::try_from(now.as_nanos()).expect("before 2554")
}

/// A gauge of `service` with points (nanoseconds, value).
pub fn gauge(service: &str, metric: &str, points: &[(u64, f64)]) -> Value {
    let points: Vec<Value> = points
        .iter()
        .map(|(time, value)| json!({"timeUnixNano": time.to_string(), "asDouble": value}))
        .collect();
    metrics(
        service,
        json!([{"name": metric, "unit": "1", "gauge": {"dataPoints": points}}]),
    )
}

/// A metrics request of `service`.
pub fn metrics(service: &str, metrics: Value) -> Value {
    json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeMetrics": [{"scope": {"name": "test"}, "metrics": metrics}]
    }]})
}

/// One span of `service`, lasting `duration` and ending at `end` (nanoseconds).
pub fn span(
    trace: u128,
    id: u64,
    parent: Option<u64>,
    name: &str,
    end: u64,
    duration: Duration,
    error: bool,
) -> Value {
    let start = end - u64::try_from(duration.as_nanos()).expect("short");
    json!({
        "traceId": format!("{trace:032x}"),
        "spanId": format!("{id:016x}"),
        "parentSpanId": parent.map_or(String::new(), |parent| format!("{parent:016x}")),
        "name": name,
        "kind": 2,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "status": if error { json!({"code": 2}) } else { json!({}) },
    })
}

/// A traces request of `service`.
pub fn traces(service: &str, spans: &[Value]) -> Value {
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"scope": {"name": "test"}, "spans": spans}]
    }]})
}

/// Posts a request as JSON to `/v1/PATH` and returns status and body.
pub async fn post(address: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(format!("http://{address}/v1/{path}"))
        .json(body)
        .send()
        .await
        .expect("the daemon answers");
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

/// Data that goes on: without any, nobody's mode changes by itself. A value of `service` each 200 ms, until
/// it is dropped; whether it is taken does not matter.
#[must_use]
pub struct Pulse(tokio::task::JoinHandle<()>);

impl Pulse {
    /// To the daemon whose OTLP over HTTP is at `address`.
    pub fn of(service: &'static str, address: &str) -> Self {
        let address = address.to_owned();
        Self(tokio::spawn(async move {
            let mut timer = tokio::time::interval(std::time::Duration::from_millis(200));
            let client = reqwest::Client::new();
            loop {
                timer.tick().await;
                let body = gauge(service, "pulse", &[(now_nanos(), 1.0)]);
                let url = format!("http://{address}/v1/metrics");
                drop(client.post(url).json(&body).send().await);
            }
        }))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Posts metrics that must be taken whole.
pub async fn post_metrics(address: &str, body: &Value) {
    let (status, answer) = post(address, "metrics", body).await;
    assert_eq!((status, &answer), (200, &json!({})));
}
