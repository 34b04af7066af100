use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Batch, Resource, Timestamp};

/// The span kinds of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SpanKind {
    /// Not given, or not one of the others.
    Unspecified,
    /// Inside the service.
    Internal,
    /// Handles a request.
    Server,
    /// Makes a request.
    Client,
    /// Sends a message.
    Producer,
    /// Handles a message.
    Consumer,
}

impl SpanKind {
    /// From OTLP's number; what is outside 0 to 5 counts as 0.
    pub fn from_otlp(number: i32) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// Its name in lower case: `server`, `client`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// What spans are of.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Who reports it.
    pub resource: Arc<Resource>,
    /// Its name; `unknown` where the client gave none.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: SpanKind,
}

/// One finished span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpanRecord {
    /// The trace, not 0.
    pub trace_id: u128,
    /// The span, not 0.
    pub span_id: u64,
    /// The parent span; `None` for a root.
    pub parent_id: Option<u64>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended, not before `start`.
    pub end: Timestamp,
    /// What it is of: the position in its batch's operations.
    pub operation: u32,
    /// Whether its status code is `Error` (2).
    pub error: bool,
}

impl SpanRecord {
    /// How long it took, in nanoseconds; 0 if it ended before it began.
    pub fn nanos(&self) -> u64 {
        if self.end < self.start {
            return 0;
        }
        self.end.as_nanos().abs_diff(self.start.as_nanos())
    }
}

impl Batch {
    /// Adds a span of `operation`, whatever number it has. Compares it with all others: for batches that
    /// are made by hand.
    pub fn add_span(&mut self, operation: Operation, mut span: SpanRecord) {
        let known = self.operations.iter().position(|known| *known == operation);
        let number = known.unwrap_or_else(|| {
            self.operations.push(operation);
            self.operations.len() - 1
        });
        span.operation = number as u32;
        self.spans.push(span);
    }

    /// What one of its spans is of; `None` only for a span of another batch.
    pub fn operation(&self, span: &SpanRecord) -> Option<&Operation> {
        self.operations.get(span.operation as usize)
    }
}
