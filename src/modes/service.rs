use std::collections::BTreeMap;
use std::time::Duration;

use super::asked::{Key, Known, Want};
use super::claim::{Claim, Stance};
use super::held::{self, Held};
use super::outcome::Watching;
use super::policy::{Policy, Step};
use super::settings::Settings;
use crate::model::{
    Instruction, Level, Levels, ModeReason, ModeState, Override, Proposal, Timestamp,
};

/// Everything about one service.
///
/// Two levels stand beside each other: `auto`, which automation has decided, and the override's. The
/// service is told the override's while there is one. Meanwhile `auto` may come back but not go up,
/// so that the end of the override never brings a surprise that found no room within the limit.
///
/// Times are those of the clock of what was watched, but for what the service is told.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// What the service was told last. Its lease is of no meaning here.
    pub(super) told: ModeState,
    pub(super) auto: Level,
    pub(super) claims: BTreeMap<Key, Claim>,
    /// What follows from them.
    pub(super) known: Known,
    /// By position of the policy; of policies with claims only.
    pub(super) stances: BTreeMap<usize, Stance>,
    /// The demands of this departure, by level and position of the policy.
    pub(super) held: Vec<Held>,
    /// The reasons for `auto`. They stay while the service recovers.
    pub(super) reasons: Vec<ModeReason>,
    /// Holds count from here: the last change of `auto`.
    pub(super) hold_from: Timestamp,
    /// For so long no further change is automatic; `None`: it follows from `held`, as soon as that is known.
    pub(super) hold: Option<Duration>,
    /// When a person gave it back to automation, which has not moved it since.
    pub(super) released: Option<Timestamp>,
    /// Since when less than `auto` has been asked for.
    pub(super) below_since: Option<Timestamp>,
    /// Id of the departure from normal that goes on.
    pub(super) episode: Option<String>,
    /// The step whose effect is watched.
    pub(super) watching: Option<Watching>,
    /// The override in force, which may not have been told yet.
    pub(super) manual: Option<Override>,
    /// What automation would do, and leaves to people.
    pub(super) proposal: Option<Proposal>,
    /// The groups that it is in, by position.
    pub(super) groups: Vec<usize>,
    /// Whether anything but alerts tells of it: telemetry named it in the last tick, or it reports.
    pub(super) heard: bool,
    /// Whether it counts among the services that are heard, as it was when it went away.
    pub(super) was_heard: bool,
    /// `held` and `reasons` may not follow from `auto` and `claims` any more.
    pub(super) stale: bool,
    /// What the proposal says may not follow from the claims any more.
    pub(super) reconsider: bool,
    /// What is to be told may differ from what was.
    pub(super) touched: bool,
    /// Whether there is anything worth keeping over a restart.
    pub(super) durable: bool,
}

