//! Lines of bounded length.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{BYTE_ORDER_MARK, Error, Opened};

/// Bytes asked for at once.
const CHUNK: usize = 256 * 1024;

/// The lines of a file.
pub(super) struct Lines {
    file: Arc<str>,
    reader: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    buffer: Vec<u8>,
    /// What of the buffer is filled and not yet given out.
    filled: std::ops::Range<usize>,
    /// Number of the line last given out.
    number: u64,
    /// Most bytes of a line.
    limit: usize,
    ended: bool,
}

/// One line, without its end.
pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    /// From 1.
    pub(super) number: u64,
    /// Whether it ends the file without an end of line.
    pub(super) breaks_off: bool,
}

impl Lines {
    pub(super) fn new(file: Arc<str>, opened: Opened, limit: usize) -> Self {
        let read = Arc::clone(&opened.read);
        Self {
            file,
            reader: Box::new(opened.into_reader()),
            read,
            buffer: vec![0; CHUNK],
            filled: 0..0,
            number: 0,
            limit,
            ended: false,
        }
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, Error> {
        let mut searched = 0;
        loop {
            let open = self.buffer.get(self.filled.clone()).unwrap_or_default();
            let new = open.get(searched..).unwrap_or_default();
            let end = memchr::memchr(b'\n', new).map(|at| searched + at);
            if end.is_some() || (self.ended && !open.is_empty()) {
                let start = self.filled.start;
                let length = end.unwrap_or(open.len());
                self.filled.start += length + usize::from(end.is_some());
                self.number += 1;
                let mut text = self.buffer.get(start..start + length).unwrap_or_default();
                if self.number == 1 {
                    text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
                }
                return Ok(Some(Line {
                    text: text.strip_suffix(b"\r").unwrap_or(text),
                    number: self.number,
                    breaks_off: end.is_none(),
                }));
            }
            if self.ended {
                return Ok(None);
            }
            searched = open.len();
            self.read_on()?;
        }
    }

    /// Reads more behind what is there.
    fn read_on(&mut self) -> Result<(), Error> {
        let open = self.filled.len();
        if open > self.limit {
            let limit = self.limit;
            return Err(self.error(
                self.number + 1,
                format!("the line has more than {limit} bytes"),
                Some("each record is on a line of its own; `jq -c .` puts JSON on one line"),
            ));
        }
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..open;
        if self.buffer.len() < open + CHUNK {
            self.buffer.resize(open + CHUNK, 0);
        }
        let room = self.buffer.get_mut(open..).unwrap_or_default();
        match self.reader.read(room) {
            Ok(0) => self.ended = true,
            Ok(read) => self.filled.end += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(self.error(self.number + 1, format!("cannot be read: {error}"), None));
            }
        }
        Ok(())
    }

    /// Something is wrong with a line.
    pub(super) fn error(&self, line: u64, message: String, hint: Option<&str>) -> Error {
        Error {
            file: self.file.to_string(),
            line,
            message,
            hint: hint.map(str::to_owned),
        }
    }

    /// Number of the line last given out.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}
