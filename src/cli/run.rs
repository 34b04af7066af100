//! `tidewatch run`: the daemon.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Wiring, load};

#[derive(Debug, Args)]
#[command(
    after_help = "Without a configuration it listens for OTLP on 127.0.0.1:4317 (gRPC) and \
127.0.0.1:4318 (HTTP),
learns what is normal for every service, and alerts to its log and to the page on
http://127.0.0.1:9517.

Example:
  tidewatch run --config examples/webhook.yaml"
)]
pub(super) struct RunArgs {
    /// Configuration file; `tidewatch schema` describes it
    #[arg(long, short, value_name = "FILE", env = "TIDEWATCH_CONFIG")]
    config: Option<PathBuf>,
}

impl RunArgs {
    pub(super) fn execute(self, wiring: &Wiring) -> Result<()> {
        let loaded = load::load(self.config.as_deref(), &wiring.known)?;
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the threads of the daemon")?
            .block_on((wiring.run)(loaded))
    }
}
