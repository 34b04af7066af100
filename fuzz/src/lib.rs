//! What must hold for everything that a decoder accepts.

use tidewatch::model::{Batch, PointData, Timestamp};

/// The present time of all targets.
pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// All that `batch` says, wherever it says it.
pub fn told(batch: &Batch) -> String {
    let mut told = format!("{:?} {:?} {:?}\n", batch.operations, batch.spans, batch.rejections);
    for point in &batch.points {
        let identity = batch.identity(point).expect("one of its own");
        let (start, time) = (point.start, point.time);
        told += &format!("{} {identity:?} {start:?} {time} {:?} {:?}\n", point.series, point.data, point.exemplar);
    }
    told
}

/// Panics if `batch` holds what a decoder has to refuse.
pub fn check(batch: &Batch) {
    let latest = NOW.plus(std::time::Duration::from_secs(600));
    for point in &batch.points {
        let identity = batch.identity(point).expect("one of its own");
        assert_eq!(point.series, identity.id());
        assert!(point.time <= latest && point.start.is_none_or(|start| start <= point.time));
        assert!(identity.attributes.len() <= 64);
        match &point.data {
            PointData::End => {}
            PointData::Number(number) => assert!(number.is_finite()),
            PointData::Histogram(h) => {
                assert!(h.counts.is_empty() || h.counts.iter().sum::<u64>() == h.count);
                assert!(h.bounds.is_sorted() && h.bounds.iter().all(|b| b.is_finite()));
            }
            PointData::Exponential(e) => {
                let filled: u64 = e.positive.values().chain(e.negative.values()).sum();
                assert_eq!(filled + e.zero_count, e.count);
            }
            PointData::Summary(s) => assert!(s.quantiles.is_sorted_by(|a, b| a.0 < b.0)),
        }
    }
    for span in &batch.spans {
        assert!(span.start <= span.end && span.trace_id != 0 && span.span_id != 0);
        let operation = batch.operation(span).expect("one of its own");
        assert!(!operation.name.is_empty());
    }
}
