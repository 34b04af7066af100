//! The whole loop in virtual time: telemetry comes in, modes go out, and services react to what they are
//! told, acknowledge it, and send other telemetry for it.

mod causes;
mod stories;
mod troubles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Decisions, Replay, ReplaySettings, Timestamp};
use crate::config::Config;
use crate::model::{
    Acknowledgement, AttributeValue, Attributes, Batch, Effect, Episode, Event, EventBody, Level,
    MetricKind, MetricPoint, ModeChange, ModeStep, PlanRun, PointData, Resource, Scope, Selector,
    SeriesIdentity,
};
use crate::modes::{
    EffectSettings, Machine, Otherwise, Parts, PlanStepSettings, Policy, ServiceTemplate, Settings,
    Target,
};

const TICK: i64 = 10;
const BEGIN: i64 = 1_800_000_000;
/// By then everything is learned.
const INCIDENT: i64 = 200;
const HOLD: Duration = Duration::from_secs(60);

/// A service with a queue that grows in an incident.
struct Service {
    /// How often as long as usual the queue is.
    incident: f64,
    /// What is left of that in each level.
    left: [f64; 3],
    /// It sends nothing and hears nothing.
    is_cut_off: bool,
    acknowledges: bool,
    /// The level and the instruction that it has heard.
    heard: (String, Level, u64),
}

/// The daemon's engine and decisions, and services around them.
struct World {
    replay: Replay,
    config: Config,
    settings: Settings,
    services: BTreeMap<&'static str, Service>,
    /// Ticks since the beginning.
    n: i64,
    events: Vec<Event>,
}

fn at(n: i64) -> Timestamp {
    Timestamp::from_secs(BEGIN + n * TICK)
}

fn start(config: &Config, settings: ReplaySettings, n: i64) -> Replay {
    let settings = ReplaySettings {
        // As the daemon: every tick is closed and decided by.
        shards: std::num::NonZeroUsize::new(1),
        ..settings
    };
    Replay::start(config, at(n), settings).expect("a replay")
}

fn depth(service: &str, now: Timestamp, value: f64) -> MetricPoint {
    let name = AttributeValue::from(service);
    let identity = Arc::new(SeriesIdentity {
        resource: Arc::new(Resource {
            service: service.into(),
            attributes: Attributes::from_pairs([("service.name".into(), name)]),
        }),
        scope: Arc::new(Scope::default()),
        metric: "queue.depth".into(),
        unit: "".into(),
        kind: MetricKind::Gauge,
        attributes: Attributes::default(),
    });
    MetricPoint {
        series: identity.id(),
        identity: identity.into(),
        start: None,
        time: now,
        data: PointData::Number(value),
        exemplar: None,
    }
}

fn target(text: &str) -> Target {
    Target::Service(ServiceTemplate::parse(text).expect("a template"))
}

