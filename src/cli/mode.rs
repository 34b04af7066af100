//! `tidewatch mode`: what services are told, and telling them by hand.

mod decisions;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Period;
use crate::model::{ModeState, Priority, Timestamp};
use crate::publish::Freeze;

use super::Remote;
use super::follow::FollowArgs;
use super::output::{Output, cell, clean, graded, period, print};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidewatch mode                                  all services; the same as: tidewatch mode list
  tidewatch mode get checkout
  tidewatch mode set checkout degraded --reason \"sale tonight\" --for 2h
  tidewatch mode clear checkout
  tidewatch mode follow checkout --write /run/checkout/mode.json
  tidewatch mode freeze --reason \"migration\"      nothing changes by itself until: tidewatch mode unfreeze
  tidewatch mode proposals                        what automation would do and leaves to you
  tidewatch mode audit checkout --since 7d        who decided what, and why")]
pub(super) struct ModeArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the modes of all services
    #[command(after_help = "Example:\n  tidewatch mode list --output json")]
    List,
    /// Show the mode of one service and why
    #[command(after_help = "Example:\n  tidewatch mode get checkout")]
    Get {
        /// The service (`service.name`)
        service: String,
    },
    /// Put a service into a mode by hand; it wins over every policy
    #[command(
        after_help = "Example:\n  tidewatch mode set checkout degraded --reason \"sale tonight\" --for 2h"
    )]
    Set {
        /// The service (`service.name`)
        service: String,
        /// The mode, such as normal, degraded or critical
        mode: String,
        /// Why; kept with the change
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        author: Author,
        /// For how long, such as 30m or 2h; without it until it is cleared
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        duration: Option<Period>,
    },
    /// Give a service back to the policies
    #[command(after_help = "Example:\n  tidewatch mode clear checkout")]
    Clear {
        /// The service (`service.name`)
        service: String,
        #[command(flatten)]
        author: Author,
    },
    /// Keep a service in the mode that it is told: write a file, run a command, acknowledge
    Follow(FollowArgs),
    /// Stop all automatic mode changes
    #[command(after_help = "Example:\n  tidewatch mode freeze --reason \"migration\"")]
    Freeze {
        /// Why; kept with the change
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        author: Author,
    },
    /// Show the steps that automation leaves to people
    #[command(after_help = "Example:\n  tidewatch mode proposals")]
    Proposals,
    /// Say yes to a proposal: the step is taken now, also beyond the limit
    #[command(after_help = "Example:\n  tidewatch mode approve 17 --reason \"I watch it\"")]
    Approve(decisions::Decision),
    /// Say no to a proposal: its policy leaves the service alone until its alerts are over
    #[command(after_help = "Example:\n  tidewatch mode reject 17 --reason \"known, harmless\"")]
    Reject(decisions::Decision),
    /// Show departures from normal: what was done, and whether it helped
    #[command(after_help = "Example:\n  tidewatch mode episodes checkout")]
    Episodes {
        /// Only those of this service
        service: Option<String>,
    },
    /// Show plans across services and what happened to each step
    #[command(after_help = "Example:\n  tidewatch mode plans")]
    Plans,
    /// Show everything that was decided about modes, the newest first
    #[command(
        after_help = "Example:\n  tidewatch mode audit checkout --since 7d --type mode,proposal"
    )]
    Audit(decisions::AuditArgs),
    /// Allow automatic mode changes again
    #[command(after_help = "Example:\n  tidewatch mode unfreeze")]
    Unfreeze {
        #[command(flatten)]
        author: Author,
    },
}

#[derive(Debug, Args)]
pub(super) struct Author {
    /// Who you are; kept with the change
    #[arg(long, env = "USER", hide_env_values = true)]
    pub(super) author: String,
}

pub(super) fn duration(text: &str) -> Result<Period, String> {
    match text.parse::<Period>() {
        Ok(period) if !period.0.is_zero() => Ok(period),
        Ok(_) => Err("must be more than 0".into()),
        Err(bad) => Err(bad.to_string()),
    }
}

