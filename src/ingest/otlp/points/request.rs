//! A request that is kept until its points are applied, so that it can be asked about them.

use std::ops::Range;
use std::sync::Arc;

use super::attributes::{self, MAX_ATTRIBUTES, Set};
use super::point::POINT;
use super::{Data, Problem};
use crate::ingest::otlp::schema::KEY_VALUE;
use crate::ingest::otlp::wire;
use crate::model::{
    Attributes, Instrument, MetricKind, Names, Place, Reject, Resource, Scope, SeriesIdentity,
};

/// The bytes of a request and where in them its metrics are.
#[derive(Default)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    /// Resource and scope of the metrics.
    pub(super) origins: Vec<(Arc<Resource>, Arc<Scope>)>,
    pub(super) metrics: Vec<Head>,
}

/// What the points of one metric share.
#[derive(Debug)]
pub(super) struct Head {
    /// Position of its origin.
    pub(super) origin: u32,
    pub(super) name: Range<u32>,
    pub(super) unit: Range<u32>,
    pub(super) data: Data,
    pub(super) kind: MetricKind,
}

impl Request {
    /// The bytes of the point at `place`, and what kind of data it is.
    pub(super) fn point(&self, place: Place) -> Option<(&[u8], Data)> {
        let head = self.metrics.get(place.metric as usize)?;
        let rest = self.bytes.get(place.start as usize..)?;
        Some((rest.get(..place.length as usize)?, head.data))
    }

    /// The name of the metric of the point at `place`.
    pub(super) fn name(&self, place: Place) -> Option<&str> {
        self.text(&self.metrics.get(place.metric as usize)?.name)
    }

    fn text(&self, range: &Range<u32>) -> Option<&str> {
        let bytes = self.bytes.get(range.start as usize..range.end as usize)?;
        std::str::from_utf8(bytes).ok()
    }
}

impl Names for Request {
    fn identity(&self, place: Place) -> Option<Arc<SeriesIdentity>> {
        let head = self.metrics.get(place.metric as usize)?;
        let (resource, scope) = self.origins.get(head.origin as usize)?;
        let (point, data) = self.point(place)?;
        let attributes = attributes_of(point, data).ok()?;
        Some(Arc::new(SeriesIdentity {
            resource: Arc::clone(resource),
            instrument: Arc::new(Instrument {
                scope: Arc::clone(scope),
                metric: self.text(&head.name)?.into(),
                unit: attributes::cut(self.text(&head.unit)?).into(),
                kind: head.kind,
            }),
            attributes,
        }))
    }

    fn resource(&self, place: Place) -> Option<&Arc<Resource>> {
        let head = self.metrics.get(place.metric as usize)?;
        let (resource, _) = self.origins.get(head.origin as usize)?;
        Some(resource)
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("bytes", &self.bytes.len())
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

/// The attributes of a point, whose bytes were checked.
fn attributes_of(point: &[u8], data: Data) -> Result<Attributes, Problem> {
    let mut set = Set::new(MAX_ATTRIBUTES);
    for attribute in wire::all(point, data.layout().attributes) {
        set.add(attribute?)?;
    }
    Ok(set.finish()?)
}

/// Checks the attributes of a point: that they can be read, and that there are not too many.
pub(super) fn check_attributes(point: &[u8], data: Data) -> Result<(), Problem> {
    let mut count = 0;
    for attribute in wire::all(point, data.layout().attributes) {
        wire::check(attribute?, &KEY_VALUE, POINT + 1)?;
        count += 1;
    }
    if count > MAX_ATTRIBUTES {
        return Err(Reject::Attributes.into());
    }
    Ok(())
}

/// Where `part` begins in `whole`, of which it is a part; `None` if that is beyond 4 GiB.
pub(super) fn position(whole: &[u8], part: &[u8]) -> Option<u32> {
    let distance = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    u32::try_from(distance).ok()
}

/// The range of `part` in `whole`.
pub(super) fn range(whole: &[u8], part: &[u8]) -> Option<Range<u32>> {
    let start = position(whole, part)?;
    Some(start..start.checked_add(u32::try_from(part.len()).ok()?)?)
}
