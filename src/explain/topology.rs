//! Who calls whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::EdgeView;

/// The callees of every service.
#[derive(Debug, Clone, Default)]
pub(super) struct Topology {
    callees: BTreeMap<String, BTreeSet<String>>,
}

impl Topology {
    /// From the engine's edges. Calls of a service to itself lead nowhere and are left out.
    pub(super) fn new(edges: &[EdgeView]) -> Self {
        let mut callees: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for edge in edges.iter().filter(|edge| edge.caller != edge.callee) {
            callees
                .entry(edge.caller.clone())
                .or_default()
                .insert(edge.callee.clone());
        }
        Self { callees }
    }

    /// Whether one of the two calls the other.
    pub(super) fn are_neighbours(&self, a: &str, b: &str) -> bool {
        let calls = |from: &str, to: &str| self.callees.get(from).is_some_and(|c| c.contains(to));
        calls(a, b) || calls(b, a)
    }

    /// Whom `service` calls, by name.
    pub(super) fn callees(&self, service: &str) -> impl Iterator<Item = &str> {
        self.callees
            .get(service)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }
}
