//! What automation decided and proposes: proposals, episodes, plans, the audit.

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde_json::{Value, json};

use crate::config::Period;
use crate::model::{Action, Episode, Event, PlanRun, Proposal, Timestamp};

use super::{Author, modes, read};
use crate::cli::client::Client;
use crate::cli::output::{Output, ago, cell, clean, graded, period, print};

/// Entries that one request brings.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct Decision {
    /// Id of the proposal, from `tidewatch mode proposals`
    id: String,
    /// Why; kept with the decision
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    author: Author,
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Only what concerns this service
    service: Option<String>,
    /// Only these kinds: mode, freeze, proposal, acknowledged, episode, plan
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// How far back, such as 24h or 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = super::duration)]
    since: Period,
    /// At most so many entries, the newest
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) async fn proposals(client: &Client, output: Output, now: Timestamp) -> Result<()> {
    let mut answer = client.get(&modes(&["proposals"]), &[]).await?;
    let data = answer["data"].take();
    let proposals = read(&data)?;
    output.show(&data, |output| proposals_table(output, proposals, now))
}

fn proposals_table(output: Output, proposals: Vec<Proposal>, now: Timestamp) -> String {
    if proposals.is_empty() {
        return "Nothing is proposed.\n".into();
    }
    let row = |proposal: &Proposal| {
        let why = proposal.why.iter().map(|reason| reason.alertname.as_str());
        let mut why: Vec<&str> = why.collect();
        why.dedup();
        vec![
            cell(&proposal.id),
            cell(&proposal.service),
            graded(&proposal.mode),
            cell(&proposal.policy),
            cell(&period(now.since(proposal.since))),
            cell(&proposal.restraint.reason()),
            cell(&why.join(", ")),
        ]
    };
    let rows = proposals.iter().map(row).collect();
    let header = [
        "ID",
        "SERVICE",
        "MODE",
        "POLICY",
        "FOR",
        "NOT DONE BECAUSE",
        "WHY",
    ];
    output.table(&header, rows)
}

pub(super) async fn decide(client: &Client, decision: Decision, approve: bool) -> Result<()> {
    let Decision { id, reason, author } = decision;
    let body = json!({"author": author.author, "reason": reason});
    let verb = if approve { "approve" } else { "reject" };
    let mut answer = client
        .post(&modes(&["proposals", &id, verb]), &body)
        .await?;
    let proposal: Proposal = read(&answer["data"].take())?;
    let (service, mode) = (clean(&proposal.service), clean(&proposal.mode));
    print(&match approve {
        true => format!("{service} is told {mode} now.\n"),
        false => format!(
            "Policy {} leaves {service} alone until its alerts are over.\n",
            clean(&proposal.policy)
        ),
    })
}

pub(super) async fn episodes(
    client: &Client,
    output: Output,
    service: Option<String>,
    now: Timestamp,
) -> Result<()> {
    let query: Vec<_> = service.into_iter().map(|name| ("service", name)).collect();
    let mut answer = client.get(&modes(&["episodes"]), &query).await?;
    let data = answer["data"].take();
    let episodes = read(&data)?;
    output.show(&data, |output| episodes_table(output, episodes, now))
}

fn episodes_table(output: Output, episodes: Vec<Episode>, now: Timestamp) -> String {
    if episodes.is_empty() {
        return "No service has left normal by itself.\n".into();
    }
    let mut rows = Vec::new();
    for episode in &episodes {
        let end = episode.ended_at.unwrap_or(now);
        let lasted = period(end.since(episode.opened_at));
        let state = match episode.ended_at {
            None => format!("for {lasted}"),
            Some(ended) => format!("{lasted}, {} ago", period(now.since(ended))),
        };
        for (at, action) in episode.actions.iter().enumerate() {
            let first = at == 0;
            rows.push(vec![
                cell(if first { &episode.service } else { "" }),
                cell(if first { &state } else { "" }),
                cell(&format!("{} → {}", action.from, action.to)),
                cell(action.step.name()),
                cell(&effect(action)),
                cell(&action.cause),
            ]);
        }
    }
    output.table(&["SERVICE", "AWAY", "STEP", "KIND", "EFFECT", "WHY"], rows)
}

