use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::expose::fakes::{Answer, NOW, Site};
use crate::model::{
    Fingerprint, Instruction, Level, ModeReason, ModeState, Override, Priority, Timestamp,
};
use crate::publish::ModesView;

fn normal(service: &str) -> ModeState {
    ModeState {
        service: service.into(),
        mode: "normal".into(),
        level: Level(0),
        since: NOW,
        why: Vec::new(),
        instruction: Instruction::default(),
        manual: None,
        lease_expires_at: NOW.plus(std::time::Duration::from_secs(30)),
        sequence: 0,
        episode: None,
    }
}

fn degraded(service: &str) -> ModeState {
    let features = [
        ("recommendations", json!(false)),
        ("max_steps", json!(1)),
        ("ratio", json!(0.5)),
        ("model", json!("small")),
        ("plan", json!({"a": [1, "b"]})),
        ("regions", json!(["eu"])),
        ("unset", Value::Null),
    ];
    ModeState {
        mode: "degraded".into(),
        level: Level(1),
        why: vec![ModeReason {
            policy: "slow".into(),
            fingerprint: Fingerprint(7),
            alertname: "Slow".into(),
            explanation: "it is slow".into(),
        }],
        instruction: Instruction {
            features: features.map(|(name, value)| (name.into(), value)).into(),
            priority_floor: Priority::High,
            quality: Some("reduced".into()),
            shed: 0.25,
        },
        sequence: 9,
        ..normal(service)
    }
}

/// Ready, with `cart` (normal) and `pay` (degraded); `beta` is known and nowhere in force.
fn site() -> Site {
    let site = Site::new();
    publish(&site, [normal("cart"), degraded("pay")]);
    site.board.set_ready(None);
    site
}

fn publish<const N: usize>(site: &Site, modes: [ModeState; N]) {
    let known = ["beta", "recommendations"].map(|name| (name.into(), vec!["policy slow".into()]));
    site.board.set_modes(ModesView {
        services: modes.map(|mode| (mode.service.clone(), mode)).into(),
        known_features: Arc::new(BTreeMap::from(known)),
        ..ModesView::default()
    });
}

