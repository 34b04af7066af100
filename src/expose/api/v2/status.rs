use axum::{Json, extract};
use serde_json::{Value, json};

use super::alerts::Receiver;
use crate::expose::state::State;

/// One instance alone, which Alertmanager calls a disabled cluster.
pub(super) async fn status(extract::State(state): extract::State<State>) -> Json<Value> {
    Json(json!({
        "cluster": {"status": "disabled", "peers": []},
        "versionInfo": {
            "version": env!("CARGO_PKG_VERSION"),
            "revision": "",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        },
        "config": {"original": state.settings.configuration},
        "uptime": state.started,
    }))
}

pub(super) async fn receivers(extract::State(state): extract::State<State>) -> Json<Vec<Receiver>> {
    let names = state.settings.receivers.iter();
    Json(names.map(|name| Receiver { name: name.clone() }).collect())
}
