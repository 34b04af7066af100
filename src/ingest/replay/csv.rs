//! CSV: a column of times, one or more of values.
//!
//! The first line may name the columns. The times are in a column called `timestamp`, `time`, `ts`,
//! `date`, … or in the first. The values are in the column called `value`, or else in every column whose
//! first row holds a number: each of these is a series of that name. Columns of text become attributes,
//! `service` and `metric` what they say. Without names the second column holds the values.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::identity::{self, Named, Naming};
use super::lines::Lines;
use super::order::{Ordered, Standing, Timed};
use super::{Arrival, Data, Error, Notes, Opened, Source, moment};
use crate::model::{MetricKind, MetricPoint, PointData, SeriesId, SeriesIdentity, Timestamp};

/// Most bytes of a row.
const MAX_ROW: usize = 1024 * 1024;
/// Most series of one file, so that a column of ids does not eat all memory.
const MAX_SERIES: usize = 100_000;
/// Most columns of values.
const MAX_COLUMNS: usize = 1_000;
/// Names of the column of times, in small letters.
const TIMES: &[&str] = &[
    "timestamp",
    "time",
    "ts",
    "date",
    "datetime",
    "date_time",
    "@timestamp",
    "_time",
    "ds",
    "when",
    "unix",
    "epoch",
    "timestamps",
];
/// Names of the column of values where there is just one.
const VALUES: &[&str] = &["value", "_value", "val", "v", "y"];
/// Names of columns that judge a row rather than say what was measured.
const JUDGEMENTS: &[&str] = &[
    "label",
    "labels",
    "anomaly",
    "is_anomaly",
    "anomaly_label",
    "class",
    "changepoint",
    "anomaly_score",
    "score",
];

/// The rows of a file, split into fields.
struct Table {
    lines: Lines,
    delimiter: u8,
    columns: Columns,
    /// The present row, quotes taken off.
    text: Vec<u8>,
    fields: Vec<Range<usize>>,
    /// The first row was read ahead.
    is_ahead: bool,
}

/// Where what is.
#[derive(Debug, Default)]
struct Columns {
    time: usize,
    values: Vec<(usize, Option<String>)>,
    service: Option<usize>,
    metric: Option<usize>,
    attributes: Vec<(usize, String)>,
}

impl Table {
    fn open(file: Arc<str>, opened: Opened) -> Result<Self, Error> {
        if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = *opened.head {
            return Err(Error {
                file: file.to_string(),
                line: 0,
                message: "this is UTF-16".into(),
                hint: Some("make it UTF-8: `iconv -f UTF-16 -t UTF-8 file.csv`".into()),
            });
        }
        let mut table = Self {
            lines: Lines::new(file, opened, MAX_ROW),
            delimiter: b',',
            columns: Columns::default(),
            text: Vec::new(),
            fields: Vec::new(),
            is_ahead: false,
        };
        if !table.read()? {
            return Ok(table);
        }
        if table.fields.len() == 1 {
            let other = [b'\t', b';'];
            let found = other.into_iter().find(|d| table.text.contains(d));
            if let Some(delimiter) = found {
                table.delimiter = delimiter;
                let line = std::mem::take(&mut table.text);
                table.split(&line);
            }
        }
        if moment::parse(table.field(0)).is_some() {
            table.columns.values = vec![(1, None)];
            table.is_ahead = true;
        } else {
            let line = table.lines.number();
            let names = table.names();
            table.is_ahead = table.read()?;
            table.columns = table.columns(&names, line)?;
        }
        Ok(table)
    }

