//! `tidewatch backtest`: what would have happened.
//!
//! - `inputs`: the files, and the pace at which they are run
//! - `run`: the files through the pipeline in virtual time; `ledger`: what came of it
//! - `show`, `remarks`: for people and for scripts; `progress`: how far it is
//! - `compare`: two configurations; `scores`: a number beside each row; `picture`: a series to look at

mod compare;
mod inputs;
mod ledger;
mod picture;
mod progress;
mod remarks;
mod run;
mod scores;
mod show;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::config::{BadText, Period};
use crate::ingest::replay::RecordFormat;
use crate::model::Selector;

use super::output::Format;
use super::{alerts, load};
use inputs::Inputs;
use progress::Progress;
use show::Show;

#[derive(Debug, Args)]
#[command(
    after_help = "Inputs may be gzip or zstd files, or - for standard input; several are merged by \
time. docs/backtest.md says
more about formats, ticks and names.

Examples:
  tidewatch backtest cpu.csv
  tidewatch backtest --config F telemetry.json
  tidewatch backtest --config F --compare G telemetry.json
  tidewatch backtest --picture cpu.html cpu.csv
  tidewatch backtest --scores out --output json data/*.csv
  curl -s 'http://prometheus:9090/api/v1/query_range?query=up&start=…&end=…&step=60' |
    tidewatch backtest -"
)]
pub(super) struct BacktestArgs {
    /// Recorded data: OTLP in JSON lines, CSV, or an answer of Prometheus to a range query
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Configuration file; without one the built-in rules apply
    #[arg(long, short, value_name = "FILE", env = "TIDEWATCH_CONFIG")]
    config: Option<PathBuf>,
    /// What the inputs are, where that cannot be seen from them
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Form>,
    /// Length of a tick, in place of the configuration's or of one that fits the data
    #[arg(long, value_name = "DURATION", value_parser = period)]
    tick: Option<Period>,
    /// Name of the service of data that names none [default: the file's]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Name of the metric of data that names none [default: the column's, or value]
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// How to print: text for people or JSON lines for scripts
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Show what this configuration would have alerted on more, less, earlier or later
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Write `timestamp,value,score` for each CSV input at the path PATH to DIR/PATH
    #[arg(long, value_name = "DIR")]
    scores: Option<PathBuf>,
    /// The detector that gives the scores [default: that of the built-in rules]
    #[arg(long, value_name = "NAME", requires = "scores", value_parser = detector())]
    detector: Option<String>,
    /// Draw a series with its band, its anomalies and its alerts: an .svg or an .html
    #[arg(long, value_name = "FILE", value_parser = picture::file)]
    picture: Option<PathBuf>,
    /// Which series to draw [default: that of the first alert]
    #[arg(long = "match", value_name = "SELECTOR", requires = "picture", value_parser = alerts::selector)]
    selector: Option<Selector>,
    /// Threads that share the series; more than one pays with many series a tick [default: 1]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Say how far it is also where standard error is no terminal
    #[arg(long)]
    progress: bool,
}

/// [`RecordFormat`] as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Otlp,
    Csv,
    Prometheus,
}

impl From<Form> for RecordFormat {
    fn from(form: Form) -> Self {
        match form {
            Form::Otlp => Self::Otlp,
            Form::Csv => Self::Csv,
            Form::Prometheus => Self::Prometheus,
        }
    }
}

fn period(text: &str) -> Result<Period, String> {
    let tick: Period = text.parse().map_err(|error: BadText| error.to_string())?;
    if tick.0.is_zero() {
        return Err("a tick has a length".into());
    }
    Ok(tick)
}

fn detector() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(crate::detect::names())
}

impl BacktestArgs {
    pub(super) fn execute(self) -> Result<()> {
        let loaded = load::load(self.config.as_deref())?;
        let other = match &self.compare {
            Some(path) => Some(load::load(Some(path))?),
            None => None,
        };
        let inputs = Inputs::new(&self);
        ensure!(
            inputs.can_be_read_again()
                || (other.is_none() && self.scores.is_none() && self.picture.is_none()),
            "standard input can be read once: save it to a file first"
        );
        if let Some(file) = &self.picture {
            picture::can_be_written(file)?;
        }
        let show = Show::new(self.output);
        let progress = Progress::new(self.progress);

        let ran = run::run(&loaded, &inputs, &self, &progress, &mut |event, is_new| {
            show.event(event, is_new, &progress)
        })?;
        show.summary(&ran)?;

        if let Some(other) = &other {
            let changed = run::run(other, &inputs, &self, &progress, &mut |_, _| Ok(()))?;
            show.comparison(&compare::compare(&ran, &changed), &ran, &changed)?;
        }
        if let Some(folder) = &self.scores {
            let written = scores::write(&loaded.config, &inputs, self.detector.as_deref(), folder)?;
            show.scores(&written, folder)?;
        }
        if let Some(file) = &self.picture {
            let selector = self.selector.as_ref();
            let drawn = picture::draw(&loaded, &inputs, &self, &progress, &ran, selector)?;
            std::fs::write(file, drawn.text(file))
                .with_context(|| format!("{} cannot be written", file.display()))?;
            show.picture(&drawn, file)?;
        }
        let counted = ran.points + ran.spans;
        ensure!(
            ran.dropped <= counted,
            "{} of {} points were left out for their times, so this says little of the data: sort the \
             inputs by time, and look at the notes above",
            ran.dropped,
            ran.dropped + counted,
        );
        Ok(())
    }
}
