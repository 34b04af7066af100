//! Values that nobody may read off a log, an error or the status page.

use std::fmt;
use std::str::FromStr;

use super::decode::BadText;
use super::units::as_text;

/// What is shown in place of a secret.
const HIDDEN: &str = "<secret>";

/// A password, token or key. It shows as `<secret>` wherever it is printed or serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one who uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl FromStr for Secret {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        if text.is_empty() {
            let mut bad = BadText::new("expected a secret, found an empty text")
                .hint("leave the key out for none");
            bad.private = true;
            return Err(bad);
        }
        Ok(Self(text.into()))
    }
}

as_text!(Secret, "Secret", "a secret", {
    "type": ["string", "number"]
});

/// An address to send to. Chat systems put their token into the path, so only scheme, host and port
/// of it are ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(reqwest::Url);

impl SecretUrl {
    /// The whole address, for the one who connects to it.
    pub fn reveal(&self) -> &reqwest::Url {
        &self.0
    }
}

impl FromStr for SecretUrl {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        http_url(text).map(Self).map_err(|mut bad| {
            bad.private = true;
            bad
        })
    }
}

/// An address that browsers and HTTP clients can open.
pub(super) fn http_url(text: &str) -> Result<reqwest::Url, BadText> {
    let bad = || BadText::new("expected a URL such as https://example.com/hook");
    let url = reqwest::Url::parse(text).map_err(|error| match error.to_string().as_str() {
        "relative URL without a base" => bad().hint("begin it with https:// or http://"),
        other => bad().hint(other),
    })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad().hint("only http and https are spoken"));
    }
    Ok(url)
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(
            f,
            "{}://{}",
            url.scheme(),
            url.host_str().unwrap_or_default()
        )?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        let is_bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        f.write_str("/")?;
        if is_bare { Ok(()) } else { f.write_str(HIDDEN) }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(SecretUrl, "SecretUrl", "a URL such as https://example.com/hook", {
    "type": "string",
    "format": "uri",
    "pattern": "^https?://"
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_show() {
        let secret: Secret = "hunter2".parse().expect("a secret");
        assert_eq!(
            format!("{secret} {secret:?} {secret:#?}"),
            "<secret> <secret> <secret>"
        );
        assert_eq!(
            serde_json::to_string(&secret).expect("json"),
            "\"<secret>\""
        );
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn of_urls_only_the_host_shows() {
        for (text, shown) in [
            (
                "https://hooks.example.com/T0/B1/xyz",
                "https://hooks.example.com/<secret>",
            ),
            ("http://u:p@h:8080/", "http://h:8080/<secret>"),
            ("http://[::1]:9/", "http://[::1]:9/"),
            ("https://h/?token=x", "https://h/<secret>"),
            ("https://h", "https://h/"),
        ] {
            let url: SecretUrl = text.parse().expect(text);
            assert_eq!(format!("{url}|{url:?}"), format!("{shown}|{shown}"));
        }
        for text in [
            "h/x",
            "ftp://h/",
            "javascript:alert(1)",
            "http://",
            "https://h:99999/",
            "",
        ] {
            let bad = text.parse::<SecretUrl>().expect_err(text);
            assert!(bad.private && bad.hint.is_some(), "{text}");
        }
    }
}