    /// Reads the next row; `false` at the end.
    fn read(&mut self) -> Result<bool, Error> {
        if std::mem::take(&mut self.is_ahead) {
            return Ok(true);
        }
        let mut text = std::mem::take(&mut self.text);
        while let Some(line) = self.lines.next()? {
            if line.text.is_empty() || line.text.starts_with(b"#") {
                continue;
            }
            text.clear();
            text.extend_from_slice(line.text);
            if memchr::memchr(b'"', &text).is_some() {
                self.split(&text);
            } else {
                self.fields.clear();
                let mut start = 0;
                for at in memchr::memchr_iter(self.delimiter, &text) {
                    self.fields.push(start..at);
                    start = at + 1;
                }
                self.fields.push(start..text.len());
                self.text = text;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Splits a row that may have quotes, by RFC 4180 but for line breaks in quotes.
    fn split(&mut self, line: &[u8]) {
        self.text.clear();
        self.fields.clear();
        let (mut start, mut quoted) = (0, false);
        let mut bytes = line.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if byte == b'"' {
                if quoted && bytes.next_if_eq(&b'"').is_some() {
                    self.text.push(b'"');
                } else {
                    quoted = !quoted;
                }
            } else if byte == self.delimiter && !quoted {
                self.fields.push(start..self.text.len());
                start = self.text.len();
            } else {
                self.text.push(byte);
            }
        }
        self.fields.push(start..self.text.len());
    }

    /// A field of the present row without the blanks around it; empty where there is none.
    fn field(&self, at: usize) -> &[u8] {
        let range = self.fields.get(at).cloned().unwrap_or_default();
        self.text.get(range).unwrap_or_default().trim_ascii()
    }

    fn names(&self) -> Vec<String> {
        (0..self.fields.len())
            .map(|at| String::from_utf8_lossy(self.field(at)).into_owned())
            .collect()
    }

    /// What tells the series of the present row from others.
    fn key(&self) -> Vec<u8> {
        let named = [self.columns.service, self.columns.metric]
            .into_iter()
            .flatten();
        let others = self.columns.attributes.iter().map(|(at, _)| *at);
        let mut key = Vec::new();
        for at in named.chain(others) {
            key.extend_from_slice(self.field(at));
            // No field holds a line break.
            key.push(b'\n');
        }
        key
    }

    /// Which column is what, by their names and by what the present row, the first, has in them.
    fn columns(&self, names: &[String], line: u64) -> Result<Columns, Error> {
        let small: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let find = |known: &[&str]| {
            known
                .iter()
                .find_map(|known| small.iter().position(|name| name == known))
        };
        let time = find(TIMES).unwrap_or(0);
        let mut columns = Columns {
            time,
            service: find(&["service", "service.name", "service_name"]),
            metric: find(&["metric", "__name__", "metric_name"]),
            ..Columns::default()
        };
        let value = find(VALUES);
        let again = |at: usize, name: &String| {
            let twice = names.iter().take(at).any(|other| other == name);
            twice && !name.is_empty() && !JUDGEMENTS.contains(&name.to_ascii_lowercase().as_str())
        };
        if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| again(*at, name)) {
            return Err(self.lines.error(
                line,
                format!("two columns are called `{}`", shown(name.as_bytes())),
                Some("give each column a name of its own, or leave one of them out"),
            ));
        }
        for (at, (name, small)) in names.iter().zip(&small).enumerate() {
            let known = [Some(time), columns.service, columns.metric].contains(&Some(at));
            if known || JUDGEMENTS.contains(&small.as_str()) {
                continue;
            }
            let is_number = matches!(number(self.field(at)), Number::Is(_) | Number::None);
            match value {
                Some(value) if value == at => columns.values.push((at, None)),
                None if is_number => columns.values.push((at, Some(name.clone()))),
                // A number beside the value is neither it nor a name.
                Some(_) if is_number => {}
                Some(_) | None => columns.attributes.push((at, name.clone())),
            }
        }
        if columns.values.is_empty() || columns.values.len() > MAX_COLUMNS {
            let found = columns.values.len();
            return Err(self.lines.error(
                line,
                format!("there are {found} columns of values"),
                Some("the columns are named on the first line, as in `timestamp,value`"),
            ));
        }
        Ok(columns)
    }

    /// The time of the present row.
    fn time(&self) -> Result<Timestamp, Error> {
        let text = self.field(self.columns.time);
        moment::parse(text).ok_or_else(|| {
            let shown = shown(text);
            self.lines.error(
                self.lines.number(),
                format!("`{shown}` is not a time"),
                Some(
                    "times are `2026-01-31 12:00:00` (UTC), RFC 3339, or seconds or milliseconds \
                     since 1970",
                ),
            )
        })
    }

    /// The value in a column of the present row; `None` where it has none.
    fn value(&self, at: usize) -> Result<Option<f64>, Error> {
        match number(self.field(at)) {
            Number::Is(value) => Ok(Some(value)),
            Number::None => Ok(None),
            Number::Not => {
                let shown = shown(self.field(at));
                Err(self.lines.error(
                    self.lines.number(),
                    format!("`{shown}` is not a number"),
                    Some("where there is no value, leave the field empty"),
                ))
            }
        }
    }
}

/// The start of a field for a message.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(40).filter(|c| !c.is_control()).collect()
}

enum Number {
    Is(f64),
    /// There is none, and it says so.
    None,
    /// It is something else.
    Not,
}

fn number(text: &[u8]) -> Number {
    let parsed = std::str::from_utf8(text).ok().map(str::parse::<f64>);
    match parsed {
        Some(Ok(value)) if value.is_finite() => Number::Is(value),
        // `NaN` and `inf` are read as numbers.
        Some(Ok(_)) => Number::None,
        _ if text.is_empty() => Number::None,
        _ => {
            let none = ["na", "n/a", "null", "none", "-", "+inf", "undefined"];
            let is = |word: &&str| text.eq_ignore_ascii_case(word.as_bytes());
            if none.iter().any(is) {
                Number::None
            } else {
                Number::Not
            }
        }
    }
}

