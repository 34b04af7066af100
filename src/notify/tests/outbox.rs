//! What outlives a daemon.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Disk, Hook, NOW, PATIENCE, notification, patiently, receiver, rig_with};
use crate::notify::{LOG, Settings};

/// Retries so late that none is seen.
fn patient(settings: &mut Settings) {
    settings.retry.initial = PATIENCE;
    settings.retry.max = PATIENCE;
    settings.retry.keep = 10 * PATIENCE;
    settings.retry.max_elapsed = 10 * PATIENCE;
}

#[tokio::test]
async fn what_is_delivered_leaves_the_outbox() {
    let mut hook = Hook::answering(&[200]).await;
    let disk = Arc::<Disk>::default();
    let rig = rig_with([receiver("oncall", [hook.webhook()])], disk.kept(), |_| {});
    let parcel = rig.notifier.pack([notification("oncall", "g")]);
    assert_eq!(parcel.len(), 1);
    disk.write(parcel.changes());
    assert_eq!(disk.keys().len(), 1, "one entry before anything is sent");
    let id = rig.deliver(parcel);
    assert_eq!(hook.next().await.header("webhook-id"), &*id);
    disk.until(<[String]>::is_empty).await;
    assert_eq!(rig.telemetry.outbox_messages.get(), 0);
    assert_eq!(rig.telemetry.outbox_bytes.get(), 0);
}

#[tokio::test]
async fn a_crash_before_the_first_attempt_loses_nothing() {
    let mut hook = Hook::answering(&[200]).await;
    let disk = Arc::<Disk>::default();
    let receivers = || [receiver("oncall", [hook.webhook()])];
    let before = rig_with(receivers(), disk.kept(), |_| {});
    let parcel = before.notifier.pack((0..30).map(|n| {
        let group = (n % 3).to_string();
        notification("oncall", &group)
    }));
    disk.write(parcel.changes());
    let ids: Vec<_> = parcel.messages.iter().map(|m| Arc::clone(&m.id)).collect();
    drop((parcel, before));

    let after = rig_with(receivers(), disk.kept(), |_| {});
    assert_eq!(after.warnings, [""; 0]);
    let mut seen = Vec::new();
    for _ in &ids {
        seen.push(hook.next().await.header("webhook-id").to_owned());
    }
    for group in 0..3 {
        let of_group = |(at, _): &(usize, _)| at % 3 == group;
        let decided = ids.iter().enumerate().filter(of_group);
        let decided: Vec<&str> = decided.map(|(_, id)| &**id).collect();
        let order = seen.iter().map(String::as_str);
        let order: Vec<&str> = order.filter(|id| decided.contains(id)).collect();
        assert_eq!(order, decided, "in the order in which they were decided");
    }
    disk.until(<[String]>::is_empty).await;
    assert_eq!(after.first("oncall").statistics.resumed, 30);
}

#[tokio::test]
async fn retries_go_on_after_a_restart_where_they_were() {
    let mut hook = Hook::answering(&[500, 500, 200]).await;
    let disk = Arc::<Disk>::default();
    let receivers = || [receiver("oncall", [hook.webhook()])];
    let before = rig_with(receivers(), disk.kept(), |s| {
        patient(s);
        // The first retry is soon, so that there are two attempts to be remembered.
        s.retry.initial = Duration::from_millis(1);
    });
    let id = disk.send(&before, notification("oncall", "g"));
    before.until("oncall", "retried", 2).await;
    let state = format!("state/{id}");
    disk.until(|keys| keys.contains(&state)).await;
    disk.until(|_| String::from_utf8_lossy(&disk.entries()[&state]).contains("\"attempts\":2"))
        .await;
    let text = String::from_utf8_lossy(&disk.entries()[&state]).into_owned();
    assert!(
        text.contains("\"first_at\":\"2023-11-14T22:13:20Z\""),
        "{text}"
    );
    drop(before);

    let after = rig_with(receivers(), disk.kept(), patient);
    for _ in 0..3 {
        assert_eq!(hook.next().await.header("webhook-id"), &*id);
    }
    after.until("oncall", "recovered", 1).await;
    assert_eq!(after.counts("oncall"), [1, 0, 0, 0]);
    disk.until(<[String]>::is_empty).await;
}

#[tokio::test]
async fn a_deadline_that_passed_while_we_were_away_leaves_one_attempt() {
    let mut hook = Hook::answering(&[500]).await;
    let mut spare = Hook::answering(&[200]).await;
    let disk = Arc::<Disk>::default();
    let receivers = || {
        let mut oncall = receiver("oncall", [hook.webhook()]);
        oncall.fallback = Some("spare".into());
        [oncall, receiver("spare", [spare.webhook()])]
    };
    let before = rig_with(receivers(), disk.kept(), patient);
    let id = disk.send(&before, notification("oncall", "g"));
    before.until("oncall", "retried", 1).await;
    let state = format!("state/{id}");
    disk.until(|keys| keys.contains(&state)).await;
    drop(before);

    // The first attempt was made an hour ago.
    let mut kept = disk.kept();
    for value in kept.entries.values_mut() {
        let text = String::from_utf8(value.clone()).unwrap();
        let text = text.replace(
            "\"first_at\":\"2023-11-14T22",
            "\"first_at\":\"2023-11-14T21",
        );
        *value = text
            .replace("\"next_at\":\"2023-11-14T22", "\"next_at\":\"2023-11-14T21")
            .into();
    }
    let after = rig_with(receivers(), kept, patient);
    for _ in 0..2 {
        assert_eq!(hook.next().await.header("webhook-id"), &*id);
    }
    assert_eq!(spare.next().await.header("webhook-id"), &*id);
    disk.until(|keys| !keys.iter().any(|key| key.contains("msg_")))
        .await;
    assert_eq!(after.counts("oncall"), [0, 0, 0, 1]);
}