impl ModeArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
        let now = Clock::System.now();
        match self.action.unwrap_or(Action::List) {
            Action::Follow(args) => args.execute(self.remote.url, self.remote.output).await,
            Action::List => {
                let mut answer = client.get(&modes(&[]), &[]).await?;
                let data = answer["data"].take();
                let services = read(&data)?;
                let mut answer = client.get(&modes(&["freeze"]), &[]).await?;
                let freeze = read(&answer["data"].take())?;
                output.show(&data, |output| table(output, services, freeze, now))
            }
            Action::Get { service } => {
                if service.is_empty() {
                    bail!("the name of the service is empty");
                }
                let answer = client.get(&modes(&[&service]), &[]).await?;
                show(output, answer, now)
            }
            Action::Set {
                service,
                mode,
                reason,
                author,
                duration,
            } => {
                let mut body = json!({"mode": mode, "author": author.author, "reason": reason});
                if let Some(duration) = duration {
                    // Not the time of its end: the daemon's clock may be another.
                    body["duration"] = json!(duration);
                }
                let answer = client.put(&modes(&[&service, "override"]), &body).await?;
                show(output, answer, now)
            }
            Action::Clear { service, author } => {
                let query = [("author", author.author)];
                client
                    .delete(&modes(&[&service, "override"]), &query)
                    .await?;
                print(&format!(
                    "{} follows the policies again.\n",
                    clean(&service)
                ))
            }
            Action::Freeze { reason, author } => {
                let body = json!({"author": author.author, "reason": reason});
                client.put(&modes(&["freeze"]), &body).await?;
                print("No mode changes by itself until `tidewatch mode unfreeze`.\n")
            }
            Action::Proposals => decisions::proposals(&client, output, now).await,
            Action::Approve(decision) => decisions::decide(&client, decision, true).await,
            Action::Reject(decision) => decisions::decide(&client, decision, false).await,
            Action::Episodes { service } => {
                decisions::episodes(&client, output, service, now).await
            }
            Action::Plans => decisions::plans(&client, output, now).await,
            Action::Audit(arguments) => decisions::audit(&client, output, arguments, now).await,
            Action::Unfreeze { author } => {
                let query = [("author", author.author)];
                client.delete(&modes(&["freeze"]), &query).await?;
                print("Modes follow the policies again.\n")
            }
        }
    }
}

/// The path of an endpoint of the modes.
fn modes<'s>(rest: &[&'s str]) -> Vec<&'s str> {
    ["api", "v1", "modes"].iter().chain(rest).copied().collect()
}

/// Shows the one mode of an answer.
fn show(output: Output, mut answer: Value, now: Timestamp) -> Result<()> {
    let data = answer["data"].take();
    let shown = read(&data)?;
    output.show(&data, |output| details(output, &shown, now))
}

fn read<T: DeserializeOwned>(data: &Value) -> Result<T> {
    T::deserialize(data)
        .map_err(|_| anyhow!("the answer is not as expected; is the daemon of another version?"))
}

/// What a service is told, and what it says of it.
#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(flatten)]
    told: ModeState,
    #[serde(default)]
    acknowledged: Option<bool>,
    #[serde(default)]
    actual: Vec<Actual>,
    #[serde(default)]
    differs_since: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Actual {
    mode: String,
    instances: u32,
}

impl Shown {
    /// What it says that it does, in a line: `2 × degraded, 1 × normal; not what it was told for 3m`.
    fn runs(&self, now: Timestamp) -> String {
        let actual = self.actual.iter();
        let actual = actual.map(|each| format!("{} × {}", each.instances, each.mode));
        let mut runs = actual.collect::<Vec<_>>().join(", ");
        let others = match (self.differs_since, self.acknowledged) {
            (Some(since), _) => {
                let lasted = period(now.since(since));
                format!("not what it was told for {lasted}")
            }
            (None, Some(false)) => "not acknowledged yet".into(),
            (None, Some(true) | None) => return runs,
        };
        if !runs.is_empty() {
            runs.push_str("; ");
        }
        runs + &others
    }
}

fn table(output: Output, services: Vec<Shown>, freeze: Option<Freeze>, now: Timestamp) -> String {
    let mut shown = String::new();
    if let Some(freeze) = freeze {
        shown.push_str(&format!(
            "Frozen by {} {} ago: {}\n",
            clean(&freeze.author),
            period(now.since(freeze.set_at)),
            clean(&freeze.reason)
        ));
    }
    if services.is_empty() {
        shown.push_str("No services yet.\n");
        return shown;
    }
    let rows = services
        .iter()
        .map(|service| {
            let state = &service.told;
            vec![
                cell(&state.service),
                graded(&state.mode),
                cell(&period(now.since(state.since))),
                cell(&service.runs(now)),
                cell(&cause(state, now)),
            ]
        })
        .collect();
    shown.push_str(&output.table(&["SERVICE", "TOLD", "FOR", "RUNS", "WHY"], rows));
    shown
}

/// Why a service is in its mode, in a line.
fn cause(state: &ModeState, now: Timestamp) -> String {
    if let Some(manual) = &state.manual {
        let end = match manual.expires_at {
            Some(end) => format!(" (for another {})", period(end.since(now))),
            None => String::new(),
        };
        return format!("set by {}: {}{end}", manual.author, manual.reason);
    }
    // A slow service has several slow signals, and so several alerts of one rule.
    let mut reasons: Vec<(String, usize)> = Vec::new();
    for reason in &state.why {
        let name = format!("{} ({})", reason.alertname, reason.policy);
        match reasons.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => reasons.push((name, 1)),
        }
    }
    let reasons: Vec<_> = reasons
        .into_iter()
        .map(|(name, count)| match count {
            1 => name,
            _ => format!("{count} × {name}"),
        })
        .collect();
    reasons.join(", ")
}

