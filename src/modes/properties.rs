//! Random histories against a model of what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;

use super::scenarios::{alert, policy, secs, transition};
use super::{Freeze, MAX_STEP, Machine, Settings};
use crate::model::{AlertState, Level, ModeChange, ModeState, Override, Timestamp};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ALERTS: [&str; 3] = ["Slow", "Broken", "Odd"];
const GATEWAY: &str = "gateway";
const FIRST: i64 = 1_000_000;

/// `Slow` degrades its service, `Broken` makes it critical; `Slow` and `Odd` degrade the gateway.
static SETTINGS: LazyLock<Settings> = LazyLock::new(|| Settings {
    limit: 0.34,
    policies: vec![
        policy("slow", r#"{alertname="Slow"}"#, "{{ service }}", 1, 20, 90),
        policy(
            "broken",
            r#"{alertname="Broken"}"#,
            "{{ service }}",
            2,
            80,
            70,
        ),
        policy("edge", r#"{alertname=~"Slow|Odd"}"#, GATEWAY, 1, 5, 0),
    ],
    ..Settings::default()
});

/// The least hold and recovery, in seconds, that a step down from `level` may have had.
fn least(service: &str, level: Level) -> (u64, u64) {
    match (service, level) {
        (GATEWAY, _) => (5, 0),
        (_, Level(1)) => (20, 70),
        _ => (80, 70),
    }
}

fn text(entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> BTreeMap<String, String> {
    let text = |value| String::from_utf8(value).expect("JSON");
    let entries = entries.into_iter();
    entries.map(|(key, value)| (key, text(value))).collect()
}

struct World {
    machine: Machine,
    now: Timestamp,
    /// Time as far as somebody watched.
    watched: Duration,
    firing: BTreeSet<(usize, usize)>,
    told: BTreeMap<String, ModeState>,
    overrides: BTreeMap<String, Override>,
    frozen: bool,
    /// When automation last moved a service.
    moved: BTreeMap<String, Duration>,
    /// When a level was last asked for.
    asked: BTreeMap<(String, Level), Duration>,
    /// What was saved after each step; in some histories only, because it takes most of the time.
    store: Option<BTreeMap<String, Vec<u8>>>,
}

impl World {
    fn new(saving: bool) -> Self {
        let now = Timestamp::from_secs(FIRST);
        let mut machine = Machine::new(SETTINGS.clone());
        machine.know_services(now, NAMES);
        Self {
            told: machine.view(now).services,
            machine,
            now,
            watched: Duration::ZERO,
            firing: BTreeSet::new(),
            overrides: BTreeMap::new(),
            frozen: false,
            moved: BTreeMap::new(),
            asked: BTreeMap::new(),
            store: saving.then(BTreeMap::new),
        }
    }

    fn asked_level(&self, service: &str) -> Level {
        let asks = |&&(name, of): &&(usize, usize)| match (service == GATEWAY, name) {
            (true, 0 | 2) => true,
            (true, _) => false,
            (false, name) => NAMES[of] == service && name != 2,
        };
        let levels = self.firing.iter().filter(asks);
        let level = |&(name, _): &(usize, usize)| Level(if name == 1 { 2 } else { 1 });
        levels.map(level).max().unwrap_or_default()
    }

    /// Marks what is asked for until this moment.
    fn note_asked(&mut self) {
        for service in NAMES.into_iter().chain([GATEWAY]) {
            for level in 1..=self.asked_level(service).0 {
                let key = (service.to_owned(), Level(level));
                self.asked.insert(key, self.watched);
            }
        }
    }

    fn pass(&mut self, now: Timestamp) {
        self.watched += now.since(self.now).min(MAX_STEP);
        self.now = now;
        self.note_asked();
        let over = |at: Timestamp| at <= now;
        self.overrides
            .retain(|_, manual| !manual.expires_at.is_some_and(over));
    }

    fn act(&mut self, (kind, which, number): (u8, u8, u8)) {
        let of = usize::from(which) % NAMES.len();
        let name = NAMES[of];
        let kind_of_alert = usize::from(number) % ALERTS.len();
        let frozen_before = self.frozen;
        let changes = match kind % 17 {
            0..=3 => {
                self.firing.insert((kind_of_alert, of));
                self.note_asked();
                let score = f64::from(number) / 255.0;
                let mut fires = alert(ALERTS[kind_of_alert], name, AlertState::Firing);
                fires.severity_score = score;
                self.machine
                    .on_transitions(self.now, &[transition(fires, self.now)])
            }
            4..=7 => {
                self.firing.remove(&(kind_of_alert, of));
                let gone = alert(ALERTS[kind_of_alert], name, AlertState::Resolved);
                self.machine
                    .on_transitions(self.now, &[transition(gone, self.now)])
            }
            8..=11 => {
                self.pass(self.now.plus(secs(u64::from(number % 64))));
                self.machine.step(self.now)
            }
            12 if number < 128 => {
                self.pass(self.now.plus(secs(u64::from(number) * 100)));
                self.machine.step(self.now)
            }
            12 => {
                self.pass(self.now.minus(secs(u64::from(number))));
                self.machine.step(self.now)
            }
            13 => {
                let level = ["normal", "degraded", "critical"][usize::from(number) % 3];
                let manual = Override {
                    mode: level.into(),
                    author: "alice".into(),
                    reason: "because".into(),
                    set_at: self.now,
                    expires_at: (number > 99).then(|| self.now.plus(secs(u64::from(number)))),
                };
                self.overrides.insert(name.into(), manual.clone());
                let set = self.machine.set_override(self.now, name, manual);
                set.expect("the service is known and the override is fine")
            }
            14 => {
                let removed = self.machine.remove_override(self.now, name, "bob");
                assert_eq!(removed.is_ok(), self.overrides.remove(name).is_some());
                removed.unwrap_or_default()
            }
            15 => {
                self.frozen = number > 127;
                let freeze = Freeze {
                    author: "alice".into(),
                    reason: "storm".into(),
                    set_at: self.now,
                };
                self.machine.freeze(self.now, self.frozen.then_some(freeze))
            }
            _ => {
                self.restart(number > 127);
                Vec::new()
            }
        };
        self.check(&changes, frozen_before && self.frozen);
    }

    /// Ends in an orderly way, or by a kill: then the time of the last save is the last that is known.
    fn restart(&mut self, killed: bool) {
        let saved = text(self.machine.entries());
        let entries = match self.store.clone().filter(|_| killed) {
            Some(mut kept) => {
                let entries = kept.clone();
                if let (Some(last), Some(clock)) = (self.machine.last, kept.get_mut("clock")) {
                    *clock = serde_json::to_vec(&last).expect("a time");
                    assert_eq!(text(kept), saved, "everything but the time is saved");
                }
                entries.into_iter().collect()
            }
            None => self.machine.entries(),
        };
        let killed = killed && self.store.is_some();
        let (mut restored, warnings) = Machine::restore(entries, SETTINGS.clone());
        assert_eq!(warnings, Vec::<String>::new());
        if !killed {
            assert_eq!(text(restored.entries()), saved);
            assert_eq!(restored.next_deadline(), self.machine.next_deadline());
        }
        let before = self.machine.view(self.now);
        restored.know_services(self.now, before.services.keys());
        let mut after = restored.view(self.now);
        for (name, state) in &mut after.services {
            // What never changed is normal since it was heard of.
            if !saved.contains_key(&format!("service/{name}")) {
                state.since = before.services[name].since;
            }
        }
        assert_eq!(after, before);
        self.told = restored.view(self.now).services;
        self.machine = restored;
    }

    fn check(&mut self, changes: &[ModeChange], frozen: bool) {
        for change in changes {
            let state = &change.state;
            let name = state.service.clone();
            let before = self.told.insert(name.clone(), state.clone());
            if before.is_none() {
                assert_eq!(name, GATEWAY, "only the gateway was not known");
            }
            let from = before.as_ref().map_or(Level(0), |before| before.level);
            let by_hand = state.manual.is_some() || before.is_some_and(|b| b.manual.is_some());
            if by_hand {
                continue;
            }
            assert!(!frozen, "a change while frozen: {change:?}");
            let watched = self.watched;
            if state.level < from {
                assert_eq!(state.level.0 + 1, from.0, "one level at a time");
                let (hold, recover) = least(&name, from);
                if let Some(moved) = self.moved.get(&name) {
                    assert!(watched - *moved >= secs(hold), "within hold: {change:?}");
                }
                if let Some(asked) = self.asked.get(&(name.clone(), from)) {
                    assert!(
                        watched - *asked >= secs(recover),
                        "still asked for: {change:?}"
                    );
                }
                assert!(self.asked_level(&name) < from);
            }
            if state.level != from {
                self.moved.insert(name, watched);
            }
        }
        // After all changes are in: who was taken away must have found room.
        let taken = changes.iter().any(|change| {
            change.from == "normal"
                && change.state.manual.is_none()
                && change.state.level > Level(0)
        });
        let away = self.told.values().filter(|state| state.level > Level(0));
        let by_hand = self.told.values().filter(|state| state.manual.is_some());
        let view = self.machine.view(self.now);
        let allowed = SETTINGS.allowed(view.services.len());
        if taken && by_hand.count() == 0 {
            let away: Vec<_> = away.map(|state| &state.service).collect();
            assert!(away.len() <= allowed, "{away:?} are away");
        }
        for (name, state) in &view.services {
            let manual = self.overrides.get(name);
            assert_eq!(state.manual.as_ref(), manual, "{name}");
            if let Some(manual) = manual {
                assert_eq!(state.mode, manual.mode, "an override wins");
            }
            let lease = state.lease_expires_at;
            assert_eq!(lease, self.now.plus(SETTINGS.lease));
            if let Some(told) = self.told.get(name) {
                let shown = (
                    &state.mode,
                    state.level,
                    state.since,
                    &state.why,
                    &state.instruction.features,
                );
                let told = (
                    &told.mode,
                    told.level,
                    told.since,
                    &told.why,
                    &told.instruction.features,
                );
                assert_eq!(shown, told, "the view shows what was told");
            }
        }
        let Some(store) = &mut self.store else {
            return;
        };
        for (key, value) in self.machine.changes() {
            match value {
                Some(value) => store.insert(key, value),
                None => store.remove(&key),
            };
        }
    }

    /// Nothing is wrong any more and nobody interferes: everybody comes back to normal.
    fn calm(&mut self) {
        for (name, of) in std::mem::take(&mut self.firing) {
            let gone = alert(ALERTS[name], NAMES[of], AlertState::Resolved);
            let changes = self
                .machine
                .on_transitions(self.now, &[transition(gone, self.now)]);
            self.check(&changes, self.frozen);
        }
        for name in std::mem::take(&mut self.overrides).into_keys() {
            let changes = self.machine.remove_override(self.now, &name, "bob");
            // It has expired while time passed, or it is removed now; both are fine.
            let changes = changes.unwrap_or_default();
            self.told.extend(
                changes
                    .into_iter()
                    .map(|c| (c.state.service.clone(), c.state)),
            );
        }
        self.frozen = false;
        let changes = self.machine.freeze(self.now, None);
        self.check(&changes, false);
        for _ in 0..40 {
            let Some(deadline) = self.machine.next_deadline() else {
                break;
            };
            assert!(deadline > self.now, "{deadline} is not ahead");
            self.pass(deadline);
            let changes = self.machine.step(self.now);
            self.check(&changes, false);
        }
        assert_eq!(self.machine.next_deadline(), None);
        assert_eq!(self.machine.waiting(), []);
        for state in self.machine.view(self.now).services.values() {
            assert_eq!((state.mode.as_str(), state.level), ("normal", Level(0)));
            assert!(state.why.is_empty() && state.instruction.features.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whatever_happens_modes_are_safe_and_end(
        saving in proptest::bool::weighted(0.1),
        history in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..16),
    ) {
        let mut world = World::new(saving);
        for action in history {
            world.act(action);
        }
        world.calm();
    }
}
