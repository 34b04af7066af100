//! The cases in a real Alertmanager, in real time.

use std::collections::{BTreeMap, HashMap};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use serde_json::{Value, json};
use tidewatch::model::{Matcher, Timestamp};
use tokio::time::Instant;

use super::Told;
use super::cases::{CASES, END, Step};
use super::ours::labels;
use crate::harness::{eventually, with_tls};

/// Alertmanager on a free port, stopped when dropped.
struct Alertmanager {
    child: Child,
    url: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    async fn start(configuration: &str) -> Self {
        with_tls();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("alertmanager.yml");
        std::fs::write(&file, configuration).expect("written");
        // It cannot be asked for a free port: take one and give it back.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("prometheus-alertmanager: {error}; `tests/run` installs what is needed")
            });
        let mut alertmanager = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::new(),
            _folder: folder,
        };
        let ready = format!("{}/-/ready", alertmanager.url);
        eventually("Alertmanager is ready", || {
            if let Ok(Some(ended)) = alertmanager.child.try_wait() {
                let log = alertmanager._folder.path().join("log");
                let log = std::fs::read_to_string(log).unwrap_or_default();
                panic!("Alertmanager: {ended}\n{log}\n{configuration}");
            }
            let asked = alertmanager.client.get(&ready).send();
            async move { asked.await.ok().filter(|a| a.status().is_success()) }
        })
        .await;
        alertmanager
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/v2/{path}", self.url);
        let answer = self.client.post(url).json(body).send().await.expect(path);
        let (status, text) = (answer.status(), answer.text().await.expect(path));
        assert!(status.is_success(), "{path}: {status} {text}\n{body}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

type Heard = Arc<Mutex<Vec<(Instant, String, Value)>>>;

/// Serves a webhook for each receiver.
async fn hook() -> (String, Heard) {
    async fn take(
        State(heard): State<Heard>,
        Path(receiver): Path<String>,
        axum::Json(body): axum::Json<Value>,
    ) {
        let mut heard = heard.lock().expect("heard");
        heard.push((Instant::now(), receiver, body));
    }
    let heard = Heard::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = Router::new()
        .route("/{receiver}", post(take))
        .with_state(Arc::clone(&heard));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
    (url, heard)
}

/// The weekday on the island that sees each day first.
pub fn day() -> String {
    let now = jiff::Timestamp::now() + Duration::from_secs(14 * 3600);
    let day = now.to_zoned(jiff::tz::TimeZone::UTC).weekday();
    format!("{day:?}").to_lowercase()
}

/// What is told, and when it began.
pub async fn play() -> (Vec<Told>, Timestamp) {
    let (url, heard) = hook().await;
    let configuration = super::configuration(&url).replace("DAY", &day());
    let alertmanager = Alertmanager::start(&configuration).await;
    let mut silences = HashMap::new();
    let mut steps: BTreeMap<u32, Vec<(&str, &Step)>> = BTreeMap::new();
    for case in CASES {
        for (at, step) in case.steps {
            steps.entry(*at).or_default().push((case.name, step));
        }
    }
    let (began, now) = (Instant::now(), jiff::Timestamp::now());
    let nanos = i64::try_from(now.as_nanosecond()).expect("this century");
    for (at, steps) in steps {
        tokio::time::sleep_until(began + Duration::from_millis(u64::from(at) * 100)).await;
        step(&alertmanager, &steps, &mut silences).await;
    }
    tokio::time::sleep_until(began + Duration::from_millis(u64::from(END) * 100)).await;
    drop(alertmanager);
    let heard = heard.lock().expect("heard");
    let told = heard.iter().map(|(at, receiver, body)| Told {
        at: at.duration_since(began),
        receiver: receiver.clone(),
        group: body["groupKey"].as_str().expect("a key").into(),
        status: body["status"].as_str().expect("a status").into(),
        alerts: {
            let alerts = body["alerts"].as_array().expect("alerts").iter();
            let mut alerts: Vec<_> = alerts
                .map(|alert| {
                    let name = alert["labels"]["alertname"].as_str().expect("a name");
                    let fires = alert["status"] == "firing";
                    format!("{name}{}", if fires { '+' } else { '-' })
                })
                .collect();
            alerts.sort();
            alerts
        },
    });
    (told.collect(), Timestamp::from_nanos(nanos))
}

/// All that happens at one time: silences first, then alerts, in one request.
async fn step(
    alertmanager: &Alertmanager,
    steps: &[(&'static str, &'static Step)],
    silences: &mut HashMap<(&'static str, &'static str), String>,
) {
    let now = jiff::Timestamp::now();
    let hour = Duration::from_secs(3600);
    let mut alerts = Vec::new();
    for (case, step) in steps {
        let alert = |text: &str, from: jiff::Timestamp, to: jiff::Timestamp| json!({"labels": labels(case, text), "startsAt": from.to_string(), "endsAt": to.to_string()});
        match step {
            Step::Fire(text) => alerts.push(alert(text, now, now + hour)),
            Step::FireSince(seconds, text) => {
                let from = now - Duration::from_secs(u64::from(*seconds));
                alerts.push(alert(text, from, now + hour));
            }
            Step::Resolve(text) => alerts.push(alert(text, now - hour, now)),
            Step::Silence(name, conditions) => {
                let conditions = format!("case={case},{conditions}");
                let matchers = Matcher::parse_list(&conditions).expect("conditions");
                let matchers: Vec<_> = matchers
                    .iter()
                    .map(|matcher| {
                        use tidewatch::model::MatchOp::{Equal, NotRegex, Regex};
                        json!({
                            "name": matcher.name,
                            "value": matcher.value,
                            "isRegex": matches!(matcher.op, Regex | NotRegex),
                            "isEqual": matches!(matcher.op, Equal | Regex),
                        })
                    })
                    .collect();
                let silence = json!({
                    "matchers": matchers,
                    "startsAt": now.to_string(),
                    "endsAt": (now + hour).to_string(),
                    "createdBy": "test",
                    "comment": name,
                });
                let answer = alertmanager.post("silences", &silence).await;
                let id = answer["silenceID"].as_str().expect("an id").to_owned();
                silences.insert((*case, *name), id);
            }
            Step::Unsilence(name) => {
                let id = silences.remove(&(*case, *name)).expect("a silence");
                let url = format!("{}/api/v2/silence/{id}", alertmanager.url);
                let answer = alertmanager.client.delete(url).send().await;
                assert!(answer.expect("an answer").status().is_success());
            }
        }
    }
    if !alerts.is_empty() {
        alertmanager.post("alerts", &Value::Array(alerts)).await;
    }
}
