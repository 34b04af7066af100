//! What each integration sends, to a receiver that takes it down, and what it makes of answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Method;
use serde_json::{Value, json};

use super::{Hook, NOW, Rig, Seen, alert, notification, rig};
use crate::dispatch::{Notification, Status};
use crate::model::{AlertState, Timestamp};
use crate::notify::integration::{
    Address, Alertmanager, Authorization, Card, Credential, Endpoint, Integration, LogFile,
    Opsgenie, PagerDuty, Payload, Responder, Slack, Teams, Tree,
};
use crate::notify::{Receiver, Resolved, Target, Templates, Text, Webhook};

/// SHA-256 of the key that [`notification`] has in these tests.
const KEY: &str = "{}:{service=\"checkout\"}";
const HASH: &str = "bd3fddab0dc3ca9d0a323d781d8c5c633f72164d497ec3ae796244dfeae9bf4e";

fn text(target: Target, source: &str) -> Text {
    Templates::default().text(target, source).unwrap()
}

fn endpoint(hook: &Hook) -> Endpoint {
    Endpoint::new(Address::parse(&format!("http://{}/hook", hook.address)).unwrap())
}

fn told(integration: Integration) -> Rig {
    let receiver = Receiver {
        name: "oncall".into(),
        integrations: vec![integration],
        fallback: None,
    };
    rig([receiver], |settings| {
        settings.retry.max_elapsed = Duration::ZERO
    })
}

/// With a name that means harm wherever it is taken for more than a name.
fn firing() -> Notification {
    let mut hostile = alert("LatencyDeviation", AlertState::Firing);
    hostile
        .labels
        .set("team", "<http://evil|pay> & [pay](http://evil) *\"x\"\u{7}");
    hostile.annotations.set(
        "explanation",
        "p99 is <b>3</b> times its usual.\nSince 12:00.",
    );
    hostile
        .annotations
        .set("recommendation", "Look at [it](http://evil).");
    Notification {
        common_labels: hostile.labels.clone(),
        common_annotations: hostile.annotations.clone(),
        alerts: vec![Arc::new(hostile)],
        ..notification("oncall", KEY)
    }
}

fn resolved() -> Notification {
    Notification {
        alerts: vec![Arc::new(alert("LatencyDeviation", AlertState::Resolved))],
        status: Status::Resolved,
        ..notification("oncall", KEY)
    }
}

async fn sent(hook: &mut Hook, rig: &Rig, notification: Notification) -> Seen {
    rig.send(notification);
    hook.next().await
}

fn slack(hook: &Hook) -> Slack {
    Slack {
        endpoint: endpoint(hook),
        plain: Vec::new(),
        color: None,
        title: None,
        title_link: None,
        text: None,
        fallback: None,
        fields: Vec::new(),
        actions: Vec::new(),
        link_names: false,
        mrkdwn_in: vec!["text".into()],
    }
}

#[tokio::test]
async fn slack_gets_an_attachment_in_which_values_are_no_markup() {
    let mut hook = Hook::answering(&[200]).await;
    let rig = told(Integration::Slack(Box::new(slack(&hook))));
    let body = sent(&mut hook, &rig, firing()).await.json();
    insta::assert_json_snapshot!("slack", body);
    let body = sent(&mut hook, &rig, resolved()).await.json();
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["color"], "good");
    assert_eq!(attachment["title"], "[RESOLVED] checkout: LatencyDeviation");
    // A mode change is told in the built-in words.
    rig.send_mode("oncall");
    let body = hook.next().await.json();
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["title"], "checkout runs degraded (was normal)");
    assert_eq!(attachment["text"], "policy slow-checkout");
    rig.until("oncall", "delivered", 3).await;
}

