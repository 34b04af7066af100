//! When to try again: exponential backoff with jitter, a bound on the whole, and the receiver's own
//! wish.

use std::time::Duration;

/// How failed attempts are repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Before the second attempt (default 1 s); doubled before each further one. Zero: at once.
    pub initial: Duration,
    /// No wait of our own is longer (default 30 s).
    pub max: Duration,
    /// No attempt starts later than this after the first (default 15 min), where a fallback takes over
    /// then. Zero: a single attempt.
    pub max_elapsed: Duration,
    /// Where there is no fallback: no attempt starts later than this after the decision (default 24 h),
    /// but one is made in any case. Zero: a single attempt.
    pub keep: Duration,
    /// A `Retry-After` is honoured up to this (default 5 min).
    pub max_retry_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            max_elapsed: Duration::from_secs(15 * 60),
            keep: Duration::from_secs(24 * 3600),
            max_retry_after: Duration::from_secs(5 * 60),
        }
    }
}

/// Share of a wait by which it is made longer or shorter at most, so that many senders that failed
/// together do not come back together.
const JITTER: f64 = 0.25;

impl Policy {
    /// How long to wait after the `failed`-th failed attempt (from 1), when `elapsed` of the time that
    /// there is, `bound`, is over; `None` when there is to be no further one. `random` is from 0 to 1.
    /// `after` is what the receiver asked for; it is never undercut, except by the bound on it.
    pub fn wait(
        &self,
        failed: u32,
        elapsed: Duration,
        bound: Duration,
        after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let doubled = 2_u32.saturating_pow(failed.saturating_sub(1));
        let base = self.initial.saturating_mul(doubled).min(self.max);
        let jittered = base.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0));
        let asked = after.unwrap_or_default().min(self.max_retry_after);
        let wait = jittered.max(asked);
        (elapsed.saturating_add(wait) <= bound && !bound.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, prop_assert, proptest};

    use super::Policy;

    const SECOND: Duration = Duration::from_secs(1);
    const BOUND: Duration = Duration::from_secs(900);

    #[test]
    fn waits_double_up_to_the_bound() {
        let policy = Policy::default();
        let waits = [
            (1, 1),
            (2, 2),
            (3, 4),
            (5, 16),
            (6, 30),
            (7, 30),
            (u32::MAX, 30),
        ];
        for (failed, seconds) in waits {
            let wait = policy.wait(failed, Duration::ZERO, BOUND, None, 0.5);
            assert_eq!(wait, Some(seconds * SECOND), "after {failed} failures");
        }
        let jittered = |random| policy.wait(3, Duration::ZERO, BOUND, None, random);
        assert_eq!(jittered(0.0), Some(3 * SECOND));
        assert_eq!(jittered(1.0), Some(5 * SECOND));
    }

    #[test]
    fn the_receiver_is_heard_within_bounds() {
        let policy = Policy::default();
        let wait = |asked| policy.wait(3, Duration::ZERO, BOUND, Some(asked), 0.5);
        assert_eq!(
            wait(Duration::ZERO),
            Some(4 * SECOND),
            "never sooner than we would"
        );
        assert_eq!(wait(120 * SECOND), Some(120 * SECOND));
        assert_eq!(wait(Duration::MAX), Some(300 * SECOND));
    }

    #[test]
    fn there_is_an_end() {
        let policy = Policy::default();
        let wait = |elapsed| policy.wait(9, elapsed, BOUND, None, 0.5);
        assert_eq!(wait(870 * SECOND), Some(30 * SECOND));
        assert_eq!(wait(871 * SECOND), None);
        assert_eq!(wait(Duration::MAX), None);
        let at_once = Policy {
            initial: Duration::ZERO,
            ..Policy::default()
        };
        let once = at_once.wait(1, Duration::ZERO, Duration::ZERO, None, 0.5);
        assert_eq!(once, None);
    }

    proptest! {
        #[test]
        fn no_wait_leaves_its_bounds(
            failed in any::<u32>(),
            elapsed in 0_u64..2000,
            after in proptest::option::of(any::<u64>()),
            random in any::<f64>(),
        ) {
            let policy = Policy::default();
            let after = after.map(Duration::from_nanos);
            if let Some(wait) = policy.wait(failed, Duration::from_secs(elapsed), BOUND, after, random) {
                prop_assert!(wait >= Duration::from_millis(750));
                prop_assert!(wait <= policy.max_retry_after);
                prop_assert!(Duration::from_secs(elapsed) + wait <= BOUND);
            }
        }
    }
}
