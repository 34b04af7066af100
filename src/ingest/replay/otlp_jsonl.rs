//! OTLP as the Collector's file exporter writes it: one request in JSON a line, metrics and traces mixed
//! or not.

use std::sync::Arc;
use std::time::Duration;

use super::lines::Lines;
use super::{Arrival, Data, Error, Notes, Opened, Source};
use crate::ingest::{Decoder, Format};
use crate::model::{Batch, Identity, MetricPoint, PointData, Reject, Timestamp};

/// Most bytes of a line: more than a Collector sends in one request by default settings.
const MAX_LINE: usize = 64 * 1024 * 1024;
/// A point is from the future if it is so much later than half of its request, as for the daemon when it
/// is so much ahead of its clock.
const FUTURE: Duration = Duration::from_mins(10);
/// A line that is older than one before by more than this is not just another client's turn.
const DISORDER: Duration = Duration::from_mins(1);

/// A file of requests.
pub(super) struct OtlpLines {
    lines: Lines,
    decoder: Decoder,
    /// The newest time so far.
    now: Option<Timestamp>,
    notes: Notes,
}

impl OtlpLines {
    pub(super) fn new(file: Arc<str>, opened: Opened) -> Self {
        Self {
            lines: Lines::new(file, opened, MAX_LINE),
            decoder: Decoder::new(KNOWN),
            now: None,
            notes: Notes::default(),
        }
    }
}

/// Series that are known again while a file is read.
const KNOWN: usize = 100_000;

/// What a line holds, by the first field of its kind.
enum Holds {
    Metrics,
    Traces,
    /// Logs or profiles.
    Else,
    Unknown,
}

fn holds(line: &[u8]) -> Holds {
    let first = |words: [&str; 2]| {
        words
            .iter()
            .filter_map(|word| memchr::memmem::find(line, word.as_bytes()))
            .min()
    };
    let found = [
        (
            first(["\"resourceMetrics\"", "\"resource_metrics\""]),
            Holds::Metrics,
        ),
        (
            first(["\"resourceSpans\"", "\"resource_spans\""]),
            Holds::Traces,
        ),
        (
            first(["\"resourceLogs\"", "\"resource_logs\""]),
            Holds::Else,
        ),
        (
            first(["\"resourceProfiles\"", "\"resource_profiles\""]),
            Holds::Else,
        ),
    ];
    let found = found
        .into_iter()
        .filter_map(|(at, holds)| Some((at?, holds)));
    found
        .min_by_key(|(at, _)| *at)
        .map_or(Holds::Unknown, |(_, holds)| holds)
}

impl Source for OtlpLines {
    fn next(&mut self) -> Result<Option<Arrival>, Error> {
        // The future begins where the request says; see below.
        let never = Timestamp::from_nanos(i64::MAX);
        loop {
            let Some(line) = self.lines.next()? else {
                return Ok(None);
            };
            let (number, breaks_off) = (line.number, line.breaks_off);
            let text = line.text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let decoded = match holds(text) {
                Holds::Metrics => self.decoder.metrics(Format::Json, text, never),
                Holds::Traces => self.decoder.traces(Format::Json, text, never),
                Holds::Else => {
                    self.notes.foreign.add(1, number);
                    continue;
                }
                Holds::Unknown => {
                    if breaks_off {
                        self.notes.broken.add(1, number);
                        continue;
                    }
                    return Err(self.lines.error(
                        number,
                        "this line is no OTLP request".into(),
                        Some(
                            "each line is one `{\"resourceMetrics\": …}` or `{\"resourceSpans\": …}`, \
                             as the Collector's file exporter writes with `format: json`",
                        ),
                    ));
                }
            };
            let mut batch = match decoded {
                Ok(batch) => batch,
                // Whoever wrote it was stopped, or has not finished.
                Err(_) if breaks_off => {
                    self.notes.broken.add(1, number);
                    continue;
                }
                Err(error) => return Err(self.lines.error(number, error.to_string(), None)),
            };
            let Some(newest) = leave_out_the_future(&mut batch) else {
                if batch.rejections.is_empty() {
                    continue;
                }
                return Ok(Some(
                    self.arrival(self.now.unwrap_or(Timestamp::EPOCH), batch),
                ));
            };
            let ahead = batch.rejections.iter().find(|(r, ..)| *r == Reject::Future);
            if let Some((_, count, _)) = ahead {
                self.notes.future.add(count, number);
            }
            if self.now.is_some_and(|now| now.since(newest) > DISORDER) {
                self.notes.disordered.add(1, number);
            }
            return Ok(Some(self.arrival(newest, batch)));
        }
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }

    fn position(&self) -> u64 {
        self.lines.position()
    }
}

impl OtlpLines {
    /// A request arrives when the newest of it has happened, and not before the one before.
    fn arrival(&mut self, newest: Timestamp, batch: Batch) -> Arrival {
        let at = self.now.map_or(newest, |now| now.max(newest));
        self.now = Some(at);
        Arrival {
            at,
            data: Data::Batch(Box::new(batch)),
        }
    }
}

/// Takes out what is far ahead of the rest, and answers the newest time of what stays. One client with a
/// wrong clock would otherwise make all that follows late.
fn leave_out_the_future(batch: &mut Batch) -> Option<Timestamp> {
    let points = batch.points.iter().map(|point| point.time);
    let mut times: Vec<_> = points
        .chain(batch.spans.iter().map(|span| span.end))
        .collect();
    let newest = *times.iter().max()?;
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let limit = median.plus(FUTURE);
    if newest <= limit {
        return Some(newest);
    }
    let Batch {
        points,
        spans,
        rejections,
        names,
        ..
    } = batch;
    let name = |point: &MetricPoint| match &point.identity {
        Identity::Here(identity) => identity.metric.to_string(),
        Identity::At(place) => names
            .as_ref()
            .and_then(|names| names.identity(*place))
            .map_or_else(String::new, |identity| identity.metric.to_string()),
    };
    points.retain(|point| {
        let stays = point.time <= limit || matches!(point.data, PointData::End);
        if !stays {
            rejections.add(Reject::Future, || name(point));
        }
        stays
    });
    spans.retain(|span| {
        let stays = span.end <= limit;
        if !stays {
            rejections.add(Reject::Future, || {
                format!("span of {}", span.resource.service)
            });
        }
        stays
    });
    let points = points.iter().map(|point| point.time);
    points
        .chain(spans.iter().map(|span| span.end))
        .filter(|time| *time <= limit)
        .max()
}