#[tokio::test]
async fn slack_says_what_its_templates_say() {
    let mut hook = Hook::answering(&[200]).await;
    let line = |source| text(Target::SlackLine, source);
    let settings = Slack {
        plain: vec![
            (
                "channel",
                text(Target::Line, "#{{ common_labels.service }}"),
            ),
            ("username", text(Target::Line, "{{ common_labels.nobody }}")),
            (
                "icon_emoji",
                text(Target::Line, "{{ common_labels.nobody }}"),
            ),
            (
                "pretext",
                text(Target::Slack, "<!here> {{ common_labels.team }}"),
            ),
        ],
        title: Some(line("{{ status | upper }}\n{{ group_labels.service }}")),
        text: Some(text(
            Target::Slack,
            "{% for a in firing %}{{ a.name }} {{ a.labels.nothing | default('-') }}{% endfor %}",
        )),
        fields: vec![(
            line("Team"),
            text(Target::Slack, "{{ common_labels.service }}"),
            true,
        )],
        actions: vec![(
            line("Runbook"),
            text(
                Target::Line,
                "https://runbooks/{{ common_labels.alertname }}",
            ),
            None,
        )],
        link_names: true,
        ..slack(&hook)
    };
    let rig = told(Integration::Slack(Box::new(settings)));
    let body = sent(&mut hook, &rig, firing()).await.json();
    assert_eq!(body["channel"], "#checkout");
    assert_eq!(body["username"], "Tidewatch");
    assert_eq!(
        body.get("icon_emoji"),
        None,
        "what says nothing is left out"
    );
    assert_eq!(
        body.get("icon_emoji"),
        None,
        "what says nothing is left out"
    );
    assert_eq!(body["link_names"], true);
    let attachment = &body["attachments"][0];
    let pretext = attachment["pretext"].as_str().unwrap();
    assert!(
        pretext.starts_with("<!here> &lt;http://evil|pay&gt; &amp; "),
        "{pretext}"
    );
    assert_eq!(attachment["title"], "FIRING checkout");
    assert_eq!(attachment["text"], "LatencyDeviation -");
    assert_eq!(
        attachment["fields"],
        json!([{"title": "Team", "value": "checkout", "short": true}])
    );
    assert_eq!(
        attachment["actions"],
        json!([{"type": "button", "text": "Runbook", "url": "https://runbooks/LatencyDeviation"}])
    );
    assert_eq!(attachment["fallback"], attachment["title"]);
}

#[tokio::test]
async fn a_template_that_fails_is_replaced_by_the_built_in_text_and_counted() {
    let mut hook = Hook::answering(&[200]).await;
    let settings = Slack {
        title: Some(text(Target::SlackLine, "{{ 1 / (alerts | length - 1) }}")),
        text: Some(text(
            Target::Slack,
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        )),
        ..slack(&hook)
    };
    let rig = told(Integration::Slack(Box::new(settings)));
    let body = sent(&mut hook, &rig, firing()).await.json();
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["title"], "[FIRING:1] checkout: LatencyDeviation");
    let text = attachment["text"].as_str().unwrap();
    assert!(
        text.starts_with("*LatencyDeviation* on *checkout*"),
        "{text}"
    );
    let errors = rig
        .telemetry
        .template_errors
        .with_label_values(&["oncall", "slack"]);
    assert_eq!(errors.get(), 2);
}

