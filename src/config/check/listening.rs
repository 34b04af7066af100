//! The doors: addresses, credentials, origins.

use std::time::Duration;

use crate::config::units::ByteSize;
use crate::config::{Config, Period};

use super::Checker;

impl Checker<'_> {
    pub(super) fn listening(&mut self, config: &Config) {
        let otlp = &config.otlp;
        if otlp.max_request_size < ByteSize(1024) {
            self.error(
                "otlp.max_request_size",
                format!("must be at least 1KiB, is {}", otlp.max_request_size),
                "the default is 64MiB",
            );
        }
        let longest = Period::secs(3600);
        let shortest = Period(Duration::from_millis(1));
        self.period(
            "otlp.header_timeout",
            otlp.header_timeout,
            shortest,
            longest,
        );
        self.period("otlp.body_timeout", otlp.body_timeout, shortest, longest);
        let doors = [
            ("otlp.grpc", otlp.grpc.address()),
            ("otlp.http", otlp.http.address()),
            ("http.listen", Some(config.http.listen.0)),
        ];
        for (at, (path, address)) in doors.iter().enumerate() {
            let taken = doors.iter().take(at).find(|(_, other)| {
                other == address && address.is_some_and(|address| address.port() != 0)
            });
            if let (Some((other, _)), Some(address)) = (taken, address) {
                self.error(
                    path,
                    format!("{address} is the address of `{other}` too"),
                    "each needs a port of its own",
                );
            }
        }
        for (path, address) in doors.iter().take(2) {
            let open = address.is_some_and(|address| !address.ip().is_loopback());
            let by_certificate = otlp
                .tls
                .as_ref()
                .is_some_and(|tls| tls.client_ca_file.is_some());
            if open && otlp.auth.is_none() && !by_certificate {
                self.warn(
                    path,
                    "takes data from everybody who can reach it",
                    "set `otlp.auth` or `otlp.tls.client_ca_file`, or listen on 127.0.0.1",
                );
            }
        }
        if !config.http.listen.0.ip().is_loopback() {
            self.warn(
                "http.listen",
                "everybody who can reach it may read all and set modes",
                "listen on 127.0.0.1 behind a proxy that authenticates",
            );
        }
        if let Some(auth) = &otlp.auth {
            if auth.bearer.is_none() && auth.basic.is_none() {
                self.error("otlp.auth", "asks for nothing", "set `bearer` or `basic`");
            }
            if auth
                .basic
                .as_ref()
                .is_some_and(|basic| basic.username.contains(':'))
            {
                self.error(
                    "otlp.auth.basic.username",
                    "must not contain a colon",
                    "HTTP's basic authentication separates name and password by it",
                );
            }
            self.secret("otlp.auth.bearer");
            self.secret("otlp.auth.basic.password");
        }
        if let Some(cors) = &otlp.cors {
            for (at, origin) in cors.allowed_origins.iter().enumerate() {
                let path = format!("otlp.cors.allowed_origins[{at}]");
                let is_origin = reqwest::Url::parse(origin)
                    .is_ok_and(|url| url.origin().ascii_serialization() == *origin);
                if origin != "*" && !is_origin {
                    self.error(
                        &path,
                        format!("`{}` is no origin", self.shown(&path, origin)),
                        "scheme, host and port without a slash at the end: https://shop.example.com",
                    );
                }
            }
        }
        for (at, host) in config.http.allowed_hosts.iter().enumerate() {
            let is_host = !host.is_empty()
                && !host.contains(|c: char| c == '/' || c == '*' || c.is_whitespace());
            if !is_host {
                let path = format!("http.allowed_hosts[{at}]");
                self.error(
                    &path,
                    format!("`{}` is no host name", self.shown(&path, host)),
                    "a name without scheme or path: tidewatch.example.com",
                );
            }
        }
    }
}
