//! What each stage costs an item, on requests as they come:
//!
//! ```text
//! cargo bench --bench stages                       statistics by divan
//! cargo bench --bench stages -- --table [STAGE]    nanoseconds an item, in Markdown
//! benches/instructions.sh                          instructions an item, which no neighbour disturbs
//! ```
//!
//! Every stage works on one thread: how they share cores is what `benches/peer.sh` and its neighbours
//! measure on the daemon itself.

// It prints what it measured.
#![allow(clippy::print_stdout)]

mod alert;
mod decode;
mod detect;
mod engine;
mod expose;
#[path = "../../examples/load/requests.rs"]
#[allow(dead_code, reason = "shared with the load generator")]
mod requests;

use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use requests::{Mix, Requests, Shape};
use tidewatch::clock;
use tidewatch::model::Timestamp;

/// How much there is to work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// As much as a daemon has: 10,000 series or signals, beyond what a core's cache holds.
    Full,
    /// Enough for a count, which knows no caches.
    Counted,
    /// Enough to see that it works, where benchmarks are run as tests.
    Small,
}

impl Size {
    /// Series, operations or signals.
    pub(crate) fn series(self) -> usize {
        match self {
            Self::Full => 10_000,
            Self::Counted => 1_000,
            Self::Small => 40,
        }
    }
}

/// Something that is done again and again.
pub(crate) trait Stage {
    /// Makes ready what the next run takes; not measured.
    fn prepare(&mut self) {}

    /// Does it once.
    fn run(&mut self);

    /// Items in a run.
    fn items(&self) -> u64;
}

/// How a stage is set up.
type Setup = fn(Size) -> Box<dyn Stage>;

/// Every stage: its name, what an item of it is, and how it is set up.
const STAGES: [(&str, &str, Setup); 18] = [
    ("decode_metrics", "point", decode::metrics),
    ("decode_new_metrics", "point", decode::new_metrics),
    ("decode_traces", "span", decode::traces),
    ("apply_metrics", "point", engine::metrics),
    ("apply_traces", "span", engine::traces),
    ("tick_metrics", "series", engine::tick_of_metrics),
    ("tick_traces", "operation", engine::tick_of_traces),
    ("window", "sample", detect::window),
    ("zscore", "sample", detect::zscore),
    ("zscore_hour", "sample", detect::zscore_hour),
    ("robust", "sample", detect::robust),
    ("threshold", "sample", detect::threshold),
    ("adaptive_value", "sample", detect::adaptive_value),
    ("adaptive_p99", "sample", detect::adaptive_p99),
    ("adaptive_rate", "sample", detect::adaptive_rate),
    ("sketch", "observation", detect::sketch),
    ("alert", "observation", alert::step),
    ("scrape", "signal", expose::scrape),
];

fn setup(name: &str) -> Setup {
    let found = STAGES.iter().find(|(known, ..)| *known == name);
    found.unwrap_or_else(|| panic!("no stage `{name}`")).2
}

/// The `number`th tick of ten seconds of the benchmarks.
pub(crate) fn at(number: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + 10 * i64::try_from(number).unwrap_or(0))
}

/// Nanoseconds since 1970, as requests have them.
pub(crate) fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(0)
}

/// Requests of metrics with 200 points each, as the load generator sends them.
pub(crate) fn metrics(size: Size) -> Requests {
    Requests::metrics(&shape(size, 200)).expect("they fit")
}

/// Requests of traces with 512 spans each.
pub(crate) fn traces(size: Size) -> Requests {
    Requests::traces(&shape(size, 512)).expect("they fit")
}

fn shape(size: Size, items: usize) -> Shape {
    Shape {
        series: size.series(),
        items,
        max_bytes: 64 << 20,
        mix: Mix::All,
    }
}

/// The part that is counted: valgrind knows it by its name.
#[inline(never)]
fn measured(stage: &mut dyn Stage) {
    black_box(stage).run();
}

#[divan::bench(args = STAGES.map(|(name, ..)| name), max_time = 3)]
fn stage(bencher: Bencher<'_, '_>, name: &str) {
    let stage = std::cell::RefCell::new(setup(name)(Size::Full));
    let items = stage.borrow().items();
    bencher
        .counter(ItemsCount::new(items))
        .with_inputs(|| stage.borrow_mut().prepare())
        .bench_local_values(|()| measured(&mut **stage.borrow_mut()));
}

/// Nanoseconds an item: the median of as many runs as fit into a second.
fn measure(stage: &mut dyn Stage) -> f64 {
    let (begin, mut runs) = (clock::instant(), Vec::new());
    while begin.elapsed() < Duration::from_secs(1) || runs.len() < 5 {
        stage.prepare();
        let start = clock::instant();
        measured(stage);
        runs.push(start.elapsed().as_secs_f64() * 1e9 / stage.items() as f64);
    }
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// Of the stages named, or of all.
fn table(wanted: &[String]) {
    println!("| stage | item | ns an item |\n|---|---|---|");
    for (name, item, setup) in STAGES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let mut stage = setup(Size::Full);
        // Caches and branch predictors, and the allocator's lists.
        measure(&mut *stage);
        println!("| `{name}` | {item} | {:.0} |", measure(&mut *stage));
    }
}

/// Runs a stage so often that its start does not matter; how many items that were goes to the caller,
/// who counts instructions.
fn count(name: &str, runs: u64) {
    let mut stage = setup(name)(Size::Counted);
    stage.prepare();
    stage.run();
    for _ in 0..runs {
        stage.prepare();
        measured(&mut *stage);
    }
    println!("{}", stage.items() * runs);
}

fn main() {
    // Nothing may use TLS before; a second installation would only say that there is one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    match arguments.as_slice() {
        [command, name, runs, ..] if command == "--count" => {
            count(name, runs.parse().expect("a number of runs"));
        }
        _ if has("--list-stages") => {
            STAGES
                .iter()
                .for_each(|(name, item, _)| println!("{name} {item}"));
        }
        _ if has("--table") => {
            let named = arguments
                .iter()
                .filter(|argument| !argument.starts_with('-'));
            table(&named.cloned().collect::<Vec<_>>());
        }
        _ if has("--bench") => divan::main(),
        // `cargo test` runs benchmarks, too.
        _ => STAGES.iter().for_each(|(_, _, setup)| {
            let mut stage = setup(Size::Small);
            stage.prepare();
            stage.run();
        }),
    }
}
