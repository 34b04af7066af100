use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use crate::model::{
    Alert, Fingerprint, Instruction, Level, Levels, ModeReason, ModeState, Override, Timestamp,
};

/// Claims kept for one service. When there are more, the mildest are forgotten: they would not change
/// the level, and a service cannot be told a thousand reasons.
const MAX_CLAIMS: usize = 256;
/// Reasons that a service is told.
const MAX_REASONS: usize = 20;
/// Longest explanation that is kept with a claim, in bytes.
const MAX_EXPLANATION: usize = 512;

/// A firing alert that asks for a level by a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) level: Level,
    /// The alert's severity in steps of a ten-thousandth: exact in every format, and never NaN.
    pub(super) score: u16,
    pub(super) alertname: String,
    pub(super) explanation: String,
}

impl Claim {
    pub(super) fn new(level: Level, alert: &Alert) -> Self {
        let explanation = alert.annotations.get("explanation").unwrap_or_default();
        Self {
            level,
            // A cast from a float saturates, and NaN becomes 0.
            score: (alert.severity_score.clamp(0.0, 1.0) * 10_000.0) as u16,
            alertname: alert.name().into(),
            explanation: cut(explanation, MAX_EXPLANATION).into(),
        }
    }

    fn rank(&self) -> (Level, u16) {
        (self.level, self.score)
    }
}

/// The longest beginning of `text` that has at most `bytes` bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// What a policy demanded in the present departure from normal. It is kept by value until the service
/// is back, so that the way back is the promised one even when the policy is gone meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) policy: String,
    pub(super) position: usize,
    pub(super) level: Level,
    pub(super) hold: Duration,
    pub(super) recover: Duration,
    pub(super) features: BTreeMap<String, serde_json::Value>,
}

impl Held {
    pub(super) fn of(policy: &Policy, position: usize) -> Self {
        Self {
            policy: policy.name.clone(),
            position,
            level: policy.level,
            hold: policy.hold,
            recover: policy.recover,
            features: policy.instruction.features.clone(),
        }
    }
}

/// Everything about one service.
///
/// Two levels stand beside each other: `auto`, which automation has decided, and the override's. The
/// service is told the override's while there is one. Meanwhile `auto` may come back but not go up,
/// so that the end of the override never brings a surprise that found no room within the limit.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// What the service was told last. Its lease is of no meaning here.
    pub(super) told: ModeState,
    pub(super) auto: Level,
    pub(super) claims: BTreeMap<(usize, Fingerprint), Claim>,
    /// The demands of this departure, by level and position of the policy.
    pub(super) held: Vec<Held>,
    /// The reasons for `auto`. They stay while the service recovers.
    pub(super) reasons: Vec<ModeReason>,
    /// Holds count from here: the last change of `auto`. Moved along when the clock jumps.
    pub(super) hold_from: Timestamp,
    /// Since when less than `auto` has been asked for. Moved along when the clock jumps.
    pub(super) below_since: Option<Timestamp>,
    /// The override in force, which may not have been told yet.
    pub(super) manual: Option<Override>,
    /// `held` and `reasons` may not follow from `auto` and `claims` any more.
    pub(super) stale: bool,
    /// What is to be told may differ from what was.
    pub(super) touched: bool,
    /// Whether there is anything worth keeping over a restart.
    pub(super) durable: bool,
}

impl Service {
    /// A service that is known and normal.
    pub(super) fn normal(name: &str, levels: &Levels, now: Timestamp) -> Self {
        Self {
            told: ModeState {
                service: name.into(),
                mode: levels.name(Level(0)).into(),
                level: Level(0),
                since: now,
                why: Vec::new(),
                instruction: Instruction::default(),
                manual: None,
                lease_expires_at: now,
                sequence: 0,
                episode: None,
            },
            auto: Level(0),
            claims: BTreeMap::new(),
            held: Vec::new(),
            reasons: Vec::new(),
            hold_from: now,
            below_since: None,
            manual: None,
            stale: false,
            touched: false,
            durable: false,
        }
    }

    /// The worst level asked for now.
    pub(super) fn target(&self) -> Level {
        self.claims
            .values()
            .map(|claim| claim.level)
            .max()
            .unwrap_or_default()
    }

    /// The claim that weighs most.
    pub(super) fn foremost(&self) -> Option<(&(usize, Fingerprint), &Claim)> {
        // Of equals the first policy and lowest fingerprint: `max_by_key` takes the last, so reversed.
        self.claims.iter().rev().max_by_key(|(_, c)| c.rank())
    }

    /// The level that the service is to run in.
    fn level(&self, levels: &Levels) -> Level {
        match &self.manual {
            Some(manual) => levels.level(&manual.mode).unwrap_or_default(),
            None => self.auto,
        }
    }

