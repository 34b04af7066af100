//! DEGRADE: firing alerts come in, the mode of each service goes out.
//!
//! A [`Machine`] matches alerts against policies and decides in which mode each service is to run. It
//! is driven from outside: every input carries the time, every output is a list of changes, and
//! [`Machine::next_deadline`] says when to come back. What always holds:
//!
//! - Levels step one at a time, farther only after `hold` since the last change, unless the policy says
//!   `direct`. The way back is always one level at a time, each after `hold` since the last change and
//!   after nothing has asked for the present level for `recover`.
//! - Nothing automatic changes a service's level twice within its hold, up or down.
//! - Automation never takes a service away from normal when that would put more than the `limit` of all
//!   services, or of those of a group, away; whoever finds no room becomes a proposal, and the most severe
//!   go first when there is room. What a policy with `dry_run` would do, and what a freeze keeps from being
//!   done, is proposed too. A person may say yes, then it is done now, or no.
//! - The effect of every step up is judged by the alerts behind it: what does harm is taken back at once,
//!   what has no effect is taken back, taken farther, or stays, as the policy says.
//! - A policy with several steps takes them in order, each when the one before is acknowledged; if one
//!   fails, what was done is taken back in reverse order.
//! - A manual override wins over every policy and ends when it says; a freeze stops every automatic
//!   change, in both directions.
//! - Silence is neither health nor illness. After a start, a jump of the clock and a gap in the data nothing
//!   is changed until there has been data for a while, and such time counts for nothing. What an alert
//!   asked for that ended only because nothing more was heard of it stands still, and is let go after a
//!   while, so that every departure ends.
//!
//! The machine knows nothing of detectors, of how services hear it, or of where its state is kept.

mod acknowledgement;
mod asked;
mod claim;
mod claims;
mod effect;
mod episode;
mod held;
mod limits;
mod machine;
mod outcome;
mod plan;
mod plan_list;
mod plans;
mod plans_asked;
mod policy;
mod proposal;
mod saved;
mod service;
mod settings;
mod settle;
mod sight;
mod target;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod properties_world;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod scenarios_bounds;
#[cfg(test)]
mod scenarios_limits;
#[cfg(test)]
mod scenarios_plans;
#[cfg(test)]
mod scenarios_safety;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{
    Alert, Episode, Levels, ModeState, PlanRun, Proposal, ServiceReport, Timestamp,
};

pub use machine::{MAX_STEP, Machine};
pub use policy::{EffectSettings, Otherwise, Parts, PlanStepSettings, Policy, Step};
pub use settings::{Allowance, Group, Members, Settings};
pub use target::{ServiceTemplate, Target};

/// What a tick brought, as far as modes are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// The names of all services that there are.
    pub services: &'a [&'a str],
    /// Who calls whom: caller and callee.
    pub calls: &'a [(&'a str, &'a str)],
    /// All alerts with their present numbers, those resolved lately among them.
    pub alerts: &'a [Arc<Alert>],
    /// Whether anything at all was heard since the last tick.
    pub fed: bool,
}

/// The kill switch: no automatic change while it is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    /// Who set it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When.
    pub set_at: Timestamp,
}

/// What all services are told, with leases that run from the moment it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The names of the levels.
    pub levels: Levels,
    /// Every known service, by name.
    pub services: BTreeMap<String, ModeState>,
    /// The kill switch, while it is set.
    pub freeze: Option<Freeze>,
    /// Steps that automation leaves to people, by service.
    pub proposals: Vec<Proposal>,
    /// Departures from normal that go on, then those that ended lately, the newest first.
    pub episodes: Vec<Arc<Episode>>,
    /// Plans that go on, then those that ended lately, the newest first.
    pub plans: Vec<Arc<PlanRun>>,
    /// What services that report say, by name.
    pub reports: BTreeMap<String, ServiceReport>,
    /// Why automation changes nothing at present, beside the kill switch. `None`: it may.
    pub blind: Option<String>,
}

/// Why a command was not carried out. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such service, or no override on it.
    #[error("{0}")]
    NotFound(String),
    /// The command itself is wrong.
    #[error("{0}")]
    Invalid(String),
}
