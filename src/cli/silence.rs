//! `tidewatch silence`: what nobody wants to be told of for a while.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Period;
use crate::model::{Matcher, Timestamp};
use crate::mute::Condition;

use super::Remote;
use super::client;
use super::mode::{Author, duration};
use super::output::{Output, ago, cell, clean, period, print, text};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidewatch silence                               those that are active or to come
  tidewatch silence add service=checkout --comment \"deploy\" --duration 30m
  tidewatch silence add LatencyDeviation 'service=~\"cart|search\"' --comment \"load test\"
  tidewatch silence expire 0d5a6eb2-0c1f-4d38-9f06-8a1f6f1d2e3c")]
pub(super) struct SilenceArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show silences
    #[command(after_help = "Example:\n  tidewatch silence list service=checkout --expired")]
    List {
        /// Only silences with these very conditions
        #[arg(value_name = "MATCHER", value_parser = matcher)]
        matchers: Vec<Matcher>,
        /// Also those that are over
        #[arg(long)]
        expired: bool,
    },
    /// Silence the alerts that match all conditions
    #[command(
        after_help = "Example:\n  tidewatch silence add service=checkout severity!=critical --comment \"deploy\" --duration 30m"
    )]
    Add {
        /// Conditions such as service=checkout, alertname=~"Latency.*" or severity!=critical; a bare word
        /// is the name of an alert
        #[arg(value_name = "MATCHER", required = true, value_parser = matcher)]
        matchers: Vec<Matcher>,
        /// Why; kept with the silence
        #[arg(long, short)]
        comment: String,
        #[command(flatten)]
        author: Author,
        /// For how long, such as 30m or 2h
        #[arg(
            long,
            short,
            value_name = "DURATION",
            default_value = "1h",
            value_parser = duration,
            conflicts_with = "end"
        )]
        duration: Period,
        /// From when on, as RFC 3339; without it from now on
        #[arg(long, value_name = "TIME", value_parser = time)]
        start: Option<Timestamp>,
        /// Until when, as RFC 3339, instead of --duration
        #[arg(long, value_name = "TIME", value_parser = time)]
        end: Option<Timestamp>,
    },
    /// End silences now
    #[command(
        after_help = "Example:\n  tidewatch silence expire 0d5a6eb2-0c1f-4d38-9f06-8a1f6f1d2e3c"
    )]
    Expire {
        /// Ids, as `list` shows them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

/// A condition; a word without a comparison is the name of an alert, as in amtool.
fn matcher(text: &str) -> Result<Matcher, String> {
    let is_word = !text.is_empty() && !text.contains(['=', '!', '~', '{']);
    let text = match is_word {
        true => &format!("alertname={text}"),
        false => text,
    };
    Matcher::parse(text).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
}

impl SilenceArgs {
    pub(super) async fn execute(self) -> Result<()> {
        let (client, output) = self.remote.open()?;
        let now = Clock::System.now();
        let list = Action::List {
            matchers: Vec::new(),
            expired: false,
        };
        match self.action.unwrap_or(list) {
            Action::List { matchers, expired } => {
                let query: Vec<_> = matchers
                    .iter()
                    .map(|matcher| ("filter", matcher.to_string()))
                    .collect();
                let silences = client.get(&["api", "v2", "silences"], &query).await?;
                let mut silences = client::list(silences)?;
                silences.retain(|silence| expired || state(silence) != "expired");
                let answer = Value::Array(silences);
                output.show(&answer, |output| table(output, &answer, now))
            }
            Action::Add {
                matchers,
                comment,
                author,
                duration,
                start,
                end,
            } => {
                let end = end.unwrap_or_else(|| start.unwrap_or(now).plus(duration.0));
                let conditions: Vec<_> = matchers.iter().map(Condition).collect();
                let body = json!({
                    "matchers": conditions,
                    // What is past means now by the daemon's clock, which may be another.
                    "startsAt": start.unwrap_or(Timestamp::EPOCH),
                    "endsAt": end,
                    "createdBy": author.author,
                    "comment": comment,
                });
                let answer = client.post(&["api", "v2", "silences"], &body).await?;
                output.show(&answer, |_| {
                    format!("{}\n", clean(text(&answer, "silenceID")))
                })
            }
            Action::Expire { ids } => {
                for id in ids {
                    if id.is_empty() {
                        bail!("the id of the silence is empty");
                    }
                    let path = ["api", "v2", "silence", &id];
                    client.delete(&path, &[]).await?;
                    print(&format!("{} has ended.\n", clean(&id)))?;
                }
                Ok(())
            }
        }
    }
}

fn state(silence: &Value) -> &str {
    text(&silence["status"], "state")
}

/// In the daemon's order: active ones, then those to come, then those that are over.
fn table(output: Output, silences: &Value, now: Timestamp) -> String {
    let silences = silences.as_array().map(Vec::as_slice).unwrap_or_default();
    if silences.is_empty() {
        return "No silences.\n".into();
    }
    let until = |time: &str| {
        let time = Timestamp::parse_saturating(time);
        time.map_or_else(|_| String::new(), |time| period(time.since(now)))
    };
    let rows = silences
        .iter()
        .map(|silence| {
            let (starts, ends) = (text(silence, "startsAt"), text(silence, "endsAt"));
            let when = match state(silence) {
                "pending" => format!("begins in {}", until(starts)),
                "expired" => format!("ended {} ago", ago(ends, now)),
                _ => format!("ends in {}", until(ends)),
            };
            vec![
                cell(text(silence, "id")),
                cell(state(silence)),
                cell(&when),
                cell(&conditions(silence)),
                cell(text(silence, "createdBy")),
                cell(text(silence, "comment")),
            ]
        })
        .collect();
    output.table(
        &["ID", "STATE", "WHEN", "MATCHERS", "CREATED BY", "COMMENT"],
        rows,
    )
}

/// `service=checkout alertname=~"a|b"`
fn conditions(silence: &Value) -> String {
    let matchers = silence["matchers"].as_array();
    let one = |matcher: &Value| {
        let flag = |name: &str, default: bool| matcher[name].as_bool().unwrap_or(default);
        let op = match (flag("isEqual", true), flag("isRegex", false)) {
            (true, false) => "=",
            (false, false) => "!=",
            (true, true) => "=~",
            (false, true) => "!~",
        };
        format!(
            "{}{op}\"{}\"",
            text(matcher, "name"),
            text(matcher, "value")
        )
    };
    let matchers = matchers.map(Vec::as_slice).unwrap_or_default();
    matchers.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_are_a_table() {
        let now = Timestamp::parse_rfc3339("2026-01-01T00:10:00Z").expect("time");
        let silence = |id: &str, state: &str, starts: &str, ends: &str| {
            json!({
                "id": id, "status": {"state": state}, "createdBy": "ada", "comment": "de\u{1b}ploy",
                "startsAt": starts, "endsAt": ends, "updatedAt": starts,
                "matchers": [{"name": "service", "value": "checkout", "isRegex": false, "isEqual": true},
                             {"name": "severity", "value": "a|b", "isRegex": true, "isEqual": false}],
            })
        };
        let silences = json!([
            silence(
                "1",
                "active",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:40:00Z"
            ),
            silence(
                "2",
                "pending",
                "2026-01-01T01:10:00Z",
                "2026-01-01T02:00:00Z"
            ),
            silence(
                "3",
                "expired",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:05:00Z"
            ),
        ]);
        insta::assert_snapshot!(table(Output::PLAIN, &silences, now), @r#"
ID  STATE    WHEN          MATCHERS                            CREATED BY  COMMENT
1   active   ends in 30m   service="checkout" severity!~"a|b"  ada         de\u{1b}ploy
2   pending  begins in 1h  service="checkout" severity!~"a|b"  ada         de\u{1b}ploy
3   expired  ended 5m ago  service="checkout" severity!~"a|b"  ada         de\u{1b}ploy
"#);
        assert_eq!(table(Output::PLAIN, &json!([]), now), "No silences.\n");
    }

    #[test]
    fn a_bare_word_is_the_name_of_an_alert() {
        let read = |text: &str| matcher(text).map(|matcher| matcher.to_string());
        assert_eq!(read("Slow").as_deref(), Ok("alertname=\"Slow\""));
        assert_eq!(read("a!=b").as_deref(), Ok("a!=\"b\""));
        assert_eq!(read("a=~\"b|c\"").as_deref(), Ok("a=~\"b|c\""));
        assert!(read("").is_err());
        assert!(read("=b").is_err());
    }
}
