//! The machine of alerts takes what a tick brought: all signals deviate, and then none does.

use std::sync::Arc;

use tidewatch::alert::{Machine, Settings};
use tidewatch::config::{self, Config};
use tidewatch::engine::TickReport;
use tidewatch::model::Rule;

use super::engine::World;
use super::{Size, Stage};

/// Everything that has a value is beyond the bound; and one tick later nothing is expected to be.
const RULES: &str = "rules: [{alert: Bench, detector: threshold, upper: -1.0, for: 1 of 1}]";
/// Ticks that are recorded.
const TICKS: usize = 8;

struct Step {
    rules: Arc<[Rule]>,
    machine: Machine,
    ticks: Vec<TickReport>,
    next: usize,
}

fn rules() -> Arc<[Rule]> {
    let known = tidewatch::app::known();
    let loaded = config::parse("bench.yaml", RULES, &|_| None, &known);
    let config: Config = loaded.expect("a sound configuration").config;
    config.model_rules()
}

/// The first tick of eight makes alerts of all signals, the others go on with them.
pub(crate) fn step(size: Size) -> Box<dyn Stage> {
    let rules = rules();
    let mut world = World::new(super::metrics(size), Arc::clone(&rules));
    // Sums have no rate before their second point.
    world.round();
    let ticks: Vec<TickReport> = (0..TICKS)
        .map(|_| {
            let now = world.round();
            world.close(now)
        })
        .skip(1)
        .collect();
    Box::new(Step {
        machine: Machine::new(Arc::clone(&rules), Settings::default()),
        rules,
        ticks,
        next: 0,
    })
}

impl Stage for Step {
    fn prepare(&mut self) {
        if self.next == self.ticks.len() {
            self.next = 0;
            self.machine = Machine::new(Arc::clone(&self.rules), Settings::default());
        }
    }

    fn run(&mut self) {
        if let Some(tick) = self.ticks.get(self.next) {
            let transitions = self.machine.step(tick.end, &tick.observations, &tick.ended);
            // What the decision task takes away each time.
            std::hint::black_box((transitions, self.machine.changes()));
        }
        self.next += 1;
    }

    fn items(&self) -> u64 {
        let tick = self.ticks.first();
        tick.map_or(1, |tick| tick.observations.len().max(1)) as u64
    }
}
