//! The only place that knows all modules: builds them, wires the channels between them, and stops them
//! in the order in which data flows.

mod own;

pub use own::{INSTANCE_ATTRIBUTE, LogFormat, OwnTelemetry};
