//! The report as text.

use super::annotate::{clean, signal_name};
use super::quantity::{Style, sigma};
use super::report::{Operation, Report, ServiceReport, SignalLine, TrendLine};
use super::words::seconds as within;
use crate::model::{Incident, SampleView, Timestamp, VersionView};

impl Report {
    /// The report in Markdown. Texts from outside cannot break its tables or bring HTML along.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# Performance report\n\n{}\n", self.summary());
        if !self.incidents.is_empty() {
            out.push_str("\n## Incidents\n");
            for incident in &self.incidents {
                let (head, text) = incident_lines(incident);
                out.push_str(&format!("\n- **{}**: {}", escape(&head), escape(&text)));
            }
            out.push('\n');
        }
        for service in &self.services {
            out.push_str(&format!(
                "\n## {}: {}\n\n{}\n",
                escape(&service.service),
                service.health.name(),
                facts(service)
            ));
            for alert in &service.alerts {
                let text = if alert.explanation.is_empty() {
                    ""
                } else {
                    ": "
                };
                out.push_str(&format!(
                    "\n- **{}** ({}, {}){text}{}",
                    escape(&alert.alertname),
                    alert.severity.name(),
                    alert.state.name(),
                    escape(&alert.explanation),
                ));
            }
            if !service.alerts.is_empty() {
                out.push_str(&more(service.alerts_omitted, "\n- … and {} more\n", "\n"));
            }
            if let Some(recommendation) = &service.recommendation {
                out.push_str(&format!("\nRecommendation: {}\n", escape(recommendation)));
            }
            if !service.trends.is_empty() {
                out.push('\n');
                let cells = service.trends.iter().map(trend_cells);
                out.push_str(&markdown(TRENDS.as_slice(), cells));
                out.push_str(&more(service.trends_omitted, "\n{} more trends\n", ""));
            }
            if !service.worst.is_empty() {
                out.push('\n');
                out.push_str(&markdown(
                    SIGNALS.as_slice(),
                    service.worst.iter().map(signal_cells),
                ));
            }
            if !service.operations.is_empty() {
                out.push('\n');
                let cells = service.operations.iter().map(operation_cells);
                out.push_str(&markdown(OPERATIONS.as_slice(), cells));
                out.push_str(&more(
                    service.operations_omitted,
                    "\n{} more operations\n",
                    "",
                ));
            }
        }
        out.push_str(&more(self.services_omitted, "\n{} more services\n", ""));
        out
    }

    /// The report as aligned plain text for a terminal, without colours.
    pub fn to_table(&self) -> String {
        const SERVICES: [&str; 8] = [
            "SERVICE",
            "HEALTH",
            "ALERTS",
            "DEVIATING",
            "SIGNALS",
            "LEARNING",
            "SERIES",
            "LAST SEEN",
        ];
        let rows = self.services.iter().map(|service| {
            vec![
                clean(&service.service),
                service.health.name().into(),
                (service.alerts.len() + service.alerts_omitted).to_string(),
                service.deviating.to_string(),
                service.signals.to_string(),
                service.learning.to_string(),
                service.series.to_string(),
                service.last_seen.map_or("-".into(), seconds),
            ]
        });
        let mut out = format!("{}\n\n{}", self.summary(), aligned(&SERVICES, rows));
        for incident in &self.incidents {
            let (head, text) = incident_lines(incident);
            out.push_str(&format!("\n{head}\n  {text}\n"));
        }
        out.push_str(&more(self.services_omitted, "{} more services\n", ""));
        for service in &self.services {
            let nothing = service.alerts.is_empty()
                && service.operations.is_empty()
                && service.trends.is_empty()
                && service.deviating == 0;
            if nothing {
                continue;
            }
            out.push_str(&format!(
                "\n{}: {}\n",
                clean(&service.service),
                service.health.name()
            ));
            for alert in &service.alerts {
                let text: String = alert
                    .explanation
                    .chars()
                    .filter(|c| !c.is_control())
                    .collect();
                out.push_str(&format!(
                    "  {} ({}, {}) {text}\n",
                    clean(&alert.alertname),
                    alert.severity.name(),
                    alert.state.name(),
                ));
            }
            out.push_str(&more(
                service.alerts_omitted,
                "  … and {} more alerts\n",
                "",
            ));
            if let Some(recommendation) = &service.recommendation {
                let text: String = recommendation.chars().filter(|c| !c.is_control()).collect();
                out.push_str(&format!("  → {text}\n"));
            }
            let deviating = service
                .worst
                .iter()
                .filter(|line| line.deviates)
                .map(signal_cells);
            out.push_str(&aligned(&SIGNALS, deviating));
            out.push_str(&aligned(&TRENDS, service.trends.iter().map(trend_cells)));
            out.push_str(&more(service.trends_omitted, "{} more trends\n", ""));
            out.push_str(&aligned(
                &OPERATIONS,
                service.operations.iter().map(operation_cells),
            ));
            out.push_str(&more(
                service.operations_omitted,
                "{} more operations\n",
                "",
            ));
        }
        out
    }

    fn summary(&self) -> String {
        let totals = &self.totals;
        format!(
            "{}: {} services; {} signals ({} learning, {} deviating); alerts: {} firing, {} pending.",
            seconds(self.generated_at),
            totals.services,
            totals.signals,
            totals.learning,
            totals.deviating,
            totals.firing,
            totals.pending
        )
    }
}

