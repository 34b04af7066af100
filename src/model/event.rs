use serde::{Deserialize, Serialize};

use super::{
    Acknowledgement, Alert, AlertState, Episode, EpisodeAction, Fingerprint, ModeChange, PlanRun,
    Proposal, ProposalAction, Timestamp,
};

/// One entry of the event log that `/api/v1/events` streams. Numbers grow by one and are never used
/// twice over the life of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Number of the event, from 1.
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// An alert changed its state.
    Alert {
        /// The state before.
        from: Option<AlertState>,
        /// The alert afterwards.
        alert: Alert,
    },
    /// A service was told another mode, or the reasons for its mode changed.
    Mode(ModeChange),
    /// Automatic mode changes were stopped or allowed again.
    Freeze {
        /// Whether they are stopped.
        frozen: bool,
        /// Who did it.
        author: String,
        /// Why.
        reason: String,
    },
    /// A step that automation leaves to people was proposed, approved, rejected or withdrawn.
    Proposal {
        /// What became of it.
        action: ProposalAction,
        /// The step.
        proposal: Proposal,
        /// Who decided; empty for automation.
        author: String,
        /// Why; may be empty.
        reason: String,
    },
    /// An instance of a service runs in another mode than before, or has heard a newer instruction.
    Acknowledged {
        /// The service.
        service: String,
        /// What it says.
        acknowledgement: Acknowledgement,
    },
    /// A departure of a service from normal began, went on or ended.
    Episode {
        /// What happened.
        action: EpisodeAction,
        /// The episode afterwards.
        episode: Episode,
    },
    /// A plan began, went on or ended.
    Plan {
        /// The plan afterwards.
        plan: PlanRun,
    },
    /// A person called the deviation of an alert normal.
    Dismissed {
        /// Identity of the alert.
        fingerprint: Fingerprint,
        /// The rule's name.
        alertname: String,
        /// The service that it is about.
        service: String,
        /// Who.
        author: String,
        /// Why.
        comment: String,
    },
    /// A person set or ended a silence.
    Silence {
        /// What was done.
        action: SilenceAction,
        /// Id of the silence.
        id: String,
        /// What it silences: `{service="checkout"}`.
        matchers: String,
        /// From when on.
        starts_at: Timestamp,
        /// Until when.
        ends_at: Timestamp,
        /// Who made it.
        author: String,
        /// Why.
        comment: String,
    },
}

/// What was done to a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceAction {
    /// It was made or changed.
    Set,
    /// It was ended before its time.
    Expired,
}

impl Event {
    /// The service it is about; `None` for what concerns all.
    pub fn service(&self) -> Option<&str> {
        match &self.body {
            EventBody::Alert { alert, .. } => Some(&alert.service),
            EventBody::Mode(change) => Some(&change.state.service),
            EventBody::Dismissed { service, .. } => Some(service),
            EventBody::Proposal { proposal, .. } => Some(&proposal.service),
            EventBody::Acknowledged { service, .. } => Some(service),
            EventBody::Episode { episode, .. } => Some(&episode.service),
            EventBody::Freeze { .. } | EventBody::Silence { .. } | EventBody::Plan { .. } => None,
        }
    }

    /// The SSE event name: `alert`, `mode`, `freeze`, `proposal`, `acknowledged`, `episode`, `plan`,
    /// `silence` or `dismissed`.
    pub fn name(&self) -> &'static str {
        match &self.body {
            EventBody::Alert { .. } => "alert",
            EventBody::Mode(_) => "mode",
            EventBody::Freeze { .. } => "freeze",
            EventBody::Proposal { .. } => "proposal",
            EventBody::Acknowledged { .. } => "acknowledged",
            EventBody::Episode { .. } => "episode",
            EventBody::Plan { .. } => "plan",
            EventBody::Silence { .. } => "silence",
            EventBody::Dismissed { .. } => "dismissed",
        }
    }
}
