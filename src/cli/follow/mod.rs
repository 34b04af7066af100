//! `tidewatch mode follow`: the sidecar of a service that cannot ask Tidewatch itself.
//!
//! In: what the service is told. Out: a file, or a command that is run, on each change; and a word back
//! to Tidewatch of what runs. Without an instruction that holds, the service's default holds: when
//! Tidewatch cannot be heard for the length of a lease, does not know the service, or the sidecar stops.

mod apply;
mod instruction;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::config::Period;
use crate::follow::{Service, Told};
use crate::model::Acknowledgement;

use super::output::{Format as Print, clean, print, say};
use apply::{Applier, Failed};
use instruction::Instruction;

/// Pause before what failed is tried again; doubled each time up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidewatch mode follow cart                                 print each change
  tidewatch mode follow cart --write /run/cart/mode.json     keep a file up to date
  tidewatch mode follow cart --write /run/cart/mode.env --exec 'systemctl reload cart'
  tidewatch mode follow cart --exec 'curl -fsS localhost:8080/mode -d \"$TIDEWATCH_MODE\"'")]
pub(super) struct FollowArgs {
    /// The service (`service.name`)
    service: String,
    /// Run this by /bin/sh on each change, with TIDEWATCH_MODE and the like in its environment; if it
    /// fails it is run again, and Tidewatch is told that the service is not there yet
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Write this file on each change, before any command, whole or not at all; its time of change says
    /// when Tidewatch was heard last
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// How the file is written; by its name without this: env if it ends in .env
    #[arg(long, value_enum, requires = "write")]
    format: Option<Format>,
    /// The mode to run in without an instruction
    #[arg(long, value_name = "MODE", default_value = "normal")]
    default_mode: String,
    /// Name of this instance of the service; by default the name of the machine
    #[arg(long, value_name = "NAME", env = "TIDEWATCH_INSTANCE")]
    instance: Option<String>,
    /// Longest time that the command may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::mode::duration)]
    timeout: Period,
    /// What is left behind when this stops: the default mode, or what was told last
    #[arg(long, value_enum, default_value_t = OnStop::Default)]
    on_stop: OnStop,
}

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object
    Json,
    /// One NAME=value a line, as a shell or systemd reads it
    Env,
}

/// What is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnStop {
    /// The default mode: nobody renews the instruction any more
    Default,
    /// What was told last, for a sidecar that is back at once
    Keep,
}

impl FollowArgs {
    pub(super) async fn execute(self, url: reqwest::Url, print_as: Print) -> Result<()> {
        if self.service.is_empty() {
            bail!("the name of the service is empty");
        }
        let service = Service::new(url, &self.service)?;
        let default = Instruction::default_of(&self.service, &self.default_mode, String::new());
        let format = self.format.unwrap_or(match &self.write {
            Some(path) if path.extension().is_some_and(|end| end == "env") => Format::Env,
            _ => Format::Json,
        });
        let sidecar = Sidecar {
            applier: Applier {
                write: self.write.map(|path| (path, format)),
                exec: self.exec,
                timeout: self.timeout.0,
            },
            instance: self.instance.unwrap_or_else(machine),
            service: service.clone(),
            default,
            print_as,
            applied: None,
            unsure: false,
            pending: None,
            deaf: false,
        };
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let (sender, told) = watch::channel(Told::Nothing);
        tokio::select! {
            never = service.follow(&sender) => match never {},
            done = sidecar.run(told, stop, self.on_stop) => done,
        }
    }
}

/// What was told and could not be done yet.
#[derive(Debug)]
struct Pending {
    instruction: Instruction,
    failed: Failed,
    again: Instant,
    pause: Duration,
}

/// Does what is told, and says so.
struct Sidecar {
    applier: Applier,
    instance: String,
    service: Service,
    default: Instruction,
    print_as: Print,
    /// What the service runs in.
    applied: Option<Instruction>,
    /// Something was begun and not ended: where the service stands is not known.
    unsure: bool,
    pending: Option<Pending>,
    /// Tidewatch does not take what is said to it; told once.
    deaf: bool,
}

