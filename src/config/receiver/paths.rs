//! Files that receivers name are found beside the configuration, as Alertmanager finds them.

use super::{Global, HttpConfig, Path, PathBuf, Receiver, TlsConfig};

/// Makes `path` one below `base`, unless it is absolute.
fn below(base: &Path, path: &mut Option<PathBuf>) {
    if let Some(path) = path
        && path.is_relative()
    {
        *path = base.join(&*path);
    }
}

impl TlsConfig {
    fn below(&mut self, base: &Path) {
        for path in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file] {
            below(base, path);
        }
    }
}

impl HttpConfig {
    fn below(&mut self, base: &Path) {
        below(base, &mut self.bearer_token_file);
        if let Some(authorization) = &mut self.authorization {
            below(base, &mut authorization.credentials_file);
        }
        if let Some(basic) = &mut self.basic_auth {
            below(base, &mut basic.password_file);
        }
        if let Some(tls) = &mut self.tls_config {
            tls.below(base);
        }
    }
}

impl Global {
    /// Makes relative paths ones below `base`.
    pub(in crate::config) fn below(&mut self, base: &Path) {
        for path in [
            &mut self.smtp_auth_password_file,
            &mut self.slack_api_url_file,
            &mut self.opsgenie_api_key_file,
        ] {
            below(base, path);
        }
        if let Some(http) = &mut self.http_config {
            http.below(base);
        }
    }
}

impl Receiver {
    /// Makes relative paths ones below `base`.
    pub(in crate::config) fn below(&mut self, base: &Path) {
        for one in &mut self.webhook_configs {
            below(base, &mut one.url_file);
        }
        for one in &mut self.slack_configs {
            below(base, &mut one.api_url_file);
        }
        for one in &mut self.pagerduty_configs {
            below(base, &mut one.routing_key_file);
        }
        for one in &mut self.opsgenie_configs {
            below(base, &mut one.api_key_file);
        }
        let teams = self.msteams_configs.iter_mut();
        for one in teams.chain(&mut self.msteamsv2_configs) {
            below(base, &mut one.webhook_url_file);
        }
        for one in &mut self.email_configs {
            below(base, &mut one.auth_password_file);
            if let Some(tls) = &mut one.tls_config {
                tls.below(base);
            }
        }
        for one in &mut self.file_configs {
            below(base, &mut one.path);
        }
        for http in self.http_configs() {
            http.below(base);
        }
    }

    fn http_configs(&mut self) -> impl Iterator<Item = &mut HttpConfig> {
        let teams = self.msteams_configs.iter_mut();
        let teams = teams.chain(&mut self.msteamsv2_configs);
        let webhooks = self.webhook_configs.iter_mut().map(|c| &mut c.http_config);
        webhooks
            .chain(self.slack_configs.iter_mut().map(|c| &mut c.http_config))
            .chain(
                self.pagerduty_configs
                    .iter_mut()
                    .map(|c| &mut c.http_config),
            )
            .chain(self.opsgenie_configs.iter_mut().map(|c| &mut c.http_config))
            .chain(teams.map(|c| &mut c.http_config))
            .chain(
                self.alertmanager_configs
                    .iter_mut()
                    .map(|c| &mut c.http_config),
            )
            .flatten()
    }
}
