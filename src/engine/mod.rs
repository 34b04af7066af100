//! Stages 2 to 4 on many cores: OTLP in, judged samples out.
//!
//! In come decoded batches and ticks; out go [`TickReport`]s, views for readers, and learning as bytes.
//! Series are split among shards by their id; a shard is a plain struct on a thread of its own, so
//! deriving, windows and detectors run without a lock. Spans go first to the shard that sees their
//! whole trace; what it gathered of a series goes to the series' shard at the next tick.
//!
//! What always holds: an answered batch has been applied; a batch answered [`Busy`] for a full queue
//! was not touched; output does not depend on the number of shards; every queue and table has a bound.
//! It knows nothing of requests, alerts, files or the wall clock: the time comes with each call.
//!
//! - `handle`: what everybody else calls; `tick`: closing a tick over all shards; `close`: in one of them
//! - `replay`: many ticks at once, for recorded data
//! - `router`: which shard does what; `worker`: a shard's thread and its mailbox
//! - `shard`, `series`, `signal`, `watch`: the state, from the outside in; `index`: series side by side,
//!   found by id; `common`: what their identities share; `few`: lists that mostly have one element
//! - `notice`: warnings said once; `census`: the limits on services and series; `plan`: settings and rules
//! - `pulse`: services as a whole, and whether they are heard; `life`: until when a service without a
//!   request is known to have had none
//! - `moved`, `carrier`: what moved with an alert, and which attribute values carry it
//! - `trend`: where signals are going, for the report
//! - `matching`: which rules watch a signal; `query`: views for readers; `memory`: what each service takes; `snapshot`, `names`: learning as bytes;
//!   `restore`: taking it back; `report`: what a tick brought

mod bands;
mod carrier;
mod census;
mod close;
mod common;
mod few;
mod handle;
mod index;
mod life;
mod matching;
mod memory;
mod moved;
mod names;
mod notice;
mod plan;
mod pulse;
mod query;
mod replay;
mod report;
mod restore;
mod router;
mod series;
mod shard;
mod signal;
mod snapshot;
mod tick;
mod trend;
mod watch;
mod worker;
#[cfg(test)]
mod tests;

pub use handle::{Busy, Engine, Handle, StartError};
pub use plan::{OVERFLOW, OWN_INSTANCE, Placement, Settings};
pub use pulse::TELEMETRY;
pub use replay::{Recorded, Stop, Ticks};
pub use report::TickReport;