impl Service {
    /// A service that is known and normal.
    pub(super) fn normal(name: &str, settings: &Settings, now: Timestamp) -> Self {
        Self {
            told: ModeState {
                service: name.into(),
                mode: settings.levels.name(Level(0)).into(),
                level: Level(0),
                since: now,
                why: Vec::new(),
                instruction: settings.instruction(Level(0)),
                manual: None,
                lease_expires_at: now,
                sequence: 0,
                episode: None,
            },
            auto: Level(0),
            claims: BTreeMap::new(),
            known: Known::default(),
            stances: BTreeMap::new(),
            held: Vec::new(),
            reasons: Vec::new(),
            hold_from: Timestamp::from_nanos(i64::MIN),
            hold: Some(Duration::ZERO),
            released: None,
            below_since: None,
            episode: None,
            watching: None,
            manual: None,
            proposal: None,
            groups: settings.groups_of(name),
            heard: false,
            was_heard: false,
            stale: false,
            reconsider: false,
            touched: false,
            durable: false,
        }
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

    /// Whether something is asked of it: by more than proposals, and not refused.
    pub(super) fn is_asked(&self) -> bool {
        self.kept_at() > Level(0)
    }

    /// Notes whether anything but alerts tells of it.
    pub(super) fn hear(&mut self, heard: bool, levels: &Levels) {
        self.heard = heard;
        self.was_heard = self.is_among_heard(levels);
    }

    /// Whether it counts among the services that are heard, or among those that only alerts name. That stays
    /// while it is away: who falls silent because it is ill makes no room, and takes none elsewhere.
    pub(super) fn is_among_heard(&self, levels: &Levels) -> bool {
        match self.is_away(levels) {
            true => self.was_heard,
            false => self.heard,
        }
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_at_rest(&self, watched: Timestamp) -> bool {
        self.auto == Level(0)
            && self.claims.is_empty()
            && self.manual.is_none()
            && self.held_until() <= watched
    }

    /// Sets or removes the override.
    pub(super) fn set_manual(&mut self, manual: Option<Override>, watched: Timestamp) {
        self.released = manual.is_none().then_some(watched);
        self.manual = manual;
        self.touched = true;
        self.durable = true;
    }

    /// Notes since when less than the present level has been asked for. True if that is news.
    pub(super) fn compare_with_asked(&mut self, watched: Timestamp) -> bool {
        let before = self.below_since;
        self.below_since = (self.kept_at() < self.auto).then(|| before.unwrap_or(watched));
        before != self.below_since
    }

    /// Until when nothing automatic changes the level.
    pub(super) fn held_until(&self) -> Timestamp {
        let hold = self.hold.unwrap_or_else(|| self.patience().0);
        self.hold_from.plus(hold)
    }

    /// From when on automation may take the step `want`, as far as holds go. When a person gives the service
    /// back it is told first where automation has it, and goes farther after the hold of the policy that
    /// asks, unless that goes straight to its level.
    pub(super) fn free_from(&self, want: &Want) -> Timestamp {
        let held_until = self.held_until();
        let claim = self.claims.get(&want.by);
        match (self.released, claim.filter(|c| c.step == Step::One)) {
            (Some(released), Some(claim)) => {
                held_until.max(released.plus(claim.hold.max(self.patience().0)))
            }
            (_, _) => held_until,
        }
    }

    fn patience(&self) -> (Duration, Duration) {
        held::patience(&self.held, self.auto)
    }

    /// When the next step back is due, if one is.
    pub(super) fn step_back_at(&self) -> Option<Timestamp> {
        let below_since = self.below_since?;
        let (hold, recover) = self.patience();
        // Every level has its own recovery: it begins when the level is reached.
        let healthy_from = below_since.max(self.hold_from);
        let held_from = self.released.unwrap_or(self.hold_from).max(self.hold_from);
        let held_until = self.held_until().max(held_from.plus(hold));
        Some(held_until.max(healthy_from.plus(recover)))
    }

    /// Moves to `level`, up or down.
    pub(super) fn move_to(&mut self, level: Level, watched: Timestamp) {
        let (hold, _) = self.patience();
        self.auto = level;
        self.hold_from = watched;
        self.released = None;
        // At normal nothing is left that could say so.
        self.hold = (level == Level(0)).then_some(hold);
        self.below_since = (self.kept_at() < level).then_some(watched);
        self.news();
        self.touched = true;
        self.durable = true;
        if level == Level(0) {
            self.held.clear();
            self.reasons.clear();
        }
    }

    /// Derives demands and reasons from the claims. Not while automation may not act: they are part of
    /// what a service is told. Whether there was anything to derive.
    pub(super) fn absorb(&mut self, policies: &[Policy]) -> bool {
        if !std::mem::take(&mut self.stale) || self.auto == Level(0) {
            return false;
        }
        self.touched = true;
        let (held, reasons) = self.demands(policies, &self.stances);
        self.held = held;
        // The hold of a change is that of the policies that were behind it.
        self.hold = Some(self.hold.unwrap_or_else(|| self.patience().0));
        // While it recovers, the alerts that brought it here remain the reason.
        if !reasons.is_empty() {
            self.reasons = reasons;
        }
        true
    }

    /// What the service would be told, and why, after the step `want`.
    pub(super) fn foretell(
        &self,
        settings: &Settings,
        want: &Want,
    ) -> (Instruction, Vec<ModeReason>) {
        let mut stances = self.stances.clone();
        let stance = stances.entry(want.by.0).or_default();
        stance.granted = stance.granted.max(want.level);
        let (held, reasons) = self.demands(&settings.policies, &stances);
        let instruction = held::instruction(settings, &held, want.level);
        let reasons = if reasons.is_empty() {
            self.reasons.clone()
        } else {
            reasons
        };
        (instruction, reasons)
    }

    /// What the service is to be told now. Lease and sequence are those of before.
    pub(super) fn state(&self, settings: &Settings, now: Timestamp) -> ModeState {
        let level = self.level(&settings.levels);
        let why = match &self.manual {
            Some(_) => Vec::new(),
            None => self.reasons.clone(),
        };
        ModeState {
            service: self.told.service.clone(),
            mode: settings.levels.name(level).into(),
            level,
            since: if level == self.told.level {
                self.told.since
            } else {
                now
            },
            why,
            instruction: held::instruction(settings, &self.held, level),
            manual: self.manual.clone(),
            lease_expires_at: self.told.lease_expires_at,
            sequence: self.told.sequence,
            episode: self.episode.clone(),
        }
    }
}
