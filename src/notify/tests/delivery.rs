//! What receivers get, in which order, and what becomes of the rest.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Disk, Hook, NOW, PATIENCE, alert, answer, mode_change, notification, patiently, receiver, rig,
    rig_with,
};
use crate::clock::Clock;
use crate::dispatch::{Reason, Status};
use crate::model::AlertState;
use crate::notify::{Kept, LOG, Notifier, Resolved, Secret, Settings, Webhook};
use crate::telemetry::Telemetry;

#[tokio::test]
async fn a_webhook_gets_what_alertmanager_would_send() {
    let mut hook = Hook::answering(&[200]).await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
    let mut sent = notification("oncall", "{}:{service=\"checkout\"}");
    let over = alert("ErrorRatio", AlertState::Resolved);
    sent.alerts.push(Arc::new(over.clone()));
    sent.truncated = 3;
    let id = rig.send(sent);

    let seen = hook.next().await;
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("webhook-id"), &*id);
    assert_eq!(seen.header("webhook-timestamp"), "1700000000");
    assert!(!seen.headers.contains_key("webhook-signature"));
    let firing = alert("LatencyDeviation", AlertState::Firing);
    let annotations = json!({"sigma": "6.1", "summary": "checkout is slow"});
    let expected = json!({
        "version": "4",
        "groupKey": "{}:{service=\"checkout\"}",
        "truncatedAlerts": 3,
        "status": "firing",
        "receiver": "oncall",
        "groupLabels": {"service": "checkout"},
        "commonLabels": {"alertname": "LatencyDeviation", "service": "checkout"},
        "commonAnnotations": annotations,
        "externalURL": "http://tidewatch.example",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "LatencyDeviation", "service": "checkout"},
                "annotations": annotations,
                "startsAt": "2023-11-14T22:12:50Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://tidewatch.example/#9f0c-p99",
                "fingerprint": firing.fingerprint.to_string(),
            },
            {
                "status": "resolved",
                "labels": {"alertname": "ErrorRatio", "service": "checkout"},
                "annotations": annotations,
                "startsAt": "2023-11-14T22:12:50Z",
                "endsAt": "2023-11-14T22:13:20Z",
                "generatorURL": "http://tidewatch.example/#9f0c-p99",
                "fingerprint": over.fingerprint.to_string(),
            },
        ],
    });
    assert_eq!(seen.json(), expected);
    rig.until("oncall", "delivered", 1).await;
    let latency = rig
        .telemetry
        .notification_latency
        .with_label_values(&["oncall"]);
    assert_eq!(latency.get_sample_count(), 1);
    assert!(
        (latency.get_sample_sum() - 2.0).abs() < 1e-9,
        "from the decision, by the clock"
    );
}

#[tokio::test]
async fn a_mode_change_is_an_event_and_signed() {
    let mut hook = Hook::answering(&[204]).await;
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let webhook = hook.webhook().signed(secret.clone());
    let webhook = webhook.header("Authorization", "Bearer t0ken").unwrap();
    let rig = rig([receiver("oncall", [webhook])], |_| {});
    let id = rig.send_mode("oncall");

    let seen = hook.next().await;
    assert_eq!(seen.header("authorization"), "Bearer t0ken");
    let signature = secret.sign(&id, NOW, &seen.body);
    assert_eq!(seen.header("webhook-signature"), signature);
    let expected = json!({
        "type": "mode.changed",
        "timestamp": "2023-11-14T22:13:20Z",
        "data": serde_json::to_value(mode_change()).unwrap(),
    });
    assert_eq!(seen.json(), expected);
    assert_eq!(seen.json()["data"]["state"]["mode"], "degraded");
}

