use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::asked::Known;
use super::claim::{Claim, Stance};
use super::held::{Held, UNSAID};
use super::outcome::Watching;
use super::service::Service;
use super::settings::Settings;
use super::{Freeze, Machine};
use crate::model::{
    Fingerprint, Level, Levels, ModeReason, ModeState, Override, Proposal, Timestamp,
};

/// Under which the kill switch is saved.
const FREEZE: &str = "freeze";
/// Under which the time of the last input is saved.
const CLOCK: &str = "clock";
/// Under which the clock of what was watched is saved. Earlier versions moved what counts along instead, so
/// that for them it is the time of the last input.
const WATCHED: &str = "watched";
/// Before the service's name.
const SERVICE: &str = "service/";
/// Before the id of an episode.
const EPISODE: &str = "episode/";
/// Before the id of a plan.
const PLAN: &str = "plan/";
/// Before the name of a service that reports.
const REPORT: &str = "report/";

/// A level by rank and name, so that it is found again when the levels have changed.
#[derive(Serialize, Deserialize)]
struct SavedLevel {
    rank: Level,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct SavedClaim {
    policy: String,
    fingerprint: Fingerprint,
    score: u16,
    alertname: String,
    explanation: String,
    #[serde(default)]
    silent_since: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct SavedService {
    told: ModeState,
    auto: SavedLevel,
    manual: Option<(Override, Level)>,
    claims: Vec<SavedClaim>,
    held: Vec<Held>,
    reasons: Vec<ModeReason>,
    hold_from: Timestamp,
    below_since: Option<Timestamp>,
    /// Missing in what earlier versions saved: it follows from the demands.
    #[serde(default)]
    hold: Option<Duration>,
    /// By name of the policy.
    #[serde(default)]
    stances: Vec<(String, Stance)>,
    #[serde(default)]
    proposal: Option<Proposal>,
    #[serde(default)]
    watching: Option<Watching>,
    #[serde(default)]
    released: Option<Timestamp>,
    /// Whether there were more claims than are saved.
    #[serde(default)]
    more: bool,
    /// Whether it is away and counts among the services that are heard; earlier versions made no difference.
    #[serde(default = "yes")]
    heard: bool,
}

fn yes() -> bool {
    true
}

impl Machine {
    /// What has to be kept to survive a restart and has changed since the last call: keys with their
    /// value, or `None` where there is nothing under that key any more. In order.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut changes = Vec::new();
        for name in std::mem::take(&mut self.unsaved) {
            let service = self.services.get(&name).filter(|service| service.durable);
            let value = service.map(|service| self.save(service));
            changes.push((format!("{SERVICE}{name}"), value));
        }
        if std::mem::take(&mut self.freeze_unsaved) {
            changes.push((FREEZE.into(), self.freeze.as_ref().map(json)));
        }
        for (id, saved) in self.episodes.changes() {
            changes.push((format!("{EPISODE}{id}"), saved.as_ref().map(json)));
        }
        for (id, saved) in self.plans.changes() {
            changes.push((format!("{PLAN}{id}"), saved.as_ref().map(json)));
        }
        for (name, saved) in self.reports.changes() {
            changes.push((format!("{REPORT}{name}"), saved.as_ref().map(json)));
        }
        // Time alone is not worth a write; beside another it says up to when there was watching.
        if !changes.is_empty() {
            changes.push((CLOCK.into(), self.sight.last.as_ref().map(json)));
            changes.push((WATCHED.into(), self.sight.watched.as_ref().map(json)));
        }
        changes
    }

    /// Everything that has to be kept, whether it has changed or not.
    pub fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let mut entries: Vec<_> = self
            .services
            .iter()
            .filter(|(_, service)| service.durable)
            .map(|(name, service)| (format!("{SERVICE}{name}"), self.save(service)))
            .collect();
        let episodes = self.episodes.entries().into_iter();
        entries.extend(episodes.map(|(id, saved)| (format!("{EPISODE}{id}"), json(&saved))));
        let plans = self.plans.entries().into_iter();
        entries.extend(plans.map(|(id, saved)| (format!("{PLAN}{id}"), json(&saved))));
        let reports = self.reports.entries().into_iter();
        entries.extend(reports.map(|(name, saved)| (format!("{REPORT}{name}"), json(&saved))));
        let freeze = self.freeze.as_ref().map(json);
        entries.extend(freeze.map(|value| (FREEZE.into(), value)));
        let clock = self.sight.last.as_ref().map(json);
        entries.extend(clock.map(|value| (CLOCK.into(), value)));
        let watched = self.sight.watched.as_ref().map(json);
        entries.extend(watched.map(|value| (WATCHED.into(), value)));
        entries
    }

