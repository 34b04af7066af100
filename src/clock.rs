//! Where time comes from. Logic never asks for the time: it is handed a [`Timestamp`]. Only drivers
//! (the daemon, the command line) own a [`Clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::model::Timestamp;

/// A source of the present time: the system's, or a virtual one that tests and replays move by hand.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's wall clock.
    System,
    /// A clock that stands still until [`Clock::set`] moves it.
    Virtual(Arc<AtomicI64>),
}

impl Clock {
    /// A virtual clock that shows `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self::Virtual(Arc::new(AtomicI64::new(start.as_nanos())))
    }

    /// The present time.
    #[allow(clippy::disallowed_methods)] // The one place where the wall clock is read.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since_epoch = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
            }
            // The clock carries no other data with it, so no ordering is needed.
            Self::Virtual(nanos) => Timestamp::from_nanos(nanos.load(Ordering::Relaxed)),
        }
    }

    /// Moves a virtual clock to `to`; the system's clock ignores it.
    pub fn set(&self, to: Timestamp) {
        if let Self::Virtual(nanos) = self {
            nanos.store(to.as_nanos(), Ordering::Relaxed);
        }
    }
}

/// The CPU time that this thread has used, for measuring what something cost.
pub fn thread_cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Neither is ever negative.
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// A monotonic instant, for measuring how long something took.
#[allow(clippy::disallowed_methods)] // The one place where the monotonic clock is read.
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}
