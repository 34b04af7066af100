//! `tidewatch check`: is this configuration right?

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config::Config;

use super::{load, output};

#[derive(Debug, Args)]
#[command(
    after_help = "Each mistake is named as file:line:column with a hint; the exit code is 1 if \
there are any.

Example:
  tidewatch check --config examples/webhook.yaml"
)]
pub(super) struct CheckArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

impl CheckArgs {
    pub(super) fn execute(self) -> Result<()> {
        let loaded = load::load(Some(&self.config))?;
        let summary = summary(&loaded.config);
        output::print(&format!("{}: ok, {summary}\n", self.config.display()))
    }
}

fn summary(config: &Config) -> String {
    let count = |n: usize, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    format!(
        "{}, {}, {}",
        count(config.rules.len(), "rule", "rules"),
        // `log` is always there.
        count(config.receivers.len() + 1, "receiver", "receivers"),
        count(config.modes.policies.len(), "policy", "policies"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        assert_eq!(
            summary(&Config::default()),
            "10 rules, 1 receiver, 0 policies"
        );
    }
}
