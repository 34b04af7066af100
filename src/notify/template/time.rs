//! Points in time as templates see them, in the receiver's time zone.

use std::fmt;
use std::sync::Arc;

use jiff::Zoned;
use jiff::tz::TimeZone;
use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};

use crate::model::Timestamp;

/// A time. As text it is RFC 3339 in its zone, to the second.
#[derive(Debug)]
pub(super) struct Time(Zoned);

impl Time {
    pub(super) fn value(at: Timestamp, zone: &TimeZone) -> Value {
        match jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())) {
            Ok(at) => Value::from_object(Self(at.to_zoned(zone.clone()))),
            Err(_) => Value::from(at.rfc3339()),
        }
    }
}

impl Object for Time {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%S%:z"))
    }
}

/// The filter `date`: a time in words, `2026-11-06 09:49:00 CET` unless `format` (as of strftime) says
/// otherwise; in its own zone or the one of that name.
pub(super) fn date(
    value: &Value,
    format: Option<&str>,
    zone: Option<&str>,
) -> Result<String, Error> {
    let wrong = |what: String| Error::new(ErrorKind::InvalidOperation, what);
    if value.as_str() == Some("") {
        // The end of an alert that fires.
        return Ok(String::new());
    }
    let mut time = match value.downcast_object_ref::<Time>() {
        Some(time) => time.0.clone(),
        None => {
            let text = value.to_string();
            let time: Result<jiff::Timestamp, _> = text.parse();
            time.map_err(|_| wrong(format!("`{text}` is no time")))?
                .to_zoned(TimeZone::UTC)
        }
    };
    if let Some(name) = zone {
        time = time
            .in_tz(name)
            .map_err(|_| wrong(format!("there is no time zone `{name}`")))?;
    }
    jiff::fmt::strtime::format(format.unwrap_or("%Y-%m-%d %H:%M:%S %Z"), &time)
        .map_err(|error| wrong(format!("bad format of a time: {error}")))
}
