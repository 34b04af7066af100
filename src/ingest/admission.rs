//! What is let in: one budget for the bytes of all requests in work, and a switch that refuses all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use prometheus::IntGauge;

use crate::telemetry::Telemetry;

/// Why everything is refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// State is still being restored.
    Starting,
    /// The soft limit of memory is reached.
    Memory,
    /// The daemon is about to end.
    Stopping,
}

impl Cause {
    /// The most final first: that is the one to tell.
    const ALL: [Self; 3] = [Self::Stopping, Self::Starting, Self::Memory];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// What a client is told.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Starting => "starting up",
            Self::Memory => "the memory limit is reached",
            Self::Stopping => "shutting down",
        }
    }
}

/// Decides what is let in. Shared by the servers and by whoever watches memory and lifecycle.
#[derive(Debug)]
pub struct Admission {
    limit: u64,
    used: AtomicU64,
    /// One bit for each [`Cause`] that holds.
    refusing: AtomicU8,
    gauge: IntGauge,
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Admission {
    /// A budget of `inflight_bytes` for requests in work, counted after decompression. Lets everything in
    /// until told otherwise.
    pub fn new(inflight_bytes: u64, telemetry: &Telemetry) -> Self {
        Self {
            limit: inflight_bytes,
            used: AtomicU64::new(0),
            refusing: AtomicU8::new(0),
            gauge: telemetry.inflight_bytes.clone(),
        }
    }

    /// Refuses every new request with a retryable answer, until [`Admission::allow`] of the same cause.
    pub fn refuse(&self, cause: Cause) {
        // Nothing else is published with the bit, here and below.
        self.refusing.fetch_or(cause.bit(), Ordering::Relaxed);
    }

    /// Takes one cause to refuse away; others may remain.
    pub fn allow(&self, cause: Cause) {
        self.refusing.fetch_and(!cause.bit(), Ordering::Relaxed);
    }

    /// Why everything is refused, if it is.
    pub fn refusing(&self) -> Option<Cause> {
        let refusing = self.refusing.load(Ordering::Relaxed);
        let holds = |cause: &Cause| refusing & cause.bit() != 0;
        Cause::ALL.into_iter().find(holds)
    }

    /// Bytes of requests in work.
    pub fn inflight_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A place in the budget for a request, empty so far.
    pub(crate) fn enter(self: &Arc<Self>) -> Permit {
        Permit {
            admission: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// One request's share of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Permit {
    /// Sees to it that the share covers `bytes`. A request that is alone always gets room: it could
    /// otherwise never be let in, and its client would try for ever.
    pub(crate) fn cover(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let bytes = bytes as u64;
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let admission = &self.admission;
        // The counter is all there is to agree on, so no ordering is needed.
        let taken = admission
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let alone = used == self.bytes;
                (alone || used + more <= admission.limit).then_some(used + more)
            });
        taken.map_err(|_| NoRoom)?;
        self.add(more);
        Ok(())
    }

    /// Sets the share to `bytes`, whether or not there is room: what has been decoded already is
    /// there, and those who come later shall see it.
    pub(crate) fn set(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        if bytes >= self.bytes {
            let more = bytes - self.bytes;
            self.admission.used.fetch_add(more, Ordering::Relaxed);
            self.add(more);
        } else {
            let less = self.bytes - bytes;
            self.admission.used.fetch_sub(less, Ordering::Relaxed);
            self.admission.gauge.sub(gauged(less));
            self.bytes = bytes;
        }
    }

    fn add(&mut self, more: u64) {
        self.admission.gauge.add(gauged(more));
        self.bytes += more;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn gauged(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let telemetry = Telemetry::new();
        let admission = Arc::new(Admission::new(100, &telemetry));
        let (mut a, mut b) = (admission.enter(), admission.enter());
        assert_eq!(a.cover(60), Ok(()));
        assert_eq!(b.cover(40), Ok(()));
        assert_eq!(b.cover(41), Err(NoRoom));
        assert_eq!(a.cover(10), Ok(()));
        assert_eq!(admission.inflight_bytes(), 100);
        drop(a);
        assert_eq!(b.cover(100), Ok(()));
        b.set(300);
        assert_eq!(telemetry.inflight_bytes.get(), 300);
        assert_eq!(admission.enter().cover(1), Err(NoRoom));
        drop(b);
        assert_eq!(
            (admission.inflight_bytes(), telemetry.inflight_bytes.get()),
            (0, 0)
        );
    }

    #[test]
    fn one_alone_may_exceed_the_budget() {
        let admission = Arc::new(Admission::new(10, &Telemetry::new()));
        let mut alone = admission.enter();
        assert_eq!(alone.cover(50), Ok(()));
        assert_eq!(alone.cover(60), Ok(()));
        assert_eq!(admission.enter().cover(1), Err(NoRoom));
    }

    #[test]
    fn causes_to_refuse_do_not_undo_each_other() {
        let admission = Admission::new(10, &Telemetry::new());
        assert_eq!(admission.refusing(), None);
        admission.refuse(Cause::Memory);
        admission.refuse(Cause::Stopping);
        assert_eq!(admission.refusing(), Some(Cause::Stopping));
        admission.allow(Cause::Stopping);
        assert_eq!(admission.refusing(), Some(Cause::Memory));
        admission.allow(Cause::Memory);
        assert_eq!(admission.refusing(), None);
    }
}
