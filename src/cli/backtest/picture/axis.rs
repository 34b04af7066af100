//! Where the lines of a grid are, and what stands beside them.

use crate::model::Timestamp;

/// Round numbers from `low` to `high`, some `count` of them.
pub(super) fn numbers(low: f64, high: f64, count: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(count.max(1));
    if rough.is_nan() || rough <= 0.0 || !rough.is_finite() {
        return vec![low];
    }
    let size = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|times| times * size)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    // At most twice as many as asked for.
    (first..=last)
        .take(2 * count as usize + 2)
        .map(|n| n as f64 * step)
        .collect()
}

/// Seconds that people count time in.
const STEPS: [i64; 22] = [
    1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000,
];

/// Round times from `start` to `end`, some `count` of them, and how they are written.
pub(super) fn times(start: Timestamp, end: Timestamp, count: u32) -> Vec<(Timestamp, String)> {
    let seconds = end.seconds_since(start);
    let rough = seconds / f64::from(count.max(1));
    let step = STEPS
        .into_iter()
        .find(|step| *step as f64 >= rough)
        .unwrap_or(31_536_000);
    let second = 1_000_000_000;
    let first = start.as_nanos().div_euclid(second).div_euclid(step) + 1;
    let last = end.as_nanos().div_euclid(second).div_euclid(step);
    (first..=last)
        .take(2 * count as usize + 2)
        .map(|n| {
            let at = Timestamp::from_secs(n.saturating_mul(step));
            let text = at.rfc3339();
            let (date, time) = text.split_once('T').unwrap_or((&text, ""));
            let label = match step {
                86_400.. => date.to_owned(),
                60.. if time.starts_with("00:00") => date.to_owned(),
                60.. => time.get(..5).unwrap_or(time).to_owned(),
                _ => time.trim_end_matches('Z').to_owned(),
            };
            (at, label)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_round() {
        assert_eq!(numbers(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(numbers(-0.1, 0.12, 4), [-0.1, 0.0, 0.1]);
        assert_eq!(numbers(3.0, 3.0, 5), [3.0]);
        assert_eq!(numbers(f64::NAN, 3.0, 5).len(), 1);
        let start = Timestamp::parse_rfc3339("2026-01-01T22:50:00Z").expect("time");
        let end = Timestamp::parse_rfc3339("2026-01-02T02:10:00Z").expect("time");
        let labels: Vec<String> = times(start, end, 6).into_iter().map(|(_, l)| l).collect();
        assert_eq!(labels, ["23:00", "2026-01-02", "01:00", "02:00"]);
        assert!(times(start, start, 6).is_empty());
    }
}
