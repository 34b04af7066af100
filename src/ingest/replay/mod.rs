//! Recorded telemetry: files in, what arrived when out, for backtests.
//!
//! In: OTLP as the Collector's file exporter writes it, CSV, answers of Prometheus to range queries; each
//! plain or compressed. Out: [`Arrival`]s in order of time, over all inputs. What always holds: a file is
//! read as a stream, but for Prometheus' JSON, which is bounded; what is left out of it is counted in
//! [`Notes`] with the first place; errors name file and line. It knows nothing of what becomes of the
//! data, nor of clocks.
//!
//! - `lines`, `moment`: lines of bounded length, texts that are times; `order`: rows out of order
//! - `otlp_jsonl`, `csv`, `prometheus`: one file a format
//! - `identity`: how series without a resource are called; `pace`: how often data comes
//! - `merge`: several inputs as one

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod csv;
mod identity;
mod lines;
mod merge;
mod moment;
mod order;
mod otlp_jsonl;
mod pace;
mod prometheus;
#[cfg(test)]
mod tests;

pub use csv::{Row, Rows};
pub use identity::Naming;
pub use merge::{Merged, Stretch};
pub use pace::Spacing;

use crate::model::{Batch, MetricPoint, Timestamp};

/// The forms that recorded data may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordFormat {
    /// One OTLP request in JSON a line: `otlp`.
    Otlp,
    /// A time and one or more values a line: `csv`.
    Csv,
    /// The answer of Prometheus' `/api/v1/query_range`: `prometheus`.
    Prometheus,
}

impl RecordFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Otlp, Self::Csv, Self::Prometheus];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Otlp => "otlp",
            Self::Csv => "csv",
            Self::Prometheus => "prometheus",
        }
    }
}

/// Something that arrived.
#[derive(Debug)]
pub struct Arrival {
    /// When.
    pub at: Timestamp,
    /// What.
    pub data: Data,
}

/// What arrived.
#[derive(Debug)]
pub enum Data {
    /// A point that arrived at its own time.
    Point(MetricPoint),
    /// A request.
    Batch(Box<Batch>),
}

/// What cannot be read, where and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The file as it was given.
    pub file: String,
    /// Its line, from 1; 0: all of it.
    pub line: u64,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            message,
            hint,
        } = self;
        match line {
            0 => write!(f, "{file}: {message}")?,
            line => write!(f, "{file}:{line}: {message}")?,
        }
        match hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// What was left out of an input, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Rows or lines that are earlier than the one before; they are left out of CSV.
    pub disordered: Note,
    /// Rows of CSV that were earlier than one before, in a file that was sorted for that.
    pub sorted: Note,
    /// Rows without a value that is a finite number.
    pub empty: Note,
    /// Lines of logs or profiles.
    pub foreign: Note,
    /// A last line that breaks off.
    pub broken: Note,
    /// Points whose time is far ahead of the others of their request, rows far ahead of those around them.
    pub future: Note,
}

/// How often something was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Note {
    /// How often.
    pub count: u64,
    /// The first line of it.
    pub line: u64,
}

impl Note {
    fn add(&mut self, count: u64, line: u64) {
        if self.count == 0 {
            self.line = line;
        }
        self.count += count;
    }
}

/// Something that is read from front to back.
trait Source: Send {
    /// What arrives next; times do not fall. `None` at the end.
    fn next(&mut self) -> Result<Option<Arrival>, Error>;

    /// What was left out so far.
    fn notes(&self) -> &Notes;

    /// Bytes read so far, as they lie on the disk.
    fn position(&self) -> u64;
}

/// One input, opened.
pub struct Input {
    path: PathBuf,
    format: RecordFormat,
    source: Box<dyn Source>,
    /// What was read to see how often data comes.
    ahead: std::vec::IntoIter<Arrival>,
    spacing: Option<Spacing>,
    bytes: Option<u64>,
}

impl Input {
    /// Opens `path` (`-`: standard input), and reads its beginning. `format`: `None` to see from its
    /// content and name.
    ///
    /// # Errors
    /// It cannot be read, or has no form that is known.
    pub fn open(path: &Path, format: Option<RecordFormat>, naming: &Naming) -> Result<Self, Error> {
        Self::of(path, Opened::new(path)?, format, naming)
    }

    /// Reads `bytes` as [`Input::open`] reads a file called `path`.
    ///
    /// # Errors
    /// See there.
    pub fn of_bytes(
        path: &Path,
        bytes: Vec<u8>,
        format: Option<RecordFormat>,
        naming: &Naming,
    ) -> Result<Self, Error> {
        let (file, length) = (shown(path), bytes.len() as u64);
        let content = Box::new(io::Cursor::new(bytes));
        let opened = Opened::of(file.clone(), content, Some(length), Arc::default());
        let opened = opened.map_err(|error| Error {
            file,
            line: 0,
            message: format!("cannot be read: {error}"),
            hint: None,
        })?;
        Self::of(path, opened, format, naming)
    }