    /// The machine as it was saved, under settings that may have changed since, and what could not be
    /// kept. Services are as they were, on the nearest level where theirs is gone. What a policy asked
    /// for that is gone is dropped; the way back is the one that was promised.
    ///
    /// Afterwards [`Machine::reconcile`] says which alerts still fire.
    pub fn restore(
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
        settings: Settings,
    ) -> (Self, Vec<String>) {
        let mut machine = Self::new(settings);
        let mut warnings = Vec::new();
        for (key, value) in entries {
            if let Some(read) = machine.restore_loop(&key, &value) {
                if let Err(error) = read {
                    warnings.push(format!("modes: entry `{key}` is left out: {error}"));
                }
                continue;
            }
            let read = match (key.as_str(), key.strip_prefix(SERVICE)) {
                (FREEZE, _) => serde_json::from_slice::<Freeze>(&value)
                    .map(|freeze| machine.freeze = Some(freeze)),
                (CLOCK, _) => {
                    serde_json::from_slice(&value).map(|last| machine.sight.last = Some(last))
                }
                (WATCHED, _) => serde_json::from_slice(&value)
                    .map(|watched| machine.sight.watched = Some(watched)),
                (_, Some(name)) => serde_json::from_slice(&value)
                    .map(|saved| machine.restore_service(name, saved, &mut warnings)),
                (_, None) => {
                    warnings.push(format!("modes: unknown entry `{key}` is left out"));
                    continue;
                }
            };
            if let Err(error) = read {
                warnings.push(format!("modes: entry `{key}` is left out: {error}"));
            }
        }
        // Without a clock the latest time that is known is the last that was watched.
        let anchors = machine.services.values().map(|service| {
            let below_since = service.below_since.unwrap_or(service.hold_from);
            below_since.max(service.hold_from)
        });
        let known = machine.sight.last.or(anchors.max());
        machine.sight.watched = machine.sight.watched.or(known);
        let services = &machine.services;
        let is_away = |name: &str| services.get(name).is_some_and(|s| s.auto > Level(0));
        let last = machine.sight.last.unwrap_or_default();
        machine.episodes.put_in_order(last, is_away);
        machine.plans.put_in_order();
        warnings.dedup();
        (machine, warnings)
    }

    /// Reads an entry of an episode, a plan or a report; `None`: it is another one.
    fn restore_loop(&mut self, key: &str, value: &[u8]) -> Option<serde_json::Result<()>> {
        if key.starts_with(EPISODE) {
            return Some(serde_json::from_slice(value).map(|saved| self.episodes.restore(saved)));
        }
        if key.starts_with(PLAN) {
            return Some(serde_json::from_slice(value).map(|saved| self.plans.restore(saved)));
        }
        let name = key.strip_prefix(REPORT)?.to_owned();
        Some(serde_json::from_slice(value).map(|saved| self.reports.restore(name, saved)))
    }

    fn save(&self, service: &Service) -> Vec<u8> {
        let levels = &self.settings.levels;
        let policy = |at: usize| self.settings.policies.get(at);
        let (claims, more) = service.foremost();
        json(&SavedService {
            told: service.told.clone(),
            auto: SavedLevel {
                rank: service.auto,
                name: levels.name(service.auto).into(),
            },
            manual: service.manual.clone().map(|manual| {
                let level = levels.level(&manual.mode).unwrap_or_default();
                (manual, level)
            }),
            claims: claims
                .into_iter()
                .filter_map(|((position, fingerprint), claim)| {
                    Some(SavedClaim {
                        policy: policy(*position)?.name.clone(),
                        fingerprint: *fingerprint,
                        score: claim.score,
                        alertname: claim.alertname.as_ref().into(),
                        explanation: claim.explanation.as_ref().into(),
                        silent_since: claim.silent_since,
                    })
                })
                .collect(),
            held: service.held.clone(),
            reasons: service.reasons.clone(),
            hold_from: service.hold_from,
            below_since: service.below_since,
            hold: service.hold,
            stances: service
                .stances
                .iter()
                .filter_map(|(at, stance)| Some((policy(*at)?.name.clone(), stance.clone())))
                .collect(),
            proposal: service.proposal.clone(),
            watching: service.watching.clone(),
            released: service.released,
            more,
            heard: service.is_away(levels) && service.was_heard,
        })
    }