/// A CSV file as a source of points.
pub(super) struct Csv {
    reader: Reader,
    order: Ordered<Cell>,
    notes: Notes,
}

/// The table with the series of its rows, one value after the other in the order of the file.
struct Reader {
    table: Table,
    naming: Naming,
    series: HashMap<Vec<u8>, Arc<[Named]>>,
    /// Those of the present row, and the fields that make them.
    present: Arc<[Named]>,
    key: Option<Vec<u8>>,
    /// Which column of values comes next.
    next: usize,
    time: Timestamp,
}

/// One value of a row.
struct Cell {
    time: Timestamp,
    line: u64,
    series: SeriesId,
    identity: Arc<SeriesIdentity>,
    /// What is wrong with it counts only if the row does.
    value: Result<Option<f64>, Box<Error>>,
}

impl Timed for Cell {
    fn time(&self) -> Timestamp {
        self.time
    }
}

impl Csv {
    pub(super) fn new(file: Arc<str>, opened: Opened, naming: &Naming) -> Result<Self, Error> {
        let mut reader = Reader {
            table: Table::open(Arc::clone(&file), opened)?,
            naming: naming.clone(),
            series: HashMap::new(),
            present: Arc::new([]),
            key: None,
            next: usize::MAX,
            time: Timestamp::EPOCH,
        };
        let order = Ordered::new(|| reader.cell(), |most| too_many(&file, most))?;
        let mut notes = Notes::default();
        if let Some(sorted) = order.sorted() {
            notes.sorted.add(sorted, 0);
        }
        Ok(Self {
            reader,
            order,
            notes,
        })
    }
}

/// Rows that are out of order, and more of them than can be sorted.
fn too_many(file: &str, most: usize) -> Error {
    Error {
        file: file.to_owned(),
        line: 0,
        message: format!("its rows are not in order of time, and more than {most}"),
        hint: Some("sort it first; `sort -t, -k1,1 file.csv` does that for ISO times".into()),
    }
}

impl Reader {
    /// The next value, of whatever row; `None` at the end.
    fn cell(&mut self) -> Result<Option<Cell>, Error> {
        loop {
            let column = self.table.columns.values.get(self.next);
            let (Some((at, _)), Some(series)) = (column, self.present.get(self.next)) else {
                if !self.table.read()? {
                    return Ok(None);
                }
                self.time = self.table.time()?;
                self.next = 0;
                self.look_up()?;
                continue;
            };
            self.next += 1;
            return Ok(Some(Cell {
                time: self.time,
                line: self.table.lines.number(),
                series: series.id,
                identity: Arc::clone(&series.identity),
                value: self.table.value(*at).map_err(Box::new),
            }));
        }
    }

    /// Finds the series of the present row.
    fn look_up(&mut self) -> Result<(), Error> {
        let columns = &self.table.columns;
        let varies =
            columns.service.is_some() || columns.metric.is_some() || !columns.attributes.is_empty();
        if !varies && self.key.is_some() {
            return Ok(());
        }
        let key = self.table.key();
        if self.key.as_ref() == Some(&key) {
            return Ok(());
        }
        if let Some(known) = self.series.get(&key) {
            self.present = Arc::clone(known);
        } else {
            if self.series.len() >= MAX_SERIES {
                return Err(self.table.lines.error(
                    self.table.lines.number(),
                    format!("there are more than {MAX_SERIES} series in this file"),
                    Some("leave out the columns that are different in every row, such as ids"),
                ));
            }
            self.present = self.named();
            self.series.insert(key.clone(), Arc::clone(&self.present));
        }
        self.key = Some(key);
        Ok(())
    }

