use axum::extract;
use http::{HeaderMap, Uri};
use serde_json::Value;

use super::body::{self, Body, Object};
use super::error::Error;
use super::silences::PATIENCE;
use crate::expose::ask::ask;
use crate::expose::state::State;
use crate::model::{PostedAlert, Timestamp};
use crate::publish::Command;

/// The body's name in the API's description.
const ALERTS: &str = "alerts";

/// Takes alerts of another system. Those that are valid are taken, whatever the others are.
pub(super) async fn take(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    body: Body,
) -> Result<(), Error> {
    let alerts = read(&body::json(ALERTS, &headers, body)?)?;
    let command = |reply| Command::PostAlerts { alerts, reply };
    let received = ask(&state.board, PATIENCE, command).await?;
    if received.refused > 0 {
        return Err(Error::Refused(
            http::StatusCode::SERVICE_UNAVAILABLE,
            format!("there is no room for {} alerts", received.refused),
        ));
    }
    match received.invalid.is_empty() {
        true => Ok(()),
        false => Err(Error::bad_request(received.invalid.join("; "))),
    }
}

fn read(body: &Value) -> Result<Vec<PostedAlert>, Error> {
    let wrong = || Error::unreadable(ALERTS, "a list is expected");
    if body.is_null() {
        return Ok(Vec::new());
    }
    let alerts = body.as_array().ok_or_else(wrong)?.iter();
    alerts
        .enumerate()
        .map(|(at, alert)| one(at, alert))
        .collect()
}

/// Reads a `postableAlert`.
fn one(at: usize, value: &Value) -> Result<PostedAlert, Error> {
    let object = Object::new(ALERTS, format!("{at}."), value)?;
    let (annotations, labels) = (object.labels("annotations")?, object.labels("labels")?);
    let (ends_at, starts_at) = (object.time("endsAt")?, object.time("startsAt")?);
    let generator_url = object.text("generatorURL")?.unwrap_or_default();
    let labels = object.required("labels", labels)?;
    if !generator_url.is_empty() && !is_uri(generator_url) {
        let shown: String = generator_url.chars().take(64).collect();
        let name = format!("{at}.generatorURL");
        return Err(Error::not_a(&name, "body", "uri", &shown));
    }
    Ok(PostedAlert {
        labels,
        annotations: annotations.unwrap_or_default(),
        starts_at: said(starts_at),
        ends_at: said(ends_at),
        generator_url: generator_url.to_owned(),
    })
}

/// Go's zero time, of the year 1, is none.
fn said(time: Option<Timestamp>) -> Option<Timestamp> {
    time.filter(|time| *time > Timestamp::from_nanos(i64::MIN))
}

/// Whether a text is a URI as Go's `ParseRequestURI` has it: absolute, or a path from the root.
fn is_uri(text: &str) -> bool {
    text.parse::<Uri>()
        .is_ok_and(|uri| uri.scheme().is_some() || text.starts_with('/'))
        || text.parse::<reqwest::Url>().is_ok()
}
