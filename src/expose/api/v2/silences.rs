use std::cmp::Reverse;
use std::str::FromStr as _;
use std::time::Duration;

use axum::{Json, extract};
use http::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::body::{self, Body, Object};
use super::error::Error;
use super::filter;
use crate::expose::ask::ask;
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Matcher, Timestamp};
use crate::mute::{Condition, Draft, Silence, SilenceId, SilenceState, comparison};
use crate::publish::Command;

/// How long the decision task may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The body's name in the API's description.
const SILENCE: &str = "silence";

/// `gettableSilence` of Alertmanager's description.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GettableSilence {
    id: SilenceId,
    status: Status,
    updated_at: Timestamp,
    comment: String,
    created_by: String,
    ends_at: Timestamp,
    #[serde(serialize_with = "conditions")]
    matchers: Vec<Matcher>,
    starts_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Status {
    state: SilenceState,
}

fn conditions<S: Serializer>(matchers: &[Matcher], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(matchers.iter().map(Condition))
}

impl GettableSilence {
    fn of(silence: &Silence, now: Timestamp) -> Self {
        Self {
            id: silence.id,
            status: Status {
                state: silence.state(now),
            },
            updated_at: silence.updated_at,
            comment: silence.comment.clone(),
            created_by: silence.created_by.clone(),
            ends_at: silence.ends_at,
            matchers: silence.matchers.clone(),
            starts_at: silence.starts_at,
        }
    }
}

/// Silences with all the conditions that are asked for, in the very same words, and by one of the asked-for
/// creators. Active ones first, the next to end before the others; then pending ones, the next to begin
/// first; then expired ones, the latest first.
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Json<Value>, Error> {
    let wanted = filter::matchers(&params)?;
    let creators: Vec<&str> = params.all("creator").collect();
    let now = state.clock.now();
    let silences = state.board.silences();
    let has = |silence: &Silence, wanted: &Matcher| {
        let mut own = silence.matchers.iter();
        own.any(|m| m.name == wanted.name && m.op == wanted.op && m.value == wanted.value)
    };
    let mut found: Vec<_> = silences
        .list()
        .filter(|silence| wanted.iter().all(|wanted| has(silence, wanted)))
        .filter(|s| creators.is_empty() || creators.contains(&s.created_by.as_str()))
        .collect();
    found.sort_by_key(|silence| {
        let state = silence.state(now);
        let (soonest, latest) = match state {
            SilenceState::Active => (silence.ends_at, None),
            SilenceState::Pending => (silence.starts_at, None),
            SilenceState::Expired => (Timestamp::EPOCH, Some(Reverse(silence.ends_at))),
        };
        (state, soonest, latest, silence.id)
    });
    let shown: Vec<_> = found
        .into_iter()
        .map(|silence| GettableSilence::of(silence, now))
        .collect();
    Ok(Json(json!(shown)))
}

pub(super) async fn one(
    extract::State(state): extract::State<State>,
    extract::Path(id): extract::Path<String>,
) -> Result<Json<Value>, Error> {
    let id = silence_id(&id)?;
    let silences = state.board.silences();
    let silence = silences.get(id).ok_or(Error::Absent)?;
    Ok(Json(json!(GettableSilence::of(silence, state.clock.now()))))
}

pub(super) async fn set(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Error> {
    let body = body::json(SILENCE, &headers, body)?;
    let draft = draft(&body)?;
    let command = |reply| Command::SetSilence { draft, reply };
    let id = ask(&state.board, PATIENCE, command).await?;
    Ok(Json(json!({"silenceID": id})))
}

pub(super) async fn expire(
    extract::State(state): extract::State<State>,
    extract::Path(id): extract::Path<String>,
) -> Result<(), Error> {
    let id = silence_id(&id)?;
    let command = |reply| Command::ExpireSilence { id, reply };
    let expired = ask(&state.board, PATIENCE, command).await;
    // Alertmanager's description knows no other error here, and clients made from it show no other.
    let status = http::StatusCode::INTERNAL_SERVER_ERROR;
    expired.map_err(|error| Error::Refused(status, error.message))
}

fn silence_id(text: &str) -> Result<SilenceId, Error> {
    let shown: String = text.chars().take(64).collect();
    SilenceId::from_str(text).map_err(|_| Error::not_a("silenceID", "path", "uuid", &shown))
}

/// Reads a `postableSilence`. What is there is looked at before what is missing, and that by name.
fn draft(body: &Value) -> Result<Draft, Error> {
    let object = Object::new(SILENCE, String::new(), body)?;
    let (comment, created_by) = (object.text("comment")?, object.text("createdBy")?);
    let (ends_at, starts_at) = (object.time("endsAt")?, object.time("startsAt")?);
    let (id, matchers) = (object.text("id")?, object.list("matchers")?);
    let comment = object.required("comment", comment)?.to_owned();
    let created_by = object.required("createdBy", created_by)?.to_owned();
    let ends_at = object.required("endsAt", ends_at)?;
    let matchers = object.required("matchers", matchers)?;
    let starts_at = object.required("startsAt", starts_at)?;
    if matchers.is_empty() {
        return Err(Error::too_few("matchers"));
    }
    let read = |(at, value)| matcher(at, value);
    let matchers = matchers.iter().enumerate().map(read);
    let id = id.filter(|id| !id.is_empty()).map(SilenceId::from_str);
    Ok(Draft {
        matchers: matchers.collect::<Result<_, _>>()?,
        // What cannot be an id is not the id of any.
        id: id.transpose().map_err(|_| {
            let message = "silence not found".into();
            Error::Refused(http::StatusCode::NOT_FOUND, message)
        })?,
        starts_at,
        ends_at,
        created_by,
        comment,
    })
}

fn matcher(at: usize, value: &Value) -> Result<Matcher, Error> {
    let object = Object::new(SILENCE, format!("matchers.{at}."), value)?;
    let is_equal = object.flag("isEqual")?.unwrap_or(true);
    let (is_regex, name) = (object.flag("isRegex")?, object.text("name")?);
    let value = object.text("value")?;
    let is_regex = object.required("isRegex", is_regex)?;
    let (name, value) = (
        object.required("name", name)?,
        object.required("value", value)?,
    );
    let matcher = Matcher::of_alertmanager(name, comparison(is_regex, is_equal), value);
    matcher.map_err(|error| {
        Error::bad_request(format!(
            "silence invalid: invalid label matcher {at}: {error}"
        ))
    })
}
