use std::collections::BTreeMap;

use axum::{Json, extract};
use serde::Serialize;

use super::alerts::{GettableAlert, Receiver};
use super::error::Error;
use super::filter::Filter;
use crate::expose::params::Params;
use crate::expose::state::State;
use crate::model::Labels;

/// Alerts that are notified together.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    labels: Labels,
    receiver: Receiver,
    alerts: Vec<GettableAlert>,
}

pub(super) async fn list(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Json<Vec<Group>>, Error> {
    let routing = &state.settings.routing;
    let by_all = routing.group_by.iter().any(|name| name == "...");
    let mut groups: BTreeMap<Labels, Vec<GettableAlert>> = BTreeMap::new();
    let filter = Filter::from_params(&params)?;
    for shown in filter.apply(&state) {
        let alert = &shown.alert;
        let is_by = |name: &str| routing.group_by.iter().any(|by| by == name);
        let mut labels: Labels = alert
            .labels
            .iter()
            .filter(|(name, _)| by_all || is_by(name))
            .collect();
        // As the dispatcher groups: an incident is no label of an alert.
        if let Some(incident) = alert
            .annotations
            .get("incident")
            .filter(|_| is_by("incident"))
            && labels.get("incident").is_none()
        {
            labels.set("incident", incident);
        }
        groups
            .entry(labels)
            .or_default()
            .push(GettableAlert::of(&shown, &state));
    }
    let groups = groups.into_iter().map(|(labels, alerts)| Group {
        labels,
        receiver: Receiver {
            name: routing.receiver.clone(),
        },
        alerts,
    });
    Ok(Json(groups.collect()))
}
