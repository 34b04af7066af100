use axum::extract;
use axum::response::Response;

use crate::expose::answer::success_page;
use crate::expose::state::State;

/// All receivers, in the order of the configuration, with what became of their notifications.
pub(super) async fn list(extract::State(state): extract::State<State>) -> Response {
    success_page(state.deliveries.receivers(), None)
}
