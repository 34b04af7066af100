//! Real receivers: a mail server with STARTTLS, Debian's Alertmanager (as a receiver, and as the measure
//! of what pagers are sent), the receivers' side of Standard Webhooks.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::alertmanager::{Alertmanager, amtool};
use crate::harness::hook::{Delivery, Hook};
use crate::harness::{Daemon, eventually, otlp, root, stdout};

/// A gauge beyond its threshold fires, and told again.
const RULES: &str = r#"
window: {tick: 200ms}
rules:
  - {alert: TooHot, match: '{metric="temperature"}', detector: threshold, upper: 50, for: 1 of 1}
route: {receiver: oncall, group_by: [service], group_wait: 100ms, group_interval: 1s}
"#;

async fn temperature(daemon: &Daemon, value: f64) {
    let body = otlp::gauge("shop", "temperature", &[(otlp::now_nanos(), value)]);
    otlp::post_metrics(&daemon.http, &body).await;
}

/// Feeds `value` until `look` sees what is waited for.
async fn feeding<T: std::fmt::Debug>(
    daemon: &Daemon,
    value: f64,
    what: &str,
    look: impl AsyncFn() -> Option<T>,
) -> T {
    let look = &look;
    eventually(what, || async move {
        temperature(daemon, value).await;
        look().await
    })
    .await
}

fn python() -> PathBuf {
    root().join("tests/clients/python")
}

/// A mail server, stopped when dropped.
struct Mail {
    child: Child,
    port: u16,
    lines: Arc<Mutex<Vec<Value>>>,
    folder: tempfile::TempDir,
}

