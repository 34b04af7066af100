//! From the wire form to typed points and spans, with every check that needs nothing but the request:
//! what passes is finite, consistent and bounded; what does not is counted with its reason.

mod attributes;
mod exponential;
mod histogram;
mod known;
mod metric;
mod span;
mod summary;

pub(crate) use known::Known;
pub(crate) use metric::metrics;
pub(crate) use span::spans;

use std::time::Duration;

use crate::ingest::otlp::wire::WireError;
use crate::model::{Reject, Timestamp};

/// How far ahead of us a client's clock may be.
const MAX_AHEAD: Duration = Duration::from_secs(600);

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
