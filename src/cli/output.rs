//! How answers are shown.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde_json::Value;

use crate::app;
use crate::config::{Diagnostics, Period};
use crate::model::Timestamp;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

/// Where the answer goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) format: Format,
    /// A terminal that takes colours.
    is_terminal: bool,
}

impl Output {
    pub(super) fn stdout(format: Format) -> Self {
        Self {
            format,
            is_terminal: app::colours(&io::stdout()),
        }
    }

    /// A table that goes to no terminal, wherever the tests run.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self {
        format: Format::Table,
        is_terminal: false,
    };

    /// The JSON of `value`, or the `table` of it.
    pub(super) fn show(self, value: &Value, table: impl FnOnce(Self) -> String) -> Result<()> {
        match self.format {
            Format::Json => print(&format!("{value:#}\n")),
            Format::Table => print(&table(self)),
        }
    }

    /// A table with these columns, as wide as the terminal; without borders, so that it can be cut and
    /// searched.
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<Cell>>) -> String {
        let mut table = self.empty();
        let titles = header
            .iter()
            .map(|title| Cell::new(title).add_attribute(Attribute::Bold));
        table.set_header(titles);
        table.add_rows(rows);
        lines(&table)
    }

    /// Names and values, a line each.
    pub(super) fn list(self, rows: Vec<Vec<Cell>>) -> String {
        let mut table = self.empty();
        table.add_rows(rows);
        lines(&table)
    }

    fn empty(self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if self.is_terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty();
        }
        table
    }
}

/// Without the padding at both ends.
fn lines(table: &Table) -> String {
    let line = |line: String| {
        line.trim_end()
            .strip_prefix(' ')
            .unwrap_or(&line)
            .to_owned()
            + "\n"
    };
    table.lines().map(line).collect()
}

/// A cell with a text from outside.
pub(super) fn cell(text: &str) -> Cell {
    Cell::new(clean(text))
}

/// A cell in the colour of how bad `word` is.
pub(super) fn graded(word: &str) -> Cell {
    let cell = cell(word);
    match word {
        "critical" => cell.fg(Color::Red),
        "warning" | "degraded" | "pending" => cell.fg(Color::Yellow),
        "normal" | "ok" | "ready" => cell.fg(Color::Green),
        _ => cell,
    }
}

/// The text under `key`; empty when there is none.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `text` without what would move the cursor, colour the terminal or turn the writing direction.
pub(super) fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let is_direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || is_direction {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A number with its unit, in four digits: `310ms`, `12.5`, `1.2e9`.
pub(super) fn quantity(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value else {
        return "-".into();
    };
    match unit {
        "s" if value != 0.0 && value.abs() < 0.001 => format!("{}µs", digits(value * 1e6)),
        "s" if value != 0.0 && value.abs() < 1.0 => format!("{}ms", digits(value * 1e3)),
        "" | "1" => digits(value),
        unit if unit.starts_with('{') => digits(value),
        "s" => format!("{}s", digits(value)),
        "1/s" => format!("{}/s", digits(value)),
        unit => format!("{} {}", digits(value), clean(unit)),
    }
}

/// Four significant digits.
pub(super) fn digits(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        return format!("{value:.3e}");
    }
    let before_point = if size < 1.0 {
        1
    } else {
        size.log10() as usize + 1
    };
    let text = format!("{value:.*}", 4usize.saturating_sub(before_point));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// How long ago the RFC 3339 time was: `5m12s`; with more than a day without seconds.
pub(super) fn ago(time: &str, now: Timestamp) -> String {
    match Timestamp::parse_rfc3339(time) {
        Ok(time) => period(now.since(time)),
        Err(_) => "-".into(),
    }
}

/// A duration in whole seconds; in whole minutes beyond a day.
pub(super) fn period(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "0s".into(),
        1..=86_399 => Period::secs(seconds).to_string(),
        _ => Period::secs(seconds / 60 * 60).to_string(),
    }
}

/// Writes to standard output. Somebody who has read enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says why the command failed.
pub(super) fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<Diagnostics>() {
        Some(found) => {
            let (errors, s) = match found.errors() {
                1 => (1, ""),
                errors => (errors, "s"),
            };
            say(&format!("{found}\n{errors} error{s}"));
        }
        None => say(&format!("error: {error:#}")),
    }
}

/// Says what was probably not meant.
pub(super) fn warn(warnings: &Diagnostics) {
    if !warnings.0.is_empty() {
        say(&warnings.to_string());
    }
}

/// A line on standard error; nothing can be done about one that cannot be written.
pub(super) fn say(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits_and_their_unit() {
        for (value, unit, shown) in [
            (0.31, "s", "310ms"),
            (0.000_25, "s", "250µs"),
            (12.5, "s", "12.5s"),
            (0.0, "s", "0s"),
            (0.05, "1", "0.05"),
            (123_456.0, "By", "123456 By"),
            (1234.567, "1/s", "1235/s"),
            (1.5e9, "", "1.500e9"),
            (99.99, "{calls}", "99.99"),
            (-2.5, "", "-2.5"),
            (9999.9, "", "10000"),
            (f64::NAN, "", "NaN"),
        ] {
            assert_eq!(quantity(Some(value), unit), shown, "{value} {unit}");
        }
        assert_eq!(quantity(None, "s"), "-");
    }

    #[test]
    fn what_comes_from_outside_cannot_write_to_the_terminal() {
        assert_eq!(
            clean("a\u{1b}[31mb\n\u{202e}ö"),
            "a\\u{1b}[31mb\\n\\u{202e}ö"
        );
    }

    #[test]
    fn ages_are_short() {
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!(
            ago(&now.minus(Duration::from_secs(312)).rfc3339(), now),
            "5m12s"
        );
        assert_eq!(ago(&now.plus(Duration::from_secs(5)).rfc3339(), now), "0s");
        assert_eq!(
            ago(&now.minus(Duration::from_secs(90_061)).rfc3339(), now),
            "1d1h1m"
        );
        assert_eq!(ago("never", now), "-");
    }
}
