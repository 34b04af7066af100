//! Departures of services from normal by automation: cause, actions, effects, duration.
//!
//! In: every step that a service takes, and what became known of a step's effect. Out: the episodes, each
//! with what just happened to it. What always holds: a service has at most one episode at a time; it begins
//! with a step away from normal and ends with the one back; an effect belongs to one step and never changes
//! once it is judged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::effect::words;
use crate::model::{
    Action, Effect, EffectVerdict, Episode, EpisodeAction, Labels, ModeReason, ModeStep, Timestamp,
};

/// Episodes that are kept after their end; the audit has the others.
const MAX_ENDED: usize = 1_000;
/// Actions of one episode that are kept: the first, and the newest.
const MAX_ACTIONS: usize = 200;

/// A step that a service takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taken<'a> {
    pub(super) step: ModeStep,
    /// Name of the level before.
    pub(super) from: &'a str,
    /// Name of the level after.
    pub(super) to: &'a str,
    /// Whether automation has the service away from normal afterwards.
    pub(super) is_away: bool,
    /// The policy; empty where none asked for it.
    pub(super) policy: &'a str,
    pub(super) cause: &'a str,
    pub(super) why: &'a [ModeReason],
    /// What is known of its effect, where that is watched.
    pub(super) effect: Option<Effect>,
}

/// An episode and what is known besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    episode: Arc<Episode>,
    /// In which order they began and ended.
    #[serde(default)]
    number: u64,
    /// Actions that there was no room for.
    #[serde(default)]
    omitted: u32,
}

/// All episodes that go on, and those that ended lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Episodes {
    /// By service.
    open: BTreeMap<String, Saved>,
    /// The newest last.
    ended: VecDeque<Saved>,
    /// Number of the newest.
    number: u64,
    /// Ids whose saved form has changed.
    unsaved: BTreeSet<String>,
}

impl Episodes {
    /// The id of the episode that a service is in.
    pub(super) fn id(&self, service: &str) -> Option<&str> {
        self.open
            .get(service)
            .map(|saved| saved.episode.id.as_str())
    }

