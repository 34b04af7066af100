//! Where a deviation probably comes from: the deepest callee that deviates as well, and began no later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::context::is_trouble;
use super::topology::Topology;
use crate::model::{Alert, AlertState, LikelyOrigin, Measure, Movement, Timestamp};

/// Calls are followed over at most so many services in a row …
const MAX_DEPTH: usize = 8;
/// … and at most so many in all.
const MAX_VISITED: usize = 256;

/// The metric of an alert about a service as a whole.
const TELEMETRY: &str = "telemetry";
/// What is left of the usual requests of a service that has stopped calling anybody.
const NEXT_TO_NOTHING: f64 = 0.1;

/// Since when each service deviates.
#[derive(Debug, Clone, Default)]
pub(super) struct Deviations {
    since: BTreeMap<String, Since>,
    /// Silent services that nobody calls any more, with those who did.
    uncalled: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Since {
    first: Timestamp,
    /// Whether an alert says so.
    alerted: bool,
}

impl Deviations {
    /// From all alerts, and from signals that moved though no alert says so: slow or failing calls of
    /// the service itself, and of others to it. Services may fall silent within a `tick` of each other in
    /// any order.
    pub(super) fn new(
        alerts: &[Arc<Alert>],
        movements: &[Movement],
        topology: &Topology,
        tick: Duration,
    ) -> Self {
        let uncalled = uncalled(alerts, movements, topology, tick);
        let mut since: BTreeMap<String, Since> = BTreeMap::new();
        let mut note = |service: &str, first: Timestamp, alerted: bool| {
            let known = since.entry(service.to_owned());
            let known = known.or_insert(Since { first, alerted });
            known.first = known.first.min(first);
            known.alerted |= alerted;
        };
        for alert in alerts {
            let is_over = alert.state == AlertState::Resolved;
            let is_uncalled = is_silence(alert) && uncalled.contains_key(&alert.service);
            if !(is_over || is_uncalled || has_fewer_calls(alert)) {
                note(&alert.service, began(alert), true);
            }
        }
        let moved = movements.iter().flat_map(|movement| &movement.moved);
        for moved in moved.filter(|moved| is_trouble(moved)) {
            let callee = moved.attributes.get("peer.service");
            let callee = callee.filter(|_| moved.metric == "edge.duration");
            note(callee.unwrap_or(&moved.service), moved.since, false);
        }
        Self { since, uncalled }
    }

