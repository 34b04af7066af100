use super::Problem;
use crate::ingest::otlp::wire;
use crate::model::{Reject, SummaryPoint};

/// Most quantiles of one point.
const MAX_QUANTILES: usize = 1024;

/// Reads a `SummaryDataPoint`.
pub(super) fn read(point: &[u8]) -> Result<SummaryPoint, Problem> {
    let (mut count, mut sum) = (0, 0.0);
    let mut quantiles = Vec::new();
    for field in wire::fields(point) {
        match field? {
            (4, value) => count = value.number()?,
            (5, value) => sum = value.double()?,
            (6, value) => {
                let (mut quantile, mut observed) = (0.0, 0.0);
                for field in wire::fields(value.bytes()?) {
                    match field? {
                        (1, value) => quantile = value.double()?,
                        (2, value) => observed = value.double()?,
                        _ => {}
                    }
                }
                if quantiles.len() == MAX_QUANTILES || !(0.0..=1.0).contains(&quantile) {
                    return Err(Reject::Summary.into());
                }
                // Prometheus' clients say NaN while nothing was observed lately: there is no such
                // quantile then, and count and sum are still good.
                if !observed.is_nan() {
                    quantiles.push((quantile, observed));
                }
            }
            _ => {}
        }
    }
    let rising = quantiles.is_sorted_by(|(a, low), (b, high)| a < b && low <= high);
    let sound = |(_, value): &(f64, f64)| value.is_finite() && *value >= 0.0;
    if !rising || !quantiles.iter().all(sound) || !sum.is_finite() {
        return Err(Reject::Summary.into());
    }
    Ok(SummaryPoint {
        count,
        sum,
        quantiles,
    })
}