fn details(output: Output, shown: &Shown, now: Timestamp) -> String {
    let state = &shown.told;
    let mut rows = vec![
        vec![cell("service"), cell(&state.service)],
        vec![cell("mode"), graded(&state.mode)],
        vec![cell("for"), cell(&period(now.since(state.since)))],
    ];
    let runs = shown.runs(now);
    if !runs.is_empty() {
        rows.push(vec![cell("runs"), cell(&runs)]);
    }
    if state.manual.is_some() {
        rows.push(vec![cell("override"), cell(&cause(state, now))]);
    }
    for reason in &state.why {
        let text = format!(
            "{} by policy {}: {}",
            reason.alertname, reason.policy, reason.explanation
        );
        rows.push(vec![cell("why"), cell(&text)]);
    }
    for (name, value) in &state.instruction.features {
        rows.push(vec![cell("feature"), cell(&format!("{name} = {value}"))]);
    }
    if state.instruction.priority_floor != Priority::Low {
        let floor = state.instruction.priority_floor.name();
        rows.push(vec![cell("serves"), cell(&format!("{floor} and above"))]);
    }
    if let Some(quality) = &state.instruction.quality {
        rows.push(vec![cell("quality"), cell(quality)]);
    }
    if state.instruction.shed > 0.0 {
        let shed = format!("{:.0} %", state.instruction.shed * 100.0);
        rows.push(vec![cell("sheds"), cell(&shed)]);
    }
    let left = period(state.lease_expires_at.since(now));
    rows.push(vec![cell("lease"), cell(&format!("another {left}"))]);
    output.list(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-01-01T01:00:00Z").expect("time")
    }

    fn answer() -> Value {
        json!({"status": "success", "data": [
            {"service": "cart", "mode": "normal", "level": 0, "since": "2026-01-01T00:00:00Z", "why": [],
             "features": {}, "override": null, "lease_expires_at": "2026-01-01T01:00:30Z", "sequence": 1},
            {"service": "checkout", "mode": "degraded", "level": 1, "since": "2026-01-01T00:58:00Z",
             "why": [{"policy": "slow", "fingerprint": "00000000000000ff", "alertname": "LatencyDeviation",
                      "explanation": "p99 is 310ms, 120ms expected"},
                     {"policy": "slow", "fingerprint": "0000000000000fff", "alertname": "LatencyDeviation",
                      "explanation": "p95 is 290ms, 110ms expected"}],
             "features": {"recommendations": false}, "priority_floor": "high", "quality": "reduced", "shed": 0.1,
             "acknowledged": false, "differs_since": "2026-01-01T00:59:00Z",
             "actual": [{"mode": "degraded", "instances": 2}, {"mode": "normal", "instances": 1}],
             "override": null, "lease_expires_at": "2026-01-01T01:00:30Z", "sequence": 2},
            {"service": "search", "mode": "critical", "level": 2, "since": "2026-01-01T00:30:00Z", "why": [],
             "features": {}, "override": {"mode": "critical", "author": "ada", "reason": "sale",
             "set_at": "2026-01-01T00:30:00Z", "expires_at": "2026-01-01T02:30:00Z"},
             "acknowledged": false,
             "lease_expires_at": "2026-01-01T01:00:30Z", "sequence": 3}]})
    }

    #[test]
    fn modes_are_a_table() {
        let services = read(&answer()["data"]).expect("services");
        let freeze = Freeze {
            author: "ada".into(),
            reason: "migration".into(),
            set_at: now().minus(std::time::Duration::from_secs(60)),
        };
        let output = Output::PLAIN;
        insta::assert_snapshot!(table(output, services, Some(freeze), now()), @r"
Frozen by ada 1m ago: migration
SERVICE   TOLD      FOR  RUNS                                                   WHY
cart      normal    1h
checkout  degraded  2m   2 × degraded, 1 × normal; not what it was told for 1m  2 × LatencyDeviation (slow)
search    critical  30m  not acknowledged yet                                   set by ada: sale (for another 1h30m)
");
        assert_eq!(table(output, Vec::new(), None, now()), "No services yet.\n");
    }

    #[test]
    fn one_mode_is_shown_with_its_reasons() {
        let services: Vec<Shown> = read(&answer()["data"]).expect("services");
        let output = Output::PLAIN;
        insta::assert_snapshot!(details(output, &services[1], now()), @r"
service  checkout
mode     degraded
for      2m
runs     2 × degraded, 1 × normal; not what it was told for 1m
why      LatencyDeviation by policy slow: p99 is 310ms, 120ms expected
why      LatencyDeviation by policy slow: p95 is 290ms, 110ms expected
feature  recommendations = false
serves   high and above
quality  reduced
sheds    10 %
lease    another 30s
");
        insta::assert_snapshot!(details(output, &services[2], now()), @r"
service   search
mode      critical
for       30m
runs      not acknowledged yet
override  set by ada: sale (for another 1h30m)
lease     another 30s
");
    }
}
