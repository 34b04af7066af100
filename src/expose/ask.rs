use std::time::Duration;

use tokio::sync::oneshot;

use super::answer::ApiError;
use crate::publish::{Board, Command, CommandError};

/// Hands a command to the decision task and waits for its answer, at most for `patience`.
pub(super) async fn ask<T>(
    board: &Board,
    patience: Duration,
    command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command,
) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        board.command(command(reply)).await?;
        answer
            .await
            .map_err(|_| CommandError::Unavailable("shutting down".into()))?
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::unavailable(
            "no answer in time; it may still be carried out",
        )),
    }
}
