//! What the daemon says of itself: logs always, traces and metrics over OTLP when the standard `OTEL_*`
//! variables ask for them.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use prometheus::proto::{Metric, MetricType};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::engine::OWN_INSTANCE;
use crate::telemetry::Telemetry;

/// Crates that carry the exporter's own requests. Their spans are not exported, or each export would
/// make the next one.
const TRANSPORT: &str = "h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,reqwest=off";

/// How logs are written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// The SDK's providers, kept to flush them at the end.
#[derive(Debug, Default)]
pub struct OwnTelemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

/// Whether the standard variables ask for `signal` (`TRACES` or `METRICS`).
fn asked_for(signal: &str) -> bool {
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|v| v.eq_ignore_ascii_case("true"));
    let none = std::env::var(format!("OTEL_{signal}_EXPORTER")).is_ok_and(|value| value == "none");
    let endpoint =
        set("OTEL_EXPORTER_OTLP_ENDPOINT") || set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"));
    endpoint && !disabled && !none
}

/// Whether `signal` goes by gRPC; the specification's default is `http/protobuf`.
fn by_grpc(signal: &str) -> bool {
    std::env::var(format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"))
        .or_else(|_| std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL"))
        .is_ok_and(|protocol| protocol == "grpc")
}

/// Whether what is written to `stream` may be coloured: on a terminal, unless `NO_COLOR` is set
/// (<https://no-color.org>).
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

impl OwnTelemetry {
    /// Starts logging at `level` (a filter such as `info` or `tidewatch=debug`; `RUST_LOG` wins), and
    /// exports traces where asked for. Call once, within the runtime.
    ///
    /// # Errors
    /// The filter cannot be read, an exporter cannot be built, or logging was started before.
    pub fn start(format: LogFormat, level: &str, instance: &str) -> anyhow::Result<Self> {
        let filter = match std::env::var("RUST_LOG") {
            Ok(filter) if !filter.is_empty() => filter,
            _ => level.to_owned(),
        };
        let filter =
            EnvFilter::try_new(&filter).with_context(|| format!("log level `{filter}`"))?;
        let stderr = std::io::stderr;
        let logs = match format {
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_writer(stderr)
                .with_ansi(colours(&std::io::stderr()))
                .with_filter(filter)
                .boxed(),
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(stderr)
                .with_filter(filter)
                .boxed(),
        };
        let traces = asked_for("TRACES")
            .then(|| tracer_provider(instance))
            .transpose()?;
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("tidewatch"))
                .with_filter(EnvFilter::new(format!("info,{TRANSPORT}")))
        });
        tracing_subscriber::registry()
            .with(logs)
            .with(spans)
            .try_init()
            .context("logging")?;
        Ok(Self {
            traces,
            metrics: None,
        })
    }

    /// The `service.name` under which this daemon exports about itself; `None` when it does not.
    pub fn service_name(&self) -> Option<String> {
        let exports = asked_for("TRACES") || asked_for("METRICS");
        let name = || {
            resource("")
                .get_ref(&"service.name".into())
                .map(|name| name.to_string())
        };
        exports.then(name).flatten()
    }

    /// Exports everything in `telemetry`'s registry as OTLP metrics too, where asked for.
    ///
    /// # Errors
    /// An exporter cannot be built.
    pub fn export_metrics(&mut self, telemetry: &Telemetry, instance: &str) -> anyhow::Result<()> {
        if !asked_for("METRICS") {
            return Ok(());
        }
        let exporter = if by_grpc("METRICS") {
            MetricExporter::builder().with_tonic().build()
        } else {
            MetricExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .build()
        };
        let provider = SdkMeterProvider::builder()
            .with_periodic_exporter(exporter.context("OTLP metric exporter")?)
            .with_resource(resource(instance))
            .build();
        bridge(&provider.meter("tidewatch"), &telemetry.registry);
        self.metrics = Some(provider);
        Ok(())
    }

    /// Sends what is left, for at most two seconds each. Blocks.
    pub fn stop(self) {
        let limit = Duration::from_secs(2);
        // Telemetry about the end is welcome, never worth a failing exit.
        if let Some(Err(error)) = self
            .metrics
            .map(|provider| provider.shutdown_with_timeout(limit))
        {
            tracing::debug!(%error, "own metrics were not flushed");
        }
        if let Some(Err(error)) = self
            .traces
            .map(|provider| provider.shutdown_with_timeout(limit))
        {
            tracing::debug!(%error, "own traces were not flushed");
        }
    }
}

fn resource(instance: &str) -> Resource {
    let builder = Resource::builder();
    let holds = |name: &str, part: &str| {
        std::env::var(name).is_ok_and(|value| !value.is_empty() && value.contains(part))
    };
    let named =
        holds("OTEL_SERVICE_NAME", "") || holds("OTEL_RESOURCE_ATTRIBUTES", "service.name=");
    let builder = if named {
        builder
    } else {
        builder.with_service_name("tidewatch")
    };
    builder
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new(OWN_INSTANCE, instance.to_owned()))
        .build()
}

fn tracer_provider(instance: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = if by_grpc("TRACES") {
        SpanExporter::builder().with_tonic().build()
    } else {
        SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .build()
    };
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter.context("OTLP span exporter")?)
        .with_resource(resource(instance))
        .build())
}

/// Makes every counter and gauge of `registry` an observable instrument of the same name. Histograms
/// go as their `_count` and `_sum`, which is what an SDK can observe from outside.
fn bridge(meter: &Meter, registry: &Registry) {
    for family in registry.gather() {
        let name = family.name().to_owned();
        let help = family.help().to_owned();
        match family.get_field_type() {
            MetricType::COUNTER => {
                counter(meter, registry, &name, &name, help, |m| {
                    m.get_counter().get_value()
                });
            }
            MetricType::GAUGE => {
                let registry = registry.clone();
                meter
                    .f64_observable_gauge(name.clone())
                    .with_description(help)
                    .with_callback(move |observer| {
                        each(&registry, &name, |metric, labels| {
                            observer.observe(metric.get_gauge().get_value(), labels);
                        });
                    })
                    .build();
            }
            MetricType::HISTOGRAM => {
                counter(
                    meter,
                    registry,
                    &name,
                    &format!("{name}_count"),
                    help.clone(),
                    |m| m.get_histogram().get_sample_count() as f64,
                );
                counter(meter, registry, &name, &format!("{name}_sum"), help, |m| {
                    m.get_histogram().get_sample_sum()
                });
            }
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
}

fn counter(
    meter: &Meter,
    registry: &Registry,
    family: &str,
    name: &str,
    help: String,
    value: fn(&Metric) -> f64,
) {
    let registry = registry.clone();
    let family = family.to_owned();
    meter
        .f64_observable_counter(name.to_owned())
        .with_description(help)
        .with_callback(move |observer| {
            each(&registry, &family, |metric, labels| {
                observer.observe(value(metric), labels)
            });
        })
        .build();
}

fn each(registry: &Registry, name: &str, mut visit: impl FnMut(&Metric, &[KeyValue])) {
    for family in registry
        .gather()
        .iter()
        .filter(|family| family.name() == name)
    {
        for metric in family.get_metric() {
            let labels: Vec<_> = metric
                .get_label()
                .iter()
                .map(|label| KeyValue::new(label.name().to_owned(), label.value().to_owned()))
                .collect();
            visit(metric, &labels);
        }
    }
}
