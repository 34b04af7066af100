use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two lines about one reason.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps a flood of bad input from becoming a flood of lines: one line per reason and interval.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    // Reasons are our own words, a few dozen; the lock is held for one look-up.
    reasons: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl LogLimit {
    /// Whether a line about `reason` may be written at `now`: how many were left out before it.
    pub(crate) fn permit(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        match reasons.get_mut(reason) {
            Some((last, left_out)) if now.duration_since(*last) < INTERVAL => {
                *left_out += 1;
                None
            }
            _ => reasons
                .insert(reason, (now, 0))
                .map(|(_, left_out)| left_out)
                .or(Some(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_reason_and_interval() {
        let limit = LogLimit::default();
        let start = crate::clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limit.permit("a", at(0)), Some(0));
        assert_eq!(limit.permit("a", at(9)), None);
        assert_eq!(limit.permit("b", at(9)), Some(0));
        assert_eq!(limit.permit("a", at(9)), None);
        assert_eq!(limit.permit("a", at(10)), Some(2));
        assert_eq!(limit.permit("a", at(21)), Some(0));
    }
}