    /// Of an alert about silence, the callers of the service, where none of them calls it any more.
    pub(super) fn uncalled_by(&self, alert: &Alert) -> &[String] {
        let callers = self.uncalled.get(&alert.service);
        callers.filter(|_| is_silence(alert)).map_or(&[], |c| c)
    }
}

/// Whether an alert shows what a service suffers rather than does: fewer calls than usual, or none at
/// all, are what a callee sees when its caller is in trouble.
pub(super) fn is_effect(alert: &Alert) -> bool {
    has_fewer_calls(alert) || !alert.grounds.uncalled_by.is_empty()
}

fn has_fewer_calls(alert: &Alert) -> bool {
    alert.labels.get("signal") == Some("rate") && alert.sigma < 0.0
}

fn is_silence(alert: &Alert) -> bool {
    alert.grounds.measure == Measure::Silence
}

/// When what an alert tells began: silence long before anybody can call it so.
pub(super) fn began(alert: &Alert) -> Timestamp {
    silence(alert).map_or(alert.since, |(from, _)| from)
}

/// From when to when a service or a signal has been silent; `None` of an alert about anything else.
pub(super) fn silence(alert: &Alert) -> Option<(Timestamp, Timestamp)> {
    let until = alert.grounds.anomalous_until.unwrap_or(alert.since);
    let seconds = alert.grounds.greatest.unwrap_or(alert.observed);
    let silent = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    is_silence(alert).then(|| (until.minus(silent).min(alert.since), until))
}

/// The services that are silent because nobody calls them any more, with their callers: each of these has
/// next to no requests itself, or is silent, since about the same time.
fn uncalled(
    alerts: &[Arc<Alert>],
    movements: &[Movement],
    topology: &Topology,
    tick: Duration,
) -> BTreeMap<String, Vec<String>> {
    let goes_on = |alert: &&Arc<Alert>| alert.state != AlertState::Resolved;
    let mut silent: BTreeMap<&str, &Arc<Alert>> = BTreeMap::new();
    // Since when a service has next to nothing to do.
    let mut idle: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut note = |service, since: Timestamp| {
        let first = idle.entry(service).or_insert(since);
        *first = since.min(*first);
    };
    for alert in alerts.iter().filter(goes_on) {
        if is_silence(alert) && alert.labels.get("metric") == Some(TELEMETRY) {
            silent.insert(&alert.service, alert);
            note(&alert.service, began(alert));
        } else if has_fewer_calls(alert)
            && peer(alert).is_none()
            && alert.observed <= NEXT_TO_NOTHING * alert.expected
        {
            note(&alert.service, alert.since);
        }
    }
    for moved in movements.iter().flat_map(|movement| &movement.moved) {
        let is_own = moved.signal == "rate" && moved.metric == "span.duration";
        if is_own && moved.value <= NEXT_TO_NOTHING * moved.usual {
            note(&moved.service, moved.since);
        }
    }
    let mut found = BTreeMap::new();
    for (service, alert) in silent {
        let latest = began(alert).plus(tick);
        let has_stopped = |caller: &&str| {
            // Of two that call each other nobody can tell who was first.
            let each_other = topology.callees(service).any(|callee| callee == *caller);
            !each_other && idle.get(caller).is_some_and(|since| *since <= latest)
        };
        let (stopped, others): (Vec<&str>, Vec<&str>) = topology
            .callers(service)
            .partition(|caller| has_stopped(caller));
        if others.is_empty() && !stopped.is_empty() {
            found.insert(
                service.to_owned(),
                stopped.into_iter().map(String::from).collect(),
            );
        } else if !alert.grounds.uncalled_by.is_empty() && !alerts.iter().any(|a| is_back(a, alert))
        {
            // What showed it is no longer looked at, or has become normal.
            found.insert(service.to_owned(), alert.grounds.uncalled_by.clone());
        }
    }
    found
}

/// Whether `other` says that a caller of the silent service has its requests again.
fn is_back(other: &Alert, silent: &Alert) -> bool {
    silent.grounds.uncalled_by.contains(&other.service)
        && (has_fewer_calls(other) || is_silence(other))
        && other.grounds.relevelled_to.is_none()
        && other.resolved_at.is_some_and(|at| at >= silent.since)
}

/// Follows the calls from the alert's service through callees that deviate since no later than a
/// `tick` after the alert began (ticks of two services need not close in the order of cause and
/// effect). A callee that is healthy ends the search in its direction: a fault does not jump over it.
/// Of the deviating ones the deepest is named, of equally deep ones that which began first.
pub(super) fn origin(
    alert: &Alert,
    topology: &Topology,
    deviations: &Deviations,
    tick: Duration,
) -> Option<LikelyOrigin> {
    let latest = silence(alert).map_or(alert.onset(), |(from, _)| from);
    let latest = latest.plus(tick);
    let start = alert.service.as_str();
    let mut visited = BTreeSet::from([start]);
    let mut open = VecDeque::from([vec![start]]);
    let mut best: Option<(Vec<&str>, Since)> = None;
    while let Some(path) = open.pop_front() {
        let last = path.last().copied().unwrap_or(start);
        let callees: Vec<&str> = match peer(alert).filter(|_| path.len() == 1) {
            // An alert about the calls to one callee has nothing to do with the others.
            Some(peer) => vec![peer],
            None => topology.callees(last).collect(),
        };
        for callee in callees {
            if visited.len() >= MAX_VISITED || !visited.insert(callee) {
                continue;
            }
            let Some(since) = deviations
                .since
                .get(callee)
                .copied()
                .filter(|since| since.first <= latest)
                // Callers stay away for reasons of their own; it takes more than a signal that moved.
                .filter(|since| since.alerted || !has_fewer_calls(alert))
            else {
                continue;
            };
            let path: Vec<&str> = path.iter().copied().chain([callee]).collect();
            let rank = |path: &[&str], since: Since| (path.len(), std::cmp::Reverse(since.first));
            if best
                .as_ref()
                .is_none_or(|(p, s)| rank(&path, since) > rank(p, *s))
            {
                best = Some((path.clone(), since));
            }
            if path.len() <= MAX_DEPTH {
                open.push_back(path);
            }
        }
    }
    best.map(|(path, since)| LikelyOrigin {
        path: path.into_iter().map(String::from).collect(),
        since: since.first,
        alerted: since.alerted,
    })
}

/// The callee that an alert on the calls between two services is about.
pub(super) fn peer(alert: &Alert) -> Option<&str> {
    let is_edge = alert.labels.get("metric") == Some("edge.duration");
    alert.labels.get("peer_service").filter(|_| is_edge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::explain::fixtures::{alert, edges, moved};
    use crate::model::AlertState;

    /// `shop` deviates since second 100; `others` since theirs.
    #[track_caller]
    fn check(calls: &[(&str, &str)], others: &[(&str, i64)], expected: Option<&str>) {
        let mut subject = alert("shop");
        subject.since = Timestamp::from_secs(100);
        check_of(&subject, calls, others, expected);
    }

    #[track_caller]
    fn check_of(
        subject: &Alert,
        calls: &[(&str, &str)],
        others: &[(&str, i64)],
        expected: Option<&str>,
    ) {
        let others: Vec<_> = others
            .iter()
            .map(|(service, since)| {
                let mut other = alert(service);
                other.since = Timestamp::from_secs(*since);
                Arc::new(other)
            })
            .collect();
        let found = origin(
            subject,
            &Topology::new(&edges(calls)),
            &Deviations::new(&others, &[], &Topology::default(), Duration::ZERO),
            Duration::from_secs(10),
        );
        assert_eq!(
            found.map(|origin| origin.path.join(">")).as_deref(),
            expected
        );
    }

    #[test]
    fn the_deepest_callee_that_deviates_is_named() {
        let chain = [("shop", "pay"), ("pay", "bank"), ("shop", "stock")];
        check(&chain, &[], None);
        check(&chain, &[("pay", 90)], Some("shop>pay"));
        check(&chain, &[("pay", 90), ("bank", 95)], Some("shop>pay>bank"));
        // Of equally deep ones, that which began first.
        check(&chain, &[("pay", 95), ("stock", 90)], Some("shop>stock"));
        // It began later: an effect, not the cause. A tick of difference says nothing.
        check(&chain, &[("pay", 111)], None);
        check(&chain, &[("pay", 110)], Some("shop>pay"));
        // A fault does not jump over a healthy service, nor run from caller to callee.
        check(&chain, &[("bank", 90)], None);
        check(&[("web", "shop")], &[("web", 90)], None);
    }

    #[test]
    fn a_chance_sample_before_the_deviation_hides_no_cause() {
        let mut subject = alert("shop");
        subject.since = Timestamp::from_secs(100);
        subject.grounds.onset = Some(Timestamp::from_secs(120));
        check_of(
            &subject,
            &[("shop", "pay")],
            &[("pay", 130)],
            Some("shop>pay"),
        );
    }

    #[test]
    fn cycles_end() {
        let cycle = [
            ("shop", "pay"),
            ("pay", "shop"),
            ("pay", "pay"),
            ("pay", "bank"),
            ("bank", "pay"),
        ];
        check(
            &cycle,
            &[("shop", 100), ("pay", 90), ("bank", 90)],
            Some("shop>pay>bank"),
        );
    }

    #[test]
    fn an_alert_on_an_edge_is_about_that_callee() {
        let mut edge = alert("shop");
        edge.since = Timestamp::from_secs(100);
        edge.labels.set("metric", "edge.duration");
        edge.labels.set("peer_service", "pay");
        let calls = [("shop", "pay"), ("shop", "stock"), ("pay", "bank")];
        check_of(&edge, &calls, &[("stock", 90)], None);
        check_of(
            &edge,
            &calls,
            &[("stock", 80), ("pay", 90)],
            Some("shop>pay"),
        );
    }

    #[test]
    fn fewer_calls_are_an_effect() {
        let mut fewer = alert("pay");
        fewer.labels.set("signal", "rate");
        fewer.sigma = -9.0;
        let mut over = alert("pay");
        over.state = AlertState::Resolved;
        let quiet = Deviations::new(
            &[Arc::new(fewer), Arc::new(over)],
            &[],
            &Topology::default(),
            Duration::ZERO,
        );
        assert_eq!(
            origin(
                &alert("shop"),
                &Topology::new(&edges(&[("shop", "pay")])),
                &quiet,
                Duration::ZERO
            ),
            None
        );
    }

    #[test]
    fn a_callee_without_an_alert_is_known_by_what_moved() {
        let movement = |service: &str, moved| Movement {
            service: service.into(),
            moved,
            ..Movement::default()
        };
        let mut subject = alert("shop");
        subject.since = Timestamp::from_secs(100);
        let found = |movements: &[Movement]| {
            let topology = Topology::new(&edges(&[("shop", "pay"), ("pay", "bank")]));
            let deviations = Deviations::new(&[], movements, &topology, Duration::ZERO);
            origin(&subject, &topology, &deviations, Duration::from_secs(10)).map(|origin| {
                (
                    origin.path.join(">"),
                    origin.since.as_nanos() / 1_000_000_000,
                    origin.alerted,
                )
            })
        };
        let slow = |service, since| moved(service, "span.duration", "p99", 0.1, 0.4, since);
        assert_eq!(
            found(&[movement("pay", vec![slow("pay", 90)])]),
            Some(("shop>pay".into(), 90, false))
        );
        // The callee may tell nothing itself: its caller saw the call.
        let mut call = moved("pay", "edge.duration", "p99", 0.1, 0.4, 95);
        call.attributes.insert("peer.service".into(), "bank".into());
        assert_eq!(
            found(&[movement("pay", vec![slow("pay", 90), call])]),
            Some(("shop>pay>bank".into(), 95, false))
        );
        // Faster, busier or another number is no trouble.
        let others = vec![
            moved("pay", "span.duration", "p99", 0.4, 0.1, 90),
            moved("pay", "span.duration", "rate", 10.0, 40.0, 90),
            moved("pay", "memory", "value", 10.0, 40.0, 90),
        ];
        assert_eq!(found(&[movement("pay", others)]), None);
        // Why there are fewer calls does not show in those that are left.
        let topology = Topology::new(&edges(&[("shop", "pay")]));
        let movements = [movement("pay", vec![slow("pay", 90)])];
        let deviations = Deviations::new(&[], &movements, &topology, Duration::ZERO);
        let fewer = fewer("shop", 100, 0.0);
        assert_eq!(origin(&fewer, &topology, &deviations, Duration::ZERO), None);
        assert_eq!(found(&[movement("pay", vec![slow("pay", 120)])]), None);
    }

    /// `service` has sent nothing since second `from`, which was told a minute later.
    fn silent(service: &str, from: i64) -> Alert {
        let mut silent = alert(service);
        silent.labels.set("metric", "telemetry");
        silent.labels.set("signal", "value");
        silent.grounds.measure = Measure::Silence;
        silent.since = Timestamp::from_secs(from + 60);
        silent.observed = 90.0;
        silent.grounds.greatest = Some(90.0);
        silent.grounds.anomalous_until = Some(Timestamp::from_secs(from + 90));
        silent
    }

    /// `service` has `rate` of its usual requests since second `from`.
    fn fewer(service: &str, from: i64, rate: f64) -> Alert {
        let mut fewer = alert(service);
        fewer.labels.set("signal", "rate");
        fewer.sigma = -9.0;
        (fewer.observed, fewer.expected) = (rate, 1.0);
        fewer.since = Timestamp::from_secs(from);
        fewer
    }

    /// Which of the silent services are so because of whom.
    #[track_caller]
    fn check_uncalled(alerts: &[Alert], movements: &[Movement], expected: &[(&str, &str)]) {
        let topology = Topology::new(&edges(&[("shop", "pay"), ("web", "pay"), ("pay", "bank")]));
        let alerts: Vec<_> = alerts.iter().cloned().map(Arc::new).collect();
        let tick = Duration::from_secs(10);
        let found = Deviations::new(&alerts, movements, &topology, tick);
        let uncalled: Vec<_> = alerts
            .iter()
            .filter(|alert| is_silence(alert))
            .map(|alert| (alert.service.as_str(), found.uncalled_by(alert).join(" ")))
            .filter(|(_, callers)| !callers.is_empty())
            .collect();
        let uncalled: Vec<_> = uncalled.iter().map(|(s, c)| (*s, c.as_str())).collect();
        assert_eq!(uncalled, expected);
        for alert in alerts.iter().filter(|alert| is_silence(alert)) {
            let causes = found.since.contains_key(&alert.service);
            assert_eq!(
                causes,
                found.uncalled_by(alert).is_empty(),
                "{}",
                alert.service
            );
        }
    }

    #[test]
    fn silence_of_what_nobody_calls_is_an_effect() {
        let (shop, web) = (fewer("shop", 100, 0.02), fewer("web", 110, 0.0));
        let (pay, bank) = (silent("pay", 100), silent("bank", 110));
        assert_eq!(began(&pay), Timestamp::from_secs(100));
        let all = [shop.clone(), web.clone(), pay.clone(), bank.clone()];
        check_uncalled(&all, &[], &[("pay", "shop web"), ("bank", "pay")]);
        // One caller goes on: then it is dead. What is behind it is not called.
        let alerts = [shop.clone(), pay.clone(), bank.clone()];
        check_uncalled(&alerts, &[], &[("bank", "pay")]);
        let some = fewer("web", 100, 0.4);
        check_uncalled(&[shop.clone(), some, pay.clone()], &[], &[]);
        // Customers leave after it has died.
        let later = fewer("web", 111, 0.0);
        check_uncalled(&[shop.clone(), later, pay.clone()], &[], &[]);
        // No alert says so, but the signals moved.
        let down = moved("web", "span.duration", "rate", 4.0, 0.0, 100);
        let movement = Movement {
            service: "web".into(),
            moved: vec![down],
            ..Movement::default()
        };
        let alerts = [shop.clone(), pay.clone()];
        check_uncalled(&alerts, &[movement], &[("pay", "shop web")]);
        // It stays so when that is no longer looked at, until the callers have requests again.
        let mut known = pay;
        known.grounds.uncalled_by = vec!["shop".into(), "web".into()];
        check_uncalled(&[known.clone()], &[], &[("pay", "shop web")]);
        let mut back = web;
        back.state = AlertState::Resolved;
        back.resolved_at = Some(Timestamp::from_secs(300));
        check_uncalled(&[shop, back, known], &[], &[]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_topology_gives_a_path_along_its_edges(
            calls in prop::collection::vec((0u8..12, 0u8..12), 0..60),
            since in prop::collection::vec(0i64..200, 12),
        ) {
            let name = |n: u8| format!("s{n}");
            let calls: Vec<_> = calls.iter().map(|(a, b)| (name(*a), name(*b))).collect();
            let calls: Vec<_> = calls.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let others: Vec<_> = (0u8..).zip(&since).map(|(n, since)| {
                let mut other = alert(&name(n));
                other.since = Timestamp::from_secs(*since);
                Arc::new(other)
            }).collect();
            for subject in &others {
                let found = origin(subject, &Topology::new(&edges(&calls)), &Deviations::new(&others, &[], &Topology::default(), Duration::ZERO), Duration::ZERO);
                let Some(found) = found else { continue };
                prop_assert!(found.path.len() >= 2 && found.path.len() <= MAX_DEPTH + 1);
                prop_assert!(found.since <= subject.since);
                for pair in found.path.windows(2) {
                    let pair = (pair[0].as_str(), pair[1].as_str());
                    prop_assert!(calls.contains(&pair), "{pair:?}");
                }
                let distinct: BTreeSet<_> = found.path.iter().collect();
                prop_assert_eq!(distinct.len(), found.path.len());
            }
        }
    }
}
