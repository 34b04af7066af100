use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::ingest::Auth;

/// Lets those in who show a credential, or everybody if none is set.
pub(crate) struct Gate(Option<Accepted>);

/// Digests have one length whatever the secrets, so that comparing tells nothing about them.
struct Accepted {
    bearer: Vec<[u8; 32]>,
    basic: Vec<[u8; 32]>,
}

impl Gate {
    pub(crate) fn new(auth: Option<&Auth>) -> Self {
        let digest = |text: &str| Sha256::digest(text).into();
        Self(auth.map(|auth| {
            Accepted {
                bearer: auth.bearer.iter().map(|token| digest(token)).collect(),
                basic: auth
                    .basic
                    .iter()
                    .map(|(user, password)| digest(&format!("{user}:{password}")))
                    .collect(),
            }
        }))
    }

    /// Whether a request with `headers` may pass.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(accepted) = &self.0 else {
            return true;
        };
        if let Some(token) = credential(headers, "bearer") {
            return is_one_of(&accepted.bearer, token.as_bytes());
        }
        credential(headers, "basic")
            .and_then(|text| STANDARD.decode(text).ok())
            .is_some_and(|user| is_one_of(&accepted.basic, &user))
    }

    /// What `WWW-Authenticate` says to those who may not.
    pub(crate) fn challenge(&self) -> &'static str {
        match &self.0 {
            Some(accepted) if accepted.bearer.is_empty() => {
                "Basic realm=\"tidewatch\", charset=\"UTF-8\""
            }
            _ => "Bearer realm=\"tidewatch\"",
        }
    }
}

/// Every one is compared, so that the time does not tell which.
fn is_one_of(accepted: &[[u8; 32]], shown: &[u8]) -> bool {
    let shown: [u8; 32] = Sha256::digest(shown).into();
    let matches = accepted.iter().map(|accepted| accepted.ct_eq(&shown));
    matches
        .fold(Choice::from(0), |any, matches| any | matches)
        .into()
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
        let bearer = Auth {
            bearer: vec!["one".into(), "two".into()],
            ..Auth::default()
        };
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
        let basic = Auth {
            basic: vec![("me".into(), "pa:ss".into())],
            ..Auth::default()
        };
        check(Some(&basic), Some("Basic bWU6cGE6c3M="), true);
        for wrong in [
            None,
            Some("Basic bWU6cGE6c3N="),
            Some("Basic %"),
            Some("Bearer bWU6cGE6c3M="),
        ] {
            check(Some(&basic), wrong, false);
        }
        check(Some(&Auth::default()), Some("Bearer x"), false);
        let both = Auth {
            bearer: bearer.bearer.clone(),
            basic: basic.basic.clone(),
        };
        check(Some(&both), Some("Bearer one"), true);
        check(Some(&both), Some("Basic bWU6cGE6c3M="), true);
        assert_eq!(format!("{basic:?}"), "Auth(<secret>)");
    }
}
