//! What a backtest says, for people and for scripts.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use comfy_table::Cell;
use serde_json::{Value, json};

use crate::config::Period;
use crate::model::{AlertState, EpisodeAction, Event, EventBody, Timestamp};

use super::super::output::{Format, Output, cell, clean, graded, print};
use super::compare::Difference;
use super::ledger::Ledger;
use super::picture::Picture;
use super::progress::Progress;
use super::remarks;
use super::run::Ran;
use super::scores::Written;

/// Rows of a table for people; scripts get all.
const MOST_ROWS: usize = 30;
const DAY: f64 = 86_400.0;

/// Where and how it is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Show {
    output: Output,
}

impl Show {
    pub(super) fn new(format: Format) -> Self {
        Self {
            output: Output::stdout(format),
        }
    }

    fn is_json(self) -> bool {
        self.output.format == Format::Json
    }

    /// Something happened. Pending alerts are not told: nobody would have been. `is_new`: the incident that
    /// it belongs to has not been told yet, if there is one.
    pub(super) fn event(self, event: &Event, is_new: bool, progress: &Progress) -> Result<()> {
        if let EventBody::Alert { alert, .. } = &event.body
            && alert.state == AlertState::Pending
        {
            return Ok(());
        }
        progress.clear();
        if self.is_json() {
            // An event is plain data of our own and always has a JSON form.
            let mut value = serde_json::to_value(&event.body).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("time".into(), json!(event.time));
                object.insert("sequence".into(), json!(event.sequence));
            }
            return line(&value);
        }
        print(&told(event, is_new))
    }

    /// How it went, after the events.
    pub(super) fn summary(self, ran: &Ran) -> Result<()> {
        if self.is_json() {
            return line(&summary_json(ran));
        }
        print(&format!("\n{}", self.summary_text(ran)))
    }

    /// What another configuration makes of it.
    pub(super) fn comparison(
        self,
        differences: &[Difference<'_>],
        first: &Ran,
        other: &Ran,
    ) -> Result<()> {
        if self.is_json() {
            for difference in differences {
                line(&difference_json(difference))?;
            }
            return line(&json!({
                "type": "comparison",
                "alerts": first.ledger.alerts(),
                "other_alerts": other.ledger.alerts(),
                "more": count(differences, "more"),
                "less": count(differences, "less"),
                "earlier": count(differences, "earlier"),
                "later": count(differences, "later"),
                "same": count(differences, "same"),
                "mode_changes": first.ledger.mode_changes,
                "other_mode_changes": other.ledger.mode_changes,
                "other_summary": summary_json(other),
            }));
        }
        let mut text = format!(
            "\nThe other configuration: {} instead of {}: {} more, {} less, {} earlier, {} later, {} \
             at the same time; {} instead of {}.\n",
            plural(other.ledger.alerts(), "alert"),
            first.ledger.alerts(),
            count(differences, "more"),
            count(differences, "less"),
            count(differences, "earlier"),
            count(differences, "later"),
            count(differences, "same"),
            plural(other.ledger.mode_changes, "mode change"),
            first.ledger.mode_changes,
        );
        let told = differences.iter().filter(|d| d.name() != "same");
        let rows: Vec<Vec<Cell>> = told.map(difference_row).collect();
        if !rows.is_empty() {
            let header = ["", "FIRED", "ALERT", "SERVICE", "SIGNAL", "SEVERITY", "BY"];
            text.push('\n');
            text.push_str(&self.output.table(&header, rows));
        }
        print(&text)
    }

    /// Which scores were written.
    pub(super) fn scores(self, written: &[Written], folder: &Path) -> Result<()> {
        let rows: u64 = written.iter().map(|one| one.rows).sum();
        if self.is_json() {
            let files: Vec<Value> = written
                .iter()
                .map(|one| json!({"input": one.input, "file": one.file, "rows": one.rows}))
                .collect();
            return line(&json!({"type": "scores", "detector": detector(written), "files": files}));
        }
        print(&format!(
            "\nScores of `{}` for {rows} rows of {} are in {}.\n",
            detector(written),
            plural(written.len() as u64, "file"),
            clean(&folder.display().to_string()),
        ))
    }

    /// What was drawn.
    pub(super) fn picture(self, picture: &Picture, file: &Path) -> Result<()> {
        let file = file.display().to_string();
        if self.is_json() {
            return line(&json!({
                "type": "picture", "file": file, "series": picture.title, "samples": picture.samples,
            }));
        }
        print(&format!(
            "\n{} with {} is drawn in {}.\n",
            clean(&picture.title),
            plural(picture.samples as u64, "sample"),
            clean(&file),
        ))
    }

    fn summary_text(self, ran: &Ran) -> String {
        let mut text = String::new();
        let mut say = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        for remark in remarks::of(ran) {
            say(format!("note: {remark}"));
        }
        let days = ran.covered.as_secs_f64() / DAY;
        let per_day = match days {
            days if days > 0.0 => format!(", {} a day", rate(ran.ledger.alerts() as f64 / days)),
            _ => String::new(),
        };
        let within = match ran.ledger.told_incidents() {
            0 => String::new(),
            incidents => format!(" in {}", plural(incidents, "incident")),
        };
        say(format!(
            "{} to {}: {}{within}{per_day}; {}",
            time(ran.start),
            time(ran.end),
            plural(ran.ledger.alerts(), "alert"),
            plural(ran.ledger.mode_changes, "mode change"),
        ));
        decided(&ran.ledger).into_iter().for_each(&mut say);
        let open = ran
            .ledger
            .incidents
            .iter()
            .filter(|i| i.resolved_at.is_none());
        let open = open.count();
        if open > 0 {
            say(format!("{} at the end", fire(open)));
        }
        let counted = &ran.ledger.counts;
        if !counted.is_empty() {
            let mut counts: Vec<_> = counted.iter().collect();
            counts.sort_by_key(|(key, count)| (std::cmp::Reverse(**count), (*key).clone()));
            let more = counts.len().saturating_sub(MOST_ROWS);
            let rows = counts
                .into_iter()
                .take(MOST_ROWS)
                .map(|((rule, service), count)| {
                    let covered = ran.covered_by.get(service.as_str());
                    let days = covered.unwrap_or(&ran.covered).as_secs_f64() / DAY;
                    let per_day = if days > 0.0 {
                        rate(*count as f64 / days)
                    } else {
                        "-".into()
                    };
                    vec![
                        cell(rule),
                        cell(service),
                        cell(&count.to_string()),
                        cell(&per_day),
                    ]
                });
            say(String::new());
            let header = ["ALERT", "SERVICE", "FIRED", "PER DAY"];
            say(self
                .output
                .table(&header, rows.collect())
                .trim_end()
                .to_owned());
            if more > 0 {
                say(format!("… and {more} more"));
            }
        }
        let modes = ran.ledger.modes(ran.end);
        if !modes.is_empty() {
            let whole = ran.end.since(ran.start).as_secs_f64();
            let more = modes.len().saturating_sub(MOST_ROWS);
            let rows = modes
                .iter()
                .take(MOST_ROWS)
                .map(|((service, mode), spent)| {
                    let share = spent.as_secs_f64() * 100.0 / whole.max(1e-9);
                    vec![
                        cell(service),
                        graded(mode),
                        cell(&period(*spent)),
                        cell(&format!("{share:.1} %")),
                    ]
                });
            say(String::new());
            let header = ["SERVICE", "MODE", "TIME", "SHARE"];
            say(self
                .output
                .table(&header, rows.collect())
                .trim_end()
                .to_owned());
            if more > 0 {
                say(format!("… and {more} more"));
            }
        }
        say(String::new());
        say(volume(ran));
        text
    }
}

