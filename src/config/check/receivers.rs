//! Receivers: names that exist, chains that end, secrets that are not in clear.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::diagnostic::suggest;
use crate::config::receiver::LOG_RECEIVER;
use crate::config::yaml::Node;
use crate::config::{Config, Period, Receiver, Secret, Webhook};

use super::Checker;

impl Checker<'_> {
    pub(super) fn receivers(&mut self, config: &Config) {
        let names = self.receiver_names();
        let mut seen = BTreeSet::new();
        for (at, receiver) in config.receivers.iter().enumerate() {
            let path = format!("receivers[{at}]");
            self.receiver(receiver, &path, &names, &mut seen);
        }
        self.fallbacks(config);
    }

    /// Names as the file has them: a receiver with a mistake in it is still known.
    pub(super) fn receiver_names(&self) -> BTreeSet<String> {
        let receivers = self.place.root.get("receivers");
        let receivers = receivers.map_or(&[][..], Node::elements);
        let names = receivers
            .iter()
            .filter_map(|receiver| Some(receiver.get("name")?.text()?.to_owned()));
        names.chain([LOG_RECEIVER.to_owned()]).collect()
    }

    pub(super) fn receiver_name(&mut self, path: &str, name: &str, names: &BTreeSet<String>) {
        if !names.contains(name) {
            let shown = self.shown(path, name);
            self.error(
                path,
                format!("unknown receiver `{shown}`"),
                suggest(name, names.iter().map(String::as_str), "receivers"),
            );
        }
    }

    fn receiver<'c>(
        &mut self,
        receiver: &'c Receiver,
        path: &str,
        names: &BTreeSet<String>,
        seen: &mut BTreeSet<&'c str>,
    ) {
        let name_path = format!("{path}.name");
        self.name(&name_path, &receiver.name);
        if receiver.name == LOG_RECEIVER {
            self.error(
                &name_path,
                "the receiver `log` is built in",
                "choose another name",
            );
        } else if !seen.insert(&receiver.name) {
            let shown = self.shown(&name_path, &receiver.name);
            self.error(
                &name_path,
                format!("a second receiver is called `{shown}`"),
                "each needs a name of its own",
            );
        }
        if receiver.webhook_configs.is_empty() && !self.is_broken(path) {
            self.warn(path, "tells nobody", "add `webhook_configs`");
        }
        if let Some(fallback) = &receiver.fallback {
            self.receiver_name(&format!("{path}.fallback"), fallback, names);
        }
        for (at, webhook) in receiver.webhook_configs.iter().enumerate() {
            self.webhook(webhook, &format!("{path}.webhook_configs[{at}]"));
        }
    }

    fn webhook(&mut self, webhook: &Webhook, path: &str) {
        self.period(
            &format!("{path}.timeout"),
            webhook.timeout,
            Period(Duration::from_millis(100)),
            Period::secs(300),
        );
        let secret = format!("{path}.secret");
        let key = webhook.secret.as_ref().map(Secret::reveal);
        if let Some(key) = key.and_then(|key| key.strip_prefix("whsec_"))
            && BASE64.decode(key).map_or(true, |key| key.is_empty())
        {
            self.error(
                &secret,
                "is not base64 after `whsec_`",
                "copy it whole, or use any text that does not begin with `whsec_`",
            );
        }
        self.secret(&secret);
        let url = webhook.url.reveal();
        if url.password().is_some() {
            self.secret(&format!("{path}.url"));
        }
        for (name, value) in &webhook.headers {
            // Names may hold dots, which paths take for steps; then the place is that of all headers.
            let header = format!("{path}.headers.{name}");
            if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                self.error(
                    &header,
                    format!("`{name}` is no header name"),
                    "as in `X-Scope`",
                );
            } else if is_own_header(name) {
                self.error(
                    &header,
                    format!("the header `{name}` is set by Tidewatch"),
                    "leave it out",
                );
            }
            if reqwest::header::HeaderValue::from_str(value.reveal()).is_err() {
                self.error(
                    &header,
                    "is no header value",
                    "visible characters on one line",
                );
            }
            let lower = name.to_ascii_lowercase();
            if ["auth", "token", "key", "secret", "cookie"]
                .iter()
                .any(|word| lower.contains(word))
            {
                self.secret(&header);
            }
        }
    }

    /// A chain of fallbacks must end.
    fn fallbacks(&mut self, config: &Config) {
        let next: BTreeMap<&str, &str> = config
            .receivers
            .iter()
            .filter_map(|receiver| Some((receiver.name.as_str(), receiver.fallback.as_deref()?)))
            .collect();
        for (at, receiver) in config.receivers.iter().enumerate() {
            let mut name = receiver.name.as_str();
            for _ in 0..next.len() {
                match next.get(name) {
                    Some(following) => name = following,
                    None => break,
                }
                if name == receiver.name {
                    self.error(
                        &format!("receivers[{at}].fallback"),
                        "leads back to this receiver",
                        "let the last of the chain fall back to `log`",
                    );
                    break;
                }
            }
        }
    }
}

/// Headers that a request has by what it is.
fn is_own_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("webhook-")
        || matches!(
            name.as_str(),
            "content-type"
                | "content-length"
                | "content-encoding"
                | "host"
                | "connection"
                | "transfer-encoding"
        )
}
