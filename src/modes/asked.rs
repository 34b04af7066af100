//! What alerts ask of one service, one by one and in sum.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::claim::{Claim, Stance};
use super::held::Held;
use super::policy::{Policy, Step};
use super::service::Service;
use crate::model::{Fingerprint, Level, ModeReason, Timestamp};

/// Claims of one service that are kept with their texts, and over a restart. There is no bound on the others
/// but that on all of them: each one that fires keeps the service where it is.
const MAX_CLAIMS: usize = 256;
/// Reasons that a service is told.
const MAX_REASONS: usize = 20;

/// Which policy asks, by position, and because of which alert.
pub(super) type Key = (usize, Fingerprint);

/// A step towards more that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    /// Where the step leads.
    pub(super) level: Level,
    /// How severe it is, among others: the level asked for in the end, and the alert's score.
    pub(super) rank: (Level, u16),
    /// Position of the policy that asks first, and its alert.
    pub(super) by: Key,
}

/// What all claims come to, until one of them changes or the service moves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    kept_at: Level,
    want: Option<Want>,
    wish: Option<Want>,
    silent_since: Option<Timestamp>,
}

/// What is known of a service's claims beside themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    sum: OnceLock<Sum>,
    /// Those that are kept with their texts, the mildest first.
    worded: BTreeSet<((Level, u16), Reverse<Key>)>,
    /// There were more than were saved: until all alerts have been looked at it stays where it is.
    pub(super) more: bool,
}

impl Service {
    /// The claims with the level that counts.
    pub(super) fn asking(&self) -> impl Iterator<Item = (&Key, &Claim, Level)> {
        self.asking_by(&self.stances)
    }

    fn asking_by(
        &self,
        stances: &BTreeMap<usize, Stance>,
    ) -> impl Iterator<Item = (&Key, &Claim, Level)> {
        self.claims.iter().map(|(key, claim)| {
            let level = claim.level_by(stances.get(&key.0));
            (key, claim, level)
        })
    }

    /// The worst level that an alert asks for, or that one asked for which has fallen silent: automation
    /// does not go below it.
    pub(super) fn kept_at(&self) -> Level {
        let unknown = if self.known.more { self.auto } else { Level(0) };
        self.sum().kept_at.max(unknown)
    }

    /// The next step up that automation may take, unless there is no room; `None`: no alert that is heard
    /// asks for more.
    pub(super) fn want(&self) -> Option<Want> {
        self.sum().want.clone()
    }

    /// The next step up that automation would take if no policy only proposed.
    pub(super) fn wish(&self) -> Option<Want> {
        self.sum().wish.clone()
    }

    /// Since when an alert behind it is silent, the one for the longest time.
    pub(super) fn silent_since(&self) -> Option<Timestamp> {
        self.sum().silent_since
    }

    fn sum(&self) -> &Sum {
        self.known.sum.get_or_init(|| Sum {
            kept_at: self
                .asking()
                .map(|(_, _, level)| level)
                .max()
                .unwrap_or_default(),
            want: self.want_by(|_, level| level),
            wish: self.want_by(|(key, claim), level| match claim.dry_run {
                true => claim.wish_by(self.stances.get(&key.0)),
                false => level,
            }),
            silent_since: self.claims.values().filter_map(|c| c.silent_since).min(),
        })
    }

    fn want_by(&self, level_of: impl Fn((&Key, &Claim), Level) -> Level) -> Option<Want> {
        let claims = || {
            let heard = self.asking().filter(|(_, c, _)| c.silent_since.is_none());
            heard
                .map(|(key, claim, level)| (key, claim, level_of((key, claim), level)))
                .filter(|(_, _, level)| *level > self.auto)
        };
        let asked = claims().map(|(_, _, level)| level).max()?;
        let at_once = claims().filter(|(_, claim, _)| claim.step == Step::Direct);
        let at_once = at_once.map(|(_, _, level)| level).max().unwrap_or_default();
        let level = Level(self.auto.0.saturating_add(1)).max(at_once);
        let far_enough = claims().filter(|(_, _, of)| *of >= level);
        let first = far_enough.min_by_key(|(key, claim, of)| (Reverse((*of, claim.score)), **key));
        let (key, claim, _) = first?;
        Some(Want {
            level,
            rank: (asked, claim.score),
            by: *key,
        })
    }

    /// The positions of the policies that ask, in order.
    pub(super) fn positions(&self) -> Vec<usize> {
        let mut positions = Vec::new();
        let mut next = 0;
        while let Some(((position, _), _)) = self.claims.range((next, Fingerprint(0))..).next() {
            positions.push(*position);
            next = position + 1;
        }
        positions
    }

    /// The claims by the policy at `position`.
    pub(super) fn claims_of(&self, position: usize) -> impl Iterator<Item = (&Key, &Claim)> {
        let all = (position, Fingerprint(0))..=(position, Fingerprint(u64::MAX));
        self.claims.range(all)
    }

