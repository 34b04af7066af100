//! `tidewatch report`: how all services do.

use anyhow::{Context as _, Result};
use clap::Args;

use super::Remote;
use super::output::{Format, clean, print};
use crate::explain;

#[derive(Debug, Args)]
#[command(
    after_help = "Incidents, then services from worst to best with their alerts, worst deviations, \
trends and recommendations.

Examples:
  tidewatch report
  tidewatch report --markdown > report.md
  tidewatch report --output json | jq .totals"
)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    remote: Remote,
    /// Print Markdown instead of a table
    #[arg(long, conflicts_with = "output")]
    markdown: bool,
}

impl ReportArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
        let path = ["api", "v1", "report"];
        if self.markdown {
            let query = [("format", "markdown".to_owned())];
            return print(&lines(&client.get_text(&path, &query).await?));
        }
        let mut answer = client.get(&path, &[]).await?;
        let report = answer["data"].take();
        match output.format {
            Format::Json => print(&format!("{report:#}\n")),
            Format::Table => {
                let report: explain::Report = serde_json::from_value(report)
                    .context("the answer is no report: is the daemon of another version?")?;
                print(&lines(&report.to_table()))
            }
        }
    }
}

/// The text has lines; anything else that moves the cursor is from a name.
fn lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}