/// What a step did, in a few words: `better (100% → 31%)`.
fn effect(action: &Action) -> String {
    let Some(effect) = &action.effect else {
        return String::new();
    };
    let verdict = effect.verdict.words();
    match (effect.before, effect.after) {
        (Some(before), Some(after)) => {
            let percent = |share: f64| format!("{:.0}%", share * 100.0);
            format!("{verdict} ({} → {})", percent(before), percent(after))
        }
        _ => verdict.to_owned(),
    }
}

pub(super) async fn plans(client: &Client, output: Output, now: Timestamp) -> Result<()> {
    let mut answer = client.get(&modes(&["plans"]), &[]).await?;
    let data = answer["data"].take();
    let plans = read(&data)?;
    output.show(&data, |output| plans_table(output, plans, now))
}

fn plans_table(output: Output, plans: Vec<PlanRun>, now: Timestamp) -> String {
    if plans.is_empty() {
        return "No plan has begun.\n".into();
    }
    let mut rows = Vec::new();
    for plan in &plans {
        for (at, step) in plan.steps.iter().enumerate() {
            let first = at == 0;
            let began = format!("{} ago", period(now.since(plan.started_at)));
            rows.push(vec![
                cell(if first { &plan.policy } else { "" }),
                cell(if first { plan.state.name() } else { "" }),
                cell(if first { &began } else { "" }),
                cell(&step.service),
                graded(&step.mode),
                cell(step.state.name()),
                cell(&step.detail),
            ]);
        }
    }
    let header = [
        "PLAN",
        "STATE",
        "BEGAN",
        "SERVICE",
        "MODE",
        "STEP",
        "WHAT HAPPENED",
    ];
    output.table(&header, rows)
}

pub(super) async fn audit(
    client: &Client,
    output: Output,
    arguments: AuditArgs,
    now: Timestamp,
) -> Result<()> {
    let mut query = vec![("from", now.minus(arguments.since.0).rfc3339())];
    query.extend(arguments.service.map(|service| ("service", service)));
    query.extend(arguments.types.into_iter().map(|name| ("type", name)));
    query.push(("limit", arguments.limit.min(PAGE).to_string()));
    let mut entries = Vec::new();
    loop {
        let mut answer = client.get(&modes(&["audit"]), &query).await?;
        let page: Vec<Value> = crate::cli::client::list(json!({"data": answer["data"].take()}))?;
        entries.extend(page);
        let next = answer["next"].as_str().map(str::to_owned);
        let Some(next) = next.filter(|_| entries.len() < arguments.limit) else {
            break;
        };
        query.retain(|(name, _)| *name != "cursor");
        query.push(("cursor", next));
    }
    entries.truncate(arguments.limit);
    let events = entries.iter().map(event).collect::<Result<Vec<_>>>()?;
    output.show(&Value::Array(entries), |output| {
        audit_table(output, &events, now)
    })
}

/// An entry as the event that it was.
fn event(entry: &Value) -> Result<Event> {
    let mut body = entry["data"].clone();
    let kind = entry["type"].clone();
    let fields = body.as_object_mut().context("an entry says nothing")?;
    fields.insert("type".into(), kind);
    let event = json!({"sequence": entry["sequence"], "time": entry["time"], "body": body});
    serde_json::from_value(event)
        .map_err(|_| anyhow!("the answer is not as expected; is the daemon of another version?"))
}

