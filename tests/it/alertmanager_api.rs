//! Alertmanager's API: the same requests get the same answers as from a real Alertmanager, every answer
//! fits its own description, and amtool works as it is.

use serde_json::{Value, json};

use crate::harness::alertmanager::{Alertmanager, Description, amtool};
use crate::harness::hook::Hook;
use crate::harness::{Daemon, eventually, otlp, stdout};

const CONFIG: &str = r#"
window: {tick: 200ms}
rules:
  - {alert: TooHot, match: '{metric="temperature"}', detector: threshold, upper: 50, for: 1 of 1}
route: {receiver: oncall, group_by: [service]}
receivers: [{name: oncall}, {name: other}]
"#;

/// One request, and what came back.
async fn ask(url: &str, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let method = method.parse().expect("a method");
    let mut request = reqwest::Client::new().request(method, format!("{url}/api/v2/{path}"));
    if let Some(body) = body {
        let body = body.to_owned();
        request = request
            .header("content-type", "application/json")
            .body(body);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn post(url: &str, path: &str, body: &Value) -> (u16, Value) {
    ask(url, "POST", path, Some(&body.to_string())).await
}

/// A silence from some time on until another, with `more` in place of its fields.
fn silence(from: &str, until: &str, more: Value) -> String {
    let mut silence = json!({
        "matchers": [{"name": "service", "value": "checkout", "isRegex": false}],
        "startsAt": from, "endsAt": until, "createdBy": "ada", "comment": "maintenance",
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(silence.as_object_mut().expect("an object").remove(name)),
            value => silence[name] = value.clone(),
        }
    }
    silence.to_string()
}

/// An answer without what differs from one program and moment to another: ids, times, and how a parser
/// words what it does not understand.
fn essence(answer: &Value) -> Value {
    match answer {
        Value::String(text) => {
            let end = [
                "because",
                "but [",
                "invalid regular expression",
                "bad matcher format",
            ]
            .iter()
            .filter_map(|word| Some(text.find(word)? + word.len()))
            .min();
            json!(text[..end.unwrap_or(text.len())])
        }
        Value::Array(items) => items.iter().map(essence).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                "silenceID" | "id" | "updatedAt" | "startsAt" | "endsAt" => {
                    (name.clone(), json!("…"))
                }
                _ => (name.clone(), essence(value)),
            })
            .collect(),
        other => other.clone(),
    }
}

