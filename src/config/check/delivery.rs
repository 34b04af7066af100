//! Delivery: ranges, and waits that grow.

use std::time::Duration;

use crate::config::units::ByteSize;
use crate::config::{Config, Period};

use super::Checker;

impl Checker<'_> {
    pub(super) fn delivery(&mut self, config: &Config) {
        let delivery = &config.delivery;
        let millis = |millis| Period(Duration::from_millis(millis));
        let (none, minute, hour, day) = (
            Period::default(),
            Period::secs(60),
            Period::secs(3_600),
            Period::secs(86_400),
        );
        let year = Period(day.0.saturating_mul(365));
        let (retry, breaker) = (&delivery.retry, &delivery.breaker);
        for (path, value, from, to) in [
            (
                "connect_timeout",
                delivery.connect_timeout,
                millis(10),
                minute,
            ),
            ("drain", delivery.drain, none, minute),
            ("retry.initial", retry.initial, millis(1), hour),
            ("retry.max", retry.max, millis(1), hour),
            ("retry.max_elapsed", retry.max_elapsed, none, year),
            ("retry.keep", retry.keep, none, year),
            ("retry.max_retry_after", retry.max_retry_after, none, hour),
            ("breaker.open", breaker.open, millis(10), day),
            (
                "breaker.trial",
                breaker.trial,
                millis(10),
                Period::secs(300),
            ),
        ] {
            self.period(&format!("delivery.{path}"), value, from, to);
        }
        if retry.max < retry.initial {
            self.error(
                "delivery.retry.max",
                format!(
                    "must be at least `initial` ({}), is {}",
                    retry.initial, retry.max
                ),
                "raise it, or lower `initial`",
            );
        }
        let (concurrency, outbox) = (&delivery.concurrency, &delivery.outbox);
        for (path, value, most) in [
            ("breaker.failures", breaker.failures, 1_000),
            ("breaker.successes", breaker.successes, 1_000),
            ("concurrency.receiver", concurrency.receiver, 1_000),
            ("concurrency.kind", concurrency.kind, 10_000),
            ("outbox.messages", outbox.messages, 100_000),
        ] {
            if !(1..=most).contains(&value) {
                self.error(
                    &format!("delivery.{path}"),
                    format!("must be from 1 to {most}, is {value}"),
                    "leave the key out for the default",
                );
            }
        }
        let least = ByteSize(1 << 20);
        if outbox.size < least {
            self.error(
                "delivery.outbox.size",
                format!("must be at least {least}, is {}", outbox.size),
                "the default is 32MiB",
            );
        }
    }
}
