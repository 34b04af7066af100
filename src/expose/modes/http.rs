//! What people change by `/api/v1/modes…` over plain HTTP: overrides and the kill switch.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{self, DefaultBodyLimit, Path, Query};
use axum::response::Response;
use axum::routing::{get, put};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::State;
use crate::expose::answer::{ApiError, success};
use crate::expose::ask;
use crate::model::{Override, Timestamp};
use crate::publish::{Command, CommandError, Freeze};

/// Longest author, in characters.
const MAX_AUTHOR: usize = 256;
/// Longest reason, in characters.
const MAX_REASON: usize = 2_000;
/// Who it was when nobody says.
const UNKNOWN_AUTHOR: &str = "unknown";

pub(super) fn routes(body_bytes: usize) -> Router<State> {
    Router::new()
        // Stands before a service of that name, which is still in the list.
        .route(
            "/api/v1/modes/freeze",
            get(frozen).put(freeze).delete(unfreeze),
        )
        .route(
            "/api/v1/modes/{service}/override",
            put(set_override).delete(remove_override),
        )
        .layer(DefaultBodyLimit::max(body_bytes))
}

pub(super) type ServicePath = Result<Path<String>, PathRejection>;
pub(super) type Body = Result<Bytes, BytesRejection>;
type AuthorQuery = Result<Query<Author>, QueryRejection>;

async fn frozen(extract::State(state): extract::State<State>) -> Response {
    success(&state.board.modes().freeze)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideBody {
    mode: String,
    author: String,
    reason: String,
    expires_at: Option<String>,
    duration: Option<String>,
}

async fn set_override(
    extract::State(state): extract::State<State>,
    service: ServicePath,
    body: Body,
) -> Result<Response, ApiError> {
    let service = named(service)?;
    let body: OverrideBody = read(body)?;
    let now = state.clock.now();
    let expires_at = match (body.expires_at, body.duration) {
        (None, None) => None,
        (Some(time), None) => {
            let time = Timestamp::parse_rfc3339(&time)
                .map_err(|error| ApiError::bad_data(format!("expires_at: {error}")))?;
            if time <= now {
                return Err(ApiError::bad_data(format!(
                    "expires_at: {time} is in the past"
                )));
            }
            Some(time)
        }
        (None, Some(text)) => Some(now.plus(duration("duration", &text)?)),
        (Some(_), Some(_)) => {
            let message = "either expires_at or duration, not both";
            return Err(ApiError::bad_data(message));
        }
    };
    let manual = Override {
        mode: body.mode,
        author: author(&body.author)?,
        reason: reason(&body.reason)?,
        set_at: now,
        expires_at,
    };
    let state = ask(&state, |reply| Command::SetOverride {
        service,
        manual,
        reply,
    });
    Ok(success(state.await?))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Author {
    author: Option<String>,
    /// Accepted so that what was put can be deleted with the same words; the log has no use for it.
    #[serde(rename = "reason")]
    _reason: Option<String>,
}

/// Who removes something: said in the body or the query, since not every client sends a body with DELETE.
fn remover(query: AuthorQuery, body: Body) -> Result<String, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::bad_data(rejection.body_text()))?;
    let body = match body {
        Ok(bytes) if bytes.is_empty() => Author::default(),
        body => read(body)?,
    };
    match body.author.or(query.author) {
        Some(name) => author(&name),
        None => Ok(UNKNOWN_AUTHOR.into()),
    }
}