#[tokio::test]
async fn failures_are_retried_under_one_id() {
    let mut hook = Hook::answering(&[500, 429, 408, 503, 200]).await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
    let id = rig.send(notification("oncall", "g"));
    let mut bodies = Vec::new();
    for _ in 0..5 {
        let seen = hook.next().await;
        assert_eq!(seen.header("webhook-id"), &*id);
        bodies.push(seen.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    rig.until("oncall", "delivered", 1).await;
    assert_eq!(rig.counts("oncall"), [1, 4, 0, 0]);
}

#[tokio::test]
async fn what_is_final_is_not_retried() {
    for statuses in [&[400], &[401], &[404], &[413], &[422]] {
        let mut hook = Hook::answering(statuses).await;
        let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
        rig.send(notification("oncall", "g"));
        hook.next().await;
        rig.until("oncall", "failed", 1).await;
        assert_eq!(rig.counts("oncall"), [0, 0, 1, 0], "{statuses:?}");
        hook.nothing_more();
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut target = Hook::answering(&[200]).await;
    let address = target.address;
    for status in [301, 302, 307, 308] {
        let hook = Hook::start(Arc::new(move |_| {
            let location = format!("http://{address}/");
            let response = Response::builder()
                .status(status)
                .header("location", location);
            let response = response.body(Body::empty()).unwrap();
            Box::pin(async move { response })
        }))
        .await;
        let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
        rig.send(notification("oncall", "g"));
        rig.until("oncall", "failed", 1).await;
        target.nothing_more();
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone_until_reload() {
    let mut hook = Hook::answering(&[410, 200]).await;
    let mut spare = Hook::answering(&[200]).await;
    let mut oncall = receiver("oncall", [hook.webhook()]);
    oncall.fallback = Some("spare".into());
    let rig = rig([oncall, receiver("spare", [spare.webhook()])], |_| {});
    rig.send(notification("oncall", "g"));
    hook.next().await;
    spare.next().await;
    let view = rig.first("oncall");
    assert_eq!(view.gone.as_deref(), Some("it answered 410 Gone"));
    assert!(!view.target.contains("token"), "{view:?}");
    assert!(rig.view("oncall").failing);

    let id = rig.send(notification("oncall", "g"));
    let seen = spare.next().await;
    assert_eq!(seen.header("webhook-id"), &*id);
    assert_eq!(seen.json()["receiver"], "spare");
    hook.nothing_more();
    assert_eq!(rig.counts("oncall"), [0, 0, 0, 2]);
}

#[tokio::test]
async fn what_cannot_be_delivered_goes_to_the_fallback() {
    let hook = Hook::answering(&[500]).await;
    let mut oncall = receiver("oncall", [hook.webhook()]);
    oncall.fallback = Some(LOG.into());
    let rig = rig([oncall], |s| {
        s.retry.max_elapsed = Duration::from_millis(20)
    });
    rig.send(notification("oncall", "g"));
    rig.until(LOG, "delivered", 1).await;
    assert_eq!(rig.count("oncall", "fallen_back"), 1);
    assert!(rig.count("oncall", "retried") > 0);
}

#[tokio::test]
async fn fallbacks_in_a_circle_come_to_an_end() {
    let hook = Hook::answering(&[404]).await;
    let mut a = receiver("a", [hook.webhook()]);
    a.fallback = Some("b".into());
    let mut b = receiver("b", [hook.webhook()]);
    b.fallback = Some("a".into());
    let rig = rig([a, b], |_| {});
    rig.send(notification("a", "g"));
    rig.until("b", "failed", 1).await;
    assert_eq!(patiently(rig.notifier.finish()).await, 0);
    assert_eq!(rig.counts("a"), [0, 0, 0, 1]);
    assert_eq!(rig.counts("b"), [0, 0, 1, 0]);
}

#[tokio::test]
async fn a_hanging_receiver_delays_nobody() {
    let hanging = Hook::hanging().await;
    let mut good = Hook::answering(&[200]).await;
    let slow = [hanging.webhook().timeout(PATIENCE)];
    let both = [hanging.webhook().timeout(PATIENCE), good.webhook()];
    let receivers = [
        receiver("slow", slow),
        receiver("both", both),
        receiver("good", [good.webhook()]),
    ];
    let rig = rig(receivers, |s| s.outbox.messages = 10);
    let mut taken = 0;
    while rig.notifier.room().take("slow") {
        rig.send(notification("slow", &taken.to_string()));
        taken += 1;
    }
    assert_eq!(taken, 10, "bounded, and the rest is better told later");
    // Not even an integration of the same receiver.
    for name in ["both", "good"] {
        rig.send(notification(name, "g"));
        assert_eq!(good.next().await.json()["receiver"], name);
    }
    assert_eq!(rig.counts("slow"), [0, 0, 0, 0]);
    assert_eq!(rig.first("slow").pending, 10);
}

#[tokio::test]
async fn a_retried_group_delays_no_other_and_keeps_its_order() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    // The first request waits, so that the second group and the first one's end queue up behind it.
    let mut hook = Hook::start(Arc::new(move |n| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            if n == 0 {
                gate.notified().await;
                return answer(503);
            }
            answer(200)
        })
    }))
    .await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
    let first = rig.send(notification("oncall", "one"));
    assert_eq!(hook.next().await.header("webhook-id"), &*first);
    let second = rig.send(notification("oncall", "one"));
    let other = rig.send(notification("oncall", "two"));
    assert_eq!(hook.next().await.header("webhook-id"), &*other);
    hook.nothing_more();
    release.notify_one();
    for expected in [&first, &second] {
        assert_eq!(hook.next().await.header("webhook-id"), &**expected);
    }
}

#[tokio::test]
async fn resolved_alerts_are_left_out_where_they_are_not_wanted() {
    let mut hook = Hook::answering(&[200]).await;
    let webhook = hook.webhook().resolved(Resolved::Omit);
    let rig = rig([receiver("oncall", [webhook])], |_| {});
    let over = Arc::new(alert("Over", AlertState::Resolved));
    let mut all_over = notification("oncall", "g");
    all_over.alerts = vec![Arc::clone(&over)];
    all_over.status = Status::Resolved;
    let mut some_over = notification("oncall", "g");
    some_over.alerts.push(over);
    let mut only_because = some_over.clone();
    only_because.reason = Reason::Resolved;
    rig.send(all_over);
    rig.send(only_because);
    rig.send(some_over);
    let alerts = hook.next().await.json()["alerts"].clone();
    assert_eq!(alerts.as_array().unwrap().len(), 1);
    assert_eq!(alerts[0]["status"], "firing");
    assert_eq!(patiently(rig.notifier.finish()).await, 0);
    hook.nothing_more();
    assert_eq!(rig.counts("oncall"), [1, 0, 0, 0]);
}

#[tokio::test]
async fn the_stop_makes_one_more_attempt_and_keeps_the_rest() {
    let mut hanging = Hook::hanging().await;
    let mut good = Hook::answering(&[200]).await;
    let dead = receiver("dead", [Webhook::new("http://127.0.0.1:1/").unwrap()]);
    let receivers = [
        receiver("hanging", [hanging.webhook()]),
        receiver("good", [good.webhook()]),
        dead,
    ];
    let disk = Arc::<Disk>::default();
    let rig = rig_with(receivers, disk.kept(), |s| {
        s.drain = Duration::from_millis(300);
        s.retry.initial = PATIENCE;
        s.retry.max = PATIENCE;
        s.retry.keep = 10 * PATIENCE;
    });
    let kept = [("hanging", "1"), ("hanging", "1"), ("dead", "1")]
        .map(|(receiver, group)| disk.send(&rig, notification(receiver, group)));
    hanging.next().await;
    rig.until("dead", "retried", 1).await;
    let delivered: Vec<_> = (0..20)
        .map(|_| disk.send(&rig, notification("good", "g")))
        .collect();

    rig.stop.cancel();
    assert_eq!(patiently(rig.notifier.finish()).await, 3);
    for id in delivered {
        assert_eq!(good.next().await.header("webhook-id"), &*id);
    }
    assert_eq!(rig.counts("hanging"), [0, 0, 0, 0]);
    assert_eq!(rig.counts("good"), [20, 0, 0, 0]);
    assert_eq!(rig.counts("dead"), [0, 2, 0, 0], "one more attempt");
    let keys = disk.keys();
    let messages = keys.iter().filter(|key| key.starts_with("message/"));
    assert_eq!(messages.count(), 3);
    for id in kept {
        assert!(disk.keys().contains(&format!("message/{id}")));
    }
}

#[tokio::test]
async fn an_unknown_receiver_loses_no_alert() {
    let rig = rig([], |_| {});
    rig.send(notification("nobody", "g"));
    rig.until(LOG, "delivered", 1).await;
    rig.send_mode(LOG);
    rig.until(LOG, "delivered", 2).await;
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    let start = |receivers| {
        let settings = Settings {
            receivers,
            ..Settings::default()
        };
        let stop = CancellationToken::new();
        Notifier::start(
            settings,
            Kept::default(),
            Telemetry::new(),
            Clock::System,
            &stop,
        )
    };
    let twice = start(vec![receiver("a", []), receiver("a", [])]);
    assert!(twice.unwrap_err().to_string().contains("two receivers"));
    let mut lost = receiver("a", []);
    lost.fallback = Some("b".into());
    let error = start(vec![lost]).unwrap_err().to_string();
    assert!(error.contains("`b` does not exist"), "{error}");
}

#[tokio::test]
async fn metrics_begin_at_zero() {
    let rig = rig([receiver("oncall", [])], |_| {});
    let families = rig.telemetry.registry.gather();
    let family = families
        .iter()
        .find(|f| f.name() == "tidewatch_notifications_total")
        .unwrap();
    assert_eq!(family.get_metric().len(), 2 * 7);
}
