//! Receivers as the configuration has them, in delivery's own words.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::config::{self, Config, Global, Receiver, Secret, SecretUrl, TemplateFile, TextKind};
use crate::notify::{
    self, Address, Authorization, Credential, Endpoint, Http, Integration, Resolved, Target,
    Templates, Text, TransportSettings,
};

/// All receivers. Files of templates and certificates are read now.
///
/// # Errors
/// A file cannot be read, or holds what it should not.
pub(super) fn receivers(config: &Config) -> anyhow::Result<Vec<notify::Receiver>> {
    let files = config::read_templates(Path::new(""), &config.templates)
        .with_context(|| "`templates`".to_owned())?;
    let templates = Templates::new(pairs(&files))
        .map_err(anyhow::Error::msg)
        .with_context(|| "`templates`".to_owned())?;
    let build = |receiver: &Receiver| {
        let zone = receiver.time_zone.as_ref();
        let builder = Builder {
            global: &config.global,
            templates: &templates,
            zone: zone.unwrap_or(&config.global.time_zone).zone().clone(),
        };
        builder
            .receiver(receiver)
            .with_context(|| format!("receiver `{}`", receiver.name))
    };
    config.receivers.iter().map(build).collect()
}

/// Says what is wrong with a text of a receiver.
pub(super) fn check_text(files: &[TemplateFile], kind: TextKind, text: &str) -> Result<(), String> {
    let (target, is_leaf) = match kind {
        TextKind::Line => (Target::Line, false),
        TextKind::Plain => (Target::Plain, false),
        TextKind::Html => (Target::Html, false),
        TextKind::SlackLine => (Target::SlackLine, false),
        TextKind::Slack => (Target::Slack, false),
        TextKind::MarkdownLine => (Target::MarkdownLine, false),
        TextKind::Markdown => (Target::Markdown, false),
        TextKind::Json => (Target::Json, false),
        TextKind::Leaf => (Target::Plain, true),
    };
    notify::check_text(pairs(files), target, is_leaf, text)
}

fn pairs(files: &[TemplateFile]) -> impl Iterator<Item = (&str, &str)> + Clone {
    files
        .iter()
        .map(|file| (file.name.as_str(), file.text.as_str()))
}

/// What integrations of one receiver are built with.
struct Builder<'a> {
    global: &'a Global,
    templates: &'a Templates,
    zone: TimeZone,
}

