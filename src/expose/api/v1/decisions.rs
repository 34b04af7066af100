use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract;
use axum::response::Response;
use serde::Deserialize;

use super::alerts::within;
use crate::expose::answer::{ApiError, success, success_page};
use crate::expose::ask::ask;
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Episode, PlanRun, Proposal};
use crate::publish::Command;

/// Longest author and reason, in characters.
const MAX_AUTHOR: usize = 256;
const MAX_REASON: usize = 2_000;
/// How long the decision task may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Steps that automation leaves to people.
pub(super) async fn proposals(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Response {
    let modes = state.board.modes();
    let service = params.get("service");
    let of = |proposal: &&Proposal| service.is_none_or(|service| proposal.service == service);
    let proposals: Vec<_> = modes.proposals.iter().filter(of).collect();
    success_page(proposals, None)
}

/// Who decides on a proposal, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    author: String,
    reason: String,
}

/// A person says yes: the step is taken now.
pub(super) async fn approve(
    state: extract::State<State>,
    id: extract::Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    decide(state, id, body, true).await
}

/// A person says no: the policy leaves the service alone until its alerts are over.
pub(super) async fn reject(
    state: extract::State<State>,
    id: extract::Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    decide(state, id, body, false).await
}

async fn decide(
    extract::State(state): extract::State<State>,
    extract::Path(id): extract::Path<String>,
    body: Bytes,
    approve: bool,
) -> Result<Response, ApiError> {
    let Decision { author, reason } = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_data(format!("invalid body: {error}")))?;
    let author = within("author", &author, MAX_AUTHOR)?;
    let reason = within("reason", &reason, MAX_REASON)?;
    let command = |reply| Command::Decide {
        proposal: id,
        approve,
        author,
        reason,
        reply,
    };
    Ok(success(ask(&state.board, PATIENCE, command).await?))
}

/// Departures from normal: those that go on, then those that ended lately, the newest first.
pub(super) async fn episodes(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit(state.settings.page_default, state.settings.page_limit)?;
    let modes = state.board.modes();
    let service = params.get("service");
    let of = |episode: &&Arc<Episode>| service.is_none_or(|service| episode.service == service);
    let episodes: Vec<_> = modes.episodes.iter().filter(of).take(limit).collect();
    Ok(success_page(episodes, None))
}