async fn remove_override(
    extract::State(state): extract::State<State>,
    service: ServicePath,
    query: AuthorQuery,
    body: Body,
) -> Result<Response, ApiError> {
    let service = named(service)?;
    let author = remover(query, body)?;
    let state = ask(&state, |reply| Command::RemoveOverride {
        service,
        author,
        reply,
    });
    Ok(success(state.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeBody {
    author: String,
    reason: String,
}

async fn freeze(
    extract::State(state): extract::State<State>,
    body: Body,
) -> Result<Response, ApiError> {
    let body: FreezeBody = read(body)?;
    let author = author(&body.author)?;
    let freeze = Freeze {
        author: author.clone(),
        reason: reason(&body.reason)?,
        set_at: state.clock.now(),
    };
    let set = Some(freeze.clone());
    ask(&state, |reply| Command::Freeze {
        freeze: set,
        author,
        reply,
    })
    .await?;
    Ok(success(freeze))
}

async fn unfreeze(
    extract::State(state): extract::State<State>,
    query: AuthorQuery,
    body: Body,
) -> Result<Response, ApiError> {
    let author = remover(query, body)?;
    ask(&state, |reply| Command::Freeze {
        freeze: None,
        author,
        reply,
    })
    .await?;
    Ok(success(None::<Freeze>))
}

/// Hands a command to the decision task and waits for its answer.
async fn ask<T>(
    state: &State,
    command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command,
) -> Result<T, ApiError> {
    ask::ask(&state.board, state.limits.reply, command).await
}

pub(super) fn named(service: ServicePath) -> Result<String, ApiError> {
    let Path(service) = service.map_err(|rejection| ApiError::bad_data(rejection.body_text()))?;
    Ok(service)
}

pub(super) fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = body.map_err(|rejection| ApiError {
        status: rejection.status(),
        ..ApiError::bad_data(rejection.body_text())
    })?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_data(error.to_string()))
}

fn author(text: &str) -> Result<String, ApiError> {
    within("author", text, MAX_AUTHOR)
}

fn reason(text: &str) -> Result<String, ApiError> {
    within("reason", text, MAX_REASON)
}

pub(super) fn within(name: &str, text: &str, most: usize) -> Result<String, ApiError> {
    match text.trim() {
        "" => Err(ApiError::bad_data(format!("{name} is empty"))),
        text if text.chars().count() > most => Err(ApiError::bad_data(format!(
            "{name} is longer than {most} characters"
        ))),
        text => Ok(text.into()),
    }
}

/// Reads a duration as Prometheus writes it: `90s`, `1h30m`, `2d`. More than nothing.
pub(super) fn duration(name: &str, text: &str) -> Result<Duration, ApiError> {
    let wrong = || {
        ApiError::bad_data(format!(
            "{name}: `{text}` is not one like 90s, 30m or 1h30m"
        ))
    };
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(millis).ok_or_else(wrong)?;
        total = total.saturating_add(Duration::from_millis(part));
        rest = after;
    }
    if total.is_zero() {
        return Err(wrong());
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expose::modes::Limits;
    use crate::expose::modes::fixture::Fixture;

    #[test]
    fn durations_are_read_as_prometheus_writes_them() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("1h30m", 5400.0),
            ("2d", 172_800.0),
            ("5ms", 0.005),
        ] {
            assert_eq!(
                duration("duration", text).unwrap().as_secs_f64(),
                seconds,
                "{text}"
            );
        }
        for text in [
            "",
            "0s",
            "5",
            "s",
            "1x",
            "-5m",
            "1.5h",
            "99999999999999999999s",
            "9999999999999999w",
        ] {
            assert_eq!(
                duration("duration", text).unwrap_err().status,
                400,
                "{text}"
            );
        }
    }

    fn fixture() -> Fixture {
        Fixture::new(Limits::default())
    }

    #[tokio::test]
    async fn overrides_are_set_and_removed() {
        let mut fixture = fixture();
        let mut commands = fixture.decide();
        let path = "/api/v1/modes/cart/override";
        let body = r#"{"mode":"critical","author":" alice ","reason":"drill","duration":"1m"}"#;
        let (status, _, set) = fixture.ask("PUT", path, &[], body).await;
        assert_eq!(status, 200);
        assert_eq!(set["data"]["mode"], "critical");
        let manual = &set["data"]["override"];
        assert_eq!(manual["author"], "alice");
        assert_eq!(manual["expires_at"], "1970-01-12T13:47:40Z");
        assert!(commands.recv().await.unwrap().starts_with("cart: "));

        let body =
            r#"{"mode":"normal","author":"a","reason":"b","expires_at":"1970-02-01T00:00:00Z"}"#;
        let (_, _, set) = fixture.ask("PUT", path, &[], body).await;
        assert_eq!(
            set["data"]["override"]["expires_at"],
            "1970-02-01T00:00:00Z"
        );
        commands.recv().await.unwrap();

        // Nobody is known under that name, or nothing is there to remove.
        let unknown = "/api/v1/modes/nobody/override";
        let (status, _, error) = fixture.ask("PUT", unknown, &[], body).await;
        assert_eq!(
            (status.as_u16(), &error["errorType"]),
            (404, &"not_found".into())
        );
        commands.recv().await.unwrap();
        for (query, body, expected) in [
            ("", "", "cart by unknown"),
            ("?author=bob", "", "cart by bob"),
            ("", r#"{"author":"eve","reason":"over"}"#, "cart by eve"),
        ] {
            let path = format!("{path}{query}");
            let (status, _, _) = fixture.ask("DELETE", &path, &[], body).await;
            assert_eq!(status, 404);
            assert_eq!(commands.recv().await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn wrong_commands_never_reach_the_decision() {
        let fixture = fixture();
        let long = format!(
            r#"{{"mode":"normal","author":"{}","reason":"b"}}"#,
            "x".repeat(300)
        );
        let huge = format!(r#"{{"mode":"{}"}}"#, "x".repeat(70_000));
        for (path, body, status, part) in [
            ("cart/override", "", 400, "EOF"),
            ("cart/override", "[]", 400, "invalid length"),
            ("cart/override", "\u{0}", 400, "expected value"),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a"}"#,
                400,
                "missing field `reason`",
            ),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a","reason":"b","until":1}"#,
                400,
                "unknown field `until`",
            ),
            (
                "cart/override",
                r#"{"mode":"normal","author":" ","reason":"b"}"#,
                400,
                "author is empty",
            ),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a","reason":""}"#,
                400,
                "reason is empty",
            ),
            ("cart/override", &long, 400, "author is longer"),
            ("cart/override", &huge, 413, "length limit"),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a","reason":"b","duration":"0s"}"#,
                400,
                "duration",
            ),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a","reason":"b","duration":5}"#,
                400,
                "expected a string",
            ),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a","reason":"b","expires_at":"soon"}"#,
                400,
                "expires_at",
            ),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a","reason":"b","expires_at":"1970-01-01T00:00:00Z"}"#,
                400,
                "in the past",
            ),
            (
                "cart/override",
                r#"{"mode":"normal","author":"a","reason":"b","expires_at":"2000-01-01T00:00:00Z","duration":"1s"}"#,
                400,
                "not both",
            ),
            ("freeze", r#"{"author":"a"}"#, 400, "missing field `reason`"),
            (
                "freeze",
                r#"{"author":"a","reason":""}"#,
                400,
                "reason is empty",
            ),
        ] {
            let path = format!("/api/v1/modes/{path}");
            let (answered, _, error) = fixture.ask("PUT", &path, &[], body).await;
            assert_eq!(answered, status, "{body}: {error}");
            assert_eq!(error["errorType"], "bad_data", "{body}");
            assert!(
                error["error"].as_str().unwrap().contains(part),
                "{body}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn the_kill_switch_is_set_seen_and_removed() {
        let mut fixture = fixture();
        let mut commands = fixture.decide();
        let path = "/api/v1/modes/freeze";
        let (_, _, before) = fixture.ask("GET", path, &[], "").await;
        assert_eq!(before["data"], serde_json::Value::Null);
        let body = r#"{"author":"alice","reason":"storm"}"#;
        let (status, _, set) = fixture.ask("PUT", path, &[], body).await;
        assert_eq!(status, 200);
        assert_eq!(set["data"]["set_at"], "1970-01-12T13:46:40Z");
        assert_eq!(
            commands.recv().await.unwrap(),
            "freeze Some(\"storm\") by alice"
        );
        let (_, _, seen) = fixture.ask("GET", path, &[], "").await;
        assert_eq!(seen["data"]["reason"], "storm");
        let (status, _, _) = fixture.ask("DELETE", path, &[], body).await;
        assert_eq!(status, 200);
        assert_eq!(commands.recv().await.unwrap(), "freeze None by alice");
    }

    #[tokio::test]
    async fn a_decision_that_does_not_come_is_said() {
        let limits = Limits {
            reply: Duration::from_millis(1),
            ..Limits::default()
        };
        let mut fixture = Fixture::new(limits);
        let (status, _, error) = fixture.ask("DELETE", "/api/v1/modes/freeze", &[], "").await;
        assert_eq!(status, 503);
        assert!(
            error["error"]
                .as_str()
                .unwrap()
                .contains("may still be carried out")
        );
        fixture.end_decisions();
        let (status, _, error) = fixture.ask("DELETE", "/api/v1/modes/freeze", &[], "").await;
        assert_eq!(
            (status.as_u16(), &error["error"]),
            (503, &"shutting down".into())
        );
    }
}