/// The essence of an answer, a list in an order of its own.
fn sorted(answer: &Value) -> Vec<String> {
    let essence = essence(answer);
    let items = essence.as_array().cloned().unwrap_or(vec![essence]);
    let mut items: Vec<_> = items.iter().map(Value::to_string).collect();
    items.sort();
    items
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_requests_get_the_same_answers_as_from_alertmanager() {
    let alertmanager = Alertmanager::start(
        "route: {receiver: oncall}\nreceivers: [{name: oncall}, {name: other}]",
    )
    .await;
    let daemon = Daemon::start(CONFIG).await;
    let ours = format!("http://{}", daemon.api);
    let (past, soon, late) = (
        "2020-01-01T00:00:00.000Z",
        "2035-01-01T00:00:00.000Z",
        "2036-01-01T00:00:00.000Z",
    );
    let with = |more: Value| silence(past, late, more);
    let matchers = |matchers: Value| with(json!({"matchers": matchers}));
    let unknown = "silence/0d5a6eb2-0c1f-4d38-9f06-8a1f6f1d2e3c";
    let alert = |more: Value| json!([more]).to_string();
    let cases: Vec<(&str, &str, Option<String>)> = vec![
        ("POST", "silences", Some("{".into())),
        ("POST", "silences", Some(String::new())),
        ("POST", "silences", Some("[]".into())),
        ("POST", "silences", Some("{}".into())),
        ("POST", "silences", Some(with(json!({})))),
        ("POST", "silences", Some(with(json!({"comment": null})))),
        (
            "POST",
            "silences",
            Some(with(json!({"comment": "", "createdBy": ""}))),
        ),
        ("POST", "silences", Some(with(json!({"createdBy": 1})))),
        ("POST", "silences", Some(with(json!({"unheard": "of"})))),
        ("POST", "silences", Some(with(json!({"id": ""})))),
        ("POST", "silences", Some(with(json!({"id": "nonsense"})))),
        (
            "POST",
            "silences",
            Some(with(json!({"id": "0d5a6eb2-0c1f-4d38-9f06-8a1f6f1d2e3c"}))),
        ),
        ("POST", "silences", Some(with(json!({"startsAt": null})))),
        (
            "POST",
            "silences",
            Some(with(json!({"startsAt": "0001-01-01T00:00:00Z"}))),
        ),
        (
            "POST",
            "silences",
            Some(with(json!({"startsAt": "nonsense"}))),
        ),
        ("POST", "silences", Some(silence(late, soon, json!({})))),
        ("POST", "silences", Some(silence(past, past, json!({})))),
        (
            "POST",
            "silences",
            Some(silence(past, "2021-01-01T00:00:00Z", json!({}))),
        ),
        ("POST", "silences", Some(matchers(json!([])))),
        ("POST", "silences", Some(matchers(json!([{"name": "a"}])))),
        (
            "POST",
            "silences",
            Some(matchers(json!([{"name": "a", "isRegex": false}]))),
        ),
        (
            "POST",
            "silences",
            Some(matchers(json!([{"value": "a", "isRegex": false}]))),
        ),
        (
            "POST",
            "silences",
            Some(matchers(
                json!([{"name": "a", "value": "", "isRegex": false}]),
            )),
        ),
        (
            "POST",
            "silences",
            Some(matchers(
                json!([{"name": "a", "value": ".*", "isRegex": true}]),
            )),
        ),
        (
            "POST",
            "silences",
            Some(matchers(
                json!([{"name": "a", "value": "(", "isRegex": true}]),
            )),
        ),
        (
            "POST",
            "silences",
            Some(matchers(
                json!([{"name": "a-b", "value": "c", "isRegex": false}]),
            )),
        ),
        (
            "POST",
            "silences",
            Some(matchers(
                json!([{"name": "a", "value": "", "isRegex": false, "isEqual": false}]),
            )),
        ),
        ("GET", "silence/nonsense", None),
        ("DELETE", "silence/nonsense", None),
        ("GET", unknown, None),
        ("DELETE", unknown, None),
        ("PUT", unknown, None),
        ("PUT", "silences", None),
        ("PUT", "alerts", None),
        ("GET", "nothing", None),
        ("GET", "silences?filter=service=checkout", None),
        ("GET", "silences?filter=service=~checkout", None),
        ("GET", "silences?filter=", None),
        ("GET", "silences?filter={", None),
        ("GET", "alerts?filter={", None),
        ("GET", "alerts?filter=a-b=c", None),
        ("GET", "alerts/groups?filter={", None),
        ("POST", "alerts", Some("{".into())),
        ("POST", "alerts", Some("null".into())),
        ("POST", "alerts", Some(String::new())),
        ("POST", "alerts", Some("{}".into())),
        ("POST", "alerts", Some("[]".into())),
        ("POST", "alerts", Some(alert(json!({})))),
        ("POST", "alerts", Some(alert(json!({"labels": {}})))),
        ("POST", "alerts", Some(alert(json!({"labels": {"a": ""}})))),
        ("POST", "alerts", Some(alert(json!({"labels": {"a": 1}})))),
        (
            "POST",
            "alerts",
            Some(alert(json!({"labels": {"a-b": "c"}}))),
        ),
        (
            "POST",
            "alerts",
            Some(alert(
                json!({"labels": {"a": "b"}, "annotations": {"a b": "c"}}),
            )),
        ),
        (
            "POST",
            "alerts",
            Some(alert(json!({"labels": {"a": "b"}, "startsAt": "nonsense"}))),
        ),
        (
            "POST",
            "alerts",
            Some(alert(
                json!({"labels": {"a": "b"}, "startsAt": late, "endsAt": soon}),
            )),
        ),
        (
            "POST",
            "alerts",
            Some(alert(json!({"labels": {"a": "b"}, "startsAt": late}))),
        ),
        (
            "POST",
            "alerts",
            Some(alert(
                json!({"labels": {"a": "b"}, "generatorURL": "no url"}),
            )),
        ),
        (
            "POST",
            "alerts",
            Some(alert(json!({"labels": {"over": "b"}, "endsAt": past}))),
        ),
        // One is wrong, the other is taken.
        (
            "POST",
            "alerts",
            Some(
                json!([{"labels": {"c-d": "x"}}, {"labels": {"alertname": "Taken", "none": ""},
                    "startsAt": past, "generatorURL": "http://x/?y=z+%3E+1"}])
                .to_string(),
            ),
        ),
        (
            "POST",
            "alerts",
            Some(
                json!([{"labels": {"alertname": "Told", "service": "checkout"},
                    "annotations": {"summary": "s"},
                    "startsAt": "0001-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}])
                .to_string(),
            ),
        ),
    ];
    let mut different = Vec::new();
    for (method, path, body) in &cases {
        let body = body.as_deref();
        let theirs = ask(&alertmanager.url, method, path, body).await;
        let own = ask(&ours, method, path, body).await;
        // What begins or ends at one time stands in any order there.
        let same = theirs.0 == own.0 && sorted(&theirs.1) == sorted(&own.1);
        if !same {
            different.push(format!("{method} {path} {body:?}\n  {theirs:?}\n  {own:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));

    // Both are the same afterwards, apart from what is explained here.
    let comparable = |alerts: &Value| -> Vec<Value> {
        let alerts = alerts.as_array().expect("a list").iter().map(essence);
        alerts
            .map(|mut alert| {
                let silences = alert["status"]["silencedBy"].as_array().map(Vec::len);
                alert["status"]["silencedBy"] = json!(silences);
                alert["annotations"] = alert["annotations"]["summary"].clone();
                alert
            })
            .collect()
    };
    for query in [
        "",
        "silenced=false",
        "active=false",
        "filter=service=checkout",
        "receiver=o.*",
    ] {
        let path = format!("alerts?{query}");
        let (_, theirs) = ask(&alertmanager.url, "GET", &path, None).await;
        let (_, own) = ask(&ours, "GET", &path, None).await;
        assert_eq!(comparable(&own), comparable(&theirs), "{query}");
    }
    let (_, theirs) = ask(&alertmanager.url, "GET", "silences", None).await;
    let (_, own) = ask(&ours, "GET", "silences", None).await;
    assert_eq!(sorted(&own), sorted(&theirs));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_fits_alertmanagers_description() {
    let description = Description::of_installed();
    let daemon = Daemon::start(CONFIG).await;
    let url = format!("http://{}", daemon.api);
    let now = otlp::now_nanos();
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge("shop", "temperature", &[(now, 60.0)]),
    )
    .await;
    let alert =
        json!([{"labels": {"alertname": "Down", "job": "shop"}, "generatorURL": "http://p/g"}]);
    assert_eq!(post(&url, "alerts", &alert).await.0, 200);
    let (status, made) = ask(
        &url,
        "POST",
        "silences",
        Some(&silence(
            "2020-01-01T00:00:00Z",
            "2036-01-01T00:00:00Z",
            json!({}),
        )),
    )
    .await;
    assert_eq!(
        description.misfits("/silences", "post", status, &made),
        Vec::<String>::new()
    );
    let id = made["silenceID"].as_str().expect("an id").to_owned();
    eventually("both alerts fire", || async {
        let (_, alerts) = ask(&url, "GET", "alerts", None).await;
        alerts
            .as_array()
            .filter(|alerts| alerts.len() == 2)
            .map(drop)
    })
    .await;
    let one = format!("silence/{id}");
    let wrong = "silence/0d5a6eb2-0c1f-4d38-9f06-8a1f6f1d2e3c";
    for (method, path, body, described) in [
        ("GET", "status", None, "/status"),
        ("GET", "receivers", None, "/receivers"),
        ("GET", "alerts", None, "/alerts"),
        ("GET", "alerts?filter={", None, "/alerts"),
        ("GET", "alerts/groups", None, "/alerts/groups"),
        ("GET", "alerts/groups?receiver=(", None, "/alerts/groups"),
        ("POST", "alerts", Some(r#"[{"labels": {}}]"#), "/alerts"),
        ("GET", "silences", None, "/silences"),
        (
            "POST",
            "silences",
            Some(&*silence(
                "2020-01-01T00:00:00Z",
                "2021-01-01T00:00:00Z",
                json!({}),
            )),
            "/silences",
        ),
        ("GET", &*one, None, "/silence/{silenceID}"),
        ("GET", wrong, None, "/silence/{silenceID}"),
        ("DELETE", wrong, None, "/silence/{silenceID}"),
        ("DELETE", &*one, None, "/silence/{silenceID}"),
    ] {
        let (status, answer) = ask(&url, method, path, body).await;
        let method = method.to_lowercase();
        let misfits = description.misfits(described, &method, status, &answer);
        assert!(misfits.is_empty(), "{method} {path}: {misfits:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn amtool_sets_shows_changes_and_ends_silences_which_a_crash_keeps() {
    let daemon = Daemon::start(CONFIG).await;
    let url = format!("http://{}", daemon.api);
    let added = amtool(
        &url,
        &[
            "silence",
            "add",
            "TooHot",
            "service=~shop|cart",
            "room!=2",
            "--comment=sauna",
            "--author=ada",
            "--duration=2h",
        ],
    );
    let id = added.trim().to_owned();
    let now = otlp::now_nanos();
    otlp::post_metrics(
        &daemon.http,
        &otlp::gauge("shop", "temperature", &[(now, 60.0)]),
    )
    .await;
    eventually("the alert is silenced", || async {
        let (_, alerts) = ask(&url, "GET", "alerts", None).await;
        let by = &alerts[0]["status"]["silencedBy"];
        (*by == json!([id]) && alerts[0]["status"]["state"] == "suppressed").then_some(())
    })
    .await;
    // amtool shows silenced alerts only if it is asked to.
    assert!(!amtool(&url, &["alert", "query"]).contains("TooHot"));
    assert!(amtool(&url, &["alert", "query", "--silenced"]).contains("TooHot"));

    // As a power cut would.
    let daemon = daemon.kill_and_restart().await;
    let url = format!("http://{}", daemon.api);
    let shown = amtool(&url, &["silence", "query", "alertname=TooHot"]);
    for part in [
        &id,
        "ada",
        "sauna",
        "alertname=\"TooHot\"",
        "room!=\"2\"",
        "service=~\"shop|cart\"",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(amtool(&url, &["silence", "query", "-q"]).trim(), id);
    assert_eq!(
        daemon.metric("tidewatch_silences{state=\"active\"}").await,
        Some(1.0)
    );

    // A change that touches no history keeps the id, another does not.
    let updated = amtool(
        &url,
        &["silence", "update", "--duration=4h", "--comment=hot", &id],
    );
    assert!(
        updated.contains(&id) && updated.contains("hot"),
        "{updated}"
    );
    let exported = amtool(&url, &["silence", "query", "-o", "json"]);
    let listed: Value = serde_json::from_str(&exported).expect("JSON");
    assert_eq!(
        (listed.as_array().map(Vec::len), &listed[0]["comment"]),
        (Some(1), &json!("hot"))
    );

    amtool(&url, &["silence", "expire", &id]);
    assert_eq!(amtool(&url, &["silence", "query", "-q"]).trim(), "");
    assert_eq!(
        amtool(&url, &["silence", "query", "-q", "--expired"]).trim(),
        id
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    let again = exported.replace(&id, "");
    std::fs::write(file.path(), again).expect("written");
    amtool(
        &url,
        &["silence", "import", file.path().to_str().expect("UTF-8")],
    );
    let imported = amtool(&url, &["silence", "query", "-q"]);
    assert!(
        !imported.trim().is_empty() && imported.trim() != id,
        "{imported}"
    );

    // Our own words for the same.
    let listed = stdout(&daemon.cli(&["silence"]));
    assert!(
        listed.contains("sauna") || listed.contains("hot"),
        "{listed}"
    );
    stdout(&daemon.cli(&["silence", "expire", imported.trim()]));
    assert_eq!(stdout(&daemon.cli(&["silence"])), "No silences.\n");
    let own = daemon.cli(&[
        "silence",
        "add",
        "service=shop",
        "--comment",
        "c",
        "--author",
        "ada",
    ]);
    let own = stdout(&own);
    assert_eq!(
        amtool(&url, &["silence", "query", "-q", "service=shop"]).trim(),
        own.trim()
    );
    let wrong = daemon.cli(&["silence", "expire", "nonsense"]);
    assert_eq!(wrong.status.code(), Some(1));

    assert!(amtool(&url, &["config", "show"]).contains("receiver: oncall"));
    assert!(amtool(&url, &["config", "routes", "show"]).contains("receiver: oncall"));
    let routed = amtool(&url, &["config", "routes", "test", "service=shop"]);
    assert_eq!(routed.trim(), "oncall");
    amtool(&url, &["cluster", "show"]);
    amtool(
        &url,
        &[
            "alert",
            "add",
            "Posted",
            "service=shop",
            "--annotation=summary=by hand",
        ],
    );
    assert!(amtool(&url, &["alert", "query", "--silenced", "Posted"]).contains("by hand"));
}

/// How many deliveries of that status there were.
fn delivered(hook: &Hook, status: &str) -> usize {
    let deliveries = hook.deliveries();
    let of_status = deliveries.iter().filter(|d| d.body["status"] == status);
    of_status.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silenced_alert_is_told_once_its_silence_ends_also_over_a_crash() {
    let hook = Hook::start().await;
    let config = format!(
        "window: {{tick: 200ms}}\nrules: []\nglobal: {{resolve_timeout: 10m}}\n\
         route: {{receiver: oncall, group_by: [alertname], group_wait: 100ms, group_interval: 1s}}\n\
         receivers: [{{name: oncall, webhook_configs: [{{url: {:?}}}]}}]\n",
        hook.url
    );
    let daemon = Daemon::start(&config).await;
    let url = format!("http://{}", daemon.api);
    let id = amtool(
        &url,
        &[
            "silence",
            "add",
            "alertname=~Quiet|Gone",
            "--comment=c",
            "--author=ada",
        ],
    );
    let alert = |name: &str| json!({"labels": {"alertname": name, "service": "shop"}});
    let posted = json!([alert("Quiet"), alert("Gone"), alert("Loud")]);
    assert_eq!(post(&url, "alerts", &posted).await.0, 200);
    eventually("the others are told", || async {
        (delivered(&hook, "firing") == 1).then_some(())
    })
    .await;
    let muted = "tidewatch_alerts_muted{by=\"silence\"}";
    eventually("two are muted", || async {
        daemon.metric(muted).await.filter(|muted| *muted == 2.0)
    })
    .await;
    // Nobody was told of it, so nobody is told of its end.
    let over = json!([{"labels": {"alertname": "Gone", "service": "shop"}, "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "2026-01-01T00:00:01Z"}]);
    assert_eq!(post(&url, "alerts", &over).await.0, 200);

    let daemon = daemon.kill_and_restart().await;
    let url = format!("http://{}", daemon.api);
    // Some flushes later it is still quiet.
    assert_eq!(post(&url, "alerts", &json!([alert("Louder")])).await.0, 200);
    eventually("another is told", || async {
        (delivered(&hook, "firing") == 2).then_some(())
    })
    .await;
    amtool(&url, &["silence", "expire", id.trim()]);
    let told = eventually("it is told now", || async {
        let deliveries = hook.deliveries();
        let names = deliveries
            .iter()
            .map(|d| d.body["alerts"][0]["labels"]["alertname"].clone());
        let names: Vec<_> = names.collect();
        names.contains(&json!("Quiet")).then_some(names)
    })
    .await;
    assert!(!told.contains(&json!("Gone")), "{told:?}");
}