/// One JSON value on a line of its own.
fn line(value: &Value) -> Result<()> {
    print(&format!("{value}\n"))
}

/// An event in words: what begins an incident with all that is known, what follows in a line.
fn told(event: &Event, is_new: bool) -> String {
    let when = time(event.time);
    match &event.body {
        EventBody::Alert { from, alert } => {
            let (what, since) = match (alert.state, from) {
                (AlertState::Resolved, _) => {
                    let lasted = alert.fired_at.map(|at| event.time.since(at));
                    let lasted = lasted.map(|lasted| format!(" after {}", period(lasted)));
                    ("resolved", lasted.unwrap_or_default())
                }
                (_, Some(AlertState::Firing)) => ("worsens ", String::new()),
                _ => ("fires   ", String::new()),
            };
            let severity = match alert.state {
                AlertState::Resolved => String::new(),
                _ => format!(" {}", alert.severity.name()),
            };
            let head = format!(
                "{when}  {what}{severity} {} {}{since}",
                clean(alert.name()),
                clean(&alert.service),
            );
            if !is_new {
                let sentence = clean(&alert.grounds.sentence);
                return match sentence.is_empty() {
                    true => format!("{head}\n"),
                    false => format!("{head}: {sentence}\n"),
                };
            }
            let mut text = format!("{head}\n");
            for (name, head) in [("explanation", ""), ("recommendation", "→ ")] {
                let told = alert.annotations.get(name);
                for told in told.into_iter().flat_map(str::lines) {
                    text.push_str(&format!("    {head}{}\n", clean(told)));
                }
            }
            text
        }
        EventBody::Mode(change) if change.from == change.state.mode => format!(
            "{when}  mode     {} stays {}: {}\n",
            clean(&change.state.service),
            clean(&change.from),
            clean(&change.cause),
        ),
        EventBody::Mode(change) => format!(
            "{when}  mode     {}: {} → {}: {}\n",
            clean(&change.state.service),
            clean(&change.from),
            clean(&change.state.mode),
            clean(&change.cause),
        ),
        EventBody::Proposal { .. } => {
            format!("{when}  proposal {}\n", clean(&event.sentence()))
        }
        EventBody::Plan { .. } => format!("{when}  plan     {}\n", clean(&event.sentence())),
        EventBody::Episode {
            action: EpisodeAction::Judged,
            ..
        } => format!("{when}  effect   {}\n", clean(&event.sentence())),
        // The changes of modes say the rest.
        EventBody::Episode { .. }
        | EventBody::Freeze { .. }
        | EventBody::Silence { .. }
        | EventBody::Acknowledged { .. }
        | EventBody::Dismissed { .. } => String::new(),
    }
}

