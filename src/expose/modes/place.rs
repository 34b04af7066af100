//! How many may watch at once.

use super::State;
use crate::expose::answer::ApiError;
use crate::publish::Place;

impl State {
    /// A place for a new watcher, by whatever door it came.
    ///
    /// # Errors
    /// There are too many watchers.
    pub(super) fn place(&self) -> Result<Place, ApiError> {
        Place::take(&self.watchers, &self.telemetry).ok_or_else(|| {
            let most = self.limits.watchers;
            ApiError::unavailable(format!(
                "there are {most} watchers already; come back later"
            ))
        })
    }
}