    /// Adds a claim or replaces the alert's earlier one.
    pub(super) fn claim(&mut self, key: Key, mut claim: Claim) {
        if self.claims.get(&key) == Some(&claim) {
            return;
        }
        self.forget_text(key);
        let place = (claim.rank(), Reverse(key));
        let worded = &mut self.known.worded;
        if worded.len() < MAX_CLAIMS || worded.first().is_some_and(|first| *first < place) {
            worded.insert(place);
        } else {
            claim.explanation = "".into();
        }
        if worded.len() > MAX_CLAIMS
            && let Some((_, Reverse(mildest))) = worded.pop_first()
            && let Some(mildest) = self.claims.get_mut(&mildest)
        {
            mildest.explanation = "".into();
        }
        self.claims.insert(key, claim);
        self.durable = true;
        self.news();
    }

    fn forget_text(&mut self, key: Key) {
        if let Some(before) = self.claims.get(&key) {
            let place = (before.rank(), Reverse(key));
            self.known.worded.remove(&place);
        }
    }

    /// Removes an alert's claim by the policy at `position`. What was said of the policy here is over with
    /// its last alert.
    pub(super) fn release(&mut self, key: Key) {
        self.forget_text(key);
        if self.claims.remove(&key).is_none() {
            return;
        }
        let (position, _) = key;
        if self.claims_of(position).next().is_none() {
            self.stances.remove(&position);
        }
        self.news();
    }

    /// The claims that are saved, in order: the worst, and of equals first those that are silent, because
    /// nobody tells of them any more. Whether there are more.
    pub(super) fn foremost(&self) -> (Vec<(&Key, &Claim)>, bool) {
        let mut claims: Vec<_> = self.claims.iter().collect();
        let more = claims.len() > MAX_CLAIMS;
        if more {
            let rank = |(key, claim): &(&Key, &Claim)| {
                let (level, score) = claim.rank();
                (Reverse((level, claim.silent_since.is_some(), score)), **key)
            };
            claims.select_nth_unstable_by_key(MAX_CLAIMS, rank);
            claims.truncate(MAX_CLAIMS);
            claims.sort_unstable_by_key(|(key, _)| **key);
        }
        (claims, more || self.known.more)
    }

    /// What follows from claims and stances has to be looked at again.
    pub(super) fn news(&mut self) {
        self.known.sum.take();
        self.stale = true;
        self.reconsider = true;
    }

    /// Has the policies that ask for more than `level` be heard up to it only, until their alerts here are
    /// over.
    pub(super) fn set_aside(&mut self, level: Level, which: impl Fn(usize) -> bool) {
        let asks = |position: &usize| {
            let stance = self.stances.get(position);
            let mut claims = self.claims_of(*position);
            which(*position) && claims.any(|(_, claim)| claim.wish_by(stance) > level)
        };
        let asking: Vec<usize> = self.positions().into_iter().filter(asks).collect();
        for position in asking {
            self.stances.entry(position).or_default().ceiling = Some(level);
        }
        self.news();
    }

    /// What the claims demand under `stances`, with what was demanded before, and the worst as reasons.
    pub(super) fn demands(
        &self,
        policies: &[Policy],
        stances: &BTreeMap<usize, Stance>,
    ) -> (Vec<Held>, Vec<ModeReason>) {
        let asking = self.asking_by(stances);
        let mut asking: Vec<_> = asking.filter(|(_, _, level)| *level > Level(0)).collect();
        let mut reached: BTreeMap<usize, Level> = BTreeMap::new();
        for ((position, _), _, level) in &asking {
            let reach = reached.entry(*position).or_default();
            *reach = (*reach).max(*level);
        }
        let mut all = self.held.clone();
        for (position, level) in reached {
            let Some(policy) = policies.get(position) else {
                continue;
            };
            let before = all.iter().position(|held| held.policy == policy.name);
            let before = before.map(|at| all.swap_remove(at).reach);
            let reach = before.unwrap_or_default().max(level);
            all.push(Held::of(policy, position, reach));
        }
        all.sort_by_key(|held| (held.level, held.position));
        // Of equals the first policy and lowest fingerprint leads.
        let rank =
            |(key, claim, level): &(&Key, &Claim, Level)| (Reverse((*level, claim.score)), **key);
        if asking.len() > MAX_REASONS {
            asking.select_nth_unstable_by_key(MAX_REASONS, rank);
            asking.truncate(MAX_REASONS);
        }
        asking.sort_unstable_by_key(rank);
        let reason = |((position, fingerprint), claim, _): (&Key, &Claim, Level)| ModeReason {
            policy: policies
                .get(*position)
                .map_or_else(String::new, |policy| policy.name.clone()),
            fingerprint: *fingerprint,
            alertname: claim.alertname.as_ref().into(),
            explanation: claim.explanation.as_ref().into(),
        };
        (all, asking.into_iter().map(reason).collect())
    }
}
