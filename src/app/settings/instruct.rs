//! Services that are told by requests, in the words of the stage that tells them.

use anyhow::Context as _;

use crate::config::Config;
use crate::{instruct, notify};

pub(in crate::app) fn instruct(config: &Config, seed: u64) -> anyhow::Result<instruct::Settings> {
    let modes = &config.modes;
    let webhooks = modes.webhooks.iter().map(|hook| {
        let service = format!("^(?:{})$", hook.service.0);
        let secret = hook.secret.as_ref();
        let secret = secret.map(|secret| notify::Secret::parse(secret.reveal()));
        Ok(instruct::Webhook {
            service: regex::Regex::new(&service).context("modes.webhooks: service")?,
            url: hook.url.clone(),
            secret: secret
                .transpose()
                .map_err(anyhow::Error::msg)
                .context("modes.webhooks: secret")?,
        })
    });
    Ok(instruct::Settings {
        webhooks: webhooks.collect::<anyhow::Result<_>>()?,
        lease: modes.lease.0,
        seed,
        ..instruct::Settings::default()
    })
}
