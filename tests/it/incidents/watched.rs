//! The daemon in virtual time, and what a person on call hears of it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use tidewatch::app::{Replay, ReplaySettings};
use tidewatch::config::{self, Config};
use tidewatch::model::{Alert, AlertState, Fingerprint};

use super::world::{World, at};

/// An alert from when it fired until it was resolved.
#[derive(Debug, Clone)]
pub struct Told {
    /// As it was last seen.
    pub alert: Alert,
    /// The tick of the story in which it fired.
    pub fired: i64,
    /// The tick in which it was resolved.
    pub resolved: Option<i64>,
    /// What was said about it: (tick, all texts for people).
    pub said: Vec<(i64, String)>,
}

impl Told {
    pub fn service(&self) -> &str {
        &self.alert.service
    }

    /// What stood in the explanation and the texts around it within `ticks` after it fired: that is
    /// what the one who is woken up reads.
    pub fn said_within(&self, ticks: i64) -> String {
        let early = self.said.iter().filter(|(n, _)| *n <= self.fired + ticks);
        early.map(|(_, text)| format!("{text}\n")).collect()
    }

    /// Whether all of `words` were said within `ticks` after it fired, or ever (`None`).
    pub fn says(&self, words: &[&str], ticks: Option<i64>) -> bool {
        let said = self.said_within(ticks.unwrap_or(i64::MAX / 2));
        words.iter().all(|word| said.contains(word))
    }

    /// From when to when it fired, its name and signal, and how bad it was.
    pub fn line(&self) -> String {
        let label = |name| self.alert.labels.get(name).unwrap_or("-");
        let until = self
            .resolved
            .map_or("now".into(), |resolved| resolved.to_string());
        format!(
            "{:4} to {until:>4}  {} {} {} {}  {:+.1} sigma",
            self.fired,
            self.alert.name(),
            self.alert.service,
            label("metric"),
            label("signal"),
            self.alert.worst_sigma,
        )
    }
}

/// A daemon that watches a world.
pub struct Watched {
    pub world: World,
    daemon: Replay,
    config: Config,
    /// How far the daemon's clock is ahead, in seconds.
    clock: f64,
    tick: Duration,
    seed: u64,
    /// Ticks since the beginning of the story.
    ticks: i64,
    told: Vec<Told>,
    /// Where in `told` the alerts that fire are.
    firing: BTreeMap<Fingerprint, usize>,
    /// From which tick on what is told counts.
    mark: i64,
}

impl Watched {
    /// With the settings of `configuration` (YAML).
    pub fn new(seed: u64, configuration: &str, world: World) -> Self {
        Self::on_threads(None, seed, configuration, world)
    }

    /// On so many threads of its own.
    pub fn on_threads(
        threads: Option<NonZeroUsize>,
        seed: u64,
        configuration: &str,
        world: World,
    ) -> Self {
        let known = tidewatch::app::known();
        let config = config::parse("story.yaml", configuration, &|_| None, &known)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"))
            .config;
        let settings = ReplaySettings {
            shards: threads,
            ..ReplaySettings::default()
        };
        let daemon = Replay::start(&config, at(0.0), settings);
        Self {
            world,
            daemon: daemon.expect("a daemon"),
            clock: 0.0,
            tick: config.window.tick.0,
            config,
            seed,
            ticks: 0,
            told: Vec::new(),
            firing: BTreeMap::new(),
            mark: 0,
        }
    }

    /// Lets so many ticks pass.
    pub fn run(&mut self, ticks: i64) {
        for _ in 0..ticks {
            for (time, batch) in self.world.pass(self.tick.as_secs_f64()) {
                let applied = self.daemon.apply(at(time + self.clock), batch);
                let refused = applied.expect("it works");
                assert!(refused.is_empty(), "{refused:?}");
            }
            let advanced = self.daemon.advance(at(self.world.now + self.clock));
            advanced.expect("it works");
            self.ticks += 1;
            self.note();
        }
    }

    /// The daemon is stopped and started again, with what it keeps.
    pub fn restart(&mut self) {
        let settings = ReplaySettings {
            saved: Some(self.daemon.save()),
            ..ReplaySettings::default()
        };
        let daemon = Replay::start(&self.config, self.daemon.now(), settings);
        self.daemon = daemon.expect("a daemon");
        let warnings = self.daemon.take_warnings();
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    /// The daemon's clock is set by so many seconds.
    pub fn set_clock(&mut self, step: f64) {
        self.clock += step;
        self.daemon.set_clock(at(self.world.now + self.clock));
    }

    /// The mode that the service is told to run in.
    pub fn mode(&self, service: &str) -> String {
        let modes = self.daemon.modes();
        let state = modes.get(service);
        state.map_or_else(String::new, |state| state.mode.clone())
    }

    /// Notes what is known of each alert after this tick.
    fn note(&mut self) {
        for alert in self.daemon.alerts() {
            let known = self.firing.get(&alert.fingerprint).copied();
            let index = match (alert.state, known) {
                (AlertState::Pending, _) | (AlertState::Resolved, None) => continue,
                (_, Some(index)) => index,
                (AlertState::Firing, None) => {
                    self.told.push(Told {
                        alert: Alert::clone(&alert),
                        fired: self.ticks,
                        resolved: None,
                        said: Vec::new(),
                    });
                    self.firing.insert(alert.fingerprint, self.told.len() - 1);
                    self.told.len() - 1
                }
            };
            let told = &mut self.told[index];
            told.alert = Alert::clone(&alert);
            let mut text = String::new();
            for (name, value) in alert.annotations.0.iter() {
                text += &format!("{name}: {value}\n");
            }
            if told.said.last().is_none_or(|(_, last)| *last != text) {
                told.said.push((self.ticks, text));
            }
            if alert.state == AlertState::Resolved {
                told.resolved = Some(self.ticks);
                self.firing.remove(&alert.fingerprint);
            }
        }
    }

    /// The second of the story at which the next tick begins.
    pub fn now(&self) -> f64 {
        self.world.now
    }

    /// From here on what is told counts.
    pub fn mark(&mut self) {
        self.mark = self.ticks;
    }

    /// All alerts that fired since the mark.
    pub fn told(&self) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(|told| told.fired > self.mark)
    }

