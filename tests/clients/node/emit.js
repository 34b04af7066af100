// Sends one of everything through Node's OpenTelemetry SDK: emit.js json|proto ENDPOINT SERVICE.
const { context, trace, SpanKind, SpanStatusCode } = require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-node');

const [protocol, endpoint, service] = process.argv.slice(2);
const kind = protocol === 'json' ? 'http' : 'proto';
const { OTLPMetricExporter } = require(`@opentelemetry/exporter-metrics-otlp-${kind}`);
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${kind}`);

const resource = (name) =>
  resourceFromAttributes({ 'service.name': name, 'service.instance.id': 'a' });
const tracing = (name) =>
  new BasicTracerProvider({
    resource: resource(name),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: `${endpoint}/v1/traces` }))],
  });

async function main() {
  const reader = new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter({ url: `${endpoint}/v1/metrics` }),
    exportIntervalMillis: 600_000,
  });
  const meters = new MeterProvider({ resource: resource(service), readers: [reader] });
  const meter = meters.getMeter('test');
  const temperature = meter.createGauge('room.temperature', { unit: 'Cel' });
  const orders = meter.createCounter('orders', { unit: '{order}' });
  const waiting = meter.createUpDownCounter('queue.waiting', { unit: '{job}' });
  const duration = meter.createHistogram('http.server.request.duration', { unit: 's' });

  const front = tracing(service);
  const back = tracing(`${service}-backend`);
  const server = front.getTracer('test').startSpan('GET /', { kind: SpanKind.SERVER });
  const call = back
    .getTracer('test')
    .startSpan('load', { kind: SpanKind.SERVER }, trace.setSpan(context.active(), server));
  call.setStatus({ code: SpanStatusCode.ERROR });
  call.end();
  server.end();

  for (const round of [1, 2]) {
    temperature.record(20 + round, { room: 'Küche' });
    orders.add(5 * round, { kind: 'web' });
    waiting.add(1);
    for (const value of [0.01, 0.02, 0.03, 0.2]) duration.record(value, { 'http.route': '/pay' });
    await meters.forceFlush();
  }
  await front.forceFlush();
  await back.forceFlush();
  await Promise.all([meters.shutdown(), front.shutdown(), back.shutdown()]);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
