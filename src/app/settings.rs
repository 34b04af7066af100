//! The configuration, handed to each stage in that stage's own words.

mod instruct;
mod modes;

use std::time::Duration;

pub(super) use instruct::instruct;
pub(super) use modes::modes;

use super::receivers;
use crate::config::{Config, LOG_RECEIVER};
use crate::{alert, engine, expose, ingest, notify};

/// What of `limits.memory` requests in work may take, decompressed.
const INFLIGHT_SHARE: u64 = 4;

pub(super) fn ingest(config: &Config) -> ingest::Settings {
    let otlp = &config.otlp;
    ingest::Settings {
        grpc: otlp.grpc.address(),
        http: otlp.http.address(),
        max_request_bytes: usize::try_from(otlp.max_request_size.0).unwrap_or(usize::MAX),
        inflight_bytes: config.limits.memory.0 / INFLIGHT_SHARE,
        known_series: usize::try_from(config.limits.series).unwrap_or(usize::MAX),
        header_timeout: otlp.header_timeout.0,
        body_timeout: otlp.body_timeout.0,
        cors_origins: otlp
            .cors
            .as_ref()
            .map_or_else(Vec::new, |c| c.allowed_origins.clone()),
        auth: otlp.auth.as_ref().map(|auth| ingest::Auth {
            bearer: auth
                .bearer
                .iter()
                .map(|token| token.reveal().to_owned())
                .collect(),
            basic: auth
                .basic
                .iter()
                .map(|basic| (basic.username.clone(), basic.password.reveal().to_owned()))
                .collect(),
        }),
        tls: otlp.tls.as_ref().map(|tls| ingest::Tls {
            cert: tls.cert_file.clone(),
            key: tls.key_file.clone(),
            client_ca: tls.client_ca_file.clone(),
        }),
        ..ingest::Settings::default()
    }
}

pub(super) fn engine(config: &Config, own: Option<(String, String)>) -> engine::Settings {
    let (own_service, own_instance) = own.unzip();
    engine::Settings {
        tick: config.window.tick.0,
        window: config.window.spec(),
        max_series: config.limits.series,
        max_series_per_service: config.limits.series_per_service,
        max_services: usize::try_from(config.limits.services).unwrap_or(usize::MAX),
        idle_after: config.window.idle_after.0,
        own_service,
        own_instance,
        ..engine::Settings::default()
    }
}

pub(super) fn alert(config: &Config) -> alert::Settings {
    alert::Settings {
        // A signal that comes once a minute must not be taken for silent between two samples.
        stale_after: config.window.tick.0.saturating_mul(10),
        flapping: flapping(config),
        ..alert::Settings::default()
    }
}

fn flapping(config: &Config) -> alert::Flapping {
    alert::Flapping {
        fires: config.flapping.fires,
        within: config.flapping.within.0,
        hold: config.flapping.hold.0,
    }
}

pub(super) fn external(config: &Config) -> alert::ExternalSettings {
    alert::ExternalSettings {
        resolve_timeout: config.global.resolve_timeout.0,
        flapping: flapping(config),
        ..alert::ExternalSettings::default()
    }
}

pub(super) fn notify(
    config: &Config,
    external_url: String,
    seed: u64,
) -> anyhow::Result<notify::Settings> {
    let delivery = &config.delivery;
    let (retry, breaker) = (&delivery.retry, &delivery.breaker);
    let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    Ok(notify::Settings {
        receivers: receivers::receivers(config)?,
        external_url,
        seed,
        retry: notify::Policy {
            initial: retry.initial.0,
            max: retry.max.0,
            max_elapsed: retry.max_elapsed.0,
            keep: retry.keep.0,
            max_retry_after: retry.max_retry_after.0,
        },
        breaker: notify::BreakerSettings {
            failures: breaker.failures,
            successes: breaker.successes,
            open: breaker.open.0,
            trial: breaker.trial.0,
        },
        concurrency: notify::Concurrency {
            receiver: number(delivery.concurrency.receiver),
            kind: number(delivery.concurrency.kind),
        },
        outbox: notify::OutboxSettings {
            messages: number(delivery.outbox.messages),
            bytes: usize::try_from(delivery.outbox.size.0).unwrap_or(usize::MAX),
        },
        connect_timeout: delivery.connect_timeout.0,
        drain: delivery.drain.0,
        ..notify::Settings::default()
    })
}

pub(super) fn expose(config: &Config) -> expose::Settings {
    let mut receivers: Vec<String> = config
        .receivers
        .iter()
        .map(|receiver| receiver.name.clone())
        .collect();
    if !receivers.iter().any(|name| name == LOG_RECEIVER) {
        receivers.push(LOG_RECEIVER.into());
    }
    expose::Settings {
        listen: config.http.listen.0,
        allowed_hosts: config.http.allowed_hosts.clone(),
        external_url: config
            .http
            .external_url
            .as_ref()
            .map(|url| url.as_str().to_owned()),
        exposed_signals: usize::try_from(config.http.metrics_signals).unwrap_or(usize::MAX),
        receivers,
        resolve_timeout: config.global.resolve_timeout.0,
        configuration: config.to_alertmanager_yaml(),
        drain: Duration::from_secs(5),
        modes: doors(config.modes.lease.0),
        ..expose::Settings::default()
    }
}

/// Whoever watches is to hear at least three times within a lease that it holds, so that one word that is
/// late or lost takes nothing from it.
fn doors(lease: Duration) -> expose::modes::Limits {
    let limits = expose::modes::Limits::default();
    expose::modes::Limits {
        heartbeat: limits.heartbeat.min(lease / 3),
        renew: limits.renew.min(lease / 3),
        ..limits
    }
}
