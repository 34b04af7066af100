//! OTLP's messages as tables: field numbers, JSON names and kinds, from opentelemetry-proto 1.11. One
//! table serves the check of the wire form and the reading of JSON, so the two cannot disagree.

/// A message of the protocol.
pub(crate) struct Message {
    /// Its fields, numbers up to [`MAX_NUMBER`].
    pub(crate) fields: &'static [Field],
    /// By number: the place of the field in `fields`, or a place beyond its end.
    places: [u8; MAX_NUMBER + 1],
}

/// A field of a message.
pub(crate) struct Field {
    /// Its number on the wire.
    pub(crate) number: u32,
    /// Its key in JSON.
    pub(crate) json: &'static str,
    /// What it holds.
    pub(crate) kind: Kind,
    /// Whether it may occur several times.
    pub(crate) repeated: bool,
    /// Fields of one slot displace each other: the members of a oneof share the number of its first.
    pub(crate) slot: usize,
}

/// What a field holds, by its wire type and its form in JSON.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// UTF-8 text.
    Text,
    /// Bytes, in JSON as hexadecimal digits (trace and span ids).
    Hex,
    /// Bytes, in JSON as base64.
    Base64,
    /// A varint, in JSON `true` or `false`.
    Bool,
    /// A varint, in JSON an integer, never a name.
    Enum,
    /// A varint of 32 bits.
    Int32,
    /// A varint of 32 bits.
    Uint32,
    /// A zigzag varint of 32 bits.
    Sint32,
    /// A varint of 64 bits.
    Int64,
    /// A varint of 64 bits.
    Uint64,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// Eight bytes.
    Sfixed64,
    /// Eight bytes.
    Double,
    /// A message of its own.
    Message(&'static Message),
}

/// The largest field number that any table uses.
pub(crate) const MAX_NUMBER: usize = 16;

impl Message {
    const fn of(fields: &'static [Field]) -> Self {
        let mut places = [u8::MAX; MAX_NUMBER + 1];
        let mut place = 0;
        while place < fields.len() {
            places[fields[place].number as usize] = place as u8;
            place += 1;
        }
        Self { fields, places }
    }

    /// The field with `number`.
    #[inline]
    pub(crate) fn field(&self, number: u32) -> Option<&'static Field> {
        let place = self.places.get(number as usize)?;
        self.fields.get(usize::from(*place))
    }

    /// The field that JSON calls `key`.
    pub(crate) fn field_named(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.json == key)
    }
}

const fn one(number: u32, json: &'static str, kind: Kind) -> Field {
    Field {
        number,
        json,
        kind,
        repeated: false,
        slot: number as usize,
    }
}

const fn many(number: u32, json: &'static str, kind: Kind) -> Field {
    Field {
        repeated: true,
        ..one(number, json, kind)
    }
}

/// A member of the oneof whose first member has the number `slot`.
const fn either(slot: usize, number: u32, json: &'static str, kind: Kind) -> Field {
    Field {
        slot,
        ..one(number, json, kind)
    }
}

const ATTRIBUTES: &str = "attributes";
const DROPPED: &str = "droppedAttributesCount";

pub(crate) static METRICS_REQUEST: Message =
    Message::of(&[many(1, "resourceMetrics", Kind::Message(&RESOURCE_METRICS))]);

pub(crate) static RESOURCE_METRICS: Message = Message::of(&[
    one(1, "resource", Kind::Message(&RESOURCE)),
    many(2, "scopeMetrics", Kind::Message(&SCOPE_METRICS)),
    one(3, "schemaUrl", Kind::Text),
]);

pub(crate) static SCOPE_METRICS: Message = Message::of(&[
    one(1, "scope", Kind::Message(&SCOPE)),
    many(2, "metrics", Kind::Message(&METRIC)),
    one(3, "schemaUrl", Kind::Text),
]);

pub(crate) static METRIC: Message = Message::of(&[
    one(1, "name", Kind::Text),
    one(2, "description", Kind::Text),
    one(3, "unit", Kind::Text),
    either(5, 5, "gauge", Kind::Message(&GAUGE)),
    either(5, 7, "sum", Kind::Message(&SUM)),
    either(5, 9, "histogram", Kind::Message(&HISTOGRAM)),
    either(5, 10, "exponentialHistogram", Kind::Message(&EXPONENTIAL)),
    either(5, 11, "summary", Kind::Message(&SUMMARY)),
    many(12, "metadata", Kind::Message(&KEY_VALUE)),
]);

