//! What a restart makes of groups when the configuration has changed, or the form in which they are saved;
//! and times at which routes are mute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{alert, resolved, routed, settings, to};
use super::{Dispatcher, GroupBy, Notification, Reason, Route, Settings};
use crate::model::{Alert, Selector, Timestamp};
use crate::mute::{Span, TimeInterval};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn fire(dispatcher: &mut Dispatcher, seconds: i64, alert: &Alert) {
    dispatcher.on_transition(at(seconds), &to(alert.clone(), at(seconds)));
}

fn route(matchers: &str, receiver: &str) -> Route {
    Route {
        matchers: Selector::parse(matchers).expect("a selector"),
        receiver: Some(receiver.into()),
        ..Route::default()
    }
}

fn with_routes(routes: Vec<Route>) -> Settings {
    let mut settings = settings();
    settings.route.routes = routes;
    settings
}

/// Everything that is told until then: `when receiver group: alert+ alert-`.
fn told(dispatcher: &mut Dispatcher, until: i64) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(now) = dispatcher.next_deadline().filter(|now| *now <= at(until)) {
        for notification in dispatcher.flush(now, &()) {
            let Notification {
                receiver,
                group_key,
                alerts,
                ..
            } = &notification;
            let alerts: Vec<_> = alerts
                .iter()
                .map(|alert| {
                    let sign = if alert.resolved_at.is_some() {
                        "-"
                    } else {
                        "+"
                    };
                    format!("{}{sign}", alert.name())
                })
                .collect();
            let seconds = now.as_nanos() / 1_000_000_000;
            told.push(format!(
                "{seconds} {receiver} {group_key}: {}",
                alerts.join(" ")
            ));
        }
    }
    told
}

/// What is durable.
#[derive(Default)]
struct Store(BTreeMap<String, Vec<u8>>);

impl Store {
    /// Restarts `dispatcher` with other settings.
    fn restart(&mut self, mut dispatcher: Dispatcher, settings: &Settings, now: i64) -> Dispatcher {
        self.take(&mut dispatcher);
        let (restored, warnings) = Dispatcher::restore(settings.clone(), at(now), self.0.clone());
        assert_eq!(warnings, Vec::<String>::new());
        restored
    }

