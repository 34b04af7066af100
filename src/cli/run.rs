//! `tidewatch run`: the daemon.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::app::{self, LogFormat};
use crate::config;

use super::load;

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
    /// How log lines look on standard error: text or json; wins over the configuration
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".into()),
    }
}

impl RunArgs {
    pub(super) fn execute(self) -> Result<()> {
        let config = load::load(self.config.as_deref())?.config;
        let format = self.log_format.unwrap_or(match config.log.format {
            config::LogFormat::Text => LogFormat::Text,
            config::LogFormat::Json => LogFormat::Json,
        });
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the threads of the daemon")?
            .block_on(app::run(&config, format))
    }
}