    /// Whether it takes up room within the limit: it is away from normal, or would be if its override
    /// ended now.
    pub(super) fn is_away(&self, levels: &Levels) -> bool {
        self.auto > Level(0) || self.level(levels) > Level(0)
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_at_rest(&self) -> bool {
        self.auto == Level(0) && self.claims.is_empty() && self.manual.is_none()
    }

    /// Sets or removes the override.
    pub(super) fn set_manual(&mut self, manual: Option<Override>) {
        self.manual = manual;
        self.touched = true;
        self.durable = true;
    }

    /// Adds a claim or replaces the alert's earlier one.
    pub(super) fn claim(&mut self, key: (usize, Fingerprint), claim: Claim) {
        if self.claims.get(&key) == Some(&claim) {
            return;
        }
        self.claims.insert(key, claim);
        if self.claims.len() > MAX_CLAIMS {
            let mildest = self.claims.iter().min_by_key(|(_, c)| c.rank());
            if let Some((&mildest, _)) = mildest {
                self.claims.remove(&mildest);
            }
        }
        self.durable = true;
        self.stale = true;
    }

    /// Removes the claims of an alert.
    pub(super) fn release(&mut self, fingerprint: Fingerprint) {
        let before = self.claims.len();
        self.claims.retain(|(_, of), _| *of != fingerprint);
        self.stale |= self.claims.len() != before;
    }

    /// Moves what hold and recovery count from: `back`, then `ahead`, never beyond `now`.
    pub(super) fn shift(&mut self, back: Duration, ahead: Duration, now: Timestamp) {
        let anchors = std::iter::once(&mut self.hold_from).chain(self.below_since.as_mut());
        for at in anchors {
            *at = at.minus(back).plus(ahead).min(now);
        }
    }

    /// Notes since when less than the present level has been asked for. True if that is news.
    pub(super) fn compare_with_target(&mut self, now: Timestamp) -> bool {
        let before = self.below_since;
        self.below_since = (self.target() < self.auto).then(|| before.unwrap_or(now));
        before != self.below_since
    }

    /// How long the present level is held, and for how long nothing may have asked for it: the longest
    /// that a policy demanded which asked for at least this level.
    fn patience(&self) -> (Duration, Duration) {
        let asked = || self.held.iter().filter(|held| held.level >= self.auto);
        let least = match asked().next() {
            Some(_) => self.auto,
            // A level that no policy asked for, after the levels were renamed: whatever is known.
            None => Level(0),
        };
        let held = self.held.iter().filter(|held| held.level >= least);
        held.fold((Duration::ZERO, Duration::ZERO), |(hold, recover), held| {
            (hold.max(held.hold), recover.max(held.recover))
        })
    }

    /// When the next step back is due, if one is.
    pub(super) fn step_back_at(&self) -> Option<Timestamp> {
        let below_since = self.below_since?;
        let (hold, recover) = self.patience();
        // Every level has its own recovery: it begins when the level is reached.
        let healthy_from = below_since.max(self.hold_from);
        Some(self.hold_from.plus(hold).max(healthy_from.plus(recover)))
    }

    /// Moves to `level`, up or down.
    pub(super) fn move_to(&mut self, level: Level, now: Timestamp) {
        self.auto = level;
        self.hold_from = now;
        self.below_since = (self.target() < level).then_some(now);
        self.stale = true;
        self.touched = true;
        self.durable = true;
        if level == Level(0) {
            self.held.clear();
            self.reasons.clear();
        }
    }

    /// Derives demands and reasons from the claims. Not while frozen: they are part of what a service
    /// is told.
    pub(super) fn absorb(&mut self, policies: &[Policy]) {
        if !std::mem::take(&mut self.stale) || self.auto == Level(0) {
            return;
        }
        self.touched = true;
        // Claims above the present level wait for their turn (an override is in force).
        let mut asking: Vec<_> = self
            .claims
            .iter()
            .filter(|(_, claim)| claim.level <= self.auto)
            .collect();
        for ((position, _), _) in &asking {
            let Some(policy) = policies.get(*position) else {
                continue;
            };
            self.held.retain(|held| held.policy != policy.name);
            self.held.push(Held::of(policy, *position));
        }
        self.held.sort_by_key(|held| (held.level, held.position));
        // Stable: of equals the first policy and lowest fingerprint leads.
        asking.sort_by_key(|(_, claim)| std::cmp::Reverse(claim.rank()));
        let reasons: Vec<_> = asking
            .into_iter()
            .take(MAX_REASONS)
            .map(|((position, fingerprint), claim)| ModeReason {
                policy: policies
                    .get(*position)
                    .map_or_else(String::new, |policy| policy.name.clone()),
                fingerprint: *fingerprint,
                alertname: claim.alertname.clone(),
                explanation: claim.explanation.clone(),
            })
            .collect();
        // While it recovers, the alerts that brought it here remain the reason.
        if !reasons.is_empty() {
            self.reasons = reasons;
        }
    }

    /// What the service is to be told now. Lease and sequence are those of before.
    pub(super) fn state(&self, levels: &Levels, now: Timestamp) -> ModeState {
        let level = self.level(levels);
        let why = match &self.manual {
            Some(_) => Vec::new(),
            None => self.reasons.clone(),
        };
        let mut features = BTreeMap::new();
        // Milder demands first, so that the more severe wins, and of equals the later policy.
        for held in self.held.iter().filter(|held| held.level <= level) {
            let pairs = held.features.iter();
            features.extend(pairs.map(|(name, value)| (name.clone(), value.clone())));
        }
        ModeState {
            service: self.told.service.clone(),
            mode: levels.name(level).into(),
            level,
            since: if level == self.told.level {
                self.told.since
            } else {
                now
            },
            why,
            instruction: Instruction {
                features,
                ..Instruction::default()
            },
            manual: self.manual.clone(),
            lease_expires_at: self.told.lease_expires_at,
            sequence: self.told.sequence,
            episode: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("grün", 10), "grün");
        assert_eq!(cut("grün", 3), "gr");
        assert_eq!(cut("grün", 4), "grü");
        assert_eq!(cut("", 0), "");
    }
}