impl Mail {
    fn start(mode: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).expect("written");
        let mut command = Command::new(python().join(".venv/bin/python"));
        command.arg(python().join("mail.py"));
        command.args([path("cert.pem"), path("key.pem")]).arg(mode);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("python: {e}; `tests/run` installs what is needed"));
        let mut printed = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let port = printed.next().expect("it prints its port").expect("text");
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in printed.map_while(Result::ok) {
                let mail = serde_json::from_str(&line).expect("JSON");
                seen.lock().expect("lines").push(mail);
            }
        });
        Self {
            child,
            port: port.parse().expect("a port"),
            lines,
            folder,
        }
    }

    fn seen(&self) -> Vec<Value> {
        self.lines.lock().expect("lines").clone()
    }

    /// A daemon that sends mail here. `extra` are further keys of the integration.
    async fn daemon(&self, extra: &str) -> Daemon {
        self.daemon_trusting(&self.folder.path().join("cert.pem"), extra)
            .await
    }

    /// As [`Mail::daemon`], with a certificate authority.
    async fn daemon_trusting(&self, ca: &Path, extra: &str) -> Daemon {
        let config = format!(
            r#"{RULES}
global: {{smtp_smarthost: "localhost:{}", smtp_from: "Tidewatch <tidewatch@example.org>", smtp_auth_username: tidewatch, smtp_auth_password: "${{env:PASSWORD}}", smtp_hello: tidewatch.example.org}}
receivers:
  - name: oncall
    time_zone: Europe/Berlin
    email_configs:
      - {{to: "Änne <ann@example.org>, bob@example.org", send_resolved: true, tls_config: {{ca_file: {ca:?}}}, {extra}}}
"#,
            self.port
        );
        Daemon::start_with(&config, &[("PASSWORD", "hunter2")]).await
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How many notifications to `oncall` ended so.
async fn results(daemon: &Daemon, result: &str) -> Option<f64> {
    let name = format!("tidewatch_notifications_total{{receiver=\"oncall\",result=\"{result}\"}}");
    daemon.metric(&name).await.filter(|count| *count > 0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_arrives_over_starttls_with_a_login() {
    let server = Mail::start("starttls");
    let daemon = server
        .daemon("headers: {X-Team: \"{{ group_labels.service }}\", Subject: \"{{ title }} ☂\"}")
        .await;
    feeding(&daemon, 60.0, "a mail arrives", async || {
        server.seen().pop()
    })
    .await;
    let resolved = feeding(&daemon, 20.0, "its end arrives", async || {
        server.seen().into_iter().nth(1)
    })
    .await;
    let fired = server.seen().remove(0);
    assert_eq!(fired["tls"], true);
    assert_eq!(fired["user"], "tidewatch");
    assert_eq!(fired["hello"], "tidewatch.example.org");
    assert_eq!(fired["from"], "tidewatch@example.org");
    assert_eq!(fired["to"], json!(["ann@example.org", "bob@example.org"]));
    let headers = &fired["headers"];
    assert_eq!(headers["subject"], "[FIRING:1] shop: TooHot ☂");
    assert_eq!(headers["x-team"], "shop");
    assert_eq!(headers["from"], "Tidewatch <tidewatch@example.org>");
    let to = headers["to"].as_str().expect("to");
    assert!(
        to.contains("Änne") && to.contains("bob@example.org"),
        "{to}"
    );
    let id = headers["message-id"].as_str().expect("an id");
    assert!(
        id.starts_with("<msg_") && id.ends_with("@example.org>"),
        "{id}"
    );
    let [text, html] = ["text/plain", "text/html"]
        .map(|kind| fired["parts"][kind].as_str().expect(kind).to_owned());
    assert!(
        text.contains("TooHot on shop: ") && text.contains("/#"),
        "{text}"
    );
    assert!(text.contains("CET") || text.contains("CEST"), "{text}");
    assert!(html.contains("<b>TooHot</b> on <b>shop</b>"), "{html}");
    // Both belong together, but are not the same mail.
    assert_eq!(resolved["headers"]["subject"], "[RESOLVED] shop: TooHot ☂");
    assert_eq!(resolved["headers"]["references"], headers["references"]);
    assert_ne!(resolved["headers"]["message-id"], headers["message-id"]);
    let log = daemon.log();
    assert!(!log.contains("hunter2"), "the password is nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_put_off_is_sent_again_as_the_same() {
    let server = Mail::start("busy");
    let daemon = server.daemon("html: \"\"").await;
    feeding(&daemon, 60.0, "the mail is sent again", async || {
        (server.seen().len() > 1).then_some(())
    })
    .await;
    let [first, second, ..] = &server.seen()[..] else {
        panic!("two mails")
    };
    assert_eq!(
        first["headers"]["message-id"],
        second["headers"]["message-id"]
    );
    let parts = first["parts"].as_object().expect("parts");
    assert_eq!(parts.keys().collect::<Vec<_>>(), ["text/plain"]);
    eventually("it is delivered", || results(&daemon, "delivered")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_refused_fails_for_good() {
    let server = Mail::start("refusing");
    let daemon = server.daemon("").await;
    feeding(&daemon, 60.0, "it fails", async || {
        results(&daemon, "failed").await
    })
    .await;
    assert_eq!(server.seen().len(), 1);
    let said = || std::future::ready(daemon.log_line("554"));
    let line = eventually("the log says why", said).await;
    assert!(line.contains("no such mail here"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mail_leaves_without_tls() {
    let server = Mail::start("plain");
    let daemon = server.daemon("").await;
    feeding(&daemon, 60.0, "it fails", async || {
        results(&daemon, "failed").await
    })
    .await;
    let said = || std::future::ready(daemon.log_line("offers no STARTTLS"));
    eventually("the log says why", said).await;
    assert_eq!(server.seen().len(), 0);
    drop(daemon);
    // A server that nobody vouches for gets nothing either: the authority is another's.
    let (server, other) = (Mail::start("starttls"), Mail::start("plain"));
    let ca = other.folder.path().join("cert.pem");
    let daemon = server.daemon_trusting(&ca, "").await;
    feeding(&daemon, 60.0, "it is tried again", async || {
        results(&daemon, "retried").await
    })
    .await;
    let said = || std::future::ready(daemon.log_line("certificate"));
    eventually("the log says why", said).await;
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_and_a_password_in_a_file_is_read_again() {
    let server = Mail::start("starttls");
    let folder = tempfile::tempdir().expect("a folder");
    let (log, password) = (
        folder.path().join("alerts.log"),
        folder.path().join("password"),
    );
    std::fs::write(&password, "wrong").expect("written");
    let config = format!(
        r#"{RULES}
receivers:
  - name: oncall
    file_configs: [{{path: {log:?}}}]
    email_configs:
      - {{to: a@example.org, from: b@example.org, send_resolved: true, smarthost: "localhost:{}", auth_username: tidewatch, auth_password_file: {password:?}, tls_config: {{ca_file: {:?}}}}}
"#,
        server.port,
        server.folder.path().join("cert.pem"),
    );
    let daemon = Daemon::start(&config).await;
    feeding(&daemon, 60.0, "the password is wrong", async || {
        results(&daemon, "failed").await
    })
    .await;
    let line = eventually("a line is written", || async {
        let text = std::fs::read_to_string(&log).ok()?;
        text.lines().next().map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["commonLabels"]["alertname"], "TooHot");
    assert!(
        line["id"].as_str().is_some_and(|id| id.starts_with("msg_")),
        "{line}"
    );
    assert_eq!(server.seen().len(), 0);
    std::fs::write(&password, "hunter2\n").expect("written");
    // The end is told, with the password that is right now.
    feeding(&daemon, 20.0, "a mail arrives", async || {
        server.seen().pop()
    })
    .await;
}

/// The alerts of an Alertmanager.
async fn alerts(alertmanager: &Alertmanager) -> Option<Vec<Value>> {
    let url = format!("{}/api/v2/alerts", alertmanager.url);
    let answer = reqwest::get(url).await.ok()?;
    let answer: Value = answer.error_for_status().ok()?.json().await.ok()?;
    answer.as_array().cloned()
}

const SILENT: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_alertmanager_takes_the_alerts_and_their_end() {
    let alertmanager = Alertmanager::start(SILENT).await;
    let config = format!(
        "{RULES}receivers: [{{name: oncall, alertmanager_configs: [{{url: \"{}\", resolve_timeout: 3h}}]}}]",
        alertmanager.url
    );
    let daemon = Daemon::start(&config).await;
    let alert = feeding(&daemon, 60.0, "the alert arrives", async || {
        alerts(&alertmanager).await?.pop()
    })
    .await;
    assert_eq!(alert["labels"]["alertname"], "TooHot");
    assert_eq!(alert["labels"]["service"], "shop");
    assert!(alert["annotations"]["explanation"].is_string(), "{alert}");
    assert_eq!(alert["status"]["state"], "active");
    let url = alert["generatorURL"].as_str().expect("a link");
    assert!(
        url.starts_with(&format!("http://{}/#", daemon.api)),
        "{url}"
    );
    let time = |key: &str| -> f64 {
        let text = alert[key].as_str().expect(key);
        let time: jiff::Timestamp = text.parse().expect("a time");
        time.as_second() as f64
    };
    let holds = time("endsAt") - time("updatedAt");
    assert!(
        (10_700.0..10_801.0).contains(&holds),
        "it holds for 3 h: {holds}"
    );
    // The fingerprints are the same: tools that know one know the other.
    let own = daemon.get("/api/v2/alerts").await;
    assert_eq!(own[0]["labels"], alert["labels"]);
    let shown = amtool(&alertmanager.url, &["alert", "query", "TooHot"]);
    assert!(shown.contains("TooHot"), "{shown}");
    feeding(&daemon, 20.0, "the alert is over", async || {
        alerts(&alertmanager).await?.is_empty().then_some(())
    })
    .await;
}

/// What is the same whoever sends it.
fn common(delivery: &Delivery) -> Value {
    let body = &delivery.body;
    json!({
        "target": delivery.target,
        "authorization": delivery.header("authorization"),
        "dedup_key": body["dedup_key"],
        "routing_key": body["routing_key"],
        "event_action": body["event_action"],
        "alias": body["alias"],
        "channel": body["channel"],
        "color": body["attachments"][0]["color"],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pagers_and_chats_are_sent_what_alertmanager_sends_them() {
    let (theirs, ours) = (Hook::start().await, Hook::start().await);
    let receivers = |hook: &Hook| {
        let base = hook.url.trim_end_matches("/hook");
        format!(
            r##"
receivers:
  - name: oncall
    slack_configs: [{{api_url: "{base}/slack", channel: "#alerts", send_resolved: true}}]
    pagerduty_configs: [{{routing_key: KEY, url: "{base}/pagerduty"}}]
    opsgenie_configs: [{{api_key: KEY, api_url: "{base}/"}}]
"##
        )
    };
    let route =
        "route: {receiver: oncall, group_by: [service], group_wait: 100ms, group_interval: 1s}";
    let alertmanager = Alertmanager::start(&format!("{route}{}", receivers(&theirs))).await;
    let daemon = Daemon::start(&format!("{RULES}{}", receivers(&ours))).await;
    let all = |hook: &Hook| {
        let hook = hook.clone();
        async move { (hook.deliveries().len() >= 3).then_some(()) }
    };
    feeding(&daemon, 60.0, "ours arrive", async || all(&ours).await).await;
    let post = async |alert: Value| {
        let client = reqwest::Client::new();
        let url = format!("{}/api/v2/alerts", alertmanager.url);
        let answer = client.post(url).json(&json!([alert])).send().await;
        answer.expect("posted").error_for_status().expect("taken");
    };
    let mut alert = daemon.get("/api/v2/alerts").await[0].take();
    for key in ["fingerprint", "receivers", "status", "updatedAt", "endsAt"] {
        alert.as_object_mut().expect("an alert").remove(key);
    }
    post(alert.clone()).await;
    eventually("theirs arrive", || all(&theirs)).await;
    let compare = |count: usize| {
        let sorted = |hook: &Hook| {
            let mut found: Vec<_> = hook.deliveries().iter().map(common).collect();
            found.sort_by_key(Value::to_string);
            found
        };
        let (ours, theirs) = (sorted(&ours), sorted(&theirs));
        assert_eq!(ours.len(), count, "{ours:#?}");
        assert_eq!(ours, theirs);
    };
    compare(3);
    // Every key that theirs says something in is there in ours.
    for their in theirs.deliveries() {
        let path = &their.target;
        let our = ours
            .deliveries()
            .into_iter()
            .find(|our| our.target == *path);
        missing(&our.expect(path).body, &their.body, path);
    }
    let all = |hook: &Hook| {
        let hook = hook.clone();
        async move { (hook.deliveries().len() >= 6).then_some(()) }
    };
    feeding(&daemon, 20.0, "our ends arrive", async || all(&ours).await).await;
    alert["endsAt"] = jiff::Timestamp::now().to_string().into();
    post(alert).await;
    eventually("their ends arrive", || all(&theirs)).await;
    compare(6);
}

/// Panics where `theirs` says something under a key that `ours` does not have.
#[track_caller]
fn missing(ours: &Value, theirs: &Value, path: &str) {
    // Of these each has its own.
    let own = ["custom_details", "details", "footer"];
    if let Value::Object(map) = theirs {
        for (key, theirs) in map.iter().filter(|(key, _)| !own.contains(&key.as_str())) {
            let says_nothing = theirs.is_null()
                || [json!(""), json!([]), json!({}), json!(false)].contains(theirs);
            let path = format!("{path}.{key}");
            assert!(says_nothing || ours.get(key).is_some(), "{path}: {theirs}");
            missing(&ours[key], theirs, &path);
        }
    }
    if let (Value::Array(ours), Value::Array(theirs)) = (ours, theirs) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            missing(ours, theirs, path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receivers_library_of_standard_webhooks_verifies_a_delivery() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let hook = Hook::start().await;
    let config = format!(
        "{RULES}receivers: [{{name: oncall, webhook_configs: [{{url: \"{}\", secret: \"${{env:SECRET}}\"}}]}}]",
        hook.url
    );
    let daemon = Daemon::start_with(&config, &[("SECRET", SECRET)]).await;
    let delivery = feeding(&daemon, 60.0, "a delivery", async || {
        hook.deliveries().pop()
    })
    .await;
    let headers: serde_json::Map<_, _> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .into_iter()
        .map(|name| (name.to_owned(), delivery.header(name).into()))
        .collect();
    let body = String::from_utf8(delivery.raw).expect("UTF-8");
    let mut child = Command::new(python().join(".venv/bin/python"))
        .arg(python().join("verify.py"))
        .arg(SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("python: {e}; `tests/run` installs what is needed"));
    let input = json!({"headers": headers, "body": body}).to_string();
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(stdout(&output).trim(), "verified");
}