/// Plans: those that go on, then those that ended lately, the newest first.
pub(super) async fn plans(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit(state.settings.page_default, state.settings.page_limit)?;
    let modes = state.board.modes();
    let plans: Vec<&Arc<PlanRun>> = modes.plans.iter().take(limit).collect();
    Ok(success_page(plans, None))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::body::Body;
    use http::Request;
    use serde_json::{Value, json};

    use super::*;
    use crate::expose::fakes::{Answer, NOW, Site, modes};
    use crate::model::{
        Action, Effect, EffectVerdict, Event, EventBody, Instruction, Level, ModeReason, ModeStep,
        PlanState, PlanStep, Priority, Restraint, StepState,
    };

    fn proposal(id: &str, service: &str) -> Proposal {
        Proposal {
            id: id.into(),
            service: service.into(),
            mode: "degraded".into(),
            level: Level(1),
            instruction: Instruction {
                features: BTreeMap::from([("a".to_owned(), json!(false))]),
                priority_floor: Priority::High,
                quality: None,
                shed: 0.1,
            },
            policy: "slow".into(),
            restraint: Restraint::GroupLimit {
                group: "edge".into(),
            },
            why: vec![ModeReason {
                policy: "slow".into(),
                fingerprint: crate::model::Fingerprint(255),
                alertname: "LatencyDeviation".into(),
                explanation: "it is slow".into(),
            }],
            since: NOW,
        }
    }

    fn episode(id: &str, service: &str) -> Arc<Episode> {
        Arc::new(Episode {
            id: id.into(),
            service: service.into(),
            opened_at: NOW,
            ended_at: None,
            why: Vec::new(),
            actions: vec![Action {
                at: NOW,
                step: ModeStep::Degrade,
                from: "normal".into(),
                to: "degraded".into(),
                policy: "slow".into(),
                cause: "it is slow".into(),
                effect: Some(Effect {
                    verdict: EffectVerdict::Improved,
                    before: Some(1.0),
                    after: Some(0.4),
                    judged_at: Some(NOW),
                    sentence: "better".into(),
                }),
            }],
            outcome: String::new(),
        })
    }

    fn site() -> Site {
        let site = Site::new();
        let mut view = modes(&[("checkout", "degraded")]);
        view.proposals = vec![proposal("p1", "cart"), proposal("p2", "search")];
        view.episodes = vec![episode("e1", "checkout"), episode("e2", "cart")];
        view.plans = vec![Arc::new(PlanRun {
            id: "r1".into(),
            policy: "protect".into(),
            why: Vec::new(),
            started_at: NOW,
            ended_at: None,
            state: PlanState::Running,
            steps: vec![PlanStep {
                service: "gateway".into(),
                mode: "degraded".into(),
                state: StepState::Told,
                at: NOW,
                detail: "told".into(),
            }],
            outcome: String::new(),
        })];
        site.board.set_modes(view);
        site
    }

    async fn post(site: &Site, path: &str, body: &str) -> Answer {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/json");
        site.ask(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    #[tokio::test]
    async fn proposals_are_shown_and_decided_on() {
        let mut site = site();
        site.decide();
        let answer = site.get("/api/v1/modes/proposals").await.json();
        insta::assert_json_snapshot!(answer["data"][0], @r#"
        {
          "id": "p1",
          "instruction": {
            "features": {
              "a": false
            },
            "priority_floor": "high",
            "quality": null,
            "shed": 0.1
          },
          "level": 1,
          "mode": "degraded",
          "policy": "slow",
          "restraint": {
            "group": "edge",
            "kind": "group_limit"
          },
          "service": "cart",
          "since": "2026-01-01T00:00:00Z",
          "why": [
            {
              "alertname": "LatencyDeviation",
              "explanation": "it is slow",
              "fingerprint": "00000000000000ff",
              "policy": "slow"
            }
          ]
        }
        "#);
        let of_one = site.get("/api/v1/modes/proposals?service=search").await;
        assert_eq!(of_one.json()["data"][0]["id"], "p2");

        let path = "/api/v1/modes/proposals/p1/approve";
        let said = r#"{"author":"ada","reason":"go"}"#;
        let answer = post(&site, path, said).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["data"]["id"], "p1");
        let path = "/api/v1/modes/proposals/p9/reject";
        assert_eq!(post(&site, path, said).await.status, 404);
        for wrong in [
            "",
            "{}",
            r#"{"author":"","reason":"x"}"#,
            r#"{"author":"a","reason":" "}"#,
        ] {
            assert_eq!(post(&site, path, wrong).await.status, 400, "{wrong}");
        }
    }

    #[tokio::test]
    async fn episodes_and_plans_are_shown() {
        let site = site();
        let all = site.get("/api/v1/modes/episodes").await.json();
        assert_eq!(all["data"].as_array().map(Vec::len), Some(2));
        let one = site.get("/api/v1/modes/episodes?service=cart").await.json();
        assert_eq!(one["data"][0]["id"], "e2");
        assert_eq!(one["data"][0]["actions"][0]["step"], "degrade");
        assert_eq!(
            one["data"][0]["actions"][0]["effect"]["verdict"],
            "improved"
        );
        assert_eq!(one["data"][1], Value::Null);
        let plans = site.get("/api/v1/modes/plans").await.json();
        assert_eq!(plans["data"][0]["steps"][0]["state"], "told");
    }

    #[tokio::test]
    async fn the_audit_is_shown_in_pages() {
        let site = site();
        let freeze = |sequence| Event {
            sequence,
            time: NOW,
            body: EventBody::Freeze {
                frozen: true,
                author: "ada".into(),
                reason: "r".into(),
            },
        };
        let episode = Event {
            sequence: 9,
            time: NOW,
            body: EventBody::Episode {
                action: crate::model::EpisodeAction::Opened,
                episode: Episode::clone(&episode("e1", "checkout")),
            },
        };
        *site.audit.0.lock().unwrap() = vec![freeze(3), freeze(4), episode];
        let first = site.get("/api/v1/modes/audit?limit=2").await.json();
        assert_eq!(first["data"][0]["type"], "episode");
        assert_eq!(first["data"][0]["data"]["episode"]["service"], "checkout");
        assert_eq!(first["next"], "4");
        let second = site.get("/api/v1/modes/audit?limit=2&cursor=4").await;
        assert_eq!(
            second.json(),
            json!({"status": "success", "next": null, "data": [{"sequence": 3,
                "time": "2026-01-01T00:00:00Z", "type": "freeze",
                "data": {"frozen": true, "author": "ada", "reason": "r"}}]})
        );
        let named = site.get("/api/v1/modes/audit?type=plan,episode").await;
        assert_eq!(named.json()["data"].as_array().map(Vec::len), Some(1));
        for (wrong, status) in [
            ("type=alert", 400),
            ("cursor=x", 400),
            ("from=x", 400),
            ("limit=-1", 400),
            ("service=unreadable", 503),
        ] {
            let answer = site.get(&format!("/api/v1/modes/audit?{wrong}")).await;
            assert_eq!(answer.status, status, "{wrong}");
        }
    }
}