    /// The series of the present row, one for each column of values.
    fn named(&self) -> Arc<[Named]> {
        let columns = &self.table.columns;
        let text = |at: usize| String::from_utf8_lossy(self.table.field(at)).into_owned();
        let given = |at: Option<usize>| at.map(text).filter(|text| !text.is_empty());
        let service = given(columns.service).unwrap_or_else(|| self.naming.service.clone());
        let metric = given(columns.metric).or_else(|| self.naming.metric.clone());
        let attributes: Vec<(String, String)> = columns
            .attributes
            .iter()
            .map(|(at, name)| (name.clone(), text(*at)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let several = columns.values.len() > 1;
        let named = columns.values.iter().map(|(_, column)| {
            let mut attributes = attributes.clone();
            let metric = match (&metric, column) {
                (Some(metric), column) => {
                    // The columns must not become one series.
                    let column = column.clone().filter(|_| several);
                    attributes.extend(column.map(|column| ("column".to_owned(), column)));
                    metric.as_str()
                }
                (None, Some(column)) => column.as_str(),
                (None, None) => "value",
            };
            identity::series(&service, metric, MetricKind::Gauge, attributes)
        });
        named.collect()
    }
}

impl Source for Csv {
    fn next(&mut self) -> Result<Option<Arrival>, Error> {
        loop {
            let reader = &mut self.reader;
            let Some((cell, standing)) = self.order.next(|| reader.cell())? else {
                return Ok(None);
            };
            match standing {
                Standing::Earlier => {
                    self.notes.disordered.add(1, cell.line);
                    continue;
                }
                Standing::Ahead => {
                    self.notes.future.add(1, cell.line);
                    continue;
                }
                Standing::Later | Standing::Same => {}
            }
            let Some(value) = cell.value.map_err(|error| *error)? else {
                self.notes.empty.add(1, cell.line);
                continue;
            };
            return Ok(Some(Arrival {
                at: cell.time,
                data: Data::Point(MetricPoint {
                    series: cell.series,
                    identity: cell.identity.into(),
                    start: None,
                    time: cell.time,
                    data: PointData::Number(value),
                    exemplar: None,
                }),
            }));
        }
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }

    fn position(&self) -> u64 {
        self.reader.table.lines.position()
    }
}

/// The rows of a file with one series, for those who write something beside each.
pub struct Rows {
    reader: RowReader,
    order: Ordered<Row>,
}

/// Reads rows as they are written.
struct RowReader {
    table: Table,
    /// What makes the series of the first row, with its line.
    series: Option<(Vec<u8>, u64)>,
    read: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where it stands among the rows of the file, from 0.
    pub number: u64,
    /// Its time as it is written.
    pub text: Box<[u8]>,
    /// Its time.
    pub time: Timestamp,
    /// Its value as it is written.
    pub value_text: Box<[u8]>,
    /// Its value, if it has one.
    value: Result<Option<f64>, Box<Error>>,
    /// Whether its time is later than that of every row before: only such rows become samples.
    pub counts: bool,
}

impl Row {
    /// The value that counts, if it has one.
    ///
    /// # Errors
    /// It is no number.
    pub fn sample(&self) -> Result<Option<f64>, Error> {
        match (&self.value, self.counts) {
            (_, false) => Ok(None),
            (Ok(value), true) => Ok(*value),
            (Err(error), true) => Err(Error::clone(error)),
        }
    }
}

impl Timed for Row {
    fn time(&self) -> Timestamp {
        self.time
    }
}

impl Rows {
    /// Opens `path`.
    ///
    /// # Errors
    /// It cannot be read, is no CSV, or has several columns of values.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let opened = Opened::new(path)?;
        let file: Arc<str> = path.display().to_string().into();
        let table = Table::open(Arc::clone(&file), opened)?;
        if table.columns.values.len() > 1 {
            return Err(several(
                &table,
                0,
                "it has several columns of values".into(),
            ));
        }
        let mut reader = RowReader {
            table,
            series: None,
            read: 0,
        };
        let order = Ordered::new(|| reader.row(), |most| too_many(&file, most))?;
        Ok(Self { reader, order })
    }

    /// Whether rows come in another order than they have in the file: by time.
    pub fn is_sorted(&self) -> bool {
        self.order.sorted().is_some()
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// The row cannot be read, or is of another series than those before.
    pub fn next_row(&mut self) -> Result<Option<Row>, Error> {
        let reader = &mut self.reader;
        let Some((mut row, standing)) = self.order.next(|| reader.row())? else {
            return Ok(None);
        };
        row.counts = standing == Standing::Later;
        if standing == Standing::Same {
            // A backtest reads these, too, and says what is wrong.
            row.value.clone().map_err(|error| *error)?;
        }
        Ok(Some(row))
    }
}

impl RowReader {
    fn row(&mut self) -> Result<Option<Row>, Error> {
        if !self.table.read()? {
            return Ok(None);
        }
        let table = &self.table;
        let (key, line) = (table.key(), table.lines.number());
        match &self.series {
            None => self.series = Some((key, line)),
            Some((first, _)) if *first == key => {}
            Some((_, first)) => {
                let message = format!("it is of another series than line {first}");
                return Err(several(table, line, message));
            }
        }
        let at = table.columns.values.first().map_or(1, |(at, _)| *at);
        let number = self.read;
        self.read += 1;
        Ok(Some(Row {
            number,
            text: table.field(table.columns.time).into(),
            time: table.time()?,
            value_text: table.field(at).into(),
            value: table.value(at).map_err(Box::new),
            counts: false,
        }))
    }
}

fn several(table: &Table, line: u64, message: String) -> Error {
    let hint = "give a file with one series: one column of values, and others that are the same in \
                every row";
    table.lines.error(line, message, Some(hint))
}
