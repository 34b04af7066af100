//! From a request's envelopes down to its metrics: one pass over the bytes, which are checked where they
//! are read. What was met before, by its bytes, was checked then.

use std::sync::Arc;

use super::known::{Known, Look, Print};
use super::point::Maker;
use super::request::{Head, Request, check_attributes, position, range};
use super::{Data, Problem, attributes, horizon, shown};
use crate::ingest::otlp::schema::{METRIC, METRICS_REQUEST, RESOURCE_METRICS, SCOPE_METRICS};
use crate::ingest::otlp::wire::{self, Reader, Value, WireError};
use crate::model::{
    Batch, Identity, MetricKind, MetricPoint, Names, Place, Reject, Rejections, Resource, Scope,
    SeriesId, SeriesIdentity, Temporality, Timestamp,
};

/// Longest name of a metric, in bytes.
const MAX_NAME: usize = 1024;

/// Reads an `ExportMetricsServiceRequest`.
pub(crate) fn metrics(bytes: Vec<u8>, now: Timestamp, known: &Known) -> Result<Batch, WireError> {
    let mut reading = Reading {
        bytes: &bytes,
        horizon: horizon(now),
        look: known.look(),
        points: Vec::new(),
        prints: Vec::new(),
        rejections: Rejections::default(),
        origins: Vec::new(),
        metrics: Vec::new(),
    };
    reading.request()?;
    let Reading {
        mut look,
        points,
        prints,
        rejections,
        origins,
        metrics,
        ..
    } = reading;
    let request = Request {
        bytes,
        origins,
        metrics,
    };
    let mut batch = Batch {
        points,
        rejections,
        ..Batch::default()
    };
    if find(&mut batch, &prints, &request, &mut look)? {
        let senders = request.origins.iter();
        batch.senders = senders.map(|(resource, _)| Arc::clone(resource)).collect();
        batch.names = Some(Box::new(request));
    }
    Ok(batch)
}

/// Finds the series of all points by their prints, and makes the identities of those that are new. Says
/// whether there are points that leave it to the request to say theirs.
fn find(
    batch: &mut Batch,
    prints: &[Print],
    request: &Request,
    look: &mut Look<'_>,
) -> Result<bool, WireError> {
    // In a loop of its own: one search does not wait for another, so that several are on their way to
    // memory at once.
    let known: Vec<Option<SeriesId>> = prints.iter().map(|print| look.series(*print)).collect();
    let (mut asked, mut refused) = (false, Vec::new());
    // Several points of a new series in a row share it.
    let mut fresh: Option<(Print, SeriesId, Arc<SeriesIdentity>)> = None;
    let found = prints.iter().zip(known);
    for (at, (point, (print, known))) in batch.points.iter_mut().zip(found).enumerate() {
        if let Some(series) = known {
            point.series = series;
            asked = true;
            continue;
        }
        let Identity::At(place) = point.identity else {
            continue;
        };
        if fresh.as_ref().is_none_or(|(fresh, ..)| fresh != print) {
            match identify(place, request) {
                Ok(identity) => {
                    let id = identity.id();
                    look.note_series(*print, id);
                    fresh = Some((*print, id, identity));
                }
                Err(Problem::Reject(reason)) => {
                    let name = request.name(place).unwrap_or_default();
                    let example = || format!("metric `{}`", shown(name));
                    batch.rejections.add(reason, example);
                    refused.push(at);
                    continue;
                }
                Err(Problem::Wire(error)) => return Err(error),
            }
        }
        if let Some((_, id, identity)) = &fresh {
            point.series = *id;
            point.identity = Identity::Here(Arc::clone(identity));
        }
    }
    if !refused.is_empty() {
        let (mut at, mut refused) = (0, refused.into_iter().peekable());
        batch.points.retain(|_| {
            let stays = refused.next_if_eq(&at).is_none();
            at += 1;
            stays
        });
    }
    Ok(asked)
}

/// The identity of the series of a point, once its attributes are checked.
fn identify(place: Place, request: &Request) -> Result<Arc<SeriesIdentity>, Problem> {
    let (point, data) = request.point(place).ok_or(WireError::Truncated)?;
    check_attributes(point, data)?;
    Ok(request.identity(place).ok_or(WireError::Truncated)?)
}

