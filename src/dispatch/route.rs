//! The tree of routes: which alert goes where, with Alertmanager's words and meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Alert, Labels, Selector, Timestamp};
use crate::mute::TimeInterval;

/// The name by which alerts are grouped into one notification an incident.
const INCIDENT: &str = "incident";

/// Which alerts are notified together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// Those that agree in all labels (`...`): each alone.
    All,
    /// Those that agree in these labels; with none, all alerts are one group.
    Labels(Vec<String>),
}

impl GroupBy {
    /// The labels that tell the group of `alert`; an absent label is left out. [`INCIDENT`] is no
    /// label, since labels are who an alert is: it is what the alert's annotation says, unless there is
    /// a label of that name.
    pub(super) fn of(&self, alert: &Alert) -> Labels {
        let value = |name: &str| {
            let incident = || alert.annotations.get(INCIDENT).filter(|_| name == INCIDENT);
            alert.labels.get(name).or_else(incident)
        };
        match self {
            Self::All => alert.labels.clone(),
            Self::Labels(names) => names
                .iter()
                .filter_map(|name| Some((name.as_str(), value(name)?)))
                .collect(),
        }
    }

    /// Whether an alert of group `was` may stay there though `is` is its group now: an incident that
    /// became part of another does not end for those who were told of it.
    pub(super) fn stays(&self, was: &Labels, is: &Labels, alert: &Alert) -> bool {
        let Self::Labels(names) = self else {
            return false;
        };
        let by_incident = |name: &String| name == INCIDENT && alert.labels.get(INCIDENT).is_none();
        names.iter().any(by_incident)
            && names
                .iter()
                .filter(|name| !by_incident(name))
                .all(|name| was.get(name) == is.get(name))
    }
}

/// A node of the tree as it is configured. What is `None` is inherited from the node around it; the root
/// has Alertmanager's defaults.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// Which alerts it takes. The root takes all.
    pub matchers: Selector,
    /// Whether an alert that it takes is offered to the nodes after it, too (`continue`).
    pub goes_on: bool,
    /// Who is notified. Of the root: `log`.
    pub receiver: Option<String>,
    /// What is notified together. Of the root: all alerts.
    pub group_by: Option<GroupBy>,
    /// How long a new group waits for more alerts before its first notification. Of the root: 30 s.
    pub group_wait: Option<Duration>,
    /// How often a group looks whether there is something to tell. Of the root: 5 min; at least 1 s.
    pub group_interval: Option<Duration>,
    /// After this a group that still fires is notified again, at its next look. Of the root: 4 h.
    pub repeat_interval: Option<Duration>,
    /// When it is mute. Not inherited.
    pub mute: Vec<Arc<TimeInterval>>,
    /// Outside of all of these it is mute; none: it never is for their sake. Not inherited.
    pub active: Vec<Arc<TimeInterval>>,
    /// The nodes below.
    pub routes: Vec<Route>,
}

/// The tree with everything inherited. Nodes are numbered in the order of the configuration, depth first;
/// the root is number 0.
#[derive(Debug, Clone)]
pub struct Routes {
    nodes: Vec<Node>,
}

/// A node of the tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its way from the root, as Alertmanager writes it: `{}/{team="shop"}/{severity="critical"}`.
    pub key: Arc<str>,
    /// Which alerts it takes.
    pub matchers: Selector,
    /// Whether alerts go on to the nodes after it.
    pub goes_on: bool,
    /// Who is notified.
    pub receiver: Arc<str>,
    /// What is notified together.
    pub group_by: GroupBy,
    /// How long a new group waits.
    pub group_wait: Duration,
    /// How often a group looks; at least 1 s.
    pub group_interval: Duration,
    /// After how long a group is notified again.
    pub repeat_interval: Duration,
    /// When it is mute.
    pub mute: Vec<Arc<TimeInterval>>,
    /// When it is not, if there are any.
    pub active: Vec<Arc<TimeInterval>>,
    /// The numbers of the nodes below.
    pub children: Vec<usize>,
    /// Its key, told apart from those of other nodes with the same matchers: under this its groups are
    /// saved.
    pub(super) id: Arc<str>,
}

impl Routes {
    /// The tree under `root`.
    pub fn new(root: &Route) -> Self {
        let above = Node {
            key: "".into(),
            matchers: Selector::default(),
            goes_on: false,
            receiver: "log".into(),
            group_by: GroupBy::Labels(Vec::new()),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_mins(5),
            repeat_interval: Duration::from_hours(4),
            mute: Vec::new(),
            active: Vec::new(),
            children: Vec::new(),
            id: "".into(),
        };
        let mut routes = Self { nodes: Vec::new() };
        routes.add(root, &above);
        let mut seen: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for node in &mut routes.nodes {
            let number = seen.entry(Arc::clone(&node.key)).or_default();
            if *number > 0 {
                node.id = format!("{}#{number}", node.key).into();
            }
            *number += 1;
        }
        routes
    }