    fn restore_service(&mut self, name: &str, saved: SavedService, warnings: &mut Vec<String>) {
        let worst = self.settings.worst();
        let policies = &self.settings.policies;
        let position = |policy: &str| policies.iter().position(|p| p.name == policy);
        let levels = &self.settings.levels;
        let mut nearest = |rank, name: &str, what| {
            let level = find_level(levels, rank, name);
            if rank > Level(0) && levels.name(level) != name {
                let nearest = levels.name(level);
                warnings.push(format!(
                    "modes: {what}: the level `{name}` is gone, `{nearest}` is nearest"
                ));
            }
            level
        };
        let auto = nearest(
            saved.auto.rank,
            &saved.auto.name,
            format!("service `{name}`"),
        );
        let manual = saved.manual.map(|(mut manual, rank)| {
            let what = format!("override of service `{name}`");
            let level = nearest(rank, &manual.mode, what);
            manual.mode = levels.name(level).into();
            manual
        });
        let mut told = saved.told;
        told.service = name.into();
        told.level = told.level.min(worst);

        let mut gone = |policy: &str| {
            warnings.push(format!(
                "modes: policy `{policy}` is gone, service `{name}` recovers from it"
            ));
        };
        let watching = saved.watching.filter(|watching| watching.before < auto);
        let mut service = Service {
            auto,
            episode: told.episode.clone(),
            watching,
            manual,
            told,
            claims: BTreeMap::new(),
            known: Known::default(),
            stances: BTreeMap::new(),
            held: saved.held,
            reasons: saved.reasons,
            hold_from: saved.hold_from,
            hold: saved
                .hold
                .or_else(|| (auto == Level(0)).then_some(Duration::ZERO)),
            below_since: saved.below_since,
            released: saved.released,
            proposal: saved
                .proposal
                .filter(|proposal| position(&proposal.policy).is_some()),
            groups: self.settings.groups_of(name),
            // Until the first tick says so.
            heard: saved.heard,
            was_heard: saved.heard,
            stale: true,
            reconsider: true,
            touched: true,
            durable: true,
        };
        service.known.more = saved.more;
        for claim in saved.claims {
            let found = position(&claim.policy).and_then(|at| Some((at, policies.get(at)?)));
            let Some((at, policy)) = found else {
                gone(&claim.policy);
                continue;
            };
            if policy.level == Level(0) {
                continue;
            }
            let fingerprint = claim.fingerprint;
            let restored = Claim {
                level: policy.level,
                step: policy.step,
                hold: policy.hold,
                dry_run: policy.dry_run,
                score: claim.score,
                alertname: claim.alertname.into(),
                explanation: claim.explanation.into(),
                silent_since: claim.silent_since,
            };
            service.claim((at, fingerprint), restored);
            let claimed = self.alerts.entry(fingerprint).or_default();
            self.pairs += usize::from(claimed.insert(name.into()));
        }
        for (policy, mut stance) in saved.stances {
            let of = |at: &usize| service.claims.keys().any(|(position, _)| position == at);
            if let Some(at) = position(&policy).filter(of) {
                let level = policies.get(at).map_or(worst, |policy| policy.level);
                stance.raised = stance.raised.min(worst.0.saturating_sub(level.0));
                service.stances.insert(at, stance);
            }
        }
        for held in &mut service.held {
            held.level = held.level.min(worst);
            if held.reach == UNSAID {
                held.reach = held.level;
            }
            held.reach = held.reach.min(worst);
            // A policy that is still there speaks for itself; its place may have changed.
            if let Some((at, policy)) =
                position(&held.policy).and_then(|at| Some((at, policies.get(at)?)))
            {
                *held = Held::of(policy, at, held.reach);
            }
        }
        service.held.sort_by_key(|held| (held.level, held.position));
        service
            .reasons
            .retain(|reason| position(&reason.policy).is_some());
        if auto == Level(0) {
            service.held.clear();
            service.reasons.clear();
        }
        self.services.insert(name.into(), service);
    }
}

/// The level of this name, else the nearest to the rank that it had. Normal is always normal, whatever
/// it is called.
fn find_level(levels: &Levels, rank: Level, name: &str) -> Level {
    if rank == Level(0) {
        return rank;
    }
    let last = u8::try_from(levels.names().len().saturating_sub(1)).unwrap_or(u8::MAX);
    levels.level(name).unwrap_or(rank.min(Level(last)))
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("names are texts and numbers finite: nothing can fail")
}
