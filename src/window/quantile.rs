//! Exact quantiles of a handful of values.

/// The quantile `q` of values that are sorted upwards, interpolated linearly between the two order
/// statistics around rank `q · (n - 1)`, as Prometheus' `quantile_over_time` does. `q` is clamped to
/// 0.0..=1.0; `None` without values. The values are not NaN.
pub fn quantile_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    quantile_of(sorted.len(), q, |at| sorted.get(at).copied())
}

/// The same of `len` values that are told by their place.
pub(super) fn quantile_of(len: usize, q: f64, at: impl Fn(usize) -> Option<f64>) -> Option<f64> {
    let last = len.checked_sub(1)?;
    let rank = q.clamp(0.0, 1.0) * last as f64;
    let below = (rank.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let weight = rank - below as f64;
    let (low, high) = (at(below)?, at(above)?);
    // Weighing both ends, rather than adding a share of their difference, cannot overflow; the last
    // digit may still be rounded beyond them.
    Some((low * (1.0 - weight) + high * weight).max(low).min(high))
}

/// The median of `values`, which it reorders; `None` without values. O(n).
pub fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return Some(*upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some((lower * 0.5 + *upper * 0.5).max(lower).min(*upper))
}
