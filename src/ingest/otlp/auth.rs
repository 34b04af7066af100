use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::ingest::Auth;

/// Lets those in who show a credential, or everybody if none is set.
pub(crate) struct Gate {
    scheme: Scheme,
    /// Digests have one length whatever the secrets, so that comparing tells nothing about them.
    accepted: Vec<[u8; 32]>,
}

#[derive(Clone, Copy)]
enum Scheme {
    Open,
    Bearer,
    Basic,
}

impl Gate {
    pub(crate) fn new(auth: Option<&Auth>) -> Self {
        let digest = |text: &str| Sha256::digest(text).into();
        let (scheme, accepted) = match auth {
            None => (Scheme::Open, Vec::new()),
            Some(Auth::Bearer(tokens)) => (
                Scheme::Bearer,
                tokens.iter().map(|token| digest(token)).collect(),
            ),
            Some(Auth::Basic(users)) => (
                Scheme::Basic,
                users
                    .iter()
                    .map(|(user, password)| digest(&format!("{user}:{password}")))
                    .collect(),
            ),
        };
        Self { scheme, accepted }
    }

    /// Whether a request with `headers` may pass.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let shown = match self.scheme {
            Scheme::Open => return true,
            Scheme::Bearer => credential(headers, "bearer").map(|token| token.as_bytes().to_vec()),
            Scheme::Basic => {
                credential(headers, "basic").and_then(|text| STANDARD.decode(text).ok())
            }
        };
        let Some(shown) = shown else {
            return false;
        };
        let shown: [u8; 32] = Sha256::digest(shown).into();
        // Every one is compared, so that the time does not tell which.
        let matches = self.accepted.iter().map(|accepted| accepted.ct_eq(&shown));
        matches
            .fold(Choice::from(0), |any, matches| any | matches)
            .into()
    }

    /// What `WWW-Authenticate` says to those who may not.
    pub(crate) fn challenge(&self) -> &'static str {
        match self.scheme {
            Scheme::Open | Scheme::Bearer => "Bearer realm=\"tidewatch\"",
            Scheme::Basic => "Basic realm=\"tidewatch\", charset=\"UTF-8\"",
        }
    }
}

/// What stands behind `scheme` (in any case) in `Authorization`.
fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (found, credential) = value.split_once(' ')?;
    found
        .eq_ignore_ascii_case(scheme)
        .then_some(credential.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(auth: Option<&Auth>, header: Option<&str>, admitted: bool) {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        assert_eq!(Gate::new(auth).admits(&headers), admitted);
    }

    #[test]
    fn credentials() {
        check(None, None, true);
        check(None, Some("Bearer whatever"), true);
        let bearer = Auth::Bearer(vec!["one".into(), "two".into()]);
        check(Some(&bearer), Some("Bearer one"), true);
        check(Some(&bearer), Some("bearer two"), true);
        for wrong in [
            None,
            Some("Bearer three"),
            Some("Bearer "),
            Some("one"),
            Some("Basic one"),
        ] {
            check(Some(&bearer), wrong, false);
        }
        let basic = Auth::Basic(vec![("me".into(), "pa:ss".into())]);
        check(Some(&basic), Some("Basic bWU6cGE6c3M="), true);
        for wrong in [
            None,
            Some("Basic bWU6cGE6c3N="),
            Some("Basic %"),
            Some("Bearer bWU6cGE6c3M="),
        ] {
            check(Some(&basic), wrong, false);
        }
        check(Some(&Auth::Bearer(Vec::new())), Some("Bearer x"), false);
        assert_eq!(format!("{basic:?}"), "Basic(<secret>)");
    }
}