/// Answers `status` and `body` always.
async fn saying(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> Hook {
    Hook::start(Arc::new(move |_| {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(Body::from(body)).unwrap();
        Box::pin(async move { response })
    }))
    .await
}

#[tokio::test]
async fn a_200_that_says_no_is_a_failure() {
    let hook = saying(
        200,
        &[("content-type", "application/json")],
        r#"{"ok":false,"error":"channel_not_found"}"#,
    )
    .await;
    let rig = told(Integration::Slack(Box::new(slack(&hook))));
    rig.send(firing());
    rig.until("oncall", "failed", 1).await;
    let hook = saying(200, &[], "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413").await;
    let rig = told(Integration::Teams(Box::new(teams(&hook, Card::Message))));
    rig.send(firing());
    rig.until("oncall", "failed", 1).await;
    assert_eq!(rig.count("oncall", "delivered"), 0);
}

fn pagerduty(hook: &Hook) -> PagerDuty {
    PagerDuty {
        endpoint: endpoint(hook),
        routing_key: Credential::Text("KEY".into()),
        client: None,
        client_url: None,
        description: None,
        severity: None,
        source: None,
        class: None,
        component: None,
        group: None,
        details: Vec::new(),
        images: Vec::new(),
        links: Vec::new(),
    }
}

#[tokio::test]
async fn pagerduty_gets_one_incident_a_group() {
    let mut hook = Hook::answering(&[202]).await;
    let rig = told(Integration::PagerDuty(Box::new(pagerduty(&hook))));
    let body = sent(&mut hook, &rig, firing()).await.json();
    assert_eq!(body["dedup_key"], HASH);
    insta::assert_json_snapshot!("pagerduty", body);
    let body = sent(&mut hook, &rig, resolved()).await.json();
    assert_eq!(
        (&body["event_action"], &body["dedup_key"]),
        (&json!("resolve"), &json!(HASH))
    );
    assert_eq!(body["routing_key"], "KEY");
    // A mode change is nobody's incident.
    rig.send_mode("oncall");
    let body = sent(&mut hook, &rig, firing()).await.json();
    assert_eq!(body["event_action"], "trigger");
}

#[tokio::test]
async fn pagerduty_says_what_its_templates_say_within_its_bounds() {
    let mut hook = Hook::answering(&[202]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "from-a-file\n").unwrap();
    let line = |source: &str| text(Target::Line, source);
    let settings = PagerDuty {
        routing_key: Credential::File(path),
        description: Some(line(&"ü".repeat(2000))),
        severity: Some(line("{{ common_labels.severity | default('Info') }}")),
        component: Some(line("{{ common_labels.service }}")),
        details: vec![
            ("num_firing".into(), line("many")),
            ("team".into(), line("{{ common_labels.team }}")),
        ],
        images: vec![(line("https://graphs/x.png"), None, Some(line("graph")))],
        links: vec![
            (line("https://runbooks/x"), Some(line("Runbook"))),
            (line("{{ common_labels.no }}"), None),
        ],
        ..pagerduty(&hook)
    };
    let rig = told(Integration::PagerDuty(Box::new(settings.clone())));
    let body = sent(&mut hook, &rig, firing()).await.json();
    assert_eq!(body["routing_key"], "from-a-file");
    let payload = &body["payload"];
    assert_eq!(payload["summary"].as_str().unwrap().chars().count(), 1024);
    assert_eq!(payload["severity"], "info");
    assert_eq!(payload["component"], "checkout");
    assert_eq!(payload["custom_details"]["num_firing"], "many");
    assert_eq!(
        body["images"],
        json!([{"src": "https://graphs/x.png", "alt": "graph"}])
    );
    assert_eq!(
        body["links"],
        json!([{"href": "https://runbooks/x", "text": "Runbook"}])
    );
    // An event that is too long loses its details, not the incident.
    let long = PagerDuty {
        details: (0..3)
            .map(|n| (n.to_string(), line(&"x".repeat(250_000))))
            .collect(),
        ..settings
    };
    let rig = told(Integration::PagerDuty(Box::new(long)));
    let seen = sent(&mut hook, &rig, firing()).await;
    assert!(seen.body.len() < 512_000);
    assert!(seen.json()["payload"]["custom_details"]["error"].is_string());
}

fn opsgenie(hook: &Hook) -> Opsgenie {
    let mut endpoint = endpoint(hook);
    endpoint.http.authorization = Some(Authorization::Scheme {
        scheme: "GenieKey".into(),
        credentials: Credential::Text("KEY".into()),
    });
    Opsgenie {
        endpoint,
        message: None,
        description: None,
        source: None,
        entity: None,
        priority: None,
        note: None,
        tags: None,
        actions: None,
        details: Vec::new(),
        responders: Vec::new(),
        update_alerts: false,
    }
}

#[tokio::test]
async fn opsgenie_gets_one_alert_a_group() {
    let mut hook = Hook::answering(&[202]).await;
    let line = |source: &str| text(Target::Line, source);
    let settings = Opsgenie {
        tags: Some(line("a, {{ common_labels.service }},,")),
        responders: vec![
            Responder {
                key: "name",
                value: line("ops, {{ common_labels.service }}"),
                kind: line("teams"),
            },
            Responder {
                key: "username",
                value: line("ann@example.org"),
                kind: line("user"),
            },
            Responder {
                key: "id",
                value: line("{{ common_labels.nobody }}"),
                kind: line("user"),
            },
        ],
        update_alerts: true,
        ..opsgenie(&hook)
    };
    let rig = told(Integration::Opsgenie(Box::new(settings)));
    let create = sent(&mut hook, &rig, firing()).await;
    assert_eq!(create.header("authorization"), "GenieKey KEY");
    assert_eq!(
        (create.method.clone(), &*create.path),
        (Method::POST, "/hook/v2/alerts")
    );
    let body = create.json();
    assert_eq!(body["alias"], HASH);
    insta::assert_json_snapshot!("opsgenie", body);
    let message = hook.next().await;
    let path = format!("/hook/v2/alerts/{}", HASH);
    assert_eq!(message.method, Method::PUT);
    assert_eq!(message.path, format!("{path}/message?identifierType=alias"));
    assert_eq!(message.json(), json!({"message": body["message"]}));
    let description = hook.next().await;
    assert_eq!(
        description.path,
        format!("{path}/description?identifierType=alias")
    );
    let close = sent(&mut hook, &rig, resolved()).await;
    assert_eq!(close.method, Method::POST);
    assert_eq!(close.path, format!("{path}/close?identifierType=alias"));
    rig.until("oncall", "delivered", 2).await;
}

fn teams(hook: &Hook, card: Card) -> Teams {
    Teams {
        endpoint: endpoint(hook),
        card,
        title: None,
        summary: None,
        text: None,
    }
}

#[tokio::test]
async fn teams_gets_a_card_in_which_values_are_no_markup() {
    let mut hook = Hook::answering(&[202]).await;
    let rig = told(Integration::Teams(Box::new(teams(&hook, Card::Adaptive))));
    insta::assert_json_snapshot!(
        "teams_adaptive_card",
        sent(&mut hook, &rig, firing()).await.json()
    );
    let rig = told(Integration::Teams(Box::new(teams(&hook, Card::Message))));
    insta::assert_json_snapshot!(
        "teams_message_card",
        sent(&mut hook, &rig, resolved()).await.json()
    );
}

#[tokio::test]
async fn another_alertmanager_gets_the_alerts_with_an_end() {
    let mut hook = Hook::answering(&[200]).await;
    let rig = told(Integration::Alertmanager(Box::new(Alertmanager {
        endpoint: endpoint(&hook),
        resolve_timeout: Duration::from_secs(3600),
    })));
    let mut both = firing();
    both.alerts
        .push(Arc::new(alert("Other", AlertState::Resolved)));
    let seen = sent(&mut hook, &rig, both).await;
    assert_eq!(seen.path, "/hook/api/v2/alerts");
    let alerts = seen.json();
    assert_eq!(alerts[0]["labels"]["alertname"], "LatencyDeviation");
    let end = |alert: &Value| Timestamp::parse_rfc3339(alert["endsAt"].as_str().unwrap()).unwrap();
    let decided = NOW.minus(Duration::from_secs(2));
    assert_eq!(end(&alerts[0]), decided.plus(Duration::from_secs(3600)));
    assert_eq!(end(&alerts[1]), NOW);
    assert_eq!(
        alerts[0]["generatorURL"],
        "http://tidewatch.example/#9f0c-p99"
    );
}

#[tokio::test]
async fn a_webhook_may_have_a_body_of_its_own() {
    let mut hook = Hook::answering(&[200]).await;
    let plain = |source: &str| Tree::Text(text(Target::Plain, source));
    let tree = Tree::Map(vec![
        (
            "text".into(),
            plain("{{ status }}: {{ common_labels.team }}"),
        ),
        ("count".into(), plain("{{ alerts | length }}")),
        (
            "names".into(),
            plain("{{ alerts | map(attribute='name') | list }}"),
        ),
        ("labels".into(), plain("{{ common_labels }}")),
        ("at".into(), plain("{{ alerts[0].starts_at }}")),
        (
            "fixed".into(),
            Tree::List(vec![Tree::Value(json!(1)), plain("x")]),
        ),
    ]);
    let webhook = Webhook::at(endpoint(&hook)).payload(Payload::Tree(tree));
    let rig = told(Integration::Webhook(Box::new(webhook)));
    let body = sent(&mut hook, &rig, firing()).await.json();
    assert_eq!(
        body["text"],
        "firing: <http://evil|pay> & [pay](http://evil) *\"x\"\u{7}"
    );
    assert_eq!(body["count"], 1);
    assert_eq!(body["names"], json!(["LatencyDeviation"]));
    assert_eq!(body["labels"]["service"], "checkout");
    assert_eq!(body["at"], "2023-11-14T22:12:50+00:00");
    assert_eq!(body["fixed"], json!([1, "x"]));

    let whole = text(
        Target::Json,
        r#"{"team": {{ common_labels.team }}, "n": {{ alerts | length }}}"#,
    );
    let webhook = Webhook::at(endpoint(&hook)).payload(Payload::Whole(whole));
    let rig = told(Integration::Webhook(Box::new(webhook)));
    let body = sent(&mut hook, &rig, firing()).await.json();
    assert_eq!(body["n"], 1);
    assert!(body["team"].as_str().unwrap().contains("*\"x\""));

    // What yields no JSON is replaced by Alertmanager's body.
    let broken = text(Target::Json, r#"{"team": {{ common_labels.team | safe }}}"#);
    let webhook = Webhook::at(endpoint(&hook)).payload(Payload::Whole(broken));
    let rig = told(Integration::Webhook(Box::new(webhook)));
    let body = sent(&mut hook, &rig, firing()).await.json();
    assert_eq!(body["version"], "4");
    let errors = rig
        .telemetry
        .template_errors
        .with_label_values(&["oncall", "webhook"]);
    assert_eq!(errors.get(), 1);
}

#[tokio::test]
async fn a_webhook_lists_no_more_alerts_than_it_shall() {
    let mut hook = Hook::answering(&[200]).await;
    let webhook = Webhook::at(endpoint(&hook)).max_alerts(2);
    let rig = told(Integration::Webhook(Box::new(webhook)));
    let mut many = firing();
    for name in ["A", "B", "C"] {
        many.alerts.push(Arc::new(alert(name, AlertState::Firing)));
    }
    many.truncated = 5;
    let body = sent(&mut hook, &rig, many).await.json();
    assert_eq!(body["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(body["truncatedAlerts"], 7);
}

#[tokio::test]
async fn a_file_gets_a_line_a_notification() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.log");
    let file = LogFile {
        path: path.clone(),
        text: None,
        max_bytes: 1 << 20,
        resolved: Resolved::Send,
        zone: jiff::tz::TimeZone::UTC,
        lock: Arc::default(),
    };
    let rig = told(Integration::File(Box::new(file.clone())));
    let id = rig.send(firing());
    rig.until("oncall", "delivered", 1).await;
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let template = "{{ alerts[0].starts_at }} {{ time | date('%H:%M %Z') }} {{ time | date('%H:%M', 'Asia/Tokyo') }} {{ common_annotations.explanation }}";
    let own = LogFile {
        text: Some(text(Target::Line, template)),
        zone,
        ..file
    };
    let rig = told(Integration::File(Box::new(own)));
    rig.send(firing());
    rig.until("oncall", "delivered", 1).await;
    let written = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = written.lines().collect();
    let line: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((&line["id"], &line["version"]), (&json!(*id), &json!("4")));
    assert_eq!(
        lines[1..],
        ["2023-11-14T23:12:50+01:00 23:13 CET 07:13 p99 is <b>3</b> times its usual. Since 12:00."]
    );
}

#[tokio::test]
async fn rate_limits_of_every_integration_are_heard() {
    let hook = saying(429, &[("x-ratelimit-reset", "30")], "slow down").await;
    let integrations = [
        Integration::Webhook(Box::new(Webhook::at(endpoint(&hook)))),
        Integration::Slack(Box::new(slack(&hook))),
        Integration::PagerDuty(Box::new(pagerduty(&hook))),
        Integration::Opsgenie(Box::new(opsgenie(&hook))),
        Integration::Teams(Box::new(teams(&hook, Card::Adaptive))),
    ];
    let context = super::context();
    for integration in integrations {
        let message = crate::notify::Message::Alerts(Arc::new(firing()));
        let prepared = integration.prepare(&context, "oncall", &message).unwrap();
        let answer = integration.attempt(&context, "msg_1", &prepared, NOW).await;
        let after = Some(Duration::from_secs(30));
        let expected = crate::notify::AttemptError::Limited {
            after,
            reason: "it answered 429 Too Many Requests: slow down".into(),
        };
        assert_eq!(answer, Err(expected), "{}", integration.kind());
    }
}

#[test]
fn names_show_no_secrets() {
    let address = Address::parse("https://hooks.slack.example/services/T0/hunter2").unwrap();
    let endpoint = Endpoint::new(address);
    let shown = format!("{endpoint:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
