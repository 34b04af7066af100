//! The dispatcher in single cases.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{alert, resolved, settings, to, with_severity};
use super::{Dispatcher, GroupBy, Notification, Route, Settings, Status};
use crate::model::{Alert, Selector, SeverityLabel, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn grouped(by: GroupBy) -> Settings {
    let mut settings = settings();
    settings.route.group_by = Some(by);
    settings
}

fn fire(dispatcher: &mut Dispatcher, seconds: i64, alert: &Alert) {
    dispatcher.on_transition(at(seconds), &to(alert.clone(), at(seconds)));
}

fn resolve(dispatcher: &mut Dispatcher, seconds: i64, alert: &Alert) {
    fire(dispatcher, seconds, &resolved(alert, at(seconds)));
}

/// Flushes at the next deadline: when, and what it says, as `group status: alert+ alert-`.
fn next(dispatcher: &mut Dispatcher) -> Option<(i64, Vec<String>)> {
    let deadline = dispatcher.next_deadline()?;
    let said = dispatcher.flush(deadline, &()).iter().map(say).collect();
    Some((deadline.as_nanos() / 1_000_000_000, said))
}

fn say(notification: &Notification) -> String {
    let alerts: Vec<_> = notification
        .alerts
        .iter()
        .map(|a| {
            format!(
                "{}{}",
                a.name(),
                if a.resolved_at.is_some() { "-" } else { "+" }
            )
        })
        .collect();
    format!(
        "{} {}: {}",
        notification.group_key,
        notification.status.name(),
        alerts.join(" ")
    )
}

#[track_caller]
fn check(dispatcher: &mut Dispatcher, seconds: i64, expected: &[&str]) {
    let expected = expected.iter().map(|text| (*text).to_owned()).collect();
    assert_eq!(next(dispatcher), Some((seconds, expected)));
}

#[test]
fn a_receiver_without_room_is_told_everything_later_and_holds_up_nobody() {
    let mut settings = settings();
    settings.route.routes = vec![Route {
        matchers: Selector::parse(r#"{service="cart"}"#).expect("a selector"),
        receiver: Some("shop".into()),
        ..Route::default()
    }];
    let mut dispatcher = Dispatcher::new(settings);
    fire(&mut dispatcher, 0, &alert("checkout", "Slow"));
    fire(&mut dispatcher, 0, &alert("cart", "Slow"));
    let mut flush = |seconds, full: &str| -> Vec<String> {
        let room = |receiver: &str| receiver != full;
        let said = dispatcher.flush_where(at(seconds), &(), room);
        if seconds < 12 {
            assert_eq!(dispatcher.next_deadline(), Some(at(seconds + 1)));
        }
        if seconds == 10 {
            fire(&mut dispatcher, 10, &alert("checkout", "Failing"));
        }
        said.iter().map(say).collect()
    };
    let cart = r#"{}/{service="cart"}:{service="cart"} firing: Slow+"#;
    let checkout = r#"{}:{service="checkout"} firing: Failing+ Slow+"#;
    assert_eq!(flush(10, "oncall"), [cart]);
    assert_eq!(flush(11, "oncall"), [""; 0]);
    assert_eq!(flush(12, "nobody"), [checkout]);
}

#[test]
fn the_life_of_a_group() {
    let mut dispatcher = Dispatcher::new(settings());
    let (slow, failing) = (alert("checkout", "Slow"), alert("checkout", "Failing"));
    assert_eq!(next(&mut dispatcher), None);
    fire(&mut dispatcher, 0, &slow);
    fire(&mut dispatcher, 3, &failing);
    fire(&mut dispatcher, 5, &alert("cart", "Slow"));
    check(
        &mut dispatcher,
        10,
        &[r#"{}:{service="checkout"} firing: Failing+ Slow+"#],
    );
    check(
        &mut dispatcher,
        15,
        &[r#"{}:{service="cart"} firing: Slow+"#],
    );
    // One is over: told after group_interval, together with what still fires.
    resolve(&mut dispatcher, 100, &failing);
    check(
        &mut dispatcher,
        310,
        &[r#"{}:{service="checkout"} firing: Slow+ Failing-"#],
    );
    // A change after a long silence waits for the next look, too.
    fire(&mut dispatcher, 5_000, &failing);
    check(
        &mut dispatcher,
        5_110,
        &[r#"{}:{service="checkout"} firing: Failing+ Slow+"#],
    );
    // Nothing changes: said again at the first look after repeat_interval.
    check(
        &mut dispatcher,
        15 + 4 * 3_600,
        &[r#"{}:{service="cart"} firing: Slow+"#],
    );
    check(
        &mut dispatcher,
        5_110 + 4 * 3_600,
        &[r#"{}:{service="checkout"} firing: Failing+ Slow+"#],
    );
    resolve(&mut dispatcher, 20_000, &slow);
    resolve(&mut dispatcher, 20_001, &failing);
    check(
        &mut dispatcher,
        20_110,
        &[r#"{}:{service="checkout"} resolved: Failing- Slow-"#],
    );
    resolve(&mut dispatcher, 20_002, &alert("cart", "Slow"));
    check(
        &mut dispatcher,
        20_115,
        &[r#"{}:{service="cart"} resolved: Slow-"#],
    );
    assert_eq!(next(&mut dispatcher), None);
}

#[test]
fn what_is_over_before_anyone_knew_is_not_told() {
    let mut dispatcher = Dispatcher::new(settings());
    let slow = alert("checkout", "Slow");
    fire(&mut dispatcher, 0, &slow);
    resolve(&mut dispatcher, 5, &slow);
    check(&mut dispatcher, 10, &[]);
    assert_eq!(next(&mut dispatcher), None);

    // A flap between two notifications is none.
    fire(&mut dispatcher, 10, &slow);
    check(
        &mut dispatcher,
        20,
        &[r#"{}:{service="checkout"} firing: Slow+"#],
    );
    resolve(&mut dispatcher, 30, &slow);
    fire(&mut dispatcher, 40, &slow);
    check(
        &mut dispatcher,
        20 + 4 * 3_600,
        &[r#"{}:{service="checkout"} firing: Slow+"#],
    );
}

#[test]
fn a_worse_severity_is_news() {
    let mut dispatcher = Dispatcher::new(settings());
    let warning = with_severity(&alert("checkout", "Slow"), SeverityLabel::Warning);
    let critical = with_severity(&warning, SeverityLabel::Critical);
    fire(&mut dispatcher, 0, &warning);
    check(
        &mut dispatcher,
        10,
        &[r#"{}:{service="checkout"} firing: Slow+"#],
    );
    fire(&mut dispatcher, 20, &critical);
    check(
        &mut dispatcher,
        310,
        &[r#"{}:{service="checkout"} firing: Slow+"#],
    );
    resolve(&mut dispatcher, 320, &critical);
    check(
        &mut dispatcher,
        610,
        &[r#"{}:{service="checkout"} resolved: Slow-"#],
    );

    // Where the route groups by severity, it ends in one group and goes on in another.
    let by = GroupBy::Labels(vec!["severity".into()]);
    let mut dispatcher = Dispatcher::new(grouped(by));
    fire(&mut dispatcher, 0, &warning);
    check(
        &mut dispatcher,
        10,
        &[r#"{}:{severity="warning"} firing: Slow+"#],
    );
    fire(&mut dispatcher, 20, &critical);
    check(
        &mut dispatcher,
        30,
        &[r#"{}:{severity="critical"} firing: Slow+"#],
    );
    check(
        &mut dispatcher,
        310,
        &[r#"{}:{severity="warning"} resolved: Slow-"#],
    );
}

#[test]
fn reconciling_takes_over_what_is() {
    let mut dispatcher = Dispatcher::new(settings());
    let (slow, failing) = (alert("checkout", "Slow"), alert("checkout", "Failing"));
    fire(&mut dispatcher, 0, &slow);
    check(
        &mut dispatcher,
        10,
        &[r#"{}:{service="checkout"} firing: Slow+"#],
    );
    let newer = Alert {
        observed: 9.0,
        ..slow.clone()
    };
    dispatcher.reconcile(at(20), &[Arc::new(newer)]);
    let repeated = dispatcher.flush(dispatcher.next_deadline().expect("a repetition"), &());
    assert_eq!(
        repeated
            .first()
            .and_then(|n| n.alerts.first())
            .map(|a| a.observed),
        Some(9.0)
    );

    // One alert is unknown here, the other no longer exists.
    dispatcher.reconcile(at(20_000), &[Arc::new(failing)]);
    check(
        &mut dispatcher,
        20_110,
        &[r#"{}:{service="checkout"} firing: Failing+ Slow-"#],
    );
}

#[test]
fn it_is_bounded_and_a_clock_set_back_does_not_silence_it() {
    let mut dispatcher = Dispatcher::new(Settings {
        max_alerts: 2,
        ..settings()
    });
    for number in 0..5 {
        fire(
            &mut dispatcher,
            1_000_000,
            &alert("checkout", &format!("A{number}")),
        );
    }
    assert_eq!((dispatcher.alerts, dispatcher.refused()), (2, 3));
    let told = dispatcher.flush(dispatcher.next_deadline().expect("the first"), &());
    assert_eq!(
        told.first().map(|n| (n.alerts.len(), n.status)),
        Some((2, Status::Firing))
    );
    resolve(&mut dispatcher, 500, &alert("checkout", "A0"));
    assert_eq!(
        dispatcher.next_deadline(),
        Some(at(500).plus(Duration::from_mins(5)))
    );
}

#[test]
fn one_incident_over_several_services_is_one_notification() {
    let mut dispatcher = Dispatcher::new(grouped(GroupBy::Labels(vec!["incident".into()])));
    let of = |service: &str, incident: &str| {
        let mut alert = alert(service, &format!("Slow-{service}"));
        alert.annotations.set("incident", incident);
        alert
            .annotations
            .set("incident_summary", format!("all of {incident}"));
        alert
    };
    fire(&mut dispatcher, 0, &of("pay", "a1"));
    fire(&mut dispatcher, 5, &of("shop", "a1"));
    fire(&mut dispatcher, 5, &of("mail", "b2"));
    let told = dispatcher.flush(at(10), &());
    let said: Vec<_> = told.iter().map(say).collect();
    assert_eq!(said, [r#"{}:{incident="a1"} firing: Slow-shop+ Slow-pay+"#]);
    let common = &told[0].common_annotations;
    assert_eq!(common.get("incident_summary"), Some("all of a1"));
    check(
        &mut dispatcher,
        15,
        &[r#"{}:{incident="b2"} firing: Slow-mail+"#],
    );
    // The two have become one: nobody is told that the trouble with mail is over, as it is not.
    let worse = with_severity(&of("mail", "a1"), SeverityLabel::Critical);
    fire(&mut dispatcher, 20, &worse);
    check(
        &mut dispatcher,
        315,
        &[r#"{}:{incident="b2"} firing: Slow-mail+"#],
    );
    // A label of that name is a label.
    let mut labelled = of("ads", "c3");
    labelled.labels.set("incident", "mine");
    fire(&mut dispatcher, 400, &labelled);
    check(
        &mut dispatcher,
        410,
        &[r#"{}:{incident="mine"} firing: Slow-ads+"#],
    );
}
