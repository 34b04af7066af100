//! What happened to modes, in one sentence for people: logs, the audit on the command line.

use super::{
    EffectVerdict, Episode, EpisodeAction, Event, EventBody, ModeStep, PlanRun, PlanState,
    ProposalAction, Restraint, StepState,
};

impl ModeStep {
    /// `update`, `degrade`, `escalate`, `recover`, `undo` or `override`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Degrade => "degrade",
            Self::Escalate => "escalate",
            Self::Recover => "recover",
            Self::Undo => "undo",
            Self::Override => "override",
        }
    }
}

impl Restraint {
    /// Why it is not done, in words that follow "because".
    pub fn reason(&self) -> String {
        match self {
            Self::Limit => "as many services are away from normal as may be".into(),
            Self::GroupLimit { group } => {
                format!("as many services of group {group} are away from normal as may be")
            }
            Self::DryRun => "the policy only tries what it would do".into(),
            Self::Frozen => "automatic changes are frozen".into(),
        }
    }
}

impl PlanState {
    /// `running`, `standing`, `undoing`, `undone`, `recovering` or `done`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Standing => "standing",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Recovering => "recovering",
            Self::Done => "done",
        }
    }
}

impl StepState {
    /// `waiting`, `told`, `acknowledged`, `failed`, `undoing`, `undone` or `recovered`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Told => "told",
            Self::Acknowledged => "acknowledged",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Recovered => "recovered",
        }
    }
}

impl Episode {
    /// What the last step that was judged did; `None` while none was.
    pub fn verdict(&self) -> Option<EffectVerdict> {
        self.actions.iter().rev().find_map(|action| {
            let effect = action.effect.as_ref()?;
            (effect.verdict != EffectVerdict::Watching).then_some(effect.verdict)
        })
    }
}

impl Event {
    /// What happened, in one sentence without a full stop. Of alerts, silences and answers to alerts no more
    /// than their names.
    pub fn sentence(&self) -> String {
        match &self.body {
            EventBody::Mode(change) => {
                let state = &change.state;
                let (service, mode, cause) = (&state.service, &state.mode, &change.cause);
                match change.from == *mode {
                    true => format!("{service} stays {mode}: {cause}"),
                    false => format!("{service} goes from {} to {mode}: {cause}", change.from),
                }
            }
            EventBody::Freeze {
                frozen,
                author,
                reason,
            } => match frozen {
                true => format!("{author} freezes automatic changes: {reason}"),
                false => format!("{author} allows automatic changes again"),
            },
            EventBody::Proposal {
                action,
                proposal,
                author,
                reason,
            } => {
                let what = format!(
                    "{} to {} by policy {}",
                    proposal.service, proposal.mode, proposal.policy
                );
                match action {
                    ProposalAction::Made => {
                        format!(
                            "proposed: {what}; not done because {}",
                            proposal.restraint.reason()
                        )
                    }
                    ProposalAction::Approved => format!("{author} approves {what}: {reason}"),
                    ProposalAction::Rejected => format!("{author} rejects {what}: {reason}"),
                    ProposalAction::Withdrawn => format!("no longer proposed: {what}"),
                }
            }
            EventBody::Acknowledged {
                service,
                acknowledgement,
            } => {
                let who = match acknowledgement.instance.as_str() {
                    "" => service.clone(),
                    instance => format!("{service} ({instance})"),
                };
                let detail = match acknowledgement.detail.as_str() {
                    "" => String::new(),
                    detail => format!(": {detail}"),
                };
                format!("{who} runs in {}{detail}", acknowledgement.mode)
            }
            EventBody::Episode { action, episode } => of_episode(*action, episode),
            EventBody::Plan { plan } => of_plan(plan),
            EventBody::Alert { alert, .. } => {
                format!(
                    "alert {} of {} is {}",
                    alert.name(),
                    alert.service,
                    alert.state.name()
                )
            }
            EventBody::Dismissed {
                alertname,
                service,
                author,
                comment,
                ..
            } => format!("{author} calls {alertname} of {service} normal: {comment}"),
            EventBody::Silence {
                matchers,
                author,
                comment,
                ..
            } => {
                format!("silence {matchers} by {author}: {comment}")
            }
        }
    }
}

fn of_episode(action: EpisodeAction, episode: &Episode) -> String {
    let service = &episode.service;
    let last = episode.actions.last();
    match action {
        EpisodeAction::Opened => {
            let cause = last.map_or("", |action| action.cause.as_str());
            format!("{service} leaves normal: {cause}")
        }
        EpisodeAction::Stepped => match last {
            Some(step) => format!(
                "{service}, {}: from {} to {}: {}",
                step.step.name(),
                step.from,
                step.to,
                step.cause
            ),
            None => format!("{service} takes a step"),
        },
        EpisodeAction::Judged => {
            let judged = episode.actions.iter().rev().find_map(|action| {
                let effect = action.effect.as_ref()?;
                (effect.verdict != EffectVerdict::Watching).then_some((action, effect))
            });
            match judged {
                Some((step, effect)) => format!(
                    "{service} in {}: {}: {}",
                    step.to,
                    effect.verdict.words(),
                    effect.sentence
                ),
                None => format!("{service}: an effect was judged"),
            }
        }
        EpisodeAction::Ended => format!("{service} is normal again: {}", episode.outcome),
    }
}

fn of_plan(plan: &PlanRun) -> String {
    let steps: Vec<String> = plan
        .steps
        .iter()
        .map(|step| format!("{} {} ({})", step.service, step.mode, step.state.name()))
        .collect();
    let outcome = match plan.outcome.as_str() {
        "" => String::new(),
        outcome => format!(": {outcome}"),
    };
    format!(
        "plan {} is {}{outcome}; {}",
        plan.policy,
        plan.state.name(),
        steps.join(", ")
    )
}

impl EffectVerdict {
    /// For people: `watching`, `better`, `no effect`, `worse` or `unknown`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Improved => "better",
            Self::NoEffect => "no effect",
            Self::Worse => "worse",
            Self::Unknown => "unknown",
        }
    }
}