    fn add(&mut self, route: &Route, above: &Node) -> usize {
        let key: Arc<str> = match &*above.key {
            "" => route.matchers.to_string().into(),
            parent => format!("{parent}/{}", route.matchers).into(),
        };
        let node = Node {
            id: Arc::clone(&key),
            key,
            matchers: route.matchers.clone(),
            goes_on: route.goes_on,
            receiver: match &route.receiver {
                Some(receiver) => receiver.as_str().into(),
                None => Arc::clone(&above.receiver),
            },
            group_by: route.group_by.clone().unwrap_or(above.group_by.clone()),
            group_wait: route.group_wait.unwrap_or(above.group_wait),
            group_interval: route
                .group_interval
                .unwrap_or(above.group_interval)
                .max(Duration::from_secs(1)),
            repeat_interval: route.repeat_interval.unwrap_or(above.repeat_interval),
            mute: route.mute.clone(),
            active: route.active.clone(),
            children: Vec::new(),
        };
        let number = self.nodes.len();
        self.nodes.push(node.clone());
        let children = route
            .routes
            .iter()
            .map(|child| self.add(child, &node))
            .collect();
        if let Some(node) = self.nodes.get_mut(number) {
            node.children = children;
        }
        number
    }

    /// The numbers of the nodes that an alert with these labels ends up at, in their order; at least the
    /// root. `O(nodes)`.
    pub fn matching(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.descend(0, labels, &mut found);
        found
    }

    fn descend(&self, number: usize, labels: &Labels, found: &mut Vec<usize>) {
        let before = found.len();
        for child in self.matching_children(number, labels) {
            self.descend(child, labels, found);
        }
        if found.len() == before {
            found.push(number);
        }
    }

    /// The numbers of the nodes directly below that take an alert with these labels.
    pub fn matching_children(&self, number: usize, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        for child in self.node(number).map_or(&[][..], |node| &node.children) {
            let Some(node) = self
                .node(*child)
                .filter(|node| node.matchers.matches(labels))
            else {
                continue;
            };
            found.push(*child);
            if !node.goes_on {
                break;
            }
        }
        found
    }

    /// The node of this number.
    pub fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(number)
    }

    /// All nodes in their order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The number of the node whose groups were saved under `id`, if it still has that receiver. `None` as
    /// receiver: whichever it has.
    pub(super) fn find(&self, id: &str, receiver: Option<&str>) -> Option<usize> {
        self.nodes.iter().position(|node| {
            *node.id == *id && receiver.is_none_or(|receiver| *node.receiver == *receiver)
        })
    }

    /// Whether a node is outside of the tree.
    pub(super) fn is_retired(&self, number: usize) -> bool {
        self.node(number)
            .is_some_and(|node| node.id.starts_with(RETIRED))
    }

    /// A node outside of the tree for groups of one that the configuration no longer has: it is there to
    /// end what its `receiver` was told under `key`.
    pub(super) fn retire(&mut self, id: &str, key: &str, receiver: &str) -> usize {
        let retired = match id.starts_with(RETIRED) {
            true => id.to_owned(),
            false => format!("{RETIRED}{receiver}{RETIRED}{id}"),
        };
        if let Some(number) = self.find(&retired, Some(receiver)) {
            return number;
        }
        self.nodes.push(Node {
            key: key.into(),
            matchers: Selector::default(),
            goes_on: false,
            receiver: receiver.into(),
            group_by: GroupBy::All,
            group_wait: Duration::ZERO,
            group_interval: Duration::from_secs(1),
            repeat_interval: Duration::from_hours(4),
            mute: Vec::new(),
            active: Vec::new(),
            children: Vec::new(),
            id: retired.into(),
        });
        self.nodes.len() - 1
    }
}

/// Begins the id of a node that is out of the tree; a key begins with `{`.
const RETIRED: char = '~';

impl Node {
    /// The time intervals for which it is mute at `now`, sorted; empty: it is not.
    pub fn muted_by(&self, now: Timestamp) -> Vec<String> {
        let name = |interval: &Arc<TimeInterval>| interval.name.to_string();
        let mut names: BTreeSet<String> = self
            .mute
            .iter()
            .filter(|interval| interval.contains(now))
            .map(name)
            .collect();
        if !self.active.is_empty() && !self.active.iter().any(|interval| interval.contains(now)) {
            names.extend(self.active.iter().map(name));
        }
        names.into_iter().collect()
    }
}
