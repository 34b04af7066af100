"""Sends one of everything through Python's OpenTelemetry SDK: emit.py grpc|http ENDPOINT SERVICE."""

import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

protocol, endpoint, service = sys.argv[1:4]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    span_exporter = lambda: OTLPSpanExporter(endpoint=endpoint, insecure=True)
    metric_exporter = lambda: OTLPMetricExporter(endpoint=endpoint, insecure=True)
else:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    span_exporter = lambda: OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
    metric_exporter = lambda: OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics")


def resource(name):
    return Resource.create({"service.name": name, "service.version": "1.0", "service.instance.id": "a"})


def tracing(name):
    provider = TracerProvider(resource=resource(name))
    provider.add_span_processor(BatchSpanProcessor(span_exporter()))
    return provider


reader = PeriodicExportingMetricReader(metric_exporter(), export_interval_millis=600_000)
views = [View(instrument_name="rpc.size", aggregation=ExponentialBucketHistogramAggregation())]
meters = MeterProvider(metric_readers=[reader], resource=resource(service), views=views)
meter = meters.get_meter("test")
temperature = meter.create_gauge("room.temperature", unit="Cel")
orders = meter.create_counter("orders", unit="{order}")
waiting = meter.create_up_down_counter("queue.waiting", unit="{job}")
duration = meter.create_histogram("http.server.request.duration", unit="s")
size = meter.create_histogram("rpc.size", unit="By")

front, back = tracing(service), tracing(f"{service}-backend")
server = front.get_tracer("test").start_span("GET /", kind=SpanKind.SERVER)
call = back.get_tracer("test").start_span(
    "load", context=set_span_in_context(server), kind=SpanKind.SERVER
)
call.set_status(Status(StatusCode.ERROR))
call.end()
server.end()

# Two exports: rates need a second point.
for round in (1, 2):
    temperature.set(20.0 + round, {"room": "Küche"})
    orders.add(5 * round, {"kind": "web"})
    waiting.add(1)
    for value in (0.010, 0.020, 0.030, 0.200):
        duration.record(value, {"http.route": "/pay"})
        size.record(value * 10_000)
    if not meters.force_flush():
        sys.exit("metrics were not taken")
if not (front.force_flush() and back.force_flush()):
    sys.exit("spans were not taken")
for provider in (meters, front, back):
    provider.shutdown()
