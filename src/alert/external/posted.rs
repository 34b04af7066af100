//! What a reported alert must look like, and what its times mean.

use std::time::Duration;

use crate::model::{Alert, Labels, PostedAlert, Timestamp};

/// Most text of one alert, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Most labels, and most annotations, of one alert.
const MAX_LABELS: usize = 128;

/// From when to when an alert fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    /// Whether the end follows from there being none.
    pub(super) is_timeout: bool,
}

impl Times {
    pub(super) fn of(alert: &Alert) -> Self {
        let reported = alert.reported();
        Self {
            starts_at: alert.since,
            ends_at: reported.map_or(alert.updated_at, |reported| reported.ends_at),
            is_timeout: reported.is_some_and(|reported| reported.is_timeout),
        }
    }

    pub(super) fn is_over(self, now: Timestamp) -> bool {
        self.ends_at <= now
    }

    /// What holds after `newer` was said of an alert that fires: where the two overlap it began with the
    /// earlier one, and an end that was said explicitly stands against an earlier one.
    pub(super) fn merge(self, newer: Self, now: Timestamp) -> Self {
        let within = |time: Timestamp| time > self.starts_at && time < self.ends_at;
        if !within(newer.starts_at) && !within(newer.ends_at) {
            return newer;
        }
        let mut merged = Self {
            starts_at: self.starts_at.min(newer.starts_at),
            ..newer
        };
        if !newer.is_over(now) && self.ends_at > newer.ends_at && !self.is_timeout {
            merged.ends_at = self.ends_at;
        }
        merged
    }
}

/// The alert without empty labels, its times, and how much text it holds; or what is wrong with it, in
/// Alertmanager's words.
pub(super) fn checked(
    mut alert: PostedAlert,
    now: Timestamp,
    resolve_timeout: Duration,
) -> Result<(PostedAlert, Times, usize), String> {
    let is_timeout = alert.ends_at.is_none();
    let starts_at = alert.starts_at.or(alert.ends_at).unwrap_or(now);
    let ends_at = alert.ends_at.unwrap_or_else(|| now.plus(resolve_timeout));
    alert.labels.0.retain(|_, value| !value.is_empty());
    if ends_at < starts_at {
        return Err("start time must be before end time".into());
    }
    check_names("invalid label set", &alert.labels)?;
    if alert.labels.is_empty() {
        return Err("at least one label pair required".into());
    }
    check_names("invalid annotations", &alert.annotations)?;
    let bytes = text(&alert.labels) + text(&alert.annotations) + alert.generator_url.len();
    if bytes > MAX_BYTES {
        return Err(format!(
            "alert of {bytes} bytes, at most {MAX_BYTES} are taken"
        ));
    }
    let times = Times {
        starts_at,
        ends_at,
        is_timeout,
    };
    Ok((alert, times, bytes))
}

fn check_names(what: &str, labels: &Labels) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("{what}: more than {MAX_LABELS}"));
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match labels.iter().find(|(name, _)| !is_name(name)) {
        Some((name, _)) => {
            let shown: String = name.chars().take(64).collect();
            Err(format!("{what}: invalid name {shown:?}"))
        }
        None => Ok(()),
    }
}

/// How much text they hold, in bytes.
pub(super) fn text(labels: &Labels) -> usize {
    labels
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}