/// What automation left to people, and how often a service left normal: `2 proposals; 3 departures from
/// normal: 2 better, 1 no effect`.
fn decided(ledger: &Ledger) -> Option<String> {
    let departures: u64 = ledger.departures.values().sum();
    let mut parts = Vec::new();
    if ledger.proposals > 0 {
        parts.push(plural(ledger.proposals, "proposal"));
    }
    if departures > 0 {
        let verdicts = ledger.departures.iter();
        let verdicts: Vec<_> = verdicts
            .map(|(verdict, count)| format!("{count} {verdict}"))
            .collect();
        let what = match departures {
            1 => "1 departure from normal".to_owned(),
            many => format!("{many} departures from normal"),
        };
        parts.push(format!("{what}: {}", verdicts.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What went through, and how fast.
fn volume(ran: &Ran) -> String {
    let mut text = plural(ran.samples, "sample");
    if ran.spans > 0 {
        text.push_str(&format!(
            " of {} and {}",
            plural(ran.points, "point"),
            plural(ran.spans, "span")
        ));
    }
    text.push_str(&format!(
        " of {} and {} in {:.2} s ({}/s)",
        plural(ran.services as u64, "service"),
        plural(ran.signals, "signal"),
        ran.wall.as_secs_f64(),
        large(per_second(ran.samples, Some(ran.wall)).unwrap_or(0.0)),
    ));
    if let Some(speed) = per_second(ran.samples, ran.cpu) {
        let cpu = ran.cpu.unwrap_or_default().as_secs_f64();
        text.push_str(&format!(
            ", {cpu:.2} s of processor time ({}/s a core)",
            large(speed)
        ));
    }
    text
}

fn per_second(samples: u64, time: Option<Duration>) -> Option<f64> {
    let seconds = time?.as_secs_f64();
    (seconds > 0.0).then(|| samples as f64 / seconds)
}

fn fire(count: usize) -> String {
    match count {
        1 => "1 still fires".into(),
        count => format!("{count} still fire"),
    }
}

fn summary_json(ran: &Ran) -> Value {
    let days = ran.covered.as_secs_f64() / DAY;
    let ledger = &ran.ledger;
    let rules: Vec<Value> = ledger
        .counts
        .iter()
        .map(|((rule, service), count)| json!({"alertname": rule, "service": service, "alerts": count}))
        .collect();
    let modes: Vec<Value> = ledger
        .modes(ran.end)
        .iter()
        .map(|((service, mode), spent)| {
            json!({"service": service, "mode": mode, "seconds": spent.as_secs_f64()})
        })
        .collect();
    json!({
        "type": "summary",
        "start": ran.start,
        "end": ran.end,
        "covered_seconds": ran.covered.as_secs_f64(),
        "alerts": ledger.alerts(),
        "incidents": ledger.told_incidents(),
        "alerts_per_day": (days > 0.0).then(|| ledger.alerts() as f64 / days),
        "mode_changes": ledger.mode_changes,
        "proposals": ledger.proposals,
        "departures": ledger.departures,
        "by_rule": rules,
        "modes": modes,
        "points": ran.points,
        "spans": ran.spans,
        "samples": ran.samples,
        "late": ran.late,
        "repeated": ran.repeated,
        "refused": ran.rejections.total(),
        "services": ran.services,
        "signals": ran.signals,
        "unwatched_signals": ran.unwatched,
        "tick_seconds": ran.speed.pace.map(|pace| pace.tick.as_secs_f64()),
        "notes": remarks::of(ran),
        "wall_seconds": ran.wall.as_secs_f64(),
        "cpu_seconds": ran.cpu.map(|cpu| cpu.as_secs_f64()),
        "samples_per_second": per_second(ran.samples, Some(ran.wall)),
        "samples_per_cpu_second": per_second(ran.samples, ran.cpu),
    })
}

fn difference_json(difference: &Difference<'_>) -> Value {
    let (first, other) = match difference {
        Difference::More(other) => (None, Some(other)),
        Difference::Less(first) => (Some(first), None),
        Difference::Both { first, other } => (Some(first), Some(other)),
    };
    json!({
        "type": "difference",
        "is": difference.name(),
        "seconds": difference.by().map(|by| by.as_secs_f64()),
        "fired_at": first.map(|i| i.fired_at),
        "other_fired_at": other.map(|i| i.fired_at),
        "resolved_at": first.map(|i| i.resolved_at),
        "other_resolved_at": other.map(|i| i.resolved_at),
        "labels": first.or(other).map(|i| &i.alert.labels),
        "explanation": other.or(first).and_then(|i| i.alert.annotations.get("explanation")),
    })
}

fn difference_row(difference: &Difference<'_>) -> Vec<Cell> {
    let incident = match difference {
        Difference::More(incident) | Difference::Less(incident) => incident,
        Difference::Both { other, .. } => other,
    };
    let label = |name: &str| incident.alert.labels.get(name).unwrap_or_default();
    let by = difference.by().map(period).unwrap_or_default();
    vec![
        cell(difference.name()),
        cell(&time(incident.fired_at)),
        cell(incident.alert.name()),
        cell(&incident.alert.service),
        cell(format!("{} {}", label("metric"), label("signal")).trim()),
        graded(incident.alert.severity.name()),
        cell(&by),
    ]
}

fn count(differences: &[Difference<'_>], name: &str) -> usize {
    differences.iter().filter(|d| d.name() == name).count()
}

fn detector(written: &[Written]) -> &str {
    written.first().map_or("", |one| one.detector.as_str())
}

/// `2026-01-31 12:00:05Z`: whole seconds, which is enough to find it.
fn time(at: Timestamp) -> String {
    let seconds = Timestamp::from_secs(at.as_nanos().div_euclid(1_000_000_000));
    seconds.rfc3339().replacen('T', " ", 1)
}

pub(super) fn period(duration: Duration) -> String {
    Period(duration).to_string()
}

fn plural(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

/// Two digits where there is less than ten.
fn rate(number: f64) -> String {
    match number {
        number if number >= 10.0 => format!("{number:.0}"),
        number if number >= 1.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

/// `1.25M`.
fn large(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{:.2}M", number / 1e6),
        number if number >= 1e3 => format!("{:.0}k", number / 1e3),
        number => format!("{number:.0}"),
    }
}
