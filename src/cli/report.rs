//! `tidewatch report`: how all services do.

use anyhow::Result;
use clap::Args;

use super::Remote;
use super::output::{Format, print};

#[derive(Debug, Args)]
#[command(
    after_help = "Services from worst to best, with their alerts, worst deviations and \
recommendations, as Markdown.

Examples:
  tidewatch report > report.md
  tidewatch report --output json | jq .totals"
)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    remote: Remote,
}

impl ReportArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
        let path = ["api", "v1", "report"];
        match output.format {
            Format::Json => {
                let mut answer = client.get(&path, &[]).await?;
                print(&format!("{:#}\n", answer["data"].take()))
            }
            Format::Table => {
                let query = [("format", "markdown".to_owned())];
                let text = client.get_text(&path, &query).await?;
                // Markdown has lines; anything else that moves the cursor is from a name.
                let lines: String = text
                    .lines()
                    .map(|line| super::output::clean(line) + "\n")
                    .collect();
                print(&lines)
            }
        }
    }
}
