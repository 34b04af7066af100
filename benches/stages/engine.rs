//! Batches are applied to their series, and ticks closed, with the built-in rules on.

use tidewatch::config::Config;
use tidewatch::engine::{Engine, Handle, Placement, Settings, TickReport};
use tidewatch::ingest::Decoder;
use tidewatch::model::{Batch, Rule, Timestamp};
use tidewatch::telemetry::Telemetry;
use tokio::runtime::Runtime;

use super::decode::decode;
use super::requests::Requests;
use super::{Size, Stage, at, nanos};

/// Ticks before anything is measured: the detectors have begun to judge.
const WARM_UP: u64 = 35;

/// An engine whose one shard works on the thread of the caller, and what it is fed with.
pub(crate) struct World {
    runtime: Runtime,
    engine: Handle,
    decoder: Decoder,
    requests: Requests,
    turn: u64,
}

impl World {
    /// Without a series.
    pub(crate) fn new(requests: Requests, rules: std::sync::Arc<[Rule]>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let settings = Settings {
            placement: Placement::InPlace,
            ..Settings::default()
        };
        let guard = runtime.enter();
        let (engine, _) =
            Engine::start(settings, rules, Telemetry::new(), Vec::new()).expect("a fresh engine");
        drop(guard);
        Self {
            runtime,
            engine,
            decoder: Decoder::new(1_000_000),
            requests,
            turn: 0,
        }
    }

    /// The next request, decoded. Each round over all requests is a tick.
    pub(crate) fn batch(&mut self) -> (Batch, Timestamp) {
        let time = at(self.turn / self.requests.count());
        let (body, _) = self.requests.make(self.turn, nanos(time));
        self.turn += 1;
        (
            decode(&self.decoder, &self.requests, &body, self.turn),
            time,
        )
    }

    /// Applies a batch.
    pub(crate) fn apply(&self, batch: Batch, now: Timestamp) {
        let applied = self.runtime.block_on(self.engine.apply(batch, now));
        assert!(applied.expect("there is room").is_empty());
    }

    /// Applies a whole tick.
    pub(crate) fn round(&mut self) -> Timestamp {
        let mut now = at(0);
        for _ in 0..self.requests.count() {
            let (batch, time) = self.batch();
            self.apply(batch, time);
            now = time;
        }
        now
    }

    /// Closes the ticks until `now`.
    pub(crate) fn close(&self, now: Timestamp) -> TickReport {
        self.runtime.block_on(self.engine.tick(now))
    }
}

fn world(requests: Requests, size: Size) -> World {
    let mut world = World::new(requests, Config::default().model_rules());
    let rounds = if size == Size::Small { 2 } else { WARM_UP };
    for _ in 0..rounds {
        let now = world.round();
        world.close(now);
    }
    world
}

/// Points of series that are known.
struct Apply {
    world: World,
    next: (Batch, Timestamp),
    items: usize,
}

pub(crate) fn metrics(size: Size) -> Box<dyn Stage> {
    Apply::start(world(super::metrics(size), size))
}

pub(crate) fn traces(size: Size) -> Box<dyn Stage> {
    Apply::start(world(super::traces(size), size))
}

impl Apply {
    fn start(world: World) -> Box<dyn Stage> {
        let mut apply = Self {
            world,
            next: (Batch::default(), at(0)),
            items: 0,
        };
        apply.prepare();
        Box::new(apply)
    }
}

impl Stage for Apply {
    fn prepare(&mut self) {
        // Between two rounds the tick is closed, as by the daemon's clock.
        if self.world.turn.is_multiple_of(self.world.requests.count()) && self.items > 0 {
            self.world.close(self.next.1);
        }
        self.next = self.world.batch();
        self.items = self.next.0.points.len() + self.next.0.spans.len();
    }

    fn run(&mut self) {
        let (batch, now) = std::mem::take(&mut self.next);
        self.world.apply(batch, now);
        self.next.1 = now;
    }

    fn items(&self) -> u64 {
        self.items as u64
    }
}

/// A tick of all series is closed.
struct Tick {
    world: World,
    now: Timestamp,
    items: u64,
}

pub(crate) fn tick_of_metrics(size: Size) -> Box<dyn Stage> {
    Box::new(Tick {
        world: world(super::metrics(size), size),
        now: at(0),
        items: size.series() as u64,
    })
}

pub(crate) fn tick_of_traces(size: Size) -> Box<dyn Stage> {
    Box::new(Tick {
        world: world(super::traces(size), size),
        now: at(0),
        items: size.series() as u64,
    })
}

impl Stage for Tick {
    fn prepare(&mut self) {
        self.now = self.world.round();
    }

    fn run(&mut self) {
        std::hint::black_box(self.world.close(self.now));
    }

    fn items(&self) -> u64 {
        self.items
    }
}
