//! `tidewatch check`: is this configuration right, and where would an alert go?

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use crate::app;
use crate::config::{Config, Period};
use crate::dispatch::{GroupBy, Node, Routes};
use crate::model::{Labels, MatchOp, Matcher};

use super::output::Format;
use super::{load, output};

#[derive(Debug, Args)]
#[command(
    after_help = "Each mistake is named as file:line:column with a hint; the exit code is 1 if \
there are any.

Examples:
  tidewatch check --config examples/webhook.yaml
  tidewatch check --config tidewatch.yaml --route service=checkout severity=critical
  tidewatch check --config tidewatch.yaml --route team=db --verify-receivers db-pager,log"
)]
pub(super) struct CheckArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Show which receivers an alert with these labels would take, and by which routes
    #[arg(long, value_name = "NAME=VALUE", num_args = 0.., value_parser = label)]
    route: Option<Vec<(String, String)>>,
    /// Fail unless these are the receivers, in the order of the routes
    #[arg(long, value_name = "NAMES", requires = "route", value_delimiter = ',')]
    verify_receivers: Option<Vec<String>>,
    /// How to print where the alert would go
    #[arg(long, short, value_enum, requires = "route", default_value_t = Format::Table)]
    output: Format,
}

impl CheckArgs {
    pub(super) fn execute(self) -> Result<()> {
        let loaded = load::load(Some(&self.config))?;
        let Some(labels) = self.route else {
            let summary = summary(&loaded.config);
            return output::print(&format!("{}: ok, {summary}\n", self.config.display()));
        };
        let labels: Labels = labels.into_iter().collect();
        let routes = Routes::new(&app::routing(&loaded.config).route);
        let taken: Vec<&Node> = routes
            .matching(&labels)
            .into_iter()
            .filter_map(|number| routes.node(number))
            .collect();
        let receivers: Vec<&str> = taken.iter().map(|node| &*node.receiver).collect();
        output::print(&match self.output {
            Format::Table => {
                let tree = tree(&routes, &labels);
                format!("Matching routes:\n{tree}\n{}\n", receivers.join(","))
            }
            Format::Json => {
                let routes: Vec<_> = taken.iter().map(|node| details(node)).collect();
                let answer = json!({"receivers": receivers, "routes": routes});
                format!("{answer:#}\n")
            }
        })?;
        match self.verify_receivers {
            Some(expected) if expected != receivers => bail!(
                "expected the receivers {}, but the routes lead to {}",
                expected.join(","),
                receivers.join(",")
            ),
            Some(_) | None => Ok(()),
        }
    }
}

/// `NAME=VALUE`, the value with or without quotes.
fn label(text: &str) -> Result<(String, String), String> {
    let matcher = Matcher::parse(text).map_err(|error| error.to_string())?;
    match matcher.op {
        MatchOp::Equal => Ok((matcher.name, matcher.value)),
        MatchOp::NotEqual | MatchOp::Regex | MatchOp::NotRegex => {
            Err("an alert has labels NAME=VALUE".into())
        }
    }
}

/// The routes that an alert with these labels passes, as amtool draws them.
fn tree(routes: &Routes, labels: &Labels) -> String {
    let mut text = String::from(".\n");
    branch(routes, 0, labels, ("", "└── "), &mut text);
    text
}

fn branch(
    routes: &Routes,
    number: usize,
    labels: &Labels,
    (indent, mark): (&str, &str),
    text: &mut String,
) {
    let Some(node) = routes.node(number) else {
        return;
    };
    let name: String = match node.matchers.matchers().is_empty() {
        true => "default-route".into(),
        false => node.matchers.to_string(),
    };
    let children = routes.matching_children(number, labels);
    text.extend([indent, mark, &name]);
    if children.is_empty() {
        text.extend(["  receiver: ", &node.receiver]);
    }
    text.push('\n');
    let indent = match mark {
        "├── " => format!("{indent}│   "),
        _ => format!("{indent}    "),
    };
    for (at, child) in children.iter().enumerate() {
        let is_last = at + 1 == children.len();
        let mark = if is_last { "└── " } else { "├── " };
        branch(routes, *child, labels, (&indent, mark), text);
    }
}

fn details(node: &Node) -> serde_json::Value {
    let names = |intervals: &[std::sync::Arc<crate::mute::TimeInterval>]| -> Vec<String> {
        let names = intervals.iter().map(|interval| interval.name.to_string());
        names.collect()
    };
    json!({
        "route": &*node.key,
        "receiver": &*node.receiver,
        "group_by": match &node.group_by {
            GroupBy::All => vec!["...".to_owned()],
            GroupBy::Labels(names) => names.clone(),
        },
        "group_wait": Period(node.group_wait).to_string(),
        "group_interval": Period(node.group_interval).to_string(),
        "repeat_interval": Period(node.repeat_interval).to_string(),
        "mute_time_intervals": names(&node.mute),
        "active_time_intervals": names(&node.active),
    })
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