pub(crate) static GAUGE: Message =
    Message::of(&[many(1, "dataPoints", Kind::Message(&NUMBER_POINT))]);

pub(crate) static SUM: Message = Message::of(&[
    many(1, "dataPoints", Kind::Message(&NUMBER_POINT)),
    one(2, "aggregationTemporality", Kind::Enum),
    one(3, "isMonotonic", Kind::Bool),
]);

pub(crate) static HISTOGRAM: Message = Message::of(&[
    many(1, "dataPoints", Kind::Message(&HISTOGRAM_POINT)),
    one(2, "aggregationTemporality", Kind::Enum),
]);

pub(crate) static EXPONENTIAL: Message = Message::of(&[
    many(1, "dataPoints", Kind::Message(&EXPONENTIAL_POINT)),
    one(2, "aggregationTemporality", Kind::Enum),
]);

pub(crate) static SUMMARY: Message =
    Message::of(&[many(1, "dataPoints", Kind::Message(&SUMMARY_POINT))]);

pub(crate) static NUMBER_POINT: Message = Message::of(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    either(4, 4, "asDouble", Kind::Double),
    many(5, "exemplars", Kind::Message(&EXEMPLAR)),
    either(4, 6, "asInt", Kind::Sfixed64),
    many(7, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(8, "flags", Kind::Uint32),
]);

pub(crate) static HISTOGRAM_POINT: Message = Message::of(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    many(6, "bucketCounts", Kind::Fixed64),
    many(7, "explicitBounds", Kind::Double),
    many(8, "exemplars", Kind::Message(&EXEMPLAR)),
    many(9, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(10, "flags", Kind::Uint32),
    one(11, "min", Kind::Double),
    one(12, "max", Kind::Double),
]);

