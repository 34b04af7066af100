//! `tidewatch incidents`: what happened, over all services that it touched.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::clock::Clock;
use crate::model::Timestamp;

use super::Remote;
use super::client;
use super::output::{Output, ago, cell, text};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidewatch incidents
  tidewatch incidents --output json | jq '.[0].explanation'")]
pub(super) struct IncidentsArgs {
    #[command(flatten)]
    remote: Remote,
}

impl IncidentsArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
        let incidents = client::list(client.get(&["api", "v1", "incidents"], &[]).await?)?;
        let now = Clock::System.now();
        let answer = Value::Array(incidents);
        output.show(&answer, |output| table(output, &answer, now))
    }
}

/// As the daemon orders them: those that go on, then the newest.
fn table(output: Output, incidents: &Value, now: Timestamp) -> String {
    let incidents = incidents.as_array().map(Vec::as_slice).unwrap_or_default();
    if incidents.is_empty() {
        return "No incidents.\n".into();
    }
    let rows = incidents
        .iter()
        .map(|incident| {
            let services = incident["services"].as_array();
            let services: Vec<&str> = services
                .map(Vec::as_slice)
                .unwrap_or_default()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let listed = incident["alerts"].as_array().map_or(0, Vec::len) as u64;
            let alerts = listed + incident["alerts_omitted"].as_u64().unwrap_or(0);
            vec![
                cell(text(incident, "state")),
                cell(&ago(text(incident, "since"), now)),
                cell(text(incident, "origin")),
                cell(&services.join(", ")),
                cell(&alerts.to_string()),
                cell(text(incident, "explanation")),
                cell(text(incident, "id")),
            ]
        })
        .collect();
    let header = [
        "STATE", "SINCE", "ORIGIN", "SERVICES", "ALERTS", "WHY", "ID",
    ];
    output.table(&header, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_are_a_table() {
        let now = Timestamp::parse_rfc3339("2026-01-01T00:10:00Z").expect("time");
        let incidents = serde_json::json!([{
            "id": "00000000000000aa", "state": "firing", "since": "2026-01-01T00:00:00Z",
            "origin": "db", "services": ["db", "shop"], "alerts": [{}, {}], "alerts_omitted": 1,
            "explanation": "It began in db.",
        }]);
        insta::assert_snapshot!(table(Output::PLAIN, &incidents, now), @r"
STATE   SINCE  ORIGIN  SERVICES  ALERTS  WHY              ID
firing  10m    db      db, shop  3       It began in db.  00000000000000aa
");
        assert_eq!(
            table(Output::PLAIN, &serde_json::json!([]), now),
            "No incidents.\n"
        );
    }
}