/// While the queue of a service is too long, it is degraded.
fn policy(otherwise: Otherwise) -> Policy {
    let when = Selector::parse(r#"{alertname="QueueDepthSpike"}"#).expect("a selector");
    Policy {
        effect: EffectSettings {
            otherwise,
            ..EffectSettings::default()
        },
        ..Policy::new("long-queue", when, target("{{ service }}"), Level(1))
    }
}

/// While the queue of a service is too long, first the gateway is degraded and then the service.
fn plan() -> Policy {
    let step = |text: &str| PlanStepSettings {
        target: target(text),
        level: Level(1),
        instruction: Parts::default(),
    };
    Policy {
        name: "from-the-edge".into(),
        steps: vec![step("gateway"), step("{{ service }}")],
        ..policy(Otherwise::Undo)
    }
}

impl World {
    /// Five services that have been calm for a while, the built-in rules, and one policy.
    fn new(policy: Policy) -> Self {
        Self::with(Config::default(), policy)
    }

    /// The same with other rules.
    fn with(config: Config, policy: Policy) -> Self {
        let settings = Settings {
            policies: vec![policy],
            ..Settings::default()
        };
        let mut replay = start(&config, ReplaySettings::default(), 0);
        replay.pipeline.modes = Machine::new(settings.clone());
        let service = || Service {
            incident: 1.0,
            left: [1.0, 1.0, 1.0],
            is_cut_off: false,
            acknowledges: true,
            heard: ("normal".into(), Level(0), 0),
        };
        let names = ["gateway", "cart", "checkout", "pay", "stock"];
        let mut world = Self {
            replay,
            config,
            settings,
            services: names.into_iter().map(|name| (name, service())).collect(),
            n: 0,
            events: Vec::new(),
        };
        world.until(INCIDENT);
        assert_eq!(world.changes(), Vec::<String>::new());
        world
    }

    fn service(&mut self, name: &str) -> &mut Service {
        self.services.get_mut(name).expect("it is one of the five")
    }

    /// The queue of `name` is `times` as long as usual; in each level so much of that is left.
    fn incident(&mut self, name: &str, times: f64, left: [f64; 3]) {
        let service = self.service(name);
        (service.incident, service.left) = (times, left);
    }

    fn until(&mut self, n: i64) {
        while self.n < n {
            self.n += 1;
            self.tick();
        }
    }

    /// One tick: all send, the daemon decides, all hear and acknowledge.
    fn tick(&mut self) {
        let now = at(self.n);
        let noise = (self.n as f64 * 0.7).sin() * 2.0;
        let send = |(name, service): (&&str, &Service)| {
            let left = service.left[usize::from(service.heard.1.0)];
            let excess = (service.incident - 1.0) * left;
            let value = (100.0 + noise) * (1.0 + excess);
            (!service.is_cut_off).then(|| depth(name, now, value))
        };
        let batch = Batch {
            points: self.services.iter().filter_map(send).collect(),
            ..Batch::default()
        };
        let refused = self.replay.apply(now, batch).expect("it goes on");
        assert!(refused.is_empty());
        self.replay.advance(now).expect("it goes on");
        self.hear();
        let events = self.replay.take_events();
        self.events.extend(events);
    }

    fn hear(&mut self) {
        // What a plan tells after an acknowledgement is heard at once.
        for _ in 0..3 {
            let told = self.replay.modes();
            for (name, service) in &mut self.services {
                let Some(state) = told.get(*name).filter(|_| !service.is_cut_off) else {
                    continue;
                };
                // It repeats itself as often as it asks.
                service.heard = (state.mode.clone(), state.level, state.sequence);
                if !service.acknowledges {
                    continue;
                }
                let said = Acknowledgement {
                    instance: format!("{name}-1"),
                    mode: state.mode.clone(),
                    sequence: state.sequence,
                    detail: String::new(),
                };
                let now = self.replay.now();
                let modes = self.replay.pipeline.modes.acknowledge(now, name, said);
                let decisions = Decisions {
                    modes: modes.expect("it is known"),
                    ..Decisions::default()
                };
                self.replay.settle(now, decisions);
            }
        }
    }

    /// The daemon is killed, and another one goes on some ticks later with what it left.
    fn restart(&mut self, after: i64) {
        let saved = self.replay.save();
        let modes = saved.decisions.modes.clone();
        self.n += after;
        self.replay = start(
            &self.config,
            ReplaySettings {
                saved: Some(saved),
                ..ReplaySettings::default()
            },
            self.n,
        );
        let (machine, warnings) = Machine::restore(modes, self.settings.clone());
        assert_eq!(warnings, Vec::<String>::new());
        self.replay.pipeline.modes = machine;
        let now = at(self.n);
        let decisions = self.replay.pipeline.reconcile(now);
        self.replay.settle(now, decisions);
    }

    fn mode_changes(&self) -> impl Iterator<Item = (i64, &ModeChange)> {
        self.events.iter().filter_map(|event| match &event.body {
            EventBody::Mode(change) => {
                let seconds = event.time.since(at(0)).as_secs();
                Some((i64::try_from(seconds).ok()? / TICK, change))
            }
            _ => None,
        })
    }

    /// `cart degrade to degraded` for every change of a level.
    fn changes(&self) -> Vec<String> {
        let changes = self.mode_changes();
        changes
            .filter(|(_, change)| change.from != change.state.mode)
            .map(|(_, change)| {
                let step = format!("{:?}", change.step).to_lowercase();
                format!("{} {step} to {}", change.state.service, change.state.mode)
            })
            .collect()
    }

    /// In which tick the `number`th change of a level was.
    fn tick_of(&self, number: usize) -> i64 {
        let changes = self.mode_changes();
        let mut levels = changes.filter(|(_, change)| change.from != change.state.mode);
        levels.nth(number).expect("there are so many").0
    }

    fn episodes(&self) -> Vec<Arc<Episode>> {
        self.replay.pipeline.modes.view(self.replay.now()).episodes
    }

    fn plans(&self) -> Vec<Arc<PlanRun>> {
        self.replay.pipeline.modes.view(self.replay.now()).plans
    }

    /// What was judged of the steps of the only episode.
    fn effects(&self) -> Vec<Effect> {
        let episodes = self.episodes();
        let [episode] = &episodes[..] else {
            panic!("{episodes:#?}");
        };
        let effects = episode.actions.iter();
        effects.filter_map(|action| action.effect.clone()).collect()
    }

    /// No service changes its level twice within its hold, but for what is undone.
    #[track_caller]
    fn assert_calm(&self) {
        let mut last: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for event in &self.events {
            let EventBody::Mode(change) = &event.body else {
                continue;
            };
            if change.from == change.state.mode {
                continue;
            }
            let before = last.insert(&change.state.service, event.time);
            let is_undone = change.step == ModeStep::Undo;
            if let Some(before) = before.filter(|_| !is_undone) {
                assert!(event.time.since(before) >= HOLD, "{change:#?}");
            }
        }
    }

    /// Everything is over: all are normal, nothing waits.
    #[track_caller]
    fn assert_over(&self) {
        let view = self.replay.pipeline.modes.view(self.replay.now());
        for (name, state) in &view.services {
            assert_eq!(state.level, Level(0), "{name}");
            assert_eq!(state.episode, None, "{name}");
        }
        assert!(view.proposals.is_empty(), "{:#?}", view.proposals);
        assert!(view.episodes.iter().all(|e| e.ended_at.is_some()));
        assert!(view.plans.iter().all(|plan| plan.ended_at.is_some()));
        assert!(view.reports.values().all(|report| report.acknowledged));
    }
}
