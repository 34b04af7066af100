//! Sigma means what it says: of signals in which nothing happens, the default detector calls no more
//! than twice as many samples anomalies as the normal distribution would. `benches/calibration` measures
//! all of it; this is the part that every change must pass.

// The benchmark uses what the tests do not.
#[allow(dead_code)]
#[path = "../../benches/calibration/measure.rs"]
mod measure;
#[allow(dead_code)]
#[path = "../../benches/calibration/noise.rs"]
pub(super) mod noise;

use measure::{Count, measure};
use noise::{Scenario, scenarios};
use tidewatch::config::Config;

/// A rate is calibrated up to this multiple of the stated one.
const ALLOWED: f64 = 2.0;

/// The detector of the built-in rules.
fn default_detector() -> String {
    let rules = Config::default().model_rules();
    rules
        .first()
        .expect("there are built-in rules")
        .detector
        .name
        .clone()
}

fn count(detector: &str, scenario: &Scenario, samples: u64) -> Count {
    measure(detector, scenario, samples, 11)
}

/// Fails where chance alone would not have brought as many: at the lower end of the 95 % interval.
#[track_caller]
fn check(name: &str, count: &Count) {
    for (at, sigma) in measure::SIGMAS.iter().enumerate().take(2) {
        let (ratio, low, _) = count.ratio(at);
        assert!(
            low <= ALLOWED,
            "{name}: beyond {sigma} sigma {ratio:.1} times as often as stated, at least {low:.1}; {count:?}"
        );
    }
}

/// What `robust` was never made for: cycles, long tails, dependent samples, bunches of rare events.
const NOT_ROBUST: [&str; 12] = [
    "AR(1)",
    "Student",
    "lognormal",
    "cycle, 5",
    "sparse",
    "rare",
    "bursts",
    "batch",
    "p99 of 3",
    "p99 of 4",
    "p95 of",
    "weekly",
];

#[test]
fn the_default_detector_finds_as_little_in_nothing_as_it_says() {
    let detector = default_detector();
    for scenario in scenarios() {
        if detector == "robust" && NOT_ROBUST.iter().any(|name| scenario.name.contains(name)) {
            continue;
        }
        let count = count(&detector, &scenario, 40_000);
        if scenario.name.contains("the first") {
            // Much is new then: single samples are, some four to ten a signal, but alerts are not.
            assert!(count.beyond[1] <= 80, "{}: {count:?}", scenario.name);
            assert!(count.alerts[1][1] <= 2, "{}: {count:?}", scenario.name);
            continue;
        }
        check(scenario.name, &count);
    }
}

/// The measurement itself: what is known to be far off is found to be.
#[test]
fn a_detector_that_is_not_calibrated_is_found_out() {
    let heavy = scenarios()
        .into_iter()
        .find(|scenario| scenario.name.contains("Student"));
    let count = count("zscore", &heavy.expect("it is listed"), 20_000);
    assert!(count.ratio(1).1 > 10.0, "{count:?}");
    assert!(count.alerts[0][1] > count.alerts[1][1], "{count:?}");
}
