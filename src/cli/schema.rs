//! `tidewatch schema`: the JSON Schema of the configuration.

use anyhow::Result;
use clap::Args;

use crate::config;

use super::output;

#[derive(Debug, Args)]
#[command(
    after_help = "Editors complete and check configurations by it. Example:
  tidewatch schema > tidewatch.schema.json
and as the first line of the configuration:
  # yaml-language-server: $schema=tidewatch.schema.json"
)]
pub(super) struct SchemaArgs {}

impl SchemaArgs {
    pub(super) fn execute(self) -> Result<()> {
        output::print(&format!("{:#}\n", config::schema()))
    }
}