impl Builder<'_> {
    fn receiver(&self, receiver: &Receiver) -> anyhow::Result<notify::Receiver> {
        let mut integrations = Vec::new();
        macro_rules! each {
            ($($key:ident: $build:ident,)*) => {$(
                for (at, one) in receiver.$key.iter().enumerate() {
                    let place = || format!("{}[{at}]", stringify!($key));
                    integrations.push(self.$build(one).with_context(place)?);
                }
            )*};
        }
        each! {
            webhook_configs: webhook,
            slack_configs: slack,
            pagerduty_configs: pagerduty,
            opsgenie_configs: opsgenie,
            msteams_configs: teams,
            msteamsv2_configs: teams,
            email_configs: email,
            alertmanager_configs: alertmanager,
            file_configs: file,
        }
        if integrations.is_empty() {
            integrations.push(Integration::Log);
        }
        Ok(notify::Receiver {
            name: receiver.name.clone(),
            integrations,
            fallback: receiver.fallback.clone(),
        })
    }

    fn webhook(&self, one: &config::Webhook) -> anyhow::Result<Integration> {
        let address = address((&one.url, &one.url_file), None)?;
        let endpoint = self.endpoint(address, &one.http_config, one.timeout, one.send_resolved)?;
        let mut webhook = notify::Webhook::at(endpoint);
        if let Some(secret) = &one.secret {
            webhook =
                webhook.signed(notify::Secret::parse(secret.reveal()).map_err(anyhow::Error::msg)?);
        }
        for (name, value) in &one.headers {
            webhook = webhook
                .header(name, value.reveal())
                .map_err(anyhow::Error::msg)?;
        }
        if one.max_alerts > 0 {
            webhook = webhook.max_alerts(usize::try_from(one.max_alerts).unwrap_or(usize::MAX));
        }
        webhook = match &one.payload {
            None => webhook,
            Some(Value::String(text)) => {
                webhook.payload(notify::Payload::Whole(self.text(Target::Json, text)?))
            }
            Some(tree) => webhook.payload(notify::Payload::Tree(self.tree(tree)?)),
        };
        Ok(Integration::Webhook(Box::new(webhook)))
    }

    fn tree(&self, value: &Value) -> anyhow::Result<notify::Tree> {
        Ok(match value {
            Value::String(text) => notify::Tree::Text(self.text(Target::Plain, text)?),
            Value::Array(list) => {
                let list = list.iter().map(|child| self.tree(child));
                notify::Tree::List(list.collect::<anyhow::Result<_>>()?)
            }
            Value::Object(map) => {
                let pairs = map
                    .iter()
                    .map(|(key, child)| Ok((key.clone(), self.tree(child)?)));
                notify::Tree::Map(pairs.collect::<anyhow::Result<_>>()?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => notify::Tree::Value(value.clone()),
        })
    }

    fn slack(&self, one: &config::Slack) -> anyhow::Result<Integration> {
        let global = (&self.global.slack_api_url, &self.global.slack_api_url_file);
        let address = address((&one.api_url, &one.api_url_file), Some(global))?;
        let line = [
            ("channel", &one.channel),
            ("username", &one.username),
            ("icon_emoji", &one.icon_emoji),
            ("icon_url", &one.icon_url),
            ("callback_id", &one.callback_id),
            ("image_url", &one.image_url),
            ("thumb_url", &one.thumb_url),
        ];
        let mut plain = Vec::new();
        for (key, text) in line {
            plain.extend(self.maybe(Target::Line, text)?.map(|text| (key, text)));
        }
        plain.extend(
            self.maybe(Target::Slack, &one.pretext)?
                .map(|text| ("pretext", text)),
        );
        plain.extend(
            self.maybe(Target::SlackLine, &one.footer)?
                .map(|text| ("footer", text)),
        );
        let field = |field: &config::SlackField| {
            let title = self.text(Target::SlackLine, &field.title)?;
            let value = self.text(Target::Slack, &field.value)?;
            Ok((title, value, field.short.unwrap_or(one.short_fields)))
        };
        let action = |action: &config::SlackAction| {
            let text = self.text(Target::SlackLine, &action.text)?;
            let url = self.text(Target::Line, &action.url)?;
            Ok((text, url, self.maybe(Target::Line, &action.style)?))
        };
        Ok(Integration::Slack(Box::new(notify::Slack {
            endpoint: self.endpoint(address, &one.http_config, one.timeout, one.send_resolved)?,
            plain,
            color: self.maybe(Target::Line, &one.color)?,
            title: self.maybe(Target::SlackLine, &one.title)?,
            title_link: self.maybe(Target::Line, &one.title_link)?,
            text: self.maybe(Target::Slack, &one.text)?,
            fallback: self.maybe(Target::SlackLine, &one.fallback)?,
            fields: one
                .fields
                .iter()
                .map(field)
                .collect::<anyhow::Result<_>>()?,
            actions: one
                .actions
                .iter()
                .map(action)
                .collect::<anyhow::Result<_>>()?,
            link_names: one.link_names,
            mrkdwn_in: one.mrkdwn_in.clone(),
        })))
    }

    fn pagerduty(&self, one: &config::PagerDuty) -> anyhow::Result<Integration> {
        let url = one.url.as_ref().unwrap_or(&self.global.pagerduty_url);
        let address = Address::parse(url.as_str()).map_err(anyhow::Error::msg)?;
        let line = |text: &Option<String>| self.maybe(Target::Line, text);
        let mut images = Vec::new();
        for image in &one.images {
            let src = self.text(Target::Line, &image.src)?;
            images.push((src, line(&image.href)?, line(&image.alt)?));
        }
        let mut links = Vec::new();
        for link in &one.links {
            links.push((self.text(Target::Line, &link.href)?, line(&link.text)?));
        }
        Ok(Integration::PagerDuty(Box::new(notify::PagerDuty {
            endpoint: self.endpoint(address, &one.http_config, one.timeout, one.send_resolved)?,
            routing_key: credential(&one.routing_key, &one.routing_key_file)
                .context("no `routing_key`")?,
            client: line(&one.client)?,
            client_url: line(&one.client_url)?,
            description: line(&one.description)?,
            severity: line(&one.severity)?,
            source: line(&one.source)?,
            class: line(&one.class)?,
            component: line(&one.component)?,
            group: line(&one.group)?,
            details: self.details(&one.details)?,
            images,
            links,
        })))
    }

    fn opsgenie(&self, one: &config::Opsgenie) -> anyhow::Result<Integration> {
        let global = self.global;
        let url = one.api_url.as_ref().unwrap_or(&global.opsgenie_api_url);
        let address = Address::parse(url.as_str()).map_err(anyhow::Error::msg)?;
        let mut endpoint =
            self.endpoint(address, &one.http_config, one.timeout, one.send_resolved)?;
        let key = credential(&one.api_key, &one.api_key_file);
        let key =
            key.or_else(|| credential(&global.opsgenie_api_key, &global.opsgenie_api_key_file));
        endpoint.http.authorization = Some(Authorization::Scheme {
            scheme: "GenieKey".into(),
            credentials: key.context("no `api_key`")?,
        });
        let line = |text: &Option<String>| self.maybe(Target::Line, text);
        let plain = |text: &Option<String>| self.maybe(Target::Plain, text);
        let responder = |responder: &config::Responder| {
            let names = [
                ("id", &responder.id),
                ("name", &responder.name),
                ("username", &responder.username),
            ];
            let mut names = names
                .into_iter()
                .filter_map(|(key, name)| Some((key, name.as_ref()?)));
            let (key, value) = names.next().context("a responder without a name")?;
            Ok(notify::Responder {
                key,
                value: self.text(Target::Line, value)?,
                kind: self.text(Target::Line, &responder.r#type)?,
            })
        };
        Ok(Integration::Opsgenie(Box::new(notify::Opsgenie {
            endpoint,
            message: line(&one.message)?,
            description: plain(&one.description)?,
            source: line(&one.source)?,
            entity: line(&one.entity)?,
            priority: line(&one.priority)?,
            note: plain(&one.note)?,
            tags: line(&one.tags)?,
            actions: line(&one.actions)?,
            details: self.details(&one.details)?,
            responders: one
                .responders
                .iter()
                .map(responder)
                .collect::<anyhow::Result<_>>()?,
            update_alerts: one.update_alerts,
        })))
    }

    fn teams(&self, one: &config::Teams) -> anyhow::Result<Integration> {
        let address = address((&one.webhook_url, &one.webhook_url_file), None)?;
        Ok(Integration::Teams(Box::new(notify::Teams {
            endpoint: self.endpoint(address, &one.http_config, one.timeout, one.send_resolved)?,
            card: match one.card {
                config::Card::AdaptiveCard => notify::Card::Adaptive,
                config::Card::MessageCard => notify::Card::Message,
            },
            title: self.maybe(Target::MarkdownLine, &one.title)?,
            summary: self.maybe(Target::Line, &one.summary)?,
            text: self.maybe(Target::Markdown, &one.text)?,
        })))
    }

    fn email(&self, one: &config::Email) -> anyhow::Result<Integration> {
        let global = self.global;
        let smarthost = one.smarthost.as_ref().or(global.smtp_smarthost.as_ref());
        let smarthost = smarthost.context("no `smarthost`")?;
        let from = one.from.as_ref().or(global.smtp_from.as_ref());
        let user = one
            .auth_username
            .as_ref()
            .or(global.smtp_auth_username.as_ref());
        let password = credential(&one.auth_password, &one.auth_password_file)
            .or_else(|| credential(&global.smtp_auth_password, &global.smtp_auth_password_file));
        let auth = match (user, password) {
            (Some(user), Some(password)) => Some((user.clone(), password)),
            (Some(_), None) => bail!("a user name without a password"),
            (None, _) => None,
        };
        let tls = one.tls_config.as_ref();
        let read = |file: Option<&PathBuf>| file.map(|file| read(file)).transpose();
        let roots = read(tls.and_then(|tls| tls.ca_file.as_ref()))?;
        let certificate = read(tls.and_then(|tls| tls.cert_file.as_ref()))?;
        let key = read(tls.and_then(|tls| tls.key_file.as_ref()))?;
        let trust = notify::Trust {
            roots,
            identity: certificate.zip(key),
        };
        let secured =
            || notify::Secured::towards(&smarthost.host, &trust).map_err(anyhow::Error::msg);
        let is_required = one.require_tls.unwrap_or(global.smtp_require_tls);
        let part = |text: &Option<String>, target| {
            Ok::<_, anyhow::Error>(match text.as_deref() {
                None => notify::Part::BuiltIn,
                Some("") => notify::Part::Absent,
                Some(text) => notify::Part::Text(self.text(target, text)?),
            })
        };
        let email = notify::Email {
            smarthost: (smarthost.host.clone(), smarthost.port),
            hello: one
                .hello
                .as_ref()
                .or(global.smtp_hello.as_ref())
                .map_or("localhost", String::as_str)
                .into(),
            from: self.text(Target::Line, from.context("no `from`")?)?,
            to: self.text(Target::Line, one.to.as_ref().context("no `to`")?)?,
            auth,
            tls: match (smarthost.port, is_required) {
                (465, _) => notify::Tls::Implicit(secured()?),
                (_, true) => notify::Tls::StartTls(secured()?),
                (_, false) => notify::Tls::Off,
            },
            headers: self.details(&one.headers)?,
            html: part(&one.html, Target::Html)?,
            text: part(&one.text, Target::Plain)?,
            timeout: one.timeout.0,
            resolved: resolved(one.send_resolved),
            zone: self.zone.clone(),
        };
        let email = email.checked().map_err(anyhow::Error::msg)?;
        Ok(Integration::Email(Box::new(email)))
    }

    fn alertmanager(&self, one: &config::Alertmanager) -> anyhow::Result<Integration> {
        let url = one.url.as_ref().context("no `url`")?;
        let address = Address::parse(url.as_str()).map_err(anyhow::Error::msg)?;
        Ok(Integration::Alertmanager(Box::new(notify::Alertmanager {
            endpoint: self.endpoint(address, &one.http_config, one.timeout, one.send_resolved)?,
            resolve_timeout: one.resolve_timeout.0,
        })))
    }

    fn file(&self, one: &config::LogFile) -> anyhow::Result<Integration> {
        Ok(Integration::File(Box::new(notify::LogFile {
            path: one.path.clone().context("no `path`")?,
            text: self.maybe(Target::Line, &one.text)?,
            max_bytes: one.max_size.0,
            resolved: resolved(one.send_resolved),
            zone: self.zone.clone(),
            lock: Arc::new(Mutex::new(())),
        })))
    }

    fn endpoint(
        &self,
        address: Address,
        http: &Option<config::HttpConfig>,
        timeout: config::Period,
        send_resolved: bool,
    ) -> anyhow::Result<Endpoint> {
        let http = http.as_ref().or(self.global.http_config.as_ref());
        Ok(Endpoint {
            http: http.map_or_else(|| Ok(Http::default()), self::http)?,
            timeout: timeout.0,
            resolved: resolved(send_resolved),
            zone: self.zone.clone(),
            ..Endpoint::new(address)
        })
    }

    fn text(&self, target: Target, text: &str) -> anyhow::Result<Text> {
        self.templates
            .text(target, text)
            .map_err(anyhow::Error::msg)
    }

    fn maybe(&self, target: Target, text: &Option<String>) -> anyhow::Result<Option<Text>> {
        text.as_ref()
            .map(|text| self.text(target, text))
            .transpose()
    }

    fn details<'d>(
        &self,
        details: impl IntoIterator<Item = (&'d String, &'d String)>,
    ) -> anyhow::Result<Vec<(String, Text)>> {
        let details = details.into_iter();
        details
            .map(|(key, text)| Ok((key.clone(), self.text(Target::Plain, text)?)))
            .collect()
    }
}

fn resolved(send: bool) -> Resolved {
    match send {
        true => Resolved::Send,
        false => Resolved::Omit,
    }
}

type UrlOrFile<'a> = (&'a Option<SecretUrl>, &'a Option<PathBuf>);

/// The address of an integration, else that of `global`.
fn address(own: UrlOrFile<'_>, global: Option<UrlOrFile<'_>>) -> anyhow::Result<Address> {
    for (url, file) in [Some(own), global].into_iter().flatten() {
        if let Some(url) = url {
            return Ok(Address::Url(url.reveal().clone()));
        }
        if let Some(file) = file {
            return Ok(Address::File(file.clone()));
        }
    }
    bail!("no URL")
}

fn credential(text: &Option<Secret>, file: &Option<PathBuf>) -> Option<Credential> {
    match (text, file) {
        (Some(text), _) => Some(Credential::Text(text.reveal().to_owned())),
        (None, Some(file)) => Some(Credential::File(file.clone())),
        (None, None) => None,
    }
}

fn http(config: &config::HttpConfig) -> anyhow::Result<Http> {
    let scheme = |scheme: &str, credentials| Authorization::Scheme {
        scheme: scheme.to_owned(),
        credentials,
    };
    let mut authorization = credential(&config.bearer_token, &config.bearer_token_file)
        .map(|token| scheme("Bearer", token));
    if let Some(own) = &config.authorization {
        let credentials = credential(&own.credentials, &own.credentials_file);
        authorization = Some(scheme(
            &own.r#type,
            credentials.context("no `credentials`")?,
        ));
    }
    if let Some(basic) = &config.basic_auth {
        let password = credential(&basic.password, &basic.password_file);
        authorization = Some(Authorization::Basic {
            username: basic.username.clone(),
            password: password.unwrap_or(Credential::Text(String::new())),
        });
    }
    let mut http = Http::default();
    http.authorization = authorization;
    let tls = config.tls_config.as_ref();
    let read_maybe = |file: Option<&PathBuf>| file.map(|file| read(file)).transpose();
    let mut identity = read_maybe(tls.and_then(|tls| tls.cert_file.as_ref()))?;
    if let (Some(pem), Some(key)) = (
        &mut identity,
        read_maybe(tls.and_then(|tls| tls.key_file.as_ref()))?,
    ) {
        pem.push(b'\n');
        pem.extend(key);
    }
    let transport = TransportSettings {
        proxy: config.proxy_url.as_ref().map(|url| url.reveal().clone()),
        roots: read_maybe(tls.and_then(|tls| tls.ca_file.as_ref()))?,
        identity,
        http1_only: config.enable_http2 == Some(false),
    };
    let is_usual = transport.proxy.is_none()
        && transport.roots.is_none()
        && transport.identity.is_none()
        && !transport.http1_only;
    match is_usual {
        true => Ok(http),
        false => http.over(transport).map_err(anyhow::Error::msg),
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

#[cfg(test)]
mod tests {
    use crate::app::known;
    use crate::config::{self, Diagnostics};

    /// What is said of the keys of one integration, without file, place and path.
    #[track_caller]
    fn check(receiver: &str, expected: &[&str]) {
        let lookup = |name: &str| (name == "KEY").then(|| "hunter2".to_owned());
        let text = format!("receivers:\n  - name: a\n    {receiver}\n");
        let found = match config::parse("t.yaml", &text, &lookup, &known()) {
            Ok(loaded) => {
                super::receivers(&loaded.config).expect("what is checked can be built");
                loaded.warnings
            }
            Err(found) => found,
        };
        let Diagnostics(found) = found;
        let lines: Vec<_> = found
            .iter()
            .map(|d| {
                let path = d.path.strip_prefix("receivers[0].").unwrap_or(&d.path);
                let hint = d.hint.as_deref().unwrap_or_default();
                format!("{path}: {} | {hint}", d.message)
            })
            .collect();
        assert_eq!(lines, expected, "{receiver}");
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn good_receivers_are_taken_without_a_word() {
        for good in [
            "slack_configs: [{api_url: 'https://h/x', channel: '#a', text: \"{% for a in alerts %}{{ a.labels.x }}{% endfor %}\"}]",
            "pagerduty_configs: [{routing_key: '${env:KEY}', details: {team: '{{ common_labels.team }}'}}]",
            "opsgenie_configs: [{api_key: '${env:KEY}', responders: [{name: ops, type: team}]}]",
            "msteams_configs: [{webhook_url: 'https://h/x', title: '{{ title }}'}]",
            "msteamsv2_configs: [{webhook_url: 'https://h/x'}]",
            "email_configs: [{to: a@b, from: b@c, smarthost: 'mail:25'}]",
            "email_configs: [{to: a@b, from: b@c, smarthost: '[::1]:25', require_tls: false, auth_username: u, auth_password: '${env:KEY}'}]",
            "alertmanager_configs: [{url: 'http://am:9093'}]",
            "file_configs: [{path: alerts.log, text: \"{{ time | date('%H:%M', 'Europe/Berlin') }} {{ title }}\"}]",
            "webhook_configs: [{url: 'https://h/x', max_alerts: 5, http_config: {basic_auth: {username: u, password_file: p}}, payload: {a: ['{{ alerts | length }}', 1, null]}}]",
            "webhook_configs: [{url: 'https://h/x', payload: '{\"a\": {{ title }}, \"b\": {{ alerts }}}'}]",
            "time_zone: Europe/Berlin\n    webhook_configs: [{url: 'https://h/x', http_config: {proxy_url: 'http://proxy:3128', enable_http2: false, follow_redirects: false}}]",
        ] {
            check(good, &[]);
        }
    }

    #[test]
    fn mistakes_are_found_where_they_stand() {
        let slack =
            |text: &str| format!("slack_configs: [{{api_url: 'https://h/x', text: {text:?}}}]");
        check(
            &slack("{{ .CommonLabels.alertname }}"),
            &[
                "slack_configs[0].text: bad template: syntax error: unexpected `.` \
               | this looks like a template of Go; here `{{ .CommonLabels.team }}` is \
               `{{ common_labels.team }}`, see docs/receivers.md",
            ],
        );
        check(
            &slack("{% for a in alerts %}{{ a.anotations.x }}{% endfor %}"),
            &[
                "slack_configs[0].text: bad template: undefined value: `a.anotations` is undefined | templates look like \
               \"{{ status }}: {{ common_labels.alertname }}\"",
            ],
        );
        check(
            &slack("{{ 1 | nonsense }}"),
            &[
                "slack_configs[0].text: bad template: unknown filter: filter nonsense is unknown | \
               templates look like \"{{ status }}: {{ common_labels.alertname }}\"",
            ],
        );
        // Also where no sample comes by.
        check(
            &slack("{% if status == 'never' %}{{ comon_labels.x }}{% endif %}"),
            &[
                "slack_configs[0].text: bad template: there is no `comon_labels` | there are alerts, \
               common_annotations, common_labels, external_url, firing, group_key, group_labels, mode, \
               receiver, resolved, severity, status, time, title, truncated_alerts, url",
            ],
        );
        check(
            &slack(
                "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            ),
            &[
                "slack_configs[0].text: bad template: engine ran out of fuel | templates look like \
               \"{{ status }}: {{ common_labels.alertname }}\"",
            ],
        );
        check(
            "webhook_configs: [{url: 'https://h/x', payload: '{\"a\": \"{{ title }}\"}'}]",
            &[
                "webhook_configs[0].payload: bad template: it does not yield JSON: expected `,` or `}` at \
               line 1 column 9 | values are written as JSON: no quotes around {{ }}",
            ],
        );
        check(
            "webhook_configs: [{url: 'https://h/x', payload: {a: ['{{ alert.x }}']}}]",
            &[
                "webhook_configs[0].payload.a[0]: bad template: there is no `alert` | there are alerts, \
               common_annotations, common_labels, external_url, firing, group_key, group_labels, mode, \
               receiver, resolved, severity, status, time, title, truncated_alerts, url",
            ],
        );
    }

    #[test]
    fn what_is_missing_or_twice_is_said() {
        check(
            "slack_configs: [{}]",
            &[
                "slack_configs[0]: the key `api_url` is missing | set `api_url`, `api_url_file` or \
               `global.slack_api_url`",
            ],
        );
        check(
            "email_configs: [{to: a@b}]",
            &[
                "email_configs[0]: the key `from` is missing | set `from` or `global.smtp_from`",
                "email_configs[0]: the key `smarthost` is missing | set `smarthost` or \
                 `global.smtp_smarthost`",
            ],
        );
        check(
            "email_configs: [{to: a@b, from: b@c, smarthost: 'mail:25', require_tls: false, auth_username: u, auth_password: '${env:KEY}'}]",
            &[
                "email_configs[0].require_tls: the password would go over the network in clear | leave it \
               out, or let the server be on this machine",
            ],
        );
        check(
            "pagerduty_configs: [{service_key: x}]",
            &[
                "pagerduty_configs[0]: unknown key `service_key` | only the Events API v2 is spoken: make \
                 an integration key for it, `routing_key`",
            ],
        );
        check(
            "webhook_configs: [{url: 'https://h/x', url_file: y, http_config: {bearer_token: '${env:KEY}', basic_auth: {username: u}, follow_redirects: true, tls_config: {insecure_skip_verify: true, cert_file: c}}}]",
            &[
                "webhook_configs[0].url: is there twice, and as `url_file` | leave out one of them",
                "webhook_configs[0].http_config: more than one kind of authentication | leave one of \
                 `authorization`, `basic_auth` and `bearer_token`",
                "webhook_configs[0].http_config.follow_redirects: redirects are never followed: they would \
                 lead anywhere | give the address that the receiver redirects to",
                "webhook_configs[0].http_config.tls_config: has one of `cert_file` and `key_file` | they \
                 belong together",
                "webhook_configs[0].http_config.tls_config.insecure_skip_verify: certificates are always \
                 checked | name the certificate authority in `ca_file`",
                "webhook_configs[0].http_config.tls_config.cert_file: c cannot be read: No such file or \
                 directory (os error 2) | it must be there where the daemon runs",
            ],
        );
        check(
            "time_zone: Europe/Berln\n    telegram_configs: []",
            &[
                "time_zone: expected a time zone such as Europe/Berlin, found `Europe/Berln` | names are \
                 those of the IANA database; `UTC` is one",
                "receivers[0]: unknown key `telegram_configs` | not supported; `webhook_configs` with a \
                 `payload` of your own reaches most",
            ],
        );
    }

    #[test]
    fn another_alertmanager_must_hear_of_alerts_in_time() {
        let text = "route: {receiver: log, repeat_interval: 24h, routes: [{receiver: a, repeat_interval: 1h, \
                    routes: [{matchers: [x=y], repeat_interval: 3h}]}]}\nreceivers: [{name: a, \
                    alertmanager_configs: [{url: 'http://am', resolve_timeout: 2h}, {url: 'http://am'}]}]";
        let loaded = config::parse("t.yaml", text, &|_| None, &known()).unwrap();
        let warnings: Vec<_> = loaded
            .warnings
            .0
            .iter()
            .map(|w| (&*w.path, &*w.message))
            .collect();
        assert_eq!(
            warnings,
            [(
                "receivers[0].alertmanager_configs[0].resolve_timeout",
                "it takes alerts for resolved after 2h, and they are told again only after 3h"
            )]
        );
    }

    #[test]
    fn texts_may_use_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write(
            "own.j2",
            "{% macro who(a) %}{{ a.labels.service }}!{% endmacro %}",
        );
        let file = folder.path().join("t.yaml").display().to_string();
        let text = "templates: ['*.j2']\nreceivers: [{name: a, webhook_configs: [{url: 'http://h', \
                    payload: {a: \"{% import 'own.j2' as own %}{{ own.who(alerts[0]) }}\"}}]}]";
        let parse = || config::parse(&file, text, &|_| None, &known());
        let loaded = parse().unwrap();
        super::receivers(&loaded.config).unwrap();
        write("own.j2", "{% macro %}");
        let found = parse().unwrap_err().to_string();
        assert!(
            found.contains("templates[0]: `own.j2`: bad template"),
            "{found}"
        );
        write("own.j2", "{{ nothing }}");
        let found = parse().unwrap_err().to_string();
        assert!(found.contains("there is no `nothing`"), "{found}");
    }

    #[test]
    fn the_examples_of_the_documentation_work() {
        let page = include_str!("../../docs/receivers.md");
        let blocks: Vec<_> = page.split("```yaml\n").skip(1).collect();
        assert!(blocks.len() > 2);
        for block in blocks {
            let (block, _) = block.split_once("```").unwrap();
            let text = match block.starts_with("webhook_configs") {
                true => format!(
                    "receivers:\n  - name: a\n    {}",
                    block.replace('\n', "\n    ")
                ),
                false => block.to_owned(),
            };
            let lookup = |name: &str| {
                Some(
                    if name.starts_with("SLACK") {
                        "https://slack/x"
                    } else {
                        "hunter2"
                    }
                    .to_owned(),
                )
            };
            let loaded = config::parse("t.yaml", &text, &lookup, &known());
            let loaded = loaded.unwrap_or_else(|found| panic!("{found}\n{text}"));
            let warnings: Vec<_> = loaded.warnings.0.iter().map(|w| &*w.message).collect();
            assert!(
                matches!(warnings[..], [] | ["names no file"]),
                "{warnings:?}\n{text}"
            );
            super::receivers(&loaded.config).unwrap();
        }
    }
}
