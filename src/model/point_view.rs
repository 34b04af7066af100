//! Points as they are read: borrowed, wherever their numbers lie.

use super::{
    Exemplar, ExponentialHistogramPoint, HistogramPoint, MetricPoint, PointData, SummaryPoint,
    Timestamp,
};

/// A point of one series, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct PointView<'a> {
    /// `start_time_unix_nano`; `None` where the client did not say.
    pub start: Option<Timestamp>,
    /// `time_unix_nano`.
    pub time: Timestamp,
    /// What was measured.
    pub data: DataView<'a>,
    /// One exemplar with a trace id, if the point brought any.
    pub exemplar: Option<&'a Exemplar>,
}

/// What a point says, borrowed; see [`PointData`].
#[derive(Debug, Clone, Copy)]
pub enum DataView<'a> {
    /// `NO_RECORDED_VALUE`: the series ends here.
    End,
    /// A gauge's or sum's number; the series' kind says how to read it.
    Number(f64),
    /// A histogram with explicit buckets.
    Histogram(HistogramView<'a>),
    /// An exponential histogram.
    Exponential(&'a ExponentialHistogramPoint),
    /// Quantiles from the client.
    Summary(&'a SummaryPoint),
}

/// Explicit buckets, borrowed: `counts[i]` observations in `(bounds[i-1], bounds[i]]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistogramView<'a> {
    /// Number of observations; equals the sum of `counts` where there are any.
    pub count: u64,
    /// Sum of the observations, where the client gave it.
    pub sum: Option<f64>,
    /// Smallest observation, where the client gave it.
    pub min: Option<f64>,
    /// Largest observation, where the client gave it.
    pub max: Option<f64>,
    /// Upper bounds, strictly rising, finite.
    pub bounds: &'a [f64],
    /// One more than `bounds`, or empty together with them.
    pub counts: &'a [u64],
}

impl HistogramView<'_> {
    /// The same with numbers of its own.
    pub fn to_owned(&self) -> HistogramPoint {
        HistogramPoint {
            count: self.count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            bounds: self.bounds.to_vec(),
            counts: self.counts.to_vec(),
        }
    }
}

impl HistogramPoint {
    /// The point, borrowed.
    #[inline]
    pub fn view(&self) -> HistogramView<'_> {
        HistogramView {
            count: self.count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            bounds: &self.bounds,
            counts: &self.counts,
        }
    }
}

impl PointData {
    /// What the point says, borrowed.
    #[inline]
    pub fn view(&self) -> DataView<'_> {
        match self {
            Self::End => DataView::End,
            Self::Number(value) => DataView::Number(*value),
            Self::Histogram(point) => DataView::Histogram(point.view()),
            Self::Exponential(point) => DataView::Exponential(point),
            Self::Summary(point) => DataView::Summary(point),
        }
    }
}

impl MetricPoint {
    /// The point without its series, borrowed.
    #[inline]
    pub fn view(&self) -> PointView<'_> {
        PointView {
            start: self.start,
            time: self.time,
            data: self.data.view(),
            exemplar: self.exemplar.as_deref(),
        }
    }
}