pub(crate) static EXPONENTIAL_POINT: Message = Message::of(&[
    many(1, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    one(6, "scale", Kind::Sint32),
    one(7, "zeroCount", Kind::Fixed64),
    one(8, "positive", Kind::Message(&BUCKETS)),
    one(9, "negative", Kind::Message(&BUCKETS)),
    one(10, "flags", Kind::Uint32),
    many(11, "exemplars", Kind::Message(&EXEMPLAR)),
    one(12, "min", Kind::Double),
    one(13, "max", Kind::Double),
    one(14, "zeroThreshold", Kind::Double),
]);

static BUCKETS: Message = Message::of(&[
    one(1, "offset", Kind::Sint32),
    many(2, "bucketCounts", Kind::Uint64),
]);

pub(crate) static SUMMARY_POINT: Message = Message::of(&[
    one(2, "startTimeUnixNano", Kind::Fixed64),
    one(3, "timeUnixNano", Kind::Fixed64),
    one(4, "count", Kind::Fixed64),
    one(5, "sum", Kind::Double),
    many(6, "quantileValues", Kind::Message(&QUANTILE)),
    many(7, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(8, "flags", Kind::Uint32),
]);

static QUANTILE: Message = Message::of(&[
    one(1, "quantile", Kind::Double),
    one(2, "value", Kind::Double),
]);

pub(crate) static EXEMPLAR: Message = Message::of(&[
    one(2, "timeUnixNano", Kind::Fixed64),
    either(3, 3, "asDouble", Kind::Double),
    one(4, "spanId", Kind::Hex),
    one(5, "traceId", Kind::Hex),
    either(3, 6, "asInt", Kind::Sfixed64),
    many(7, "filteredAttributes", Kind::Message(&KEY_VALUE)),
]);

pub(crate) static TRACES_REQUEST: Message =
    Message::of(&[many(1, "resourceSpans", Kind::Message(&RESOURCE_SPANS))]);

pub(crate) static RESOURCE_SPANS: Message = Message::of(&[
    one(1, "resource", Kind::Message(&RESOURCE)),
    many(2, "scopeSpans", Kind::Message(&SCOPE_SPANS)),
    one(3, "schemaUrl", Kind::Text),
]);

pub(crate) static SCOPE_SPANS: Message = Message::of(&[
    one(1, "scope", Kind::Message(&SCOPE)),
    many(2, "spans", Kind::Message(&SPAN)),
    one(3, "schemaUrl", Kind::Text),
]);

pub(crate) static SPAN: Message = Message::of(&[
    one(1, "traceId", Kind::Hex),
    one(2, "spanId", Kind::Hex),
    one(3, "traceState", Kind::Text),
    one(4, "parentSpanId", Kind::Hex),
    one(5, "name", Kind::Text),
    one(6, "kind", Kind::Enum),
    one(7, "startTimeUnixNano", Kind::Fixed64),
    one(8, "endTimeUnixNano", Kind::Fixed64),
    many(9, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(10, DROPPED, Kind::Uint32),
    many(11, "events", Kind::Message(&EVENT)),
    one(12, "droppedEventsCount", Kind::Uint32),
    many(13, "links", Kind::Message(&LINK)),
    one(14, "droppedLinksCount", Kind::Uint32),
    one(15, "status", Kind::Message(&STATUS)),
    one(16, "flags", Kind::Fixed32),
]);

static EVENT: Message = Message::of(&[
    one(1, "timeUnixNano", Kind::Fixed64),
    one(2, "name", Kind::Text),
    many(3, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(4, DROPPED, Kind::Uint32),
]);

static LINK: Message = Message::of(&[
    one(1, "traceId", Kind::Hex),
    one(2, "spanId", Kind::Hex),
    one(3, "traceState", Kind::Text),
    many(4, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(5, DROPPED, Kind::Uint32),
    one(6, "flags", Kind::Fixed32),
]);

pub(crate) static STATUS: Message =
    Message::of(&[one(2, "message", Kind::Text), one(3, "code", Kind::Enum)]);

pub(crate) static RESOURCE: Message = Message::of(&[
    many(1, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(2, DROPPED, Kind::Uint32),
    many(3, "entityRefs", Kind::Message(&ENTITY)),
]);

static ENTITY: Message = Message::of(&[
    one(1, "schemaUrl", Kind::Text),
    one(2, "type", Kind::Text),
    many(3, "idKeys", Kind::Text),
    many(4, "descriptionKeys", Kind::Text),
]);

pub(crate) static SCOPE: Message = Message::of(&[
    one(1, "name", Kind::Text),
    one(2, "version", Kind::Text),
    many(3, ATTRIBUTES, Kind::Message(&KEY_VALUE)),
    one(4, DROPPED, Kind::Uint32),
]);

pub(crate) static KEY_VALUE: Message = Message::of(&[
    one(1, "key", Kind::Text),
    one(2, "value", Kind::Message(&ANY_VALUE)),
    one(3, "keyStrindex", Kind::Int32),
]);

static ANY_VALUE: Message = Message::of(&[
    either(1, 1, "stringValue", Kind::Text),
    either(1, 2, "boolValue", Kind::Bool),
    either(1, 3, "intValue", Kind::Int64),
    either(1, 4, "doubleValue", Kind::Double),
    either(1, 5, "arrayValue", Kind::Message(&ARRAY)),
    either(1, 6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
    either(1, 7, "bytesValue", Kind::Base64),
    either(1, 8, "stringValueStrindex", Kind::Int32),
]);

static ARRAY: Message = Message::of(&[many(1, "values", Kind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = Message::of(&[many(1, "values", Kind::Message(&KEY_VALUE))]);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every slot must have its place in the JSON reader's array.
    #[test]
    fn numbers_stay_within_the_bound() {
        fn walk(message: &'static Message, depth: usize) {
            for field in message.fields {
                assert!(
                    (1..=MAX_NUMBER).contains(&(field.number as usize)),
                    "{}",
                    field.json
                );
                assert!((1..=MAX_NUMBER).contains(&field.slot), "{}", field.json);
                if let (Kind::Message(inner), 1..) = (field.kind, depth) {
                    walk(inner, depth - 1);
                }
            }
        }
        walk(&METRICS_REQUEST, 10);
        walk(&TRACES_REQUEST, 10);
    }
}
