//! Bodies of requests, checked against the API's description in the order and with the words of
//! Alertmanager, whose clients show them to people.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::error::Error;
use crate::model::{Labels, Timestamp};

/// A body as it came.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// The body of a request as JSON. `what` is its name in the description.
pub(super) fn json(what: &str, headers: &HeaderMap, body: Body) -> Result<Value, Error> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.map_or("application/octet-stream", |kind| {
        kind.to_str().unwrap_or_default()
    });
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let kind: String = essence.chars().take(64).collect();
        return Err(Error::coded(
            415,
            format!("unsupported media type {kind:?}, only [application/json] are allowed"),
        ));
    }
    let bytes =
        body.map_err(|rejection| Error::Refused(rejection.status(), rejection.body_text()))?;
    if bytes.is_empty() {
        return Err(Error::required(what));
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::unreadable(what, error))
}

/// An object of a body, whose fields are taken out one by one.
pub(super) struct Object<'a> {
    /// The body's name, for messages.
    body: &'a str,
    /// Where the object stands in the body: empty, or `matchers.0.`.
    place: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn new(body: &'a str, place: String, value: &'a Value) -> Result<Self, Error> {
        let wrong = || Error::unreadable(body, format!("{place}an object is expected"));
        let fields = value.as_object().ok_or_else(wrong)?;
        Ok(Self {
            body,
            place,
            fields,
        })
    }

    /// `null` counts as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        Error::unreadable(self.body, format!("{}{name} is not {expected}", self.place))
    }

    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| Error::required(&format!("{}{name}", self.place)))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.wrong(name, "a string"));
        self.get(name).map(text).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        let flag = |value: &Value| {
            let flag = value.as_bool();
            flag.ok_or_else(|| self.wrong(name, "true or false"))
        };
        self.get(name).map(flag).transpose()
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        let read = |text: &str| {
            let time = Timestamp::parse_saturating(text);
            time.map_err(|_| self.wrong(name, "a time as RFC 3339 writes it"))
        };
        self.text(name)?.map(read).transpose()
    }

    pub(super) fn labels(&self, name: &str) -> Result<Option<Labels>, Error> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let read = |value: &'a Value| {
            let pairs = value.as_object()?.iter();
            let pairs = pairs.map(|(key, value)| Some((key.clone(), text(value)?)));
            pairs.collect::<Option<_>>().map(Labels)
        };
        let read = |value| read(value).ok_or_else(|| self.wrong(name, "an object of strings"));
        self.get(name).map(read).transpose()
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, Error> {
        let list = |value: &'a Value| {
            let list = value.as_array().map(Vec::as_slice);
            list.ok_or_else(|| self.wrong(name, "a list"))
        };
        self.get(name).map(list).transpose()
    }
}
