//! From the wire form to typed points and spans, with every check that needs nothing but the request:
//! what passes is finite, consistent and bounded; what does not is counted with its reason.

mod attributes;
mod exponential;
mod histogram;
mod known;
mod metric;
mod point;
mod request;
mod span;
mod summary;

pub(crate) use known::Known;
pub(crate) use metric::metrics;
pub(crate) use span::spans;

use std::time::Duration;

use crate::ingest::otlp::schema::{
    EXPONENTIAL, EXPONENTIAL_POINT, GAUGE, HISTOGRAM, HISTOGRAM_POINT, Message, NUMBER_POINT, SUM,
    SUMMARY, SUMMARY_POINT,
};
use crate::ingest::otlp::wire::WireError;
use crate::model::{Reject, Timestamp};

/// How far ahead of us a client's clock may be.
const MAX_AHEAD: Duration = Duration::from_secs(600);

/// The five kinds of data, by their field in `Metric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Gauge = 5,
    Sum = 7,
    Histogram = 9,
    Exponential = 10,
    Summary = 11,
}

impl Data {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            5 => Self::Gauge,
            7 => Self::Sum,
            9 => Self::Histogram,
            10 => Self::Exponential,
            11 => Self::Summary,
            _ => return None,
        })
    }

    /// The message in that field.
    fn message(self) -> &'static Message {
        match self {
            Self::Gauge => &GAUGE,
            Self::Sum => &SUM,
            Self::Histogram => &HISTOGRAM,
            Self::Exponential => &EXPONENTIAL,
            Self::Summary => &SUMMARY,
        }
    }

    /// Its points.
    fn point(self) -> &'static Message {
        match self {
            Self::Gauge | Self::Sum => &NUMBER_POINT,
            Self::Histogram => &HISTOGRAM_POINT,
            Self::Exponential => &EXPONENTIAL_POINT,
            Self::Summary => &SUMMARY_POINT,
        }
    }

    /// Where the points of this kind have their attributes, flags and exemplars; 0: none.
    fn layout(self) -> Layout {
        let (attributes, flags, exemplars) = match self {
            Self::Gauge | Self::Sum => (7, 8, 5),
            Self::Histogram => (9, 10, 8),
            Self::Exponential => (1, 10, 11),
            Self::Summary => (7, 8, 0),
        };
        Layout {
            attributes,
            flags,
            exemplars,
        }
    }
}

struct Layout {
    attributes: u32,
    flags: u32,
    exemplars: u32,
}

/// Why a point was not made.
enum Problem {
    /// The point is refused, the request goes on.
    Reject(Reject),
    /// The request cannot be read.
    Wire(WireError),
}

impl From<Reject> for Problem {
    fn from(reason: Reject) -> Self {
        Self::Reject(reason)
    }
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// The latest time that is believed, in OTLP's nanoseconds.
fn horizon(now: Timestamp) -> u64 {
    u64::try_from(now.plus(MAX_AHEAD).as_nanos()).unwrap_or(0)
}

/// A time that must be there and not be ahead of `horizon`.
fn checked_time(nanos: u64, horizon: u64) -> Result<Timestamp, Reject> {
    if nanos == 0 {
        Err(Reject::NoTime)
    } else if nanos > horizon {
        Err(Reject::Future)
    } else {
        Timestamp::from_otlp(nanos).ok_or(Reject::Future)
    }
}

/// A name for an example: short, on one line, without control characters.
fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        text.push('…');
    }
    text
}
