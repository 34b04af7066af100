//! `tidewatch demo`: the daemon at work on a simulated shop.

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::Wiring;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  tidewatch demo                        look at http://127.0.0.1:9517 while it runs
  tidewatch demo --once --speed 20      play the story once and end; exit code 0 if all was seen")]
pub(super) struct DemoArgs {
    /// How many times faster than real time, 1 to 1000
    #[arg(long, default_value_t = 20.0, value_parser = speed)]
    speed: f64,
    /// Seed of the simulation: the same seed tells the same story
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End after the story; exit code 0 only if each part of it was observed
    #[arg(long)]
    once: bool,
}

/// How the demo is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DemoOptions {
    /// How many times faster than real time.
    pub speed: f64,
    /// Seed of the simulation.
    pub seed: u64,
    /// Whether it ends after the story.
    pub once: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (1.0..=1000.0).contains(&speed) => Ok(speed),
        Ok(_) | Err(_) => Err("expected a number from 1 to 1000".into()),
    }
}

impl DemoArgs {
    pub(super) fn execute(self, wiring: &Wiring) -> Result<()> {
        let options = DemoOptions {
            speed: self.speed,
            seed: self.seed,
            once: self.once,
        };
        let complete = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the threads of the demo")?
            .block_on((wiring.demo)(options))?;
        if !complete {
            bail!("not every part of the story was observed");
        }
        Ok(())
    }
}
