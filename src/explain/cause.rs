//! Where a deviation probably comes from: the deepest callee that deviates as well, and began no later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::topology::Topology;
use crate::model::{Alert, AlertState, Timestamp};

/// Calls are followed over at most so many services in a row …
const MAX_DEPTH: usize = 8;
/// … and at most so many in all.
const MAX_VISITED: usize = 256;

/// A callee that deviates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Origin {
    /// From the alert's own service to the callee.
    pub(super) path: Vec<String>,
    /// Since when the callee deviates.
    pub(super) since: Timestamp,
}

impl Origin {
    /// The callee.
    pub(super) fn service(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }
}

/// Since when each service deviates.
#[derive(Debug, Clone, Default)]
pub(super) struct Deviations(BTreeMap<String, Timestamp>);

impl Deviations {
    /// From all alerts. Fewer calls than usual do not count: that is what a callee sees when its
    /// caller is in trouble, not the reason for it.
    pub(super) fn new(alerts: &[Arc<Alert>]) -> Self {
        let mut since: BTreeMap<String, Timestamp> = BTreeMap::new();
        for alert in alerts {
            let fewer_calls = alert.labels.get("signal") == Some("rate") && alert.sigma < 0.0;
            if alert.state == AlertState::Resolved || fewer_calls {
                continue;
            }
            let first = since.entry(alert.service.clone()).or_insert(alert.since);
            *first = (*first).min(alert.since);
        }
        Self(since)
    }
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
) -> Option<Origin> {
    let latest = alert.since.plus(tick);
    let start = alert.service.as_str();
    let mut visited = BTreeSet::from([start]);
    let mut open = VecDeque::from([vec![start]]);
    let mut best: Option<(Vec<&str>, Timestamp)> = None;
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
                .0
                .get(callee)
                .copied()
                .filter(|since| *since <= latest)
            else {
                continue;
            };
            let path: Vec<&str> = path.iter().copied().chain([callee]).collect();
            let rank = |path: &[&str], since| (path.len(), std::cmp::Reverse(since));
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
    best.map(|(path, since)| Origin {
        path: path.into_iter().map(String::from).collect(),
        since,
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
    use crate::explain::fixtures::{alert, edges};

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
            &Deviations::new(&others),
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
        let quiet = Deviations::new(&[Arc::new(fewer), Arc::new(over)]);
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
                let found = origin(subject, &Topology::new(&edges(&calls)), &Deviations::new(&others), Duration::ZERO);
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
