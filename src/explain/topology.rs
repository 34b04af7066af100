//! Who calls whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::EdgeView;

/// The callees and the callers of every service.
#[derive(Debug, Clone, Default)]
pub(super) struct Topology {
    callees: BTreeMap<String, BTreeSet<String>>,
    callers: BTreeMap<String, BTreeSet<String>>,
}

impl Topology {
    /// From the engine's edges. Calls of a service to itself lead nowhere and are left out.
    pub(super) fn new(edges: &[EdgeView]) -> Self {
        let mut topology = Self::default();
        for EdgeView { caller, callee, .. } in edges {
            if caller != callee {
                let callees = topology.callees.entry(caller.clone()).or_default();
                callees.insert(callee.clone());
                let callers = topology.callers.entry(callee.clone()).or_default();
                callers.insert(caller.clone());
            }
        }
        topology
    }

    /// Whom `service` calls, and who calls it.
    pub(super) fn neighbours(&self, service: &str) -> impl Iterator<Item = &str> {
        self.callees(service).chain(self.callers(service))
    }

    /// Who calls `service`, by name.
    pub(super) fn callers(&self, service: &str) -> impl Iterator<Item = &str> {
        let callers = self.callers.get(service).into_iter().flatten();
        callers.map(String::as_str)
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
