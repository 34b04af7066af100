use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};

use super::Format;
use super::instruction::Instruction;
use crate::clock::Clock;

/// Why the service could not be brought into a mode.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("cannot run `{command}`: {source}")]
    Run { command: String, source: io::Error },
    #[error("`{command}` has ended with {status}")]
    Ended { command: String, status: ExitStatus },
    #[error("`{command}` has taken more than {timeout:?} and was killed")]
    TooLong { command: String, timeout: Duration },
}

/// Writes the file, then runs the command.
#[derive(Debug)]
pub(super) struct Applier {
    pub(super) write: Option<(PathBuf, Format)>,
    pub(super) exec: Option<String>,
    pub(super) timeout: Duration,
}

impl Applier {
    pub(super) async fn apply(&self, instruction: &Instruction) -> Result<(), Failed> {
        self.write(instruction)?;
        match &self.exec {
            Some(command) => self.run(command, instruction).await,
            None => Ok(()),
        }
    }

    /// Writes the file alone.
    pub(super) fn write(&self, instruction: &Instruction) -> Result<(), Failed> {
        if let Some((path, format)) = &self.write {
            let text = match format {
                Format::Json => instruction.json() + "\n",
                Format::Env => instruction.env(),
            };
            replace(path, &text).map_err(|source| Failed::Write {
                path: path.display().to_string(),
                source,
            })?;
        }
        Ok(())
    }

    /// Shows at the file that the instruction still holds: its time of change is now, its content stays.
    pub(super) fn heard(&self) {
        if let Some((path, _)) = &self.write {
            let nanos = Clock::System.now().as_nanos();
            let now = UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
            // Who has taken the file away does not want it; the next change writes it again.
            drop(File::open(path).and_then(|file| file.set_modified(now)));
        }
    }

    async fn run(&self, command: &str, instruction: &Instruction) -> Result<(), Failed> {
        let failed = |source| Failed::Run {
            command: command.to_owned(),
            source,
        };
        // Listened for before there is a child, so that its end is not missed.
        let mut ended = signal(SignalKind::child()).map_err(failed)?;
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .envs(instruction.variables())
            .stdin(Stdio::null())
            // A group of its own, so that what it starts goes with it.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut child = Killed(child);
        let wait = async {
            loop {
                if let Some(status) = child.0.try_wait()? {
                    return Ok(status);
                }
                ended.recv().await;
            }
        };
        match tokio::time::timeout(self.timeout, wait).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failed::Ended {
                command: command.to_owned(),
                status,
            }),
            Ok(Err(source)) => Err(failed(source)),
            Err(_) => Err(Failed::TooLong {
                command: command.to_owned(),
                timeout: self.timeout,
            }),
        }
    }
}

/// A child that does not outlive our interest in it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // The shell's own `kill` reaches the whole group, which `Child::kill` does not.
        let group = format!("kill -9 -{}", self.0.id());
        let killed = Command::new("/bin/sh").args(["-c", &group]).status();
        if !killed.is_ok_and(|status| status.success()) {
            drop(self.0.kill());
        }
        drop(self.0.wait());
    }
}

/// Puts `text` in the place of the file: a reader sees the old or the new one, never half of one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    // In the same folder: a rename goes no farther than its file system.
    let temporary = path.with_file_name(hidden);
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction() -> Instruction {
        Instruction::default_of("cart", "normal", "why".into())
    }

    fn applier(write: Option<(PathBuf, Format)>, exec: &str) -> Applier {
        Applier {
            write,
            exec: Some(exec.into()),
            timeout: Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn the_command_runs_after_the_file_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (file, copy) = (folder.path().join("mode.env"), folder.path().join("copy"));
        let command = format!(
            "cat {} > {} && test \"$TIDEWATCH_MODE\" = normal",
            file.display(),
            copy.display()
        );
        let applier = applier(Some((file.clone(), Format::Env)), &command);
        applier.apply(&instruction()).await.unwrap();
        let text = std::fs::read_to_string(&copy).unwrap();
        assert!(text.contains("TIDEWATCH_SOURCE=default\n"), "{text}");
        let modified = |file: &Path| file.metadata().unwrap().modified().unwrap();
        File::open(&file).unwrap().set_modified(UNIX_EPOCH).unwrap();
        applier.heard();
        assert!(modified(&file) > UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[tokio::test]
    async fn failures_say_what_failed() {
        let failed = |applier: Applier| async move {
            applier.apply(&instruction()).await.unwrap_err().to_string()
        };
        let said = failed(applier(None, "exit 3")).await;
        assert_eq!(said, "`exit 3` has ended with exit status: 3");
        let nowhere = PathBuf::from("/nowhere/at/all/mode.json");
        let said = failed(applier(Some((nowhere, Format::Json)), "true")).await;
        assert!(
            said.starts_with("cannot write /nowhere/at/all/mode.json: "),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        // The grandchild holds the pipe open for writing; its end is the pipe's end.
        let command = format!("(sleep 60 > {}) & wait", pipe.display());
        let hangs = Applier {
            timeout: Duration::from_millis(300),
            ..applier(None, &command)
        };
        let reader = tokio::task::spawn_blocking(move || std::fs::read(&pipe).unwrap());
        let error = hangs.apply(&instruction()).await.unwrap_err();
        assert!(matches!(error, Failed::TooLong { .. }), "{error}");
        assert_eq!(reader.await.unwrap(), b"");
    }
}
