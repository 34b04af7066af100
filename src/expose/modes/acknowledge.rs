//! `POST /api/v1/modes/{service}/ack`: what an instance of a service runs in.

use axum::Router;
use axum::extract::{self, DefaultBodyLimit};
use axum::response::Response;
use axum::routing::post;

use super::State;
use super::http::{Body, ServicePath, named, read, within};
use super::shown::Shown;
use crate::expose::answer::{ApiError, success};
use crate::model::{Acknowledgement, ModeState};

/// Longest name of an instance, in characters.
const MAX_INSTANCE: usize = 256;
/// Longest name of a mode, in characters; those of the configuration are shorter.
const MAX_MODE: usize = 256;
/// Longest text for people, in characters.
const MAX_DETAIL: usize = 2_000;

pub(super) fn routes(body_bytes: usize) -> Router<State> {
    Router::new()
        .route("/api/v1/modes/{service}/ack", post(acknowledge))
        .layer(DefaultBodyLimit::max(body_bytes))
}

async fn acknowledge(
    extract::State(state): extract::State<State>,
    service: ServicePath,
    body: Body,
) -> Result<Response, ApiError> {
    let service = named(service)?;
    let told = state.acknowledge(service, read(body)?).await?;
    let modes = state.board.modes();
    Ok(success(Shown::from(&modes, &told)))
}

impl State {
    /// What `service` is told now.
    ///
    /// # Errors
    /// It is not known; while the daemon is not ready, it may only not be known yet.
    pub(super) fn told(&self, service: &str) -> Result<ModeState, ApiError> {
        if let Some(told) = self.board.modes().services.get(service) {
            return Ok(told.clone());
        }
        // Nobody is to conclude anything from what may only not be known yet.
        Err(match self.board.not_ready() {
            Some(reason) => ApiError::unavailable(reason),
            None => ApiError::not_found(format!("there is no service `{service}`")),
        })
    }

    /// Passes on what an instance of `service` says, and returns what the service is told by then.
    ///
    /// # Errors
    /// The service is not known, what is said is wrong, or nobody decides on it in time.
    pub(super) async fn acknowledge(
        &self,
        service: String,
        said: Acknowledgement,
    ) -> Result<ModeState, ApiError> {
        self.told(&service)?;
        let said = Acknowledgement {
            instance: short("instance", &said.instance, MAX_INSTANCE)?,
            mode: within("mode", &said.mode, MAX_MODE)?,
            sequence: said.sequence,
            detail: short("detail", &said.detail, MAX_DETAIL)?,
        };
        let decided = self.board.acknowledge(service.clone(), said);
        match tokio::time::timeout(self.limits.reply, decided).await {
            Ok(decided) => decided?,
            Err(_) => {
                let message = "no answer in time; it may still be taken";
                return Err(ApiError::unavailable(message));
            }
        }
        self.told(&service)
    }
}

/// As [`within`], but may be empty.
fn short(name: &str, text: &str, most: usize) -> Result<String, ApiError> {
    match text.trim() {
        "" => Ok(String::new()),
        text => within(name, text, most),
    }
}

#[cfg(test)]
mod tests {
    use crate::expose::modes::Limits;
    use crate::expose::modes::fixture::Fixture;

    const PAY: &str = "/api/v1/modes/pay/ack";

    #[tokio::test]
    async fn acknowledgements_are_passed_on_and_answered_with_what_is_told() {
        let fixture = Fixture::new(Limits::default());
        let mut heard = fixture.listen();
        let body = r#"{"mode":" degraded ","sequence":3,"instance":"pay-1"}"#;
        let (status, _, told) = fixture.ask("POST", PAY, &[], body).await;
        assert_eq!(
            (status.as_u16(), &told["data"]["mode"]),
            (200, &"degraded".into())
        );
        let (service, said) = heard.recv().await.unwrap();
        assert_eq!((service.as_str(), said.mode.as_str()), ("pay", "degraded"));
        assert_eq!((said.sequence, said.instance.as_str()), (3, "pay-1"));
        let (status, _, _) = fixture.ask("POST", PAY, &[], r#"{"mode":"normal"}"#).await;
        assert_eq!(status, 200);
        let (_, said) = heard.recv().await.unwrap();
        assert_eq!((said.sequence, said.instance.as_str()), (0, ""));
    }

    #[tokio::test]
    async fn wrong_acknowledgements_are_refused() {
        let mut fixture = Fixture::new(Limits::default());
        let long = format!(r#"{{"mode":"normal","instance":"{}"}}"#, "x".repeat(300));
        let _heard = fixture.listen();
        for (path, body, status, part) in [
            (PAY, "", 400, "EOF"),
            (PAY, "{}", 400, "missing field `mode`"),
            (PAY, r#"{"mode":""}"#, 400, "mode is empty"),
            (PAY, r#"{"mode":"sideways"}"#, 400, "no such level"),
            (PAY, long.as_str(), 400, "instance is longer"),
            (
                "/api/v1/modes/nobody/ack",
                r#"{"mode":"normal"}"#,
                404,
                "`nobody`",
            ),
        ] {
            let (answered, _, error) = fixture.ask("POST", path, &[], body).await;
            assert_eq!(answered, status, "{body}: {error}");
            assert!(
                error["error"].as_str().unwrap().contains(part),
                "{body}: {error}"
            );
        }
        fixture.board.set_ready(Some("starting".into()));
        let nobody = "/api/v1/modes/nobody/ack";
        let (status, _, _) = fixture
            .ask("POST", nobody, &[], r#"{"mode":"normal"}"#)
            .await;
        assert_eq!(status, 503);
        fixture.end_decisions();
    }

    #[tokio::test]
    async fn an_acknowledgement_that_nobody_takes_is_said() {
        let limits = Limits {
            reply: std::time::Duration::from_millis(1),
            ..Limits::default()
        };
        let mut fixture = Fixture::new(limits);
        let body = r#"{"mode":"normal"}"#;
        let (status, _, error) = fixture.ask("POST", PAY, &[], body).await;
        assert_eq!(status, 503);
        assert!(
            error["error"]
                .as_str()
                .unwrap()
                .contains("may still be taken")
        );
        fixture.end_decisions();
        let (status, _, error) = fixture.ask("POST", PAY, &[], body).await;
        assert_eq!(
            (status.as_u16(), &error["error"]),
            (503, &"shutting down".into())
        );
    }
}