#[tokio::test]
async fn the_fallback_takes_over_in_one_change() {
    let hook = Hook::answering(&[404]).await;
    let mut hanging = Hook::hanging().await;
    let mut spare = Hook::answering(&[200]).await;
    let disk = Arc::<Disk>::default();
    let oncall = || {
        let mut oncall = receiver("oncall", [hook.webhook(), hook.webhook()]);
        oncall.fallback = Some("spare".into());
        oncall
    };
    let before = rig_with(
        [oncall(), receiver("spare", [hanging.webhook()])],
        disk.kept(),
        patient,
    );
    let id = disk.send(&before, notification("oncall", "g"));
    assert_eq!(hanging.next().await.header("webhook-id"), &*id);
    before.until("oncall", "fallen_back", 2).await;
    hanging.nothing_more();
    let state = format!("state/{id}");
    disk.until(|keys| keys.contains(&state)).await;
    disk.until(|_| {
        let text = String::from_utf8_lossy(&disk.entries()[&state]).into_owned();
        text.matches("failed").count() == 2 && text.matches("pending").count() == 1
    })
    .await;
    drop(before);

    let after = rig_with(
        [oncall(), receiver("spare", [spare.webhook()])],
        disk.kept(),
        patient,
    );
    let seen = spare.next().await;
    assert_eq!(seen.header("webhook-id"), &*id);
    after.until("spare", "delivered", 1).await;
    disk.until(|keys| !keys.iter().any(|key| key.contains("msg_")))
        .await;
    assert_eq!(
        after.counts("oncall"),
        [0, 0, 0, 0],
        "it has given up on it"
    );
}

#[tokio::test]
async fn a_disk_that_fails_stops_no_delivery() {
    let mut hook = Hook::answering(&[500, 200]).await;
    let disk = Arc::<Disk>::default();
    let rig = rig_with([receiver("oncall", [hook.webhook()])], disk.kept(), |_| {});
    disk.fails.store(true, Ordering::SeqCst);
    rig.send(notification("oncall", "g"));
    for _ in 0..2 {
        hook.next().await;
    }
    rig.until("oncall", "delivered", 1).await;
    patiently(async {
        while rig.telemetry.outbox_durable.get() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    disk.fails.store(false, Ordering::SeqCst);
    assert_eq!(patiently(rig.notifier.finish()).await, 0);
    assert_eq!(
        rig.telemetry.outbox_durable.get(),
        1,
        "the last word is written"
    );
    assert_eq!(disk.keys(), [""; 0]);
}

#[tokio::test]
async fn what_the_configuration_no_longer_has_is_not_lost() {
    let dead = Hook::hanging().await;
    let disk = Arc::<Disk>::default();
    let before = rig_with(
        [
            receiver("gone", [dead.webhook()]),
            receiver("changed", [dead.webhook(), dead.webhook()]),
        ],
        disk.kept(),
        patient,
    );
    disk.send(&before, notification("gone", "g"));
    let changed = disk.send(&before, notification("changed", "g"));
    drop(before);
    disk.write([
        ("message/damaged".into(), Some(b"{".to_vec())),
        (
            "state/nobody".into(),
            Some(b"{\"version\":1,\"legs\":[]}".to_vec()),
        ),
        ("integration/webhook[0]/gone".into(), Some(b"x".to_vec())),
        ("other".into(), Some(Vec::new())),
    ]);

    let mut hook = Hook::answering(&[200]).await;
    let after = rig_with(
        [receiver("changed", [hook.webhook()])],
        disk.kept(),
        patient,
    );
    assert_eq!(hook.next().await.header("webhook-id"), &*changed);
    after.until(LOG, "delivered", 1).await;
    disk.until(<[String]>::is_empty).await;
    let warnings = after.warnings.join("\n");
    for part in ["message/damaged", "other", "`gone`", "goes to the log"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert_eq!(after.warnings.len(), 3, "{warnings}");
}

#[tokio::test]
async fn the_breaker_survives_a_restart() {
    let mut hook = Hook::answering(&[500, 500, 500, 500, 500, 200]).await;
    let disk = Arc::<Disk>::default();
    let receivers = || [receiver("oncall", [hook.webhook()])];
    let before = rig_with(receivers(), disk.kept(), |_| {});
    let id = disk.send(&before, notification("oncall", "g"));
    before
        .until_first("oncall", |view| view.breaker.state == "open")
        .await;
    disk.until(|keys| keys.contains(&"integration/webhook[0]/oncall".into()))
        .await;
    drop(before);

    let after = rig_with(receivers(), disk.kept(), |_| {});
    let view = after.first("oncall");
    assert_eq!((view.breaker.state, view.breaker.since), ("open", NOW));
    assert_eq!(
        view.trouble.unwrap().reason,
        "it answered 500 Internal Server Error"
    );
    let state = &after.telemetry.breaker_state;
    assert_eq!(state.with_label_values(&["oncall", "webhook[0]"]).get(), 2);
    for _ in 0..5 {
        assert_eq!(hook.next().await.header("webhook-id"), &*id);
    }
    hook.nothing_more();
    after.clock.set(NOW.plus(Duration::from_secs(60)));
    assert_eq!(hook.next().await.header("webhook-id"), &*id);
    after.until("oncall", "recovered", 1).await;
    let view = after.first("oncall");
    assert_eq!(view.breaker.state, "half-open", "two successes close it");
    disk.send(&after, notification("oncall", "g"));
    after
        .until_first("oncall", |view| view.breaker.state == "closed")
        .await;
    assert!(!after.view("oncall").failing);
    disk.until(<[String]>::is_empty).await;
}