/// A request while it is read.
struct Reading<'r, 'k> {
    bytes: &'r [u8],
    /// The latest time that is believed.
    horizon: u64,
    look: Look<'k>,
    points: Vec<MetricPoint>,
    /// One for each point.
    prints: Vec<Print>,
    rejections: Rejections,
    origins: Vec<(Arc<Resource>, Arc<Scope>)>,
    metrics: Vec<Head>,
}

/// Where the points of a scope come from, with the prints of its bytes; refused if it has too many
/// attributes.
struct Origin<'o> {
    prints: [Print; 2],
    resource: &'o Result<Arc<Resource>, Reject>,
    scope: Result<Arc<Scope>, Reject>,
    /// Its position, once a point came from here.
    position: Option<u32>,
}

impl<'r> Reading<'r, '_> {
    fn request(&mut self) -> Result<(), WireError> {
        let mut reader = Reader::new(self.bytes);
        while let Some((number, value)) = reader.next()? {
            match (number, value) {
                (1, Value::Bytes(envelope)) => self.resource_metrics(envelope)?,
                _ => wire::check_field(&mut reader, &METRICS_REQUEST, number, value, 0)?,
            }
        }
        Ok(())
    }

    fn resource_metrics(&mut self, envelope: &'r [u8]) -> Result<(), WireError> {
        // What is shared may come last: all else is looked at first.
        let mut printer = self.look.printer();
        let mut reader = Reader::new(envelope);
        while let Some((number, value)) = reader.next()? {
            match (number, value) {
                // Protobuf merges a message that occurs twice.
                (1, Value::Bytes(resource)) => printer.add(resource),
                (2, Value::Bytes(_)) => {}
                _ => wire::check_field(&mut reader, &RESOURCE_METRICS, number, value, 1)?,
            }
        }
        let print = printer.finish();
        let resource = attributes::known_resource(envelope, print, &mut self.look)?;
        for scope_metrics in wire::all(envelope, 2) {
            self.scope_metrics(scope_metrics?, print, &resource)?;
        }
        Ok(())
    }

    fn scope_metrics(
        &mut self,
        envelope: &'r [u8],
        resource_print: Print,
        resource: &Result<Arc<Resource>, Reject>,
    ) -> Result<(), WireError> {
        let mut printer = self.look.printer();
        let mut reader = Reader::new(envelope);
        while let Some((number, value)) = reader.next()? {
            match (number, value) {
                (1, Value::Bytes(scope)) => printer.add(scope),
                (2, Value::Bytes(_)) => {}
                _ => wire::check_field(&mut reader, &SCOPE_METRICS, number, value, 2)?,
            }
        }
        let print = printer.finish();
        let mut origin = Origin {
            prints: [resource_print, print],
            resource,
            scope: attributes::known_scope(envelope, print, &mut self.look)?,
            position: None,
        };
        for metric in wire::all(envelope, 2) {
            self.metric(metric?, &mut origin)?;
        }
        Ok(())
    }

    fn metric(&mut self, bytes: &'r [u8], origin: &mut Origin<'_>) -> Result<(), WireError> {
        let (mut name, mut unit) = (&[][..], &[][..]);
        // The kind of data, and all of the metric from its first piece on.
        let mut data: Option<(Data, &[u8])> = None;
        let mut reader = Reader::new(bytes);
        loop {
            let here = reader.rest();
            let Some((number, value)) = reader.next()? else {
                break;
            };
            match (number, value) {
                (1, Value::Bytes(text)) => name = wire::checked_text(text)?,
                (2, Value::Bytes(text)) => drop(wire::checked_text(text)?),
                (3, Value::Bytes(text)) => unit = wire::checked_text(text)?,
                (5 | 7 | 9 | 10 | 11, Value::Bytes(_)) => {
                    let kind = Data::from_number(number);
                    match (data, kind) {
                        (None, Some(kind)) => data = Some((kind, here)),
                        (Some((before, _)), Some(kind)) if before != kind => {
                            // Another kind takes the place of the one before, which must be sound.
                            wire::check(bytes, &METRIC, 3)?;
                            data = Some((kind, here));
                        }
                        _ => {}
                    }
                }
                _ => wire::check_field(&mut reader, &METRIC, number, value, 3)?,
            }
        }
        let Some((data, from)) = data else {
            return Ok(());
        };
        // Protobuf merges a message that occurs twice, which for points means all of them.
        let (mut temporality, mut monotonic) = (0, false);
        for piece in wire::all(from, data as u32) {
            let mut reader = Reader::new(piece?);
            while let Some((number, value)) = reader.next()? {
                match (data, number, value) {
                    (_, 1, Value::Bytes(_)) => {}
                    (Data::Sum | Data::Histogram | Data::Exponential, 2, Value::Varint(it)) => {
                        temporality = it as i32;
                    }
                    (Data::Sum, 3, Value::Varint(it)) => monotonic = it != 0,
                    _ => wire::check_field(&mut reader, data.message(), number, value, 4)?,
                }
            }
        }
        let kind = kind(data, temporality, monotonic);
        let points = wire::all(from, data as u32).flat_map(|piece| {
            let (piece, error) = match piece {
                Ok(piece) => (piece, None),
                Err(error) => (&[][..], Some(Err(error))),
            };
            error.into_iter().chain(wire::all(piece, 1))
        });
        let example = || format!("metric `{}`", shown(&String::from_utf8_lossy(name)));
        let maker = match self.maker(name, unit, data, kind, origin) {
            Ok(maker) => maker,
            Err(reason) => {
                let mut count = 0;
                for point in points {
                    wire::check(point?, data.point(), 5)?;
                    count += 1;
                }
                self.rejections.add_many(reason, count, example);
                return Ok(());
            }
        };
        for point in points {
            let point = point?;
            let start = position(self.bytes, point).unwrap_or(u32::MAX);
            match maker.point(point, start, &self.look) {
                Ok((print, point)) => {
                    self.prints.push(print);
                    self.points.push(point);
                }
                Err(Problem::Reject(reason)) => self.rejections.add(reason, example),
                Err(Problem::Wire(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn maker(
        &mut self,
        name: &'r [u8],
        unit: &'r [u8],
        data: Data,
        kind: Result<MetricKind, Reject>,
        origin: &mut Origin<'_>,
    ) -> Result<Maker, Reject> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Reject::Name);
        }
        let resource = origin.resource.as_ref().map_err(|reason| *reason)?;
        let scope = origin.scope.as_ref().map_err(|reason| *reason)?;
        let kind = kind?;
        let mut printer = self.look.printer();
        for print in &origin.prints {
            printer.follow(*print);
        }
        printer.add(name);
        printer.add(unit);
        printer.add(&kind.code());
        let origins = &mut self.origins;
        let position = *origin.position.get_or_insert_with(|| {
            origins.push((Arc::clone(resource), Arc::clone(scope)));
            origins.len() as u32 - 1
        });
        // A request beyond 4 GiB is never read.
        let range = |text| range(self.bytes, text).unwrap_or_default();
        self.metrics.push(Head {
            origin: position,
            name: range(name),
            unit: range(unit),
            data,
            kind,
        });
        Ok(Maker {
            print: printer.finish(),
            metric: self.metrics.len() as u32 - 1,
            data,
            kind,
            horizon: self.horizon,
        })
    }
}

/// What kind of series the points of a metric belong to.
fn kind(data: Data, temporality: i32, monotonic: bool) -> Result<MetricKind, Reject> {
    let temporality = match temporality {
        1 => Ok(Temporality::Delta),
        2 => Ok(Temporality::Cumulative),
        _ => Err(Reject::Temporality),
    };
    match data {
        Data::Gauge => Ok(MetricKind::Gauge),
        Data::Sum => temporality.map(|temporality| MetricKind::Sum {
            monotonic,
            temporality,
        }),
        Data::Histogram => temporality.map(MetricKind::Histogram),
        Data::Exponential => temporality.map(MetricKind::ExponentialHistogram),
        Data::Summary => Ok(MetricKind::Summary),
    }
}