const SIGNALS: [&str; 6] = ["SIGNAL", "VALUE", "EXPECTED", "BAND", "SIGMA", "WORST"];
const TRENDS: [&str; 5] = ["TREND", "FROM", "TO", "CHANGE", "WITHIN"];
const OPERATIONS: [&str; 7] = ["OPERATION", "KIND", "RATE", "ERRORS", "P50", "P95", "P99"];

/// A time to the second: whoever reads a report does not count nanoseconds.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_secs(time.as_nanos().div_euclid(1_000_000_000)).rfc3339()
}

fn facts(service: &ServiceReport) -> String {
    let mut text = format!(
        "Series: {}; signals: {} ({} learning, {} deviating).",
        service.series, service.signals, service.learning, service.deviating
    );
    if let Some(time) = service.last_seen {
        text.push_str(&format!(" Last seen {}.", seconds(time)));
    }
    let version = |version: &VersionView| {
        let since = if version.appeared {
            format!(" since {}", seconds(version.first_seen))
        } else {
            String::new()
        };
        format!("{}{since}", escape(&clean(&version.version)))
    };
    let versions: Vec<_> = service.versions.iter().map(version).collect();
    if !versions.is_empty() {
        text.push_str(&format!(" Versions: {}.", versions.join(", ")));
    }
    text + &more(
        service.refused_series,
        " {} new series were refused by a limit.",
        "",
    )
}

fn signal_cells(line: &SignalLine) -> Vec<String> {
    let style = line.style();
    let lower = line.lower.unwrap_or(f64::NEG_INFINITY);
    let upper = line.upper.unwrap_or(f64::INFINITY);
    let sign = if line.sigma < 0.0 { "-" } else { "" };
    vec![
        signal_name(&line.metric, &line.signal, &line.attributes),
        style.value(line.value),
        style.value(line.expected),
        style.range(lower, upper).unwrap_or_else(|| "-".into()),
        format!("{sign}{}", sigma(line.sigma)),
        line.worst
            .as_ref()
            .map_or("-".into(), |worst| peak(worst, style)),
    ]
}

/// `200 ms (5.2) at 1970-01-01T00:00:20Z`.
fn peak(worst: &SampleView, style: Style<'_>) -> String {
    let size = worst.sigma.unwrap_or(0.0);
    let sign = if size < 0.0 { "-" } else { "" };
    let (value, time) = (style.value(worst.value), seconds(worst.time));
    format!("{value} ({sign}{}) at {time}", sigma(size))
}

fn trend_cells(line: &TrendLine) -> Vec<String> {
    let (from, to) = line.ends();
    let change = match line.change() {
        Some(change) => format!("{:+.0} %", change * 100.0),
        None => "-".into(),
    };
    vec![line.name(), from, to, change, within(line.trend.seconds)]
}

/// What an incident is called, and what there is to say of it.
fn incident_lines(incident: &Incident) -> (String, String) {
    let services: Vec<_> = incident
        .services
        .iter()
        .map(|service| clean(service))
        .collect();
    let time = match incident.resolved_at {
        None => format!("since {}", seconds(incident.since)),
        Some(end) => format!("resolved, {} to {}", seconds(incident.since), seconds(end)),
    };
    let head = format!(
        "Incident {} of {} ({}), {time}",
        incident.id,
        clean(&incident.origin),
        services.join(", ")
    );
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let mut text = plain(&incident.explanation);
    if !incident.recommendation.is_empty() && incident.resolved_at.is_none() {
        text.push_str(&format!(" → {}", plain(&incident.recommendation)));
    }
    (head, text)
}

fn operation_cells(operation: &Operation) -> Vec<String> {
    let cell = |value: Option<f64>, style: Style<'_>| {
        value.map_or_else(|| "-".into(), |value| style.value(value))
    };
    let time = Style::Time(1.0);
    vec![
        clean(&operation.name),
        clean(&operation.kind),
        cell(operation.rate, Style::PerSecond("")),
        cell(operation.error_ratio, Style::Share),
        cell(operation.p50, time),
        cell(operation.p95, time),
        cell(operation.p99, time),
    ]
}

/// `text` with the number in place of `{}`, or `none` when it is zero.
fn more(count: impl TryInto<u64>, text: &str, none: &str) -> String {
    match count.try_into() {
        Ok(0) | Err(_) => none.to_owned(),
        Ok(count) => text.replace("{}", &count.to_string()),
    }
}

/// Columns as wide as their widest cell; nothing without rows.
fn aligned(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(&mut header.iter().copied());
    for row in &rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

fn markdown(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(header.iter().map(|name| name.to_lowercase()).collect());
    out.push_str(&line(vec!["---".into(); header.len()]));
    for row in rows {
        out.push_str(&line(row.iter().map(|cell| escape(cell)).collect()));
    }
    out
}

/// Text as text in Markdown: no markup, no HTML, one line.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' | '#' | '~' => out.extend(['\\', c]),
            _ if c.is_control() => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}