    /// How many alerts fired since the beginning.
    pub fn told_so_far(&self) -> usize {
        self.told.len()
    }

    /// Everything that was told so far, for the one who reads why a story failed.
    pub fn log(&self) -> String {
        let mut log = format!("seed {}, mark at tick {}\n", self.seed, self.mark);
        for told in &self.told {
            log += &format!("{}\n", told.line());
            for (name, value) in told.alert.annotations.0.iter() {
                if !matches!(name.as_str(), "summary" | "lower" | "upper" | "since") {
                    log += &format!("        {name}: {value}\n");
                }
            }
        }
        log
    }

    /// Nothing has fired since the mark.
    #[track_caller]
    pub fn expect_silence(&self) {
        assert!(
            self.told().next().is_none(),
            "nothing should have fired\n{}",
            self.log()
        );
    }

    /// Whatever fired since the mark is about these services.
    #[track_caller]
    pub fn expect_only(&self, services: &[&str]) {
        for told in self.told() {
            assert!(
                services.contains(&told.service()),
                "{} has nothing to do with it\n{}",
                told.service(),
                self.log()
            );
        }
    }

    /// An alert of one of these names fired on the service within `ticks` after the mark; the first.
    #[track_caller]
    pub fn expect(&self, alerts: &[&str], service: &str, ticks: i64) -> &Told {
        let mut found = self.told().filter(|told| {
            alerts.contains(&told.alert.name())
                && told.service() == service
                && told.fired <= self.mark + ticks
        });
        found.next().unwrap_or_else(|| {
            panic!(
                "no alert {alerts:?} on {service} within {ticks} ticks\n{}",
                self.log()
            )
        })
    }

    /// An alert of this name has fired on `service` since the mark, and still does: what is not over
    /// must not look as if it were.
    #[track_caller]
    pub fn expect_still(&self, alert: &str, service: &str) {
        let still = |told: &Told| {
            told.alert.name() == alert && told.service() == service && told.resolved.is_none()
        };
        assert!(
            self.told().any(still),
            "no alert {alert} on {service} is left in tick {}\n{}",
            self.ticks,
            self.log()
        );
    }

    /// Of the alerts since the mark on `service`, one says all of `words` within `ticks` after it
    /// fired.
    #[track_caller]
    pub fn expect_said(&self, service: &str, words: &[&str], ticks: i64) {
        let said = |told: &Told| told.service() == service && told.says(words, Some(ticks));
        assert!(
            self.told().any(said),
            "nothing on {service} says all of {words:?} within {ticks} ticks\n{}",
            self.log()
        );
    }

    /// Every alert since the mark has ended within `ticks` after it, and those on `service` fired once.
    #[track_caller]
    pub fn expect_once_until(&self, service: &str, ticks: i64) {
        let mut seen = BTreeSet::new();
        for told in self.told() {
            let once = told.service() != service || seen.insert(told.alert.fingerprint);
            let over = told.resolved.is_some_and(|end| end <= self.mark + ticks);
            assert!(
                once && over,
                "each should fire once, and end within {ticks} ticks: {}\n{}",
                told.line(),
                self.log()
            );
        }
    }

    /// Whatever fired since the mark is one incident, which began in `origin`.
    #[track_caller]
    pub fn expect_one_incident(&self, origin: &str) {
        let named = |told: &Told| told.alert.annotations.get("incident").map(str::to_owned);
        let of_story: BTreeSet<_> = self.told().filter_map(named).collect();
        let incidents = self.daemon.incidents();
        let of_story: Vec<_> = incidents
            .iter()
            .filter(|incident| of_story.contains(&incident.id))
            .collect();
        let is_one = matches!(&of_story[..], [one] if one.origin == origin);
        assert!(
            is_one,
            "not one incident of {origin}: {of_story:#?}\n{}",
            self.log()
        );
    }

    /// Nothing fires any more.
    #[track_caller]
    pub fn expect_all_resolved(&self) {
        let still = self.told.iter().any(|told| told.resolved.is_none());
        assert!(!still, "still firing\n{}", self.log());
    }
}