fn audit_table(output: Output, events: &[Event], now: Timestamp) -> String {
    if events.is_empty() {
        return "Nothing was decided.\n".into();
    }
    let row = |event: &Event| {
        vec![
            cell(&format!("{} ago", ago(&event.time.rfc3339(), now))),
            cell(event.name()),
            cell(&event.sentence()),
        ]
    };
    output.table(&["WHEN", "TYPE", "WHAT"], events.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{
        Effect, EffectVerdict, EpisodeAction, EventBody, Fingerprint, Instruction, Level,
        ModeReason, ModeStep, PlanState, PlanStep, Restraint, StepState,
    };

    const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

    fn before(seconds: u64) -> Timestamp {
        NOW.minus(Duration::from_secs(seconds))
    }

    fn episode() -> Episode {
        let action = |at, step, from: &str, to: &str, effect| Action {
            at,
            step,
            from: from.into(),
            to: to.into(),
            policy: "slow".into(),
            cause: "policy slow: p99 is 310ms, 120ms expected".into(),
            effect,
        };
        let better = Effect {
            verdict: EffectVerdict::Improved,
            before: Some(1.0),
            after: Some(0.31),
            judged_at: Some(before(500)),
            sentence: "p99 of checkout is 69% nearer to what is expected".into(),
        };
        Episode {
            id: "e1".into(),
            service: "checkout".into(),
            opened_at: before(600),
            ended_at: Some(before(60)),
            why: Vec::new(),
            actions: vec![
                action(
                    before(600),
                    ModeStep::Degrade,
                    "normal",
                    "degraded",
                    Some(better),
                ),
                action(before(60), ModeStep::Recover, "degraded", "normal", None),
            ],
            outcome: "recovered".into(),
        }
    }

    #[test]
    fn proposals_are_a_table() {
        let proposal = Proposal {
            id: "p7".into(),
            service: "cart".into(),
            mode: "degraded".into(),
            level: Level(1),
            instruction: Instruction::default(),
            policy: "slow".into(),
            restraint: Restraint::DryRun,
            why: vec![ModeReason {
                policy: "slow".into(),
                fingerprint: Fingerprint(1),
                alertname: "LatencyDeviation".into(),
                explanation: String::new(),
            }],
            since: before(90),
        };
        insta::assert_snapshot!(proposals_table(Output::PLAIN, vec![proposal], NOW), @"
ID  SERVICE  MODE      POLICY  FOR    NOT DONE BECAUSE                        WHY
p7  cart     degraded  slow    1m30s  the policy only tries what it would do  LatencyDeviation
");
        let none = proposals_table(Output::PLAIN, Vec::new(), NOW);
        assert_eq!(none, "Nothing is proposed.\n");
    }

    #[test]
    fn episodes_have_a_line_a_step() {
        insta::assert_snapshot!(episodes_table(Output::PLAIN, vec![episode()], NOW), @"
SERVICE   AWAY        STEP               KIND     EFFECT               WHY
checkout  9m, 1m ago  normal → degraded  degrade  better (100% → 31%)  policy slow: p99 is 310ms, 120ms expected
                      degraded → normal  recover                       policy slow: p99 is 310ms, 120ms expected
");
    }

    #[test]
    fn plans_have_a_line_a_step() {
        let step = |service: &str, state, detail: &str| PlanStep {
            service: service.into(),
            mode: "degraded".into(),
            state,
            at: before(10),
            detail: detail.into(),
        };
        let plan = PlanRun {
            id: "r1".into(),
            policy: "protect".into(),
            why: Vec::new(),
            started_at: before(30),
            ended_at: None,
            state: PlanState::Undoing,
            steps: vec![
                step("gateway", StepState::Undoing, "told to go back"),
                step("payment", StepState::Failed, "not acknowledged within 30s"),
            ],
            outcome: String::new(),
        };
        insta::assert_snapshot!(plans_table(Output::PLAIN, vec![plan], NOW), @"
PLAN     STATE    BEGAN    SERVICE  MODE      STEP     WHAT HAPPENED
protect  undoing  30s ago  gateway  degraded  undoing  told to go back
                           payment  degraded  failed   not acknowledged within 30s
");
    }

    #[test]
    fn the_audit_says_what_happened_in_sentences() {
        let entry = |sequence: u64, body: EventBody| {
            let mut data = serde_json::to_value(&body).unwrap();
            let kind = data.as_object_mut().unwrap().remove("type").unwrap();
            let time = before(sequence);
            json!({"sequence": sequence, "time": time, "type": kind, "data": data})
        };
        let of_episode = |action| EventBody::Episode {
            action,
            episode: episode(),
        };
        let entries = [
            entry(5, of_episode(EpisodeAction::Ended)),
            entry(90, of_episode(EpisodeAction::Judged)),
            entry(
                100,
                EventBody::Freeze {
                    frozen: true,
                    author: "ada".into(),
                    reason: "migration".into(),
                },
            ),
        ];
        let events: Vec<Event> = entries.iter().map(|entry| event(entry).unwrap()).collect();
        insta::assert_snapshot!(audit_table(Output::PLAIN, &events, NOW), @"
WHEN       TYPE     WHAT
5s ago     episode  checkout is normal again: recovered
1m30s ago  episode  checkout in degraded: better: p99 of checkout is 69% nearer to what is expected
1m40s ago  freeze   ada freezes automatic changes: migration
");
        assert!(event(&json!({"sequence": 1})).is_err());
    }
}