impl Sidecar {
    async fn run(
        mut self,
        mut told: watch::Receiver<Told>,
        stop: impl Future<Output = ()>,
        on_stop: OnStop,
    ) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let again = self.pending.as_ref().map(|pending| pending.again);
            tokio::select! {
                () = &mut stop => break,
                changed = told.changed() => if changed.is_err() { break },
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
            let now = told.borrow_and_update().clone();
            let (instruction, is_told) = match now {
                Told::Nothing => continue,
                Told::Instruction(state) => (Instruction::of(&state), true),
                Told::Unknown => {
                    let reason = "Tidewatch does not know this service".to_owned();
                    (self.default.because(reason), false)
                }
                Told::Silent { reason } => (self.default.because(reason), false),
            };
            // A stop ends a command that hangs, too.
            tokio::select! {
                () = &mut stop => break,
                () = self.obey(instruction) => {}
            }
            if is_told {
                self.applier.heard();
                self.acknowledge().await;
            }
        }
        match on_stop {
            OnStop::Keep => Ok(()),
            OnStop::Default => {
                let default = self.default.because("the sidecar has stopped".into());
                self.pending = None;
                self.obey(default).await;
                match &self.pending {
                    None => Ok(()),
                    Some(pending) => bail!("the default mode is not set: {}", pending.failed),
                }
            }
        }
    }

    /// Brings the service into the mode, unless it is there or has failed to get there just now. The
    /// command is not run again only because the reason or the number is another one.
    async fn obey(&mut self, instruction: Instruction) {
        let there = self.applied.as_ref().filter(|_| !self.unsure);
        let is_news = there.is_none_or(|there| !there.has_effect_of(&instruction));
        if there == Some(&instruction) {
            return;
        }
        let mut pause = RETRY;
        if let Some(pending) = &self.pending
            && pending.instruction.has_effect_of(&instruction)
        {
            if pending.again > Instant::now() {
                return;
            }
            pause = (pending.pause * 2).min(LONGEST_RETRY);
        }
        self.unsure = true;
        let done = match is_news {
            true => self.applier.apply(&instruction).await,
            false => self.applier.write(&instruction),
        };
        match done {
            Ok(()) => {
                self.pending = None;
                self.unsure = false;
                if is_news {
                    self.show(&instruction);
                }
                self.applied = Some(instruction);
            }
            Err(failed) => {
                say(&format!(
                    "error: {} stays in {}: {failed}; tried again in {pause:?}",
                    clean(&instruction.service),
                    clean(self.runs_in()),
                ));
                self.pending = Some(Pending {
                    again: Instant::now() + pause,
                    instruction,
                    failed,
                    pause,
                });
            }
        }
    }

    /// The mode that the service runs in, as far as is known.
    fn runs_in(&self) -> &str {
        let applied = self.applied.as_ref().unwrap_or(&self.default);
        &applied.mode
    }

    /// Says what runs. Said again with each renewal, so that Tidewatch knows that this instance lives.
    async fn acknowledge(&mut self) {
        let heard = self.pending.as_ref().map(|pending| &pending.instruction);
        let Some(heard) = heard.or(self.applied.as_ref()) else {
            return;
        };
        let said = Acknowledgement {
            instance: self.instance.clone(),
            mode: self.runs_in().to_owned(),
            sequence: heard.sequence.unwrap_or(0),
            detail: match &self.pending {
                Some(pending) => pending.failed.to_string(),
                None => String::new(),
            },
        };
        match self.service.acknowledge(&said).await {
            Ok(()) => self.deaf = false,
            Err(error) => {
                if !std::mem::replace(&mut self.deaf, true) {
                    say(&format!(
                        "warning: Tidewatch does not hear what runs: {}",
                        clean(&error.to_string())
                    ));
                }
            }
        }
    }

    fn show(&self, instruction: &Instruction) {
        let line = match self.print_as {
            Print::Json => instruction.json(),
            Print::Table => {
                let why = match instruction.reason.as_str() {
                    "" => String::new(),
                    reason => format!(": {reason}"),
                };
                let now = Clock::System.now();
                clean(&format!(
                    "{now} {} {}{why}",
                    instruction.service, instruction.mode
                ))
            }
        };
        // Who reads it may have gone; the service is to be told all the same.
        drop(print(&format!("{line}\n")));
    }
}

/// The name of this machine; empty if it has none.
fn machine() -> String {
    let name = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}