    /// Takes in a step. What happened to which episode; `None`: the service is and stays normal.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        service: &str,
        taken: Taken<'_>,
    ) -> Option<(EpisodeAction, Arc<Episode>)> {
        let is_new = !self.open.contains_key(service);
        if is_new {
            if !taken.is_away {
                return None;
            }
            self.number += 1;
            let saved = Saved {
                episode: Arc::new(begin(now, service, self.number)),
                number: self.number,
                omitted: 0,
            };
            self.open.insert(service.into(), saved);
        }
        let saved = self.open.get_mut(service)?;
        let episode = Arc::make_mut(&mut saved.episode);
        for reason in taken.why {
            let is_known = |known: &ModeReason| {
                known.fingerprint == reason.fingerprint && known.policy == reason.policy
            };
            if episode.why.len() < MAX_ACTIONS && !episode.why.iter().any(is_known) {
                episode.why.push(reason.clone());
            }
        }
        episode.actions.push(Action {
            at: now,
            step: taken.step,
            from: taken.from.into(),
            to: taken.to.into(),
            policy: taken.policy.into(),
            cause: taken.cause.into(),
            effect: taken.effect,
        });
        if episode.actions.len() > MAX_ACTIONS {
            episode.actions.remove(1);
            saved.omitted = saved.omitted.saturating_add(1);
        }
        self.unsaved.insert(episode.id.clone());
        if taken.is_away {
            let action = if is_new {
                EpisodeAction::Opened
            } else {
                EpisodeAction::Stepped
            };
            return Some((action, Arc::clone(&saved.episode)));
        }
        episode.ended_at = Some(now);
        episode.outcome = outcome(episode, saved.omitted);
        self.number += 1;
        saved.number = self.number;
        let ended = self.open.remove(service)?;
        let episode = Arc::clone(&ended.episode);
        self.ended.push_back(ended);
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.unsaved.insert(oldest.episode.id.clone());
        }
        Some((EpisodeAction::Ended, episode))
    }

    /// Notes the effect of the newest step of a service that is watched.
    pub(super) fn judge(
        &mut self,
        service: &str,
        effect: Effect,
    ) -> Option<(EpisodeAction, Arc<Episode>)> {
        let saved = self.open.get_mut(service)?;
        let episode = Arc::make_mut(&mut saved.episode);
        let watched = episode.actions.iter_mut().rev().find_map(|action| {
            let watched = action.effect.as_mut();
            watched.filter(|effect| effect.verdict == EffectVerdict::Watching)
        })?;
        *watched = effect;
        self.unsaved.insert(episode.id.clone());
        Some((EpisodeAction::Judged, Arc::clone(&saved.episode)))
    }

    /// Those that go on, then those that ended lately, the newest first.
    pub(super) fn view(&self) -> Vec<Arc<Episode>> {
        let mut open: Vec<_> = self.open.values().map(|s| Arc::clone(&s.episode)).collect();
        // Stable: of equals the first service leads.
        open.sort_by_key(|episode| std::cmp::Reverse(episode.opened_at));
        let ended = self.ended.iter().rev();
        open.extend(ended.map(|saved| Arc::clone(&saved.episode)));
        open
    }

    /// What has to be saved since the last call, by id; `None`: nothing any more.
    pub(super) fn changes(&mut self) -> Vec<(String, Option<Saved>)> {
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved.is_empty() {
            return Vec::new();
        }
        let mut changes: BTreeMap<String, Option<Saved>> =
            unsaved.into_iter().map(|id| (id, None)).collect();
        for saved in self.open.values().chain(&self.ended) {
            if let Some(change) = changes.get_mut(&saved.episode.id) {
                *change = Some(saved.clone());
            }
        }
        changes.into_iter().collect()
    }

    /// Everything that has to be kept, by id.
    pub(super) fn entries(&self) -> Vec<(String, Saved)> {
        let all = self.open.values().chain(&self.ended);
        let mut entries: Vec<_> = all
            .map(|saved| (saved.episode.id.clone(), saved.clone()))
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }

    /// What was saved. Call [`Episodes::put_in_order`] when all of it is there.
    pub(super) fn restore(&mut self, saved: Saved) {
        self.number = self.number.max(saved.number);
        if saved.episode.ended_at.is_some() {
            self.ended.push_back(saved);
        } else {
            self.open.insert(saved.episode.service.clone(), saved);
        }
    }

    /// After all was restored: in the order in which they ended. Episodes of services that are normal, of
    /// which `is_away` says so, end now.
    pub(super) fn put_in_order(&mut self, now: Timestamp, is_away: impl Fn(&str) -> bool) {
        let over: Vec<String> = self.open.keys().filter(|s| !is_away(s)).cloned().collect();
        for service in over {
            if let Some(mut saved) = self.open.remove(&service) {
                let episode = Arc::make_mut(&mut saved.episode);
                episode.ended_at = Some(now.max(episode.opened_at));
                episode.outcome = "it was over after a restart".into();
                self.unsaved.insert(episode.id.clone());
                self.number += 1;
                saved.number = self.number;
                self.ended.push_back(saved);
            }
        }
        let ended = self.ended.make_contiguous();
        ended.sort_by_key(|saved| saved.number);
        while self.ended.len() > MAX_ENDED {
            if let Some(oldest) = self.ended.pop_front() {
                self.unsaved.insert(oldest.episode.id.clone());
            }
        }
    }
}

fn begin(now: Timestamp, service: &str, number: u64) -> Episode {
    // The time tells it from those of a store that was lost, the number from those of the same time.
    let identity: Labels = [
        ("service", service.to_owned()),
        ("opened_at", now.as_nanos().to_string()),
        ("number", number.to_string()),
    ]
    .into_iter()
    .collect();
    Episode {
        id: identity.fingerprint().to_string(),
        service: service.into(),
        opened_at: now,
        ended_at: None,
        why: Vec::new(),
        actions: Vec::new(),
        outcome: String::new(),
    }
}