    fn take(&mut self, dispatcher: &mut Dispatcher) {
        for (key, value) in dispatcher.changes() {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

#[test]
fn another_configuration_sends_firing_alerts_elsewhere() {
    let before = with_routes(vec![route(r#"{service="cart"}"#, "shop")]);
    let mut dispatcher = Dispatcher::new(before.clone());
    let (slow, failing) = (alert("checkout", "Slow"), alert("cart", "Failing"));
    fire(&mut dispatcher, 0, &slow);
    fire(&mut dispatcher, 0, &failing);
    assert_eq!(
        told(&mut dispatcher, 100),
        [
            r#"10 oncall {}:{service="checkout"}: Slow+"#,
            r#"10 shop {}/{service="cart"}:{service="cart"}: Failing+"#,
        ]
    );
    let mut store = Store::default();

    // The same configuration: nothing is to be said.
    let mut dispatcher = store.restart(dispatcher, &before, 110);
    assert_eq!(told(&mut dispatcher, 1_000), Vec::<String>::new());

    // The route of one leads to somebody else now, and there is one more for the other.
    let mut also = route(r#"{service="checkout"}"#, "pager");
    also.goes_on = true;
    let all = Route {
        group_by: Some(GroupBy::All),
        ..route("{}", "oncall")
    };
    let after = with_routes(vec![also, route(r#"{service="cart"}"#, "market"), all]);
    let mut dispatcher = store.restart(dispatcher, &after, 1_000);
    let group = r#"{service="checkout"}"#;
    assert_eq!(
        told(&mut dispatcher, 1_015),
        [
            // Who was told by the root hears of the end there; what is new is late already.
            format!(r#"1000 pager {{}}/{group}:{group}: Slow+"#),
            r#"1000 market {}/{service="cart"}:{service="cart"}: Failing+"#.to_owned(),
            r#"1000 oncall {}/{}:{alertname="Slow", service="checkout"}: Slow+"#.to_owned(),
            r#"1000 shop {}/{service="cart"}:{service="cart"}: Failing-"#.to_owned(),
        ]
    );
    assert_eq!(
        told(&mut dispatcher, 2_000),
        [r#"1210 oncall {}:{service="checkout"}: Slow-"#]
    );
    fire(&mut dispatcher, 2_000, &resolved(&slow, at(2_000)));
    fire(&mut dispatcher, 2_000, &resolved(&failing, at(2_000)));
    assert_eq!(told(&mut dispatcher, 3_000).len(), 3);
    store.take(&mut dispatcher);
    assert!(store.0.is_empty(), "{:?}", store.0.keys());
}

#[test]
fn another_group_by_leaves_alerts_where_they_were_told() {
    let mut dispatcher = Dispatcher::new(settings());
    let slow = alert("checkout", "Slow");
    fire(&mut dispatcher, 0, &slow);
    assert_eq!(told(&mut dispatcher, 10).len(), 1);
    let mut other = settings();
    other.route.group_by = Some(GroupBy::Labels(vec!["alertname".into()]));
    let mut dispatcher = Store::default().restart(dispatcher, &other, 20);
    fire(&mut dispatcher, 20, &alert("cart", "Slow"));
    fire(&mut dispatcher, 30, &resolved(&slow, at(30)));
    assert_eq!(
        told(&mut dispatcher, 1_000),
        [
            r#"30 oncall {}:{alertname="Slow"}: Slow+"#,
            r#"310 oncall {}:{service="checkout"}: Slow-"#,
        ]
    );
}

#[test]
fn what_the_version_with_one_route_saved_is_read() {
    let mut slow = alert("checkout", "Slow");
    slow.fired_at = Some(at(100));
    let key = r#"{}:{service="checkout"}"#;
    let group = serde_json::json!({
        "version": 1,
        "group": {"service": "checkout"},
        "times": {"changed_at": null, "notified_at": at(110)},
    });
    let saved = serde_json::json!({
        "version": 1,
        "group": {"service": "checkout"},
        "told": "warning",
        "alert": slow,
    });
    let bytes = |value: &serde_json::Value| serde_json::to_vec(value).expect("JSON");
    let entries = [
        (format!("group/{key}"), bytes(&group)),
        (format!("alert/{}/{key}", slow.fingerprint), bytes(&saved)),
    ];
    let (mut dispatcher, warnings) = Dispatcher::restore(settings(), at(200), entries.clone());
    assert_eq!(warnings, Vec::<String>::new());
    fire(&mut dispatcher, 250, &resolved(&slow, at(250)));
    assert_eq!(
        told(&mut dispatcher, 20_000),
        [format!("410 oncall {key}: Slow-")]
    );

    // A change that was not told yet.
    let mut waiting = group.clone();
    waiting["times"] = serde_json::json!({"changed_at": at(190), "notified_at": null});
    let mut untold = saved.clone();
    untold["told"] = serde_json::Value::Null;
    let [(group_key, _), (alert_key, _)] = entries;
    let entries = [(group_key, bytes(&waiting)), (alert_key, bytes(&untold))];
    let (mut dispatcher, _) = Dispatcher::restore(settings(), at(195), entries);
    assert_eq!(
        told(&mut dispatcher, 1_000),
        [format!("200 oncall {key}: Slow+")]
    );
}

#[test]
fn a_mute_route_tells_afterwards() {
    let interval = |name: &str, from: u16, to: u16| {
        Arc::new(TimeInterval {
            name: name.into(),
            spans: vec![Span {
                times: Some(std::iter::once(from..to).collect()),
                ..Span::default()
            }],
        })
    };
    let (first_hour, day) = (interval("first hour", 0, 60), interval("day", 0, 120));
    let mute = Route {
        mute: vec![first_hour],
        active: vec![day],
        ..route(r#"{service="checkout"}"#, "shop")
    };
    let mut dispatcher = Dispatcher::new(with_routes(vec![mute]));
    let (slow, failing) = (alert("checkout", "Slow"), alert("checkout", "Failing"));
    fire(&mut dispatcher, 0, &slow);
    let view = dispatcher.view(at(5), &());
    assert_eq!(
        view.alerts[&slow.fingerprint].muted.muted_by,
        ["first hour"]
    );
    assert_eq!(view.groups[0].muted_by, ["first hour"]);
    assert_eq!(&*view.groups[0].receiver, "shop");
    let key = r#"shop {}/{service="checkout"}:{service="checkout"}"#;
    // Flushes are at 10, 310, …, 3610.
    assert_eq!(told(&mut dispatcher, 7_000), [format!("3610 {key}: Slow+")]);
    assert!(
        dispatcher.view(at(7_000), &()).alerts[&slow.fingerprint]
            .muted
            .is_empty()
    );
    // Outside of its time nobody hears of an end, nor of a beginning.
    fire(&mut dispatcher, 7_300, &resolved(&slow, at(7_300)));
    fire(&mut dispatcher, 7_300, &failing);
    assert_eq!(told(&mut dispatcher, 86_000), Vec::<String>::new());
    let view = dispatcher.view(at(86_000), &());
    assert_eq!(view.alerts[&failing.fingerprint].muted.muted_by, ["day"]);
    // The next day from one o'clock on: 90,010.
    assert_eq!(
        told(&mut dispatcher, 91_000),
        [format!("90010 {key}: Failing+ Slow-")]
    );
    // An end that cannot be told for 120 hours is forgotten.
    let never = Arc::new(TimeInterval {
        name: "never".into(),
        spans: Vec::new(),
    });
    let mut store = Store::default();
    let silent = Route {
        active: vec![never],
        ..route(r#"{service="checkout"}"#, "shop")
    };
    let mut dispatcher = store.restart(dispatcher, &with_routes(vec![silent]), 91_000);
    fire(&mut dispatcher, 91_000, &resolved(&failing, at(91_000)));
    assert_eq!(
        told(&mut dispatcher, 91_000 + 119 * 3_600),
        Vec::<String>::new()
    );
    assert_eq!(dispatcher.groups.len(), 1);
    assert_eq!(
        told(&mut dispatcher, 91_000 + 121 * 3_600),
        Vec::<String>::new()
    );
    assert_eq!(dispatcher.groups.len(), 0);
    store.take(&mut dispatcher);
    assert!(store.0.is_empty(), "{:?}", store.0.keys());
}

#[test]
fn a_notification_says_why_it_is_sent() {
    let mut dispatcher = Dispatcher::new(routed(Route {
        group_wait: Some(Duration::ZERO),
        ..Route::default()
    }));
    let (slow, failing) = (alert("checkout", "Slow"), alert("cart", "Failing"));
    fire(&mut dispatcher, 0, &slow);
    fire(&mut dispatcher, 0, &failing);
    let mut reasons = Vec::new();
    fn flush(dispatcher: &mut Dispatcher, until: i64) -> Vec<Reason> {
        let mut reasons = Vec::new();
        while let Some(now) = dispatcher.next_deadline().filter(|now| *now <= at(until)) {
            reasons.extend(dispatcher.flush(now, &()).iter().map(|one| one.reason));
        }
        reasons
    }
    reasons.extend(flush(&mut dispatcher, 0));
    fire(&mut dispatcher, 10, &resolved(&slow, at(10)));
    reasons.extend(flush(&mut dispatcher, 300));
    reasons.extend(flush(&mut dispatcher, 300 + 4 * 3_600));
    fire(&mut dispatcher, 15_000, &resolved(&failing, at(15_000)));
    reasons.extend(flush(&mut dispatcher, 20_000));
    assert_eq!(
        reasons,
        [
            Reason::Firing,
            Reason::Resolved,
            Reason::Repeat,
            Reason::Resolved
        ]
    );
}
