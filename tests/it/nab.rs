//! A floor under the score on a part of the Numenta Anomaly Benchmark, as the command line prints it.
//! `tests/nab.sh` prints the scores of the whole of it.

use std::process::Command;

use crate::harness::root;

/// Points that a detector must reach in the profiles standard, low FP and low FN.
struct Floor {
    detector: &'static str,
    /// At the one threshold that is best over all series.
    best: [f64; 3],
    /// At 4 sigma, where the rules stand.
    at_4_sigma: [f64; 3],
}

const FLOORS: [Floor; 1] = [Floor {
    detector: "adaptive",
    best: [84.0, 81.0, 87.0],
    at_4_sigma: [83.0, 79.0, 86.0],
}];

/// The table of `tests/nab.sh`, as (detector, files, the six numbers).
fn table(detectors: &str) -> Vec<(String, String, [f64; 6])> {
    let run = Command::new(root().join("tests/nab.sh"))
        .env("TIDEWATCH", env!("CARGO_BIN_EXE_tidewatch"))
        .env("DETECTORS", detectors)
        .output()
        .expect("there is a shell");
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}\n{errors}");
    eprintln!("{text}");
    let rows = text.lines().skip(2).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words[index].parse().expect("a number");
        (
            words[0].to_owned(),
            words[1].to_owned(),
            std::array::from_fn(|n| number(n + 2)),
        )
    });
    rows.collect()
}

#[test]
fn detectors_keep_their_score_on_labelled_data() {
    let rows = table("adaptive zscore");
    let of = |detector: &str| {
        let all = rows.iter().find(|row| row.0 == detector && row.1 == "all");
        all.unwrap_or_else(|| panic!("no row of {detector}")).2
    };
    for floor in FLOORS {
        let reached = of(floor.detector);
        for (n, least) in floor.best.iter().chain(&floor.at_4_sigma).enumerate() {
            assert!(
                reached[n] >= *least,
                "column {n} of {}: {} is below {least}",
                floor.detector,
                reached[n]
            );
        }
        let classic = of("zscore");
        assert!((0..6).all(|n| classic[n] < reached[n]));
    }
}