/// How an episode ended, in words.
fn outcome(episode: &Episode, omitted: u32) -> String {
    let ended_at = episode.ended_at.unwrap_or(episode.opened_at);
    let lasted = words(ended_at.since(episode.opened_at));
    let how = match episode.actions.last().map(|action| action.step) {
        Some(ModeStep::Undo) => "undone",
        Some(ModeStep::Override) => "ended by hand",
        Some(_) | None => "recovered",
    };
    // The worst that was seen says most, and an improvement more than nothing.
    let rank = |verdict| match verdict {
        EffectVerdict::Worse => 4,
        EffectVerdict::NoEffect => 3,
        EffectVerdict::Improved => 2,
        EffectVerdict::Unknown => 1,
        EffectVerdict::Watching => 0,
    };
    let effects = episode.actions.iter().filter_map(|a| a.effect.as_ref());
    let telling = effects.max_by_key(|effect| rank(effect.verdict));
    let effect = match telling.map(|effect| effect.verdict) {
        Some(EffectVerdict::Worse) => ": a step did harm",
        Some(EffectVerdict::NoEffect) => ": a step had no effect",
        Some(EffectVerdict::Improved) => ": it helped",
        Some(EffectVerdict::Unknown | EffectVerdict::Watching) | None => "",
    };
    let mut text = format!("{how} after {lasted}{effect}");
    if omitted > 0 {
        text.push_str(&format!("; {omitted} actions are not listed"));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Fingerprint;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn taken<'a>(step: ModeStep, from: &'a str, to: &'a str) -> Taken<'a> {
        Taken {
            step,
            from,
            to,
            is_away: to != "normal",
            policy: "slow",
            cause: "because",
            why: &[],
            effect: None,
        }
    }

    fn watched<'a>(step: ModeStep, from: &'a str, to: &'a str) -> Taken<'a> {
        Taken {
            effect: Some(Effect::default()),
            ..taken(step, from, to)
        }
    }

    fn judged(verdict: EffectVerdict) -> Effect {
        Effect {
            verdict,
            before: Some(1.0),
            after: Some(0.5),
            judged_at: Some(at(50)),
            sentence: "so it is".into(),
        }
    }

    #[test]
    fn an_episode_lasts_from_the_step_away_to_the_one_back() {
        let mut episodes = Episodes::default();
        let update = taken(ModeStep::Update, "normal", "normal");
        assert_eq!(episodes.take(at(1), "cart", update), None);
        let why = ModeReason {
            policy: "slow".into(),
            fingerprint: Fingerprint(7),
            alertname: "Slow".into(),
            explanation: "it is slow".into(),
        };
        let first = Taken {
            why: std::slice::from_ref(&why),
            ..watched(ModeStep::Degrade, "normal", "degraded")
        };
        let (action, episode) = episodes
            .take(at(10), "cart", first.clone())
            .expect("it began");
        assert_eq!((action, episode.opened_at), (EpisodeAction::Opened, at(10)));
        assert_eq!(episodes.id("cart"), Some(episode.id.as_str()));
        let (action, _) = episodes
            .judge("cart", judged(EffectVerdict::Improved))
            .expect("it was watched");
        assert_eq!(action, EpisodeAction::Judged);
        // Once judged it stays so.
        assert_eq!(episodes.judge("cart", judged(EffectVerdict::Worse)), None);
        let back = Taken {
            why: std::slice::from_ref(&why),
            ..taken(ModeStep::Recover, "degraded", "normal")
        };
        let (action, episode) = episodes.take(at(140), "cart", back).expect("it ended");
        assert_eq!(action, EpisodeAction::Ended);
        assert_eq!(episode.outcome, "recovered after 2m10s: it helped");
        assert_eq!(episode.actions.len(), 2);
        assert_eq!(episode.why, std::slice::from_ref(&why));
        assert_eq!(episodes.id("cart"), None);
        // The next one is another, even at the same time.
        let (_, second) = episodes
            .take(at(140), "cart", first.clone())
            .expect("it began");
        episodes.take(at(140), "cart", taken(ModeStep::Undo, "degraded", "normal"));
        let (_, third) = episodes.take(at(140), "cart", first).expect("it began");
        let ids: BTreeSet<_> = [&episode.id, &second.id, &third.id].into();
        assert_eq!(ids.len(), 3);
        let outcomes: Vec<_> = episodes.view().iter().map(|e| e.outcome.clone()).collect();
        assert_eq!(
            outcomes,
            ["", "undone after 0s", "recovered after 2m10s: it helped"]
        );
    }

    #[test]
    fn the_first_and_the_newest_actions_are_kept() {
        let mut episodes = Episodes::default();
        episodes.take(
            at(0),
            "cart",
            watched(ModeStep::Degrade, "normal", "degraded"),
        );
        for second in 1..=300 {
            let update = taken(ModeStep::Update, "degraded", "degraded");
            episodes.take(at(second), "cart", update);
        }
        let back = taken(ModeStep::Recover, "degraded", "normal");
        let (_, episode) = episodes.take(at(301), "cart", back).expect("it ended");
        assert_eq!(episode.actions.len(), MAX_ACTIONS);
        assert_eq!(episode.actions[0].step, ModeStep::Degrade);
        assert_eq!(episode.actions[1].at, at(103));
        assert_eq!(
            episode.outcome,
            "recovered after 5m1s; 102 actions are not listed"
        );
    }

    #[test]
    fn the_newest_of_those_that_ended_are_kept() {
        let mut episodes = Episodes::default();
        let mut store = BTreeMap::new();
        for second in 0..1_100 {
            let away = taken(ModeStep::Degrade, "normal", "degraded");
            episodes.take(at(second), "cart", away);
            episodes.take(
                at(second),
                "cart",
                taken(ModeStep::Recover, "degraded", "normal"),
            );
            for (id, saved) in episodes.changes() {
                match saved {
                    Some(saved) => store.insert(id, saved),
                    None => store.remove(&id),
                };
            }
        }
        assert_eq!((episodes.view().len(), store.len()), (MAX_ENDED, MAX_ENDED));
        assert_eq!(episodes.view()[0].opened_at, at(1_099));
    }

    proptest! {
        #[test]
        fn what_is_saved_is_what_there_is(
            history in prop::collection::vec((0..3_u8, 0..6_u8, 0..3_i64), 1..60),
        ) {
            let mut episodes = Episodes::default();
            let mut store = BTreeMap::new();
            let mut away = BTreeSet::new();
            let mut now = 0;
            for (service, action, passed) in history {
                now += passed;
                let name = format!("service-{service}");
                let is_away = away.contains(&name);
                let seen = match action {
                    0 | 1 => {
                        away.insert(name.clone());
                        episodes.take(at(now), &name, watched(ModeStep::Degrade, "normal", "degraded"))
                    }
                    2 | 3 => {
                        away.remove(&name);
                        episodes.take(at(now), &name, taken(ModeStep::Recover, "degraded", "normal"))
                    }
                    4 => episodes.judge(&name, judged(EffectVerdict::NoEffect)),
                    _ => {
                        for (id, saved) in episodes.changes() {
                            match saved {
                                Some(saved) => store.insert(id, saved),
                                None => store.remove(&id),
                            };
                        }
                        let mut restored = Episodes::default();
                        for saved in store.values() {
                            let text = serde_json::to_vec(saved).expect("it is finite");
                            restored.restore(serde_json::from_slice(&text).expect("it was written"));
                        }
                        restored.put_in_order(at(now), |name| away.contains(name));
                        prop_assert_eq!(restored.entries(), episodes.entries());
                        prop_assert!(restored.changes().is_empty());
                        let times = |e: &Episodes| -> Vec<_> {
                            e.view().iter().map(|e| (e.opened_at, e.ended_at)).collect()
                        };
                        prop_assert_eq!(times(&restored), times(&episodes));
                        episodes = restored;
                        continue;
                    }
                };
                let happened = seen.map(|(action, _)| action);
                match action {
                    0 | 1 if is_away => prop_assert_eq!(happened, Some(EpisodeAction::Stepped)),
                    0 | 1 => prop_assert_eq!(happened, Some(EpisodeAction::Opened)),
                    2 | 3 => prop_assert_eq!(happened.is_some(), is_away),
                    _ => {}
                }
                for name in ["service-0", "service-1", "service-2"] {
                    prop_assert_eq!(episodes.id(name).is_some(), away.contains(name));
                }
            }
        }
    }
}
