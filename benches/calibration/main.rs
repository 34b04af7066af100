//! How often detectors find anomalies where there are none, beside how often they say they do:
//! `cargo bench --bench calibration`, and `-- --help` for what can be chosen.

// It prints what it measured.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod measure;
mod noise;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use measure::{Count, HOLDS, SIGMAS, measure, stated};
use noise::{Scenario, scenarios};
use tidewatch::detect;

/// Detectors that learn, in the order shown; those that the registry has are measured.
const LEARNING: [&str; 3] = ["adaptive", "robust", "zscore"];
/// Enough that 4 sigma is exceeded some thirty times, and 5 sigma seven times in all together.
const SAMPLES: u64 = 500_000;
/// Enough to see that the program works, where it is run as a test.
const FEW_SAMPLES: u64 = 200;
/// A rate is calibrated up to this multiple of the stated one.
const ALLOWED: f64 = 2.0;

/// Measures the rate of false anomalies at 3, 4 and 5 sigma beside that of the normal distribution.
#[derive(Parser)]
struct Options {
    /// Detector to measure; may be repeated. Default: adaptive, robust, zscore, as far as they exist.
    #[arg(long)]
    detector: Vec<String>,
    /// Only the kinds of signals whose name contains this; may be repeated.
    #[arg(long)]
    noise: Vec<String>,
    /// Samples of each kind for each detector.
    #[arg(long)]
    samples: Option<u64>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print Markdown tables.
    #[arg(long)]
    markdown: bool,
    /// Say also which deviations spoke beyond 4 sigma.
    #[arg(long)]
    channels: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Filters of `cargo test`, which mean nothing here.
    #[arg(hide = true)]
    ignored: Vec<String>,
}

fn main() {
    // `cargo test` runs benchmarks, too; the test of this one is `tests/it/calibration.rs`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let options = Options::parse();
    let detectors: Vec<String> = if options.detector.is_empty() {
        let known = |name: &&str| detect::names().any(|known| known == *name);
        LEARNING
            .iter()
            .filter(|name| known(name))
            .map(|name| (*name).to_owned())
            .collect()
    } else {
        options.detector.clone()
    };
    if let Some(unknown) = detectors
        .iter()
        .find(|name| !detect::names().any(|n| n == **name))
    {
        let known: Vec<_> = detect::names().collect();
        eprintln!("no detector `{unknown}`; there are {}", known.join(", "));
        std::process::exit(2);
    }
    let samples = options
        .samples
        .unwrap_or(if options.bench { SAMPLES } else { FEW_SAMPLES });
    let chosen = |scenario: &Scenario| {
        options.noise.is_empty()
            || options
                .noise
                .iter()
                .any(|n| scenario.name.contains(n.as_str()))
    };
    let scenarios: Vec<Scenario> = scenarios().into_iter().filter(chosen).collect();
    let counts = measure_all(&detectors, &scenarios, samples, options.seed);
    print(&rates(&detectors, &scenarios, &counts), options.markdown);
    println!();
    print(&alerts(&detectors, &scenarios, &counts), options.markdown);
    if options.channels {
        println!();
        print(&channels(&detectors, &scenarios, &counts), options.markdown);
    }
}

/// By detector and scenario, on every core.
fn measure_all(
    detectors: &[String],
    scenarios: &[Scenario],
    samples: u64,
    seed: u64,
) -> Vec<Vec<Count>> {
    let counts = Mutex::new(vec![
        vec![Count::default(); scenarios.len()];
        detectors.len()
    ]);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            // Nothing but the number itself is shared.
            let job = next.fetch_add(1, Ordering::Relaxed);
            let (d, s) = (job / scenarios.len().max(1), job % scenarios.len().max(1));
            let (Some(detector), Some(scenario)) = (detectors.get(d), scenarios.get(s)) else {
                return;
            };
            // Every detector sees the same noise.
            let count = measure(
                detector,
                scenario,
                samples,
                seed.wrapping_add(s as u64 * 7919),
            );
            counts.lock().expect("no thread panicked")[d][s] = count;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    counts.into_inner().expect("no thread panicked")
}

/// Of each detector a line for each kind of signal, and one for all.
fn lines<'a>(
    detectors: &'a [String],
    scenarios: &'a [Scenario],
    counts: &'a [Vec<Count>],
) -> impl Iterator<Item = (&'a str, &'a str, Count)> {
    detectors
        .iter()
        .zip(counts)
        .flat_map(move |(detector, counts)| {
            let mut all = Count::default();
            counts.iter().for_each(|count| all.add(count));
            let each = scenarios.iter().zip(counts);
            let each = each.map(|(scenario, count)| (scenario.name, count.clone()));
            each.chain([("all together", all)])
                .map(move |(name, count)| (detector.as_str(), name, count))
        })
}

/// False anomalies as multiples of the stated rate.
fn rates(detectors: &[String], scenarios: &[Scenario], counts: &[Vec<Count>]) -> Table {
    let mut table = Table::new();
    let mut header = vec!["detector".to_owned(), "signal".into(), "samples".into()];
    header.extend(SIGMAS.map(|sigma| format!("{sigma} σ: × {:.1e}", stated(sigma))));
    table.set_header(header);
    for (detector, name, count) in lines(detectors, scenarios, counts) {
        let mut row = vec![detector.to_owned(), name.into(), count.samples.to_string()];
        row.extend((0..SIGMAS.len()).map(|at| {
            let (ratio, low, high) = count.ratio(at);
            let mark = match () {
                // Beyond what is allowed, and not by chance; or perhaps by chance.
                () if low > ALLOWED => " !!",
                () if ratio > ALLOWED => " !",
                () => "",
            };
            format!("{} ({} to {}){mark}", short(ratio), short(low), short(high))
        }));
        table.add_row(row);
    }
    table
}

/// Alerts of a thousand signals in a day.
fn alerts(detectors: &[String], scenarios: &[Scenario], counts: &[Vec<Count>]) -> Table {
    let mut table = Table::new();
    let mut header = vec!["detector".to_owned(), "signal".into(), "signal days".into()];
    for (n, of) in HOLDS {
        header.extend(SIGMAS.map(|sigma| format!("{n} of {of}, {sigma} σ")));
    }
    table.set_header(header);
    for (detector, name, count) in lines(detectors, scenarios, counts) {
        let mut row = vec![
            detector.to_owned(),
            name.into(),
            format!("{:.0}", count.days),
        ];
        for hold in 0..HOLDS.len() {
            row.extend(
                (0..SIGMAS.len()).map(|at| short(count.alerts_per_thousand_and_day(hold, at))),
            );
        }
        table.add_row(row);
    }
    table
}

/// What spoke beyond 4 sigma.
fn channels(detectors: &[String], scenarios: &[Scenario], counts: &[Vec<Count>]) -> Table {
    let mut table = Table::new();
    table.set_header(["detector", "signal", "samples beyond 4 σ", "what deviated"]);
    for (detector, name, count) in lines(detectors, scenarios, counts) {
        for (channel, number) in &count.channels {
            table.add_row([detector, name, &number.to_string(), channel.as_str()]);
        }
    }
    table
}

fn print(table: &Table, markdown: bool) {
    let mut table = table.clone();
    table.load_preset(if markdown {
        presets::ASCII_MARKDOWN
    } else {
        presets::NOTHING
    });
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// Two or three digits are all that is measured.
fn short(number: f64) -> String {
    match number {
        _ if number == 0.0 => "0".into(),
        _ if number < 0.095 => format!("{number:.2}"),
        _ if number < 9.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}
