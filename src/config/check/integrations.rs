//! Integrations of receivers: nothing missing, nothing twice, no secrets in clear.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::units::ByteSize;
use crate::config::{
    Email, Global, HttpConfig, LogFile, Opsgenie, PagerDuty, Period, Receiver, Responder, Secret,
    TlsConfig, Webhook,
};

use super::Checker;

impl Checker<'_> {
    /// What receivers take from `global`.
    pub(super) fn global(&mut self, global: &Global) {
        let both = [
            (
                "smtp_auth_password",
                global.smtp_auth_password.is_some(),
                global.smtp_auth_password_file.is_some(),
            ),
            (
                "slack_api_url",
                global.slack_api_url.is_some(),
                global.slack_api_url_file.is_some(),
            ),
            (
                "opsgenie_api_key",
                global.opsgenie_api_key.is_some(),
                global.opsgenie_api_key_file.is_some(),
            ),
        ];
        for (key, is_set, has_file) in both {
            if is_set && has_file {
                self.error(
                    &format!("global.{key}"),
                    format!("is there twice, and as `{key}_file`"),
                    "leave out one of them",
                );
            }
        }
        let day = Period::secs(86_400);
        self.period(
            "global.resolve_timeout",
            global.resolve_timeout,
            Period::secs(1),
            day,
        );
        self.secret("global.smtp_auth_password");
        self.secret("global.opsgenie_api_key");
        if let Some(http) = &global.http_config {
            self.http(http, "global.http_config");
        }
    }

    pub(super) fn integrations(&mut self, receiver: &Receiver, global: &Global, path: &str) {
        let at = |key: &str, at: usize| format!("{path}.{key}[{at}]");
        for (n, one) in receiver.webhook_configs.iter().enumerate() {
            let path = at("webhook_configs", n);
            self.attempt(one.timeout, one.http_config.as_ref(), &path);
            self.webhook(one, &path);
        }
        for (n, one) in receiver.slack_configs.iter().enumerate() {
            let path = at("slack_configs", n);
            self.attempt(one.timeout, one.http_config.as_ref(), &path);
            let inherited = global.slack_api_url.is_some() || global.slack_api_url_file.is_some();
            self.one_of(
                &path,
                ("api_url", one.api_url.is_some()),
                ("api_url_file", one.api_url_file.is_some()),
                Some(("slack_api_url", inherited)),
            );
            for (n, action) in one.actions.iter().enumerate() {
                if action.r#type != "button" {
                    self.error(
                        &format!("{path}.actions[{n}].type"),
                        "only `button` is known",
                        "a button leads to its `url`",
                    );
                }
            }
        }
        for (n, one) in receiver.pagerduty_configs.iter().enumerate() {
            let path = at("pagerduty_configs", n);
            self.attempt(one.timeout, one.http_config.as_ref(), &path);
            self.pagerduty(one, &path);
        }
        for (n, one) in receiver.opsgenie_configs.iter().enumerate() {
            let path = at("opsgenie_configs", n);
            self.attempt(one.timeout, one.http_config.as_ref(), &path);
            self.opsgenie(one, global, &path);
        }
        let teams = [
            ("msteams_configs", &receiver.msteams_configs),
            ("msteamsv2_configs", &receiver.msteamsv2_configs),
        ];
        for (key, teams) in teams {
            for (n, one) in teams.iter().enumerate() {
                let path = at(key, n);
                self.attempt(one.timeout, one.http_config.as_ref(), &path);
                self.one_of(
                    &path,
                    ("webhook_url", one.webhook_url.is_some()),
                    ("webhook_url_file", one.webhook_url_file.is_some()),
                    None,
                );
            }
        }
        for (n, one) in receiver.email_configs.iter().enumerate() {
            self.email(one, global, &at("email_configs", n));
        }
        for (n, one) in receiver.alertmanager_configs.iter().enumerate() {
            let path = at("alertmanager_configs", n);
            self.attempt(one.timeout, one.http_config.as_ref(), &path);
            self.present(&path, "url", one.url.is_some());
            self.period(
                &format!("{path}.resolve_timeout"),
                one.resolve_timeout,
                Period::secs(60),
                Period::secs(365 * 86_400),
            );
        }
        for (n, one) in receiver.file_configs.iter().enumerate() {
            self.log_file(one, &at("file_configs", n));
        }
    }

    fn attempt(&mut self, timeout: Period, http: Option<&HttpConfig>, path: &str) {
        self.period(
            &format!("{path}.timeout"),
            timeout,
            Period(Duration::from_millis(100)),
            Period::secs(300),
        );
        if let Some(http) = http {
            self.http(http, &format!("{path}.http_config"));
        }
    }

    /// Exactly one of a setting and the file that holds it; or, with neither, one in `global`.
    fn one_of(
        &mut self,
        path: &str,
        (key, is_set): (&str, bool),
        (file, has_file): (&str, bool),
        global: Option<(&str, bool)>,
    ) {
        if is_set && has_file {
            self.error(
                &format!("{path}.{key}"),
                format!("is there twice, and as `{file}`"),
                "leave out one of them",
            );
        }
        let inherited = global.is_some_and(|(_, is_set)| is_set);
        if !is_set && !has_file && !inherited && !self.is_broken(path) {
            let hint = match global {
                Some((global, _)) => format!("set `{key}`, `{file}` or `global.{global}`"),
                None => format!("set `{key}` or `{file}`"),
            };
            self.error(path, format!("the key `{key}` is missing"), hint);
        }
    }

    fn present(&mut self, path: &str, key: &str, is_set: bool) {
        if !is_set && !self.is_broken(path) {
            self.error(
                path,
                format!("the key `{key}` is missing"),
                "it has no default",
            );
        }
    }

    fn http(&mut self, http: &HttpConfig, path: &str) {
        let bearer = http.bearer_token.is_some() || http.bearer_token_file.is_some();
        let kinds = [
            http.authorization.is_some(),
            http.basic_auth.is_some(),
            bearer,
        ];
        if kinds.into_iter().filter(|is_set| *is_set).count() > 1 {
            self.error(
                path,
                "more than one kind of authentication",
                "leave one of `authorization`, `basic_auth` and `bearer_token`",
            );
        }
        if http.bearer_token.is_some() && http.bearer_token_file.is_some() {
            let path = format!("{path}.bearer_token");
            self.error(
                &path,
                "is there twice, and as `bearer_token_file`",
                "leave out one of them",
            );
        }
        self.secret(&format!("{path}.bearer_token"));
        if let Some(authorization) = &http.authorization {
            let path = format!("{path}.authorization");
            self.one_of(
                &path,
                ("credentials", authorization.credentials.is_some()),
                ("credentials_file", authorization.credentials_file.is_some()),
                None,
            );
            self.secret(&format!("{path}.credentials"));
            if authorization.r#type.eq_ignore_ascii_case("basic") {
                self.error(
                    &format!("{path}.type"),
                    "is not for names and passwords",
                    "write `basic_auth: {username: …, password: …}`",
                );
            }
        }
        if let Some(basic) = &http.basic_auth {
            let path = format!("{path}.basic_auth");
            if basic.password.is_some() && basic.password_file.is_some() {
                let path = format!("{path}.password");
                self.error(
                    &path,
                    "is there twice, and as `password_file`",
                    "leave out one of them",
                );
            }
            self.secret(&format!("{path}.password"));
            if basic.username.contains(':') {
                self.error(
                    &format!("{path}.username"),
                    "must not contain a colon",
                    "HTTP's basic authentication separates name and password by it",
                );
            }
        }
        if http.follow_redirects == Some(true) {
            self.warn(
                &format!("{path}.follow_redirects"),
                "redirects are never followed: they would lead anywhere",
                "give the address that the receiver redirects to",
            );
        }
        if let Some(tls) = &http.tls_config {
            self.tls(tls, &format!("{path}.tls_config"));
        }
    }

    fn tls(&mut self, tls: &TlsConfig, path: &str) {
        if tls.insecure_skip_verify == Some(true) {
            self.error(
                &format!("{path}.insecure_skip_verify"),
                "certificates are always checked",
                "name the certificate authority in `ca_file`",
            );
        }
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            self.error(
                path,
                "has one of `cert_file` and `key_file`",
                "they belong together",
            );
        }
        let files = [
            ("ca_file", tls.ca_file.as_deref()),
            ("cert_file", tls.cert_file.as_deref()),
            ("key_file", tls.key_file.as_deref()),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                self.readable(&format!("{path}.{key}"), file);
            }
        }
    }

    /// A file that must be there when the daemon starts.
    fn readable(&mut self, path: &str, file: &Path) {
        if let Err(error) = std::fs::File::open(file) {
            self.warn(
                path,
                format!("{} cannot be read: {error}", file.display()),
                "it must be there where the daemon runs",
            );
        }
    }

    fn webhook(&mut self, webhook: &Webhook, path: &str) {
        self.one_of(
            path,
            ("url", webhook.url.is_some()),
            ("url_file", webhook.url_file.is_some()),
            None,
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
        if webhook
            .url
            .as_ref()
            .is_some_and(|url| url.reveal().password().is_some())
        {
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

    fn pagerduty(&mut self, one: &PagerDuty, path: &str) {
        self.one_of(
            path,
            ("routing_key", one.routing_key.is_some()),
            ("routing_key_file", one.routing_key_file.is_some()),
            None,
        );
        self.secret(&format!("{path}.routing_key"));
    }

    fn opsgenie(&mut self, one: &Opsgenie, global: &Global, path: &str) {
        let inherited = global.opsgenie_api_key.is_some() || global.opsgenie_api_key_file.is_some();
        self.one_of(
            path,
            ("api_key", one.api_key.is_some()),
            ("api_key_file", one.api_key_file.is_some()),
            Some(("opsgenie_api_key", inherited)),
        );
        self.secret(&format!("{path}.api_key"));
        for (n, responder) in one.responders.iter().enumerate() {
            let path = format!("{path}.responders[{n}]");
            let Responder {
                id,
                name,
                username,
                r#type,
            } = responder;
            let names = [id, name, username].into_iter().flatten().count();
            if names != 1 {
                self.error(
                    &path,
                    "names nobody, or more than one",
                    "one of `id`, `name` and `username`",
                );
            }
            let known = ["team", "teams", "user", "escalation", "schedule"];
            if !r#type.contains('{') && !known.contains(&r#type.to_lowercase().as_str()) {
                self.error(
                    &format!("{path}.type"),
                    format!(
                        "`{}` is no type",
                        self.shown(&format!("{path}.type"), r#type)
                    ),
                    format!("one of {}", known.join(", ")),
                );
            }
        }
    }

    fn email(&mut self, one: &Email, global: &Global, path: &str) {
        self.attempt(one.timeout, None, path);
        self.present(path, "to", one.to.is_some());
        for (key, is_set) in [
            ("from", one.from.is_some() || global.smtp_from.is_some()),
            (
                "smarthost",
                one.smarthost.is_some() || global.smtp_smarthost.is_some(),
            ),
        ] {
            if !is_set && !self.is_broken(path) {
                self.error(
                    path,
                    format!("the key `{key}` is missing"),
                    format!("set `{key}` or `global.smtp_{key}`"),
                );
            }
        }
        if one.auth_password.is_some() && one.auth_password_file.is_some() {
            let path = format!("{path}.auth_password");
            self.error(
                &path,
                "is there twice, and as `auth_password_file`",
                "leave out one of them",
            );
        }
        self.secret(&format!("{path}.auth_password"));
        if let Some(tls) = &one.tls_config {
            self.tls(tls, &format!("{path}.tls_config"));
        }
        let host = one.smarthost.as_ref().or(global.smtp_smarthost.as_ref());
        let is_near =
            host.is_some_and(|at| matches!(at.host.as_str(), "localhost" | "127.0.0.1" | "::1"));
        let is_plain = !one.require_tls.unwrap_or(global.smtp_require_tls)
            && host.is_some_and(|at| at.port != 465);
        let has_user = one.auth_username.is_some() || global.smtp_auth_username.is_some();
        if is_plain && has_user && !is_near {
            self.error(
                &format!("{path}.require_tls"),
                "the password would go over the network in clear",
                "leave it out, or let the server be on this machine",
            );
        }
        for name in one.headers.keys() {
            let is_name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
            if !is_name {
                self.error(
                    &format!("{path}.headers.{name}"),
                    format!("`{name}` is no header name"),
                    "as in `Subject`",
                );
            }
        }
        if one.html.as_deref() == Some("") && one.text.as_deref() == Some("") {
            self.error(
                path,
                "the mail is empty",
                "leave out one of `html` and `text`",
            );
        }
    }

    fn log_file(&mut self, one: &LogFile, path: &str) {
        self.present(path, "path", one.path.is_some());
        if one.max_size < ByteSize(4096) {
            self.error(
                &format!("{path}.max_size"),
                format!("must be at least 4KiB, is {}", one.max_size),
                "the default is 64MiB",
            );
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