    fn of(
        path: &Path,
        opened: Opened,
        format: Option<RecordFormat>,
        naming: &Naming,
    ) -> Result<Self, Error> {
        let format = match format {
            Some(format) => format,
            None => opened.sniff()?,
        };
        let file: Arc<str> = shown(path).into();
        let bytes = opened.bytes;
        let mut source: Box<dyn Source> = match format {
            RecordFormat::Otlp => Box::new(otlp_jsonl::OtlpLines::new(file, opened)),
            RecordFormat::Csv => Box::new(csv::Csv::new(file, opened, naming)?),
            RecordFormat::Prometheus => {
                Box::new(prometheus::Prometheus::read(file, opened, naming)?)
            }
        };
        let (ahead, spacing) = match format {
            // Its clients send as often as they send; the daemon's tick is made for that.
            RecordFormat::Otlp => (Vec::new(), None),
            RecordFormat::Csv | RecordFormat::Prometheus => pace::look_ahead(&mut *source)?,
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            source,
            ahead: ahead.into_iter(),
            spacing,
            bytes,
        })
    }

    /// What arrives next; times do not fall. `None` at the end.
    ///
    /// # Errors
    /// It cannot be read further.
    pub fn next_arrival(&mut self) -> Result<Option<Arrival>, Error> {
        match self.ahead.next() {
            Some(arrival) => Ok(Some(arrival)),
            None => self.source.next(),
        }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its form.
    pub fn format(&self) -> RecordFormat {
        self.format
    }

    /// How often data of one series comes; `None` for OTLP and where there is too little.
    pub fn spacing(&self) -> Option<Spacing> {
        self.spacing
    }

    /// What was left out so far.
    pub fn notes(&self) -> &Notes {
        self.source.notes()
    }

    /// How much of its bytes was read, and of how many if that is known.
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.source.position(), self.bytes)
    }
}

/// Bytes looked at to see what they are.
const SNIFFED: usize = 8 * 1024;

/// A file that is open, decompressed, its beginning known.
struct Opened {
    file: String,
    head: Vec<u8>,
    rest: Box<dyn Read + Send>,
    /// Of the file; `None` where it is none.
    bytes: Option<u64>,
    read: Arc<std::sync::atomic::AtomicU64>,
}

impl Opened {
    fn new(path: &Path) -> Result<Self, Error> {
        let file = shown(path);
        let wrong = |error: io::Error| Error {
            file: file.clone(),
            line: 0,
            message: format!("cannot be read: {error}"),
            hint: None,
        };
        let (raw, bytes): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let opened = File::open(path).map_err(wrong)?;
            let about = opened.metadata().map_err(wrong)?;
            if about.is_dir() {
                return Err(Error {
                    hint: Some("name the files in it".into()),
                    ..wrong(io::Error::other("it is a folder"))
                });
            }
            (Box::new(opened), about.is_file().then_some(about.len()))
        };
        let read = Arc::default();
        Self::of(file.clone(), raw, bytes, read).map_err(wrong)
    }

    fn of(
        file: String,
        raw: Box<dyn Read + Send>,
        bytes: Option<u64>,
        read: Arc<std::sync::atomic::AtomicU64>,
    ) -> io::Result<Self> {
        let mut counted = Counted {
            inner: raw,
            bytes: Arc::clone(&read),
        };
        let magic = fill(&mut counted, 4)?;
        let raw = io::Cursor::new(magic.clone()).chain(counted);
        // By what is in it, not by its name: a file may be renamed, and standard input has none.
        let mut rest: Box<dyn Read + Send> = match *magic {
            [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(raw)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(raw)?),
            _ => Box::new(raw),
        };
        let head = fill(&mut rest, SNIFFED)?;
        Ok(Self {
            file,
            head,
            rest,
            bytes,
            read,
        })
    }

    /// What it looks like.
    fn sniff(&self) -> Result<RecordFormat, Error> {
        let text = self
            .head
            .strip_prefix(BYTE_ORDER_MARK)
            .unwrap_or(&self.head);
        let text = text.trim_ascii_start();
        let has = |word: &str| memchr::memmem::find(text, word.as_bytes()).is_some();
        if !matches!(text.first(), Some(b'{' | b'[')) {
            return Ok(RecordFormat::Csv);
        }
        if has("\"resourceMetrics\"")
            || has("\"resourceSpans\"")
            || has("\"resourceLogs\"")
            || has("\"resource_metrics\"")
            || has("\"resource_spans\"")
        {
            return Ok(RecordFormat::Otlp);
        }
        if has("\"status\"") || has("\"resultType\"") {
            return Ok(RecordFormat::Prometheus);
        }
        Err(Error {
            file: self.file.clone(),
            line: 0,
            message: "this JSON is neither OTLP nor an answer of Prometheus".into(),
            hint: Some(
                "OTLP has `resourceMetrics` or `resourceSpans`, a range query `status` and `data`; \
                 say which it is with --format"
                    .into(),
            ),
        })
    }

    fn into_reader(self) -> impl Read + Send {
        io::Cursor::new(self.head).chain(self.rest)
    }
}

/// How a file is called in messages.
fn shown(path: &Path) -> String {
    if path == Path::new("-") {
        return "standard input".into();
    }
    path.display().to_string()
}

/// What some programs put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// Up to `wanted` bytes; fewer only at the end.
fn fill(reader: &mut impl Read, wanted: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .by_ref()
        .take(wanted as u64)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Counts what is read, for progress.
struct Counted<R> {
    inner: R,
    bytes: Arc<std::sync::atomic::AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        // Only shown to people.
        self.bytes
            .fetch_add(read as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(read)
    }
}
