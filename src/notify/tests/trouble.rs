//! Receivers in trouble: breakers, fallbacks, limits, and those that must not suffer from it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;

use super::{Hook, NOW, PATIENCE, answer, notification, receiver, rig};
use crate::notify::{LOG, Receiver};

fn with_fallback(mut receiver: Receiver, fallback: &str) -> Receiver {
    receiver.fallback = Some(fallback.into());
    receiver
}

/// `oncall`, which falls back to `spare`.
fn pair(oncall: &Hook, spare: &Hook) -> [Receiver; 2] {
    [
        with_fallback(receiver("oncall", [oncall.webhook()]), "spare"),
        receiver("spare", [spare.webhook()]),
    ]
}

#[tokio::test]
async fn an_open_breaker_sends_everything_to_the_fallback_at_once() {
    let mut hook = Hook::answering(&[503, 503, 503, 503, 503, 200]).await;
    let mut spare = Hook::answering(&[200]).await;
    let rig = rig(pair(&hook, &spare), |_| {});
    let first = rig.send(notification("oncall", "1"));
    assert_eq!(spare.next().await.header("webhook-id"), &*first);
    for _ in 0..5 {
        hook.next().await;
    }
    let view = rig.first("oncall");
    assert_eq!(view.breaker.state, "open");
    assert_eq!(view.breaker.until, Some(NOW.plus(Duration::from_secs(60))));
    let others: Vec<_> = (0..20)
        .map(|n| rig.send(notification("oncall", &n.to_string())))
        .collect();
    for _ in &others {
        let id = spare.next().await.header("webhook-id").to_owned();
        assert!(others.iter().any(|other| **other == *id));
    }
    hook.nothing_more();
    assert_eq!(rig.counts("oncall"), [0, 4, 0, 21]);
    rig.until("spare", "delivered", 21).await;

    // After a minute it is tried out, and two successes close it.
    rig.clock.set(NOW.plus(Duration::from_secs(60)));
    for state in ["half-open", "closed"] {
        let id = rig.send(notification("oncall", "1"));
        assert_eq!(hook.next().await.header("webhook-id"), &*id);
        rig.until_first("oncall", |view| view.breaker.state == state)
            .await;
    }
    assert!(!rig.view("oncall").failing);
    spare.nothing_more();
}

#[tokio::test]
async fn without_a_fallback_messages_wait_for_the_breaker() {
    let mut hook = Hook::answering(&[503, 503, 503, 503, 503, 200]).await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |_| {});
    let ids: Vec<_> = (0..10)
        .map(|_| rig.send(notification("oncall", "one")))
        .collect();
    rig.until_first("oncall", |view| view.breaker.state == "open")
        .await;
    for _ in 0..5 {
        assert_eq!(hook.next().await.header("webhook-id"), &*ids[0]);
    }
    assert_eq!(rig.first("oncall").pending, 10);
    rig.clock.set(NOW.plus(Duration::from_secs(61)));
    for id in &ids {
        assert_eq!(hook.next().await.header("webhook-id"), &**id);
    }
    rig.until("oncall", "delivered", 10).await;
    assert_eq!(rig.count("oncall", "failed"), 0);
}

#[tokio::test]
async fn a_trial_that_hangs_has_failed_after_its_time() {
    // The sixth request hangs; the webhook itself would wait for long.
    let mut hook = Hook::start(Arc::new(|n| {
        Box::pin(async move {
            match n {
                5 => std::future::pending().await,
                n => answer(if n < 5 { 503 } else { 200 }),
            }
        })
    }))
    .await;
    let webhook = hook.webhook().timeout(PATIENCE);
    let rig = rig([receiver("oncall", [webhook])], |s| {
        s.breaker.trial = Duration::from_millis(50);
    });
    rig.send(notification("oncall", "g"));
    rig.until_first("oncall", |view| view.breaker.state == "open")
        .await;
    rig.clock.set(NOW.plus(Duration::from_secs(60)));
    for _ in 0..6 {
        hook.next().await;
    }
    let reopened = NOW.plus(Duration::from_secs(120));
    rig.until_first("oncall", |view| view.breaker.until == Some(reopened))
        .await;
    let error = rig.first("oncall").last_error.unwrap();
    assert!(error.contains("trial"), "{error}");
    rig.clock.set(reopened);
    hook.next().await;
    rig.until("oncall", "delivered", 1).await;
}