async fn post(site: &Site, path: &str, tag: Option<&str>, body: &str) -> Answer {
    let mut request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json; charset=utf-8");
    if let Some(tag) = tag {
        request = request.header("if-none-match", tag);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    site.ask(request).await
}

/// What `service` gets for one flag.
async fn flag(site: &Site, service: &str, key: &str) -> Value {
    let body = json!({"context": {"targetingKey": service}}).to_string();
    let path = format!("/ofrep/v1/evaluate/flags/{key}");
    let answer = post(site, &path, None, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn bulk(site: &Site, service: &str) -> (String, Value) {
    let body = json!({"context": {"targetingKey": service}}).to_string();
    let answer = post(site, "/ofrep/v1/evaluate/flags", None, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    (tag, answer.json())
}

#[tokio::test]
async fn modes_and_features_are_flags_with_their_types() {
    let site = site();
    for (key, value) in [
        ("tidewatch.mode", json!("degraded")),
        ("tidewatch.level", json!(1)),
        ("tidewatch.priority_floor", json!("high")),
        ("tidewatch.quality", json!("reduced")),
        ("tidewatch.shed", json!(0.25)),
        ("recommendations", json!(false)),
        ("max_steps", json!(1)),
        ("ratio", json!(0.5)),
        ("model", json!("small")),
        ("plan", json!({"a": [1, "b"]})),
        ("regions", json!(["eu"])),
    ] {
        let flag = flag(&site, "pay", key).await;
        assert_eq!(flag["key"], key);
        assert_eq!(flag["value"], value, "{key}");
        assert_eq!(flag["reason"], "TARGETING_MATCH", "{key}");
        assert_eq!(flag["variant"], "degraded", "{key}");
    }
    let metadata = flag(&site, "pay", "model").await["metadata"].take();
    let expected = json!({
        "service": "pay", "mode": "degraded", "level": 1, "since": NOW.to_string(), "sequence": 9,
        "override": false, "cause": "Slow by policy slow: it is slow",
    });
    assert_eq!(metadata, expected);
    for (key, value) in [
        ("tidewatch.mode", json!("normal")),
        ("tidewatch.level", json!(0)),
        ("tidewatch.priority_floor", json!("low")),
        ("tidewatch.shed", json!(0.0)),
    ] {
        assert_eq!(flag(&site, "cart", key).await["value"], value, "{key}");
    }
    let body = r#"{"context": {"targetingKey": "cart"}}"#;
    let shed = post(&site, "/ofrep/v1/evaluate/flags/tidewatch.shed", None, body).await;
    assert!(shed.text().contains("\"value\":0.0,"), "{}", shed.text());
}

#[tokio::test]
async fn what_is_not_in_force_is_left_to_the_code() {
    let site = site();
    for (service, key, reason) in [
        ("pay", "beta", "DISABLED"),
        ("pay", "unset", "DISABLED"),
        ("cart", "recommendations", "DISABLED"),
        ("cart", "tidewatch.quality", "DISABLED"),
        ("nobody", "recommendations", "UNKNOWN"),
        ("nobody", "tidewatch.mode", "UNKNOWN"),
    ] {
        let flag = flag(&site, service, key).await;
        assert_eq!(flag.get("value"), None, "{service} {key}");
        assert_eq!(flag["reason"], reason, "{service} {key}");
        assert_eq!(flag["variant"], "code-default", "{service} {key}");
        let detail = flag["metadata"]["detail"].as_str().unwrap();
        assert!(detail.ends_with("the code's default holds"), "{detail}");
    }
    let beta = flag(&site, "cart", "beta").await;
    assert_eq!(beta["metadata"]["set_by"], "policy slow");
}

#[tokio::test]
async fn an_instruction_that_nobody_renews_ends() {
    let site = site();
    let mut lapsed = degraded("pay");
    lapsed.lease_expires_at = NOW;
    publish(&site, [lapsed]);
    for key in ["tidewatch.mode", "recommendations"] {
        let flag = flag(&site, "pay", key).await;
        assert_eq!(flag.get("value"), None, "{key}");
        assert_eq!(flag["reason"], "UNKNOWN", "{key}");
    }
}

#[tokio::test]
async fn before_services_are_known_nothing_is_concluded() {
    let site = site();
    site.board.set_ready(Some("starting".into()));
    let body = r#"{"context": {"targetingKey": "nobody"}}"#;
    let answer = post(&site, "/ofrep/v1/evaluate/flags/tidewatch.mode", None, body).await;
    assert_eq!(answer.status, 500);
    let expected = json!({
        "key": "tidewatch.mode", "errorCode": "GENERAL", "errorDetails": "not ready: starting",
    });
    assert_eq!(answer.json(), expected);
    let answer = post(&site, "/ofrep/v1/evaluate/flags", None, body).await;
    assert_eq!(answer.status, 500);
    // What is known is told all the same.
    let flag = flag(&site, "pay", "tidewatch.mode").await;
    assert_eq!(flag["value"], "degraded");
}

#[tokio::test]
async fn all_flags_at_once_change_their_tag_with_the_mode_alone() {
    let site = site();
    let (tag, pay) = bulk(&site, "pay").await;
    let keys: Vec<_> = pay["flags"].as_array().unwrap().iter().collect();
    let keys: Vec<_> = keys
        .iter()
        .map(|flag| flag["key"].as_str().unwrap())
        .collect();
    let expected = [
        "beta",
        "max_steps",
        "model",
        "plan",
        "ratio",
        "recommendations",
        "regions",
        "tidewatch.level",
        "tidewatch.mode",
        "tidewatch.priority_floor",
        "tidewatch.quality",
        "tidewatch.shed",
        "unset",
    ];
    assert_eq!(keys, expected);
    assert_eq!(pay["metadata"]["sequence"], 9);
    let (cart_tag, _) = bulk(&site, "cart").await;
    assert_ne!(tag, cart_tag);

    let body = r#"{"context": {"targetingKey": "pay"}}"#;
    let path = "/ofrep/v1/evaluate/flags";
    let bare = tag.trim_start_matches("W/").trim_matches('"');
    for known in [tag.as_str(), bare, &format!("\"x\", \"{bare}\""), "*"] {
        let answer = post(&site, path, Some(known), body).await;
        assert_eq!(answer.status, 304, "{known}");
        assert_eq!(answer.body, b"", "{known}");
        assert_eq!(answer.headers["etag"], tag.as_str());
    }
    // A renewed lease is no change.
    let mut renewed = degraded("pay");
    renewed.lease_expires_at = Timestamp::from_secs(4_000_000_000);
    publish(&site, [renewed.clone()]);
    assert_eq!(post(&site, path, Some(&tag), body).await.status, 304);
    renewed.manual = Some(Override {
        mode: "degraded".into(),
        author: "ann".into(),
        reason: "sale".into(),
        set_at: NOW,
        expires_at: Some(Timestamp::from_secs(4_000_000_000)),
    });
    publish(&site, [renewed]);
    let answer = post(&site, path, Some(&tag), body).await;
    assert_eq!(answer.status, 200);
    let metadata = &answer.json()["metadata"];
    assert_eq!(metadata["cause"], "set by ann: sale");
    assert_eq!(metadata["override"], true);
    assert_eq!(metadata["until"], "2096-10-02T07:06:40Z");
}

#[tokio::test]
async fn the_context_names_the_service() {
    let site = site();
    for context in [
        json!({"targetingKey": "pay"}),
        json!({"targetingKey": "user-7", "service": "pay"}),
        json!({"targetingKey": "user-7", "service": {"name": "pay"}}),
        json!({"service.name": "pay", "service": "cart", "targetingKey": "cart"}),
        json!({"service.name": "pay"}),
        json!({"service.name": null, "targetingKey": "pay"}),
        json!({"service.name": null, "service": "pay", "targetingKey": "cart"}),
        json!({"service": null, "targetingKey": "pay"}),
        json!({"service": {"name": null}, "targetingKey": "pay"}),
    ] {
        let body = json!({"context": context}).to_string();
        let answer = post(
            &site,
            "/ofrep/v1/evaluate/flags/tidewatch.mode",
            None,
            &body,
        )
        .await;
        assert_eq!(answer.json()["value"], "degraded", "{context}");
    }
}

#[tokio::test]
async fn mistakes_are_named_as_the_protocol_names_them() {
    let site = site();
    for (body, code) in [
        ("", "PARSE_ERROR"),
        ("{", "PARSE_ERROR"),
        ("{}", "INVALID_CONTEXT"),
        ("[]", "INVALID_CONTEXT"),
        (r#"{"context": null}"#, "INVALID_CONTEXT"),
        (r#"{"context": "pay"}"#, "INVALID_CONTEXT"),
        (r#"{"context": {}}"#, "TARGETING_KEY_MISSING"),
        (r#"{"context": {"user": "x"}}"#, "TARGETING_KEY_MISSING"),
        (r#"{"context": {"targetingKey": 7}}"#, "INVALID_CONTEXT"),
        (r#"{"context": {"targetingKey": ""}}"#, "INVALID_CONTEXT"),
        (
            r#"{"context": {"service.name": 7, "targetingKey": "pay"}}"#,
            "INVALID_CONTEXT",
        ),
        (
            r#"{"context": {"service": null, "targetingKey": null}}"#,
            "TARGETING_KEY_MISSING",
        ),
    ] {
        let one = post(&site, "/ofrep/v1/evaluate/flags/a/b%20c", None, body).await;
        assert_eq!(one.status, 400, "{body}");
        let one = one.json();
        assert_eq!(one["errorCode"], code, "{body}");
        assert_eq!(one["key"], "a/b c", "{body}");
        assert!(one["errorDetails"].is_string(), "{body}");
        let all = post(&site, "/ofrep/v1/evaluate/flags", None, body).await;
        assert_eq!(all.status, 400, "{body}");
        let all = all.json();
        assert_eq!(all["errorCode"], code, "{body}");
        assert_eq!(all.get("key"), None, "{body}");
    }
    let body = r#"{"context": {"targetingKey": "pay"}}"#;
    for key in ["nonsense", "tidewatch.nonsense"] {
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        let answer = post(&site, &path, None, body).await;
        assert_eq!(answer.status, 404);
        let answer = answer.json();
        assert_eq!(
            (&answer["key"], &answer["errorCode"]),
            (&key.into(), &"FLAG_NOT_FOUND".into())
        );
    }
    let large = format!(
        r#"{{"context": {{"targetingKey": "{}"}}}}"#,
        "x".repeat(70_000)
    );
    let answer = post(&site, "/ofrep/v1/evaluate/flags/beta", None, &large).await;
    assert_eq!(answer.status, 413);
    let long = format!(
        r#"{{"context": {{"targetingKey": "{}"}}}}"#,
        "x".repeat(3_000)
    );
    let answer = post(&site, "/ofrep/v1/evaluate/flags/beta", None, &long).await;
    assert_eq!(answer.json()["errorCode"], "INVALID_CONTEXT");
}

proptest::proptest! {
    /// Whatever comes as a body has an answer of the protocol's shape.
    #[test]
    fn any_body_has_an_answer(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        if let Err(failure) = super::context::read(&body) {
            assert!(!failure.details.is_empty());
        }
    }
}
