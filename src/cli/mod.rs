//! The command line: one file a command.
//!
//! In: arguments and, for the commands that talk to a running daemon, its HTTP API. Out: text for
//! people or JSON for scripts on standard output, everything else on standard error, and an exit code:
//! 0 done, 1 the input or the answer is bad, 2 wrong usage (clap's own).
//!
//! Always holds: what comes from outside is shown without its control characters; colours appear on
//! terminals only.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod alerts;
mod backtest;
mod check;
mod client;
mod demo;
mod follow;
mod incidents;
mod load;
mod mode;
mod output;
mod report;
mod run;
mod schema;
mod series;
mod silence;
#[cfg(test)]
mod tests;

use client::Client;
use output::{Format, Output};

/// Watches services by their OpenTelemetry data: learns what is normal, alerts on what is not, and tells
/// services to degrade.
#[derive(Debug, Parser)]
#[command(
    name = "tidewatch",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
#[command(after_help = "Examples:
  tidewatch                      listen on 127.0.0.1:4317, 4318 and 9517, learn and alert
  tidewatch run --config F       the same by a configuration
  tidewatch demo                 see it at work on a simulated shop
  tidewatch alerts               what fires now
  tidewatch backtest cpu.csv     what recorded data would have alerted on")]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (also without any command)
    Run(run::RunArgs),
    /// Run the daemon beside a simulated shop in which something goes wrong
    Demo(demo::DemoArgs),
    /// Show what recorded data would have alerted on
    Backtest(backtest::BacktestArgs),
    /// Check a configuration file
    Check(check::CheckArgs),
    /// Print the JSON Schema of the configuration
    Schema(schema::SchemaArgs),
    /// Show the alerts that fire now
    Alerts(alerts::AlertsArgs),
    /// Show incidents: what happened, over all services that it touched
    Incidents(incidents::IncidentsArgs),
    /// Show and set what nobody is to be told of for a while
    Silence(silence::SilenceArgs),
    /// Show and set the modes of services
    Mode(mode::ModeArgs),
    /// Show signals with their window and baseline
    Series(series::SeriesArgs),
    /// Show the performance report
    Report(report::ReportArgs),
}

/// Where the running daemon is, and how its answer is shown.
#[derive(Debug, Args)]
struct Remote {
    /// Address of the running daemon
    #[arg(
        long,
        global = true,
        env = "TIDEWATCH_URL",
        default_value = "http://127.0.0.1:9517",
        value_parser = client::base_url
    )]
    url: reqwest::Url,
    /// How to print: a table for people or JSON for scripts
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl Remote {
    fn open(&self) -> anyhow::Result<(Client, Output)> {
        Ok((Client::new(self.url.clone())?, Output::stdout(self.output)))
    }
}

/// Runs the command. Says on standard error why it failed.
pub fn execute(cli: Cli) -> ExitCode {
    let command = cli.command.unwrap_or(Command::Run(cli.run));
    let done = match command {
        Command::Run(args) => args.execute(),
        Command::Demo(args) => args.execute(),
        Command::Backtest(args) => args.execute(),
        Command::Check(args) => args.execute(),
        Command::Schema(args) => args.execute(),
        Command::Alerts(args) => client::block_on(args.execute()),
        Command::Incidents(args) => client::block_on(args.execute()),
        Command::Silence(args) => client::block_on(args.execute()),
        Command::Mode(args) => client::block_on(args.execute()),
        Command::Series(args) => client::block_on(args.execute()),
        Command::Report(args) => client::block_on(args.execute()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