#[tokio::test]
async fn answers_about_messages_open_no_breaker() {
    let hook = Hook::answering(&[400]).await;
    let mut spare = Hook::answering(&[200]).await;
    let rig = rig(pair(&hook, &spare), |_| {});
    for n in 0..20 {
        rig.send(notification("oncall", &n.to_string()));
        spare.next().await;
    }
    let view = rig.first("oncall");
    assert_eq!(view.breaker.state, "closed");
    assert_eq!(view.statistics.attempts, 20, "each was tried once");
    assert_eq!(rig.counts("oncall"), [0, 0, 0, 20]);
    assert!(rig.view("oncall").failing, "but somebody should know");
}

#[tokio::test]
async fn a_chain_of_fallbacks_is_followed_to_its_end() {
    let dead = Hook::answering(&[404]).await;
    let receivers = [
        with_fallback(receiver("a", [dead.webhook(), dead.webhook()]), "b"),
        with_fallback(receiver("b", [dead.webhook()]), "c"),
        with_fallback(receiver("c", [dead.webhook()]), LOG),
    ];
    let rig = rig(receivers, |_| {});
    rig.send(notification("a", "g"));
    rig.until("a", "fallen_back", 2).await;
    rig.until(LOG, "delivered", 1).await;
    for (receiver, fallen_back) in [("a", 2), ("b", 1), ("c", 1)] {
        assert_eq!(rig.counts(receiver), [0, 0, 0, fallen_back], "{receiver}");
    }
    assert_eq!(rig.telemetry.outbox_messages.get(), 0);
}

/// Says no with these headers once, and then yes.
async fn limiting(header: (&'static str, &'static str)) -> Hook {
    Hook::start(Arc::new(move |n| {
        Box::pin(async move {
            if n > 0 {
                return answer(200);
            }
            let response = Response::builder().status(429).header(header.0, header.1);
            response.body(Body::empty()).unwrap()
        })
    }))
    .await
}

#[tokio::test]
async fn a_limit_holds_for_the_whole_receiver_and_opens_no_breaker() {
    for header in [
        ("retry-after", "100"),
        ("ratelimit-reset", "100"),
        ("x-ratelimit-reset", "1700000100"),
    ] {
        let mut hook = limiting(header).await;
        let rig = rig([receiver("oncall", [hook.webhook()])], |s| {
            s.retry.max_retry_after = PATIENCE;
            s.retry.keep = 2 * PATIENCE;
        });
        rig.send(notification("oncall", "1"));
        hook.next().await;
        let until = NOW.plus(Duration::from_secs(100));
        rig.until_first("oncall", |view| view.limited_until == Some(until))
            .await;
        // It is not asked for another group either. The stop is the only thing that hurries it, and
        // even that does not.
        rig.send(notification("oncall", "2"));
        assert_eq!(super::patiently(rig.notifier.finish()).await, 2);
        hook.nothing_more();
        assert_eq!(rig.first("oncall").breaker.state, "closed");
    }
}

#[tokio::test]
async fn messages_that_are_retried_leave_room_for_others() {
    // Whoever is not of group "good" is told to come again.
    let mut hook = Hook::start(Arc::new(|n| {
        Box::pin(async move { answer(if n < 30 { 500 } else { 200 }) })
    }))
    .await;
    let rig = rig([receiver("oncall", [hook.webhook()])], |s| {
        s.retry.initial = PATIENCE / 2;
        s.retry.max = PATIENCE / 2;
        s.breaker.failures = 1000;
    });
    for n in 0..30 {
        rig.send(notification("oncall", &n.to_string()));
        hook.next().await;
    }
    rig.until("oncall", "retried", 30).await;
    let good = rig.send(notification("oncall", "good"));
    assert_eq!(hook.next().await.header("webhook-id"), &*good);
    rig.until("oncall", "delivered", 1).await;
    assert_eq!(rig.first("oncall").pending, 30);
}

#[tokio::test]
async fn dead_endpoints_take_no_room_from_others_of_their_kind() {
    let hanging = Hook::hanging().await;
    let mut good = Hook::answering(&[200]).await;
    let mut receivers: Vec<_> = (0..20)
        .map(|n| receiver(&format!("dead-{n}"), [hanging.webhook().timeout(PATIENCE)]))
        .collect();
    receivers.push(receiver("good", [good.webhook()]));
    let rig = rig(receivers, |s| s.concurrency.kind = 24);
    for n in 0..20 {
        for group in 0..20 {
            rig.send(notification(&format!("dead-{n}"), &group.to_string()));
        }
    }
    for _ in 0..50 {
        rig.send(notification("good", "g"));
        good.next().await;
    }
    let underway: usize = (0..20)
        .map(|n| rig.first(&format!("dead-{n}")).underway)
        .sum();
    assert!(underway >= 20, "{underway}");
}
