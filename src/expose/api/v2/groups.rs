use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract;
use axum::response::Response;
use serde::Serialize;

use super::alerts::{GettableAlert, Receiver, Shown};
use super::error::Error;
use super::filter::Filter;
use crate::expose::aside::{aside, json};
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::{Fingerprint, Labels};

/// Alerts that are notified together.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    labels: Arc<Labels>,
    receiver: Receiver,
    alerts: Vec<GettableAlert>,
}

/// The groups that have alerts which are asked for, by their labels and then their receiver.
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, Error> {
    let filter = Filter::from_params(&params)?;
    let reader = state.clone();
    let answer = move || json(&groups(&filter, &reader));
    let answer = aside(&state.telemetry, &state.answers, answer).await;
    answer.ok_or_else(Error::failed)
}

fn groups(filter: &Filter, state: &State) -> Vec<Group> {
    let alerts = filter.apply(state).into_iter();
    let alerts: BTreeMap<Fingerprint, Shown> = alerts
        .map(|shown| (shown.alert.fingerprint, shown))
        .collect();
    let notifying = state.board.notifying();
    let groups = notifying.groups.iter();
    let groups = groups.filter(|group| filter.wants_receiver(&group.receiver));
    let groups = groups.filter_map(|group| {
        let members = group.alerts.iter().filter_map(|member| alerts.get(member));
        let members: Vec<_> = members
            .map(|shown| GettableAlert::of(shown, state))
            .collect();
        (!members.is_empty()).then(|| Group {
            labels: Arc::clone(&group.labels),
            receiver: Receiver {
                name: group.receiver.to_string(),
            },
            alerts: members,
        })
    });
    groups.collect()
}
