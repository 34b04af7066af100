//! A log file: one line a notification.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use serde_json::Value;

use super::{AttemptError, Context};
use crate::model::Timestamp;
use crate::notify::message::{Message, Resolved};
use crate::notify::template::Text;

/// A file to which notifications are appended. It is opened for each, so it may be moved away.
#[derive(Debug, Clone)]
pub struct LogFile {
    /// Where it is.
    pub path: PathBuf,
    /// The line. Default: JSON.
    pub text: Option<Text>,
    /// From this size on it is renamed to `path.1`.
    pub max_bytes: u64,
    /// Whether it is told about resolved alerts.
    pub resolved: Resolved,
    /// In which time zone the line says times.
    pub zone: TimeZone,
    /// Held while a line is written: two must not find the file full at once.
    pub lock: Arc<Mutex<()>>,
}

/// What is written: a text, or the body of a webhook without its time and id.
pub(in crate::notify) enum Line {
    Text(String),
    Json(Value),
}

impl LogFile {
    pub(super) fn prepare(
        &self,
        context: &Context,
        receiver: &str,
        message: &Message,
    ) -> Option<Line> {
        let own = || {
            let text = self.text.as_ref()?;
            let view = context.view_in(message, receiver, "file", self.resolved, &self.zone)?;
            view.is_about_alerts().then(|| view.whole(text)).flatten()
        };
        if let Some(line) = own() {
            return Some(Line::Text(line));
        }
        let body = message.to_json(receiver, self.resolved, &context.external_url, usize::MAX)?;
        serde_json::from_slice(&body).ok().map(Line::Json)
    }

    pub(super) async fn attempt(
        &self,
        id: &str,
        line: &Line,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        let line = match line {
            Line::Text(text) => text.clone(),
            Line::Json(body) => {
                let mut body = body.clone();
                body["id"] = id.into();
                body["time"] = now.rfc3339().into();
                body.to_string()
            }
        };
        let (path, max_bytes) = (self.path.clone(), self.max_bytes);
        let lock = Arc::clone(&self.lock);
        let written = tokio::task::spawn_blocking(move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            append(&path, max_bytes, &line)
        });
        let written = written.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        written.map_err(|error| AttemptError::Retryable {
            after: None,
            reason: format!("{} cannot be written: {error}", self.path.display()),
        })
    }
}

fn append(path: &Path, max_bytes: u64, line: &str) -> io::Result<()> {
    let open = || OpenOptions::new().create(true).append(true).open(path);
    let mut file: File = open()?;
    let length = file.metadata()?.len();
    if length > 0 && length.saturating_add(line.len() as u64) >= max_bytes {
        let mut full = path.as_os_str().to_owned();
        full.push(".1");
        std::fs::rename(path, full)?;
        file = open()?;
    }
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::append;

    #[test]
    fn a_full_file_makes_room_for_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.log");
        for n in 0..10 {
            append(&path, 40, &format!("line {n} {}", "x".repeat(10))).unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap();
        let before = std::fs::read_to_string(folder.path().join("alerts.log.1")).unwrap();
        assert!(
            now.contains("line 9") && before.contains("line 7"),
            "{before}{now}"
        );
        assert!(now.len() <= 40 && before.len() <= 40);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        append(&folder.path().join("no/such"), 40, "x").unwrap_err();
    }
}
