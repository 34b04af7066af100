// The overview. Reads the public API and listens to its events; text of clients only ever becomes text.

import { chart } from "./chart.js";
import { ask, byId, data, make, nothing, since, table } from "./dom.js";
import { ago, clock, quantity, sigma } from "./format.js";
import { drawModes, sayWhenDecided } from "./modes.js";

const REFRESH_MS = 10_000;
const LISTEN_AFTER_MS = 6_000;
const SIGNALS = 12;
const ALERTS_SHOWN = 50;
const INCIDENTS_SHOWN = 10;
const MOST_SIGMA = 38;
const SERVICES_SHOWN = 200;
const EVENTS_KEPT = 50;

// Only what has changed is drawn again, so that reading and selecting text is not disturbed.
const drawn = new Map();
function draw(id, facts, build) {
  const key = JSON.stringify(facts);
  if (drawn.get(id) === key) return;
  drawn.set(id, key);
  const made = build(facts);
  byId(id).replaceChildren(...(Array.isArray(made) ? made : [made]));
}

function refreshTimes() {
  for (const each of document.querySelectorAll("time[datetime]")) each.textContent = ago(each.dateTime);
}

function numbers(pairs) {
  return pairs.flatMap(([name, value]) => [make("div", "", make("dt", "", name), make("dd", "", value))]);
}

// The facts behind each signal id that is on the page, for its detail.
const known = new Map();

// The last picture of each signal stands until the next is there, so that nothing flickers.
const pictures = new Map();

function sparkline(id, label) {
  const place = make("div", "spark", pictures.get(id)?.cloneNode(true));
  data(`api/v1/series/${encodeURIComponent(id)}/samples`)
    .then((samples) => {
      const picture = chart(samples, { label });
      pictures.set(id, picture);
      place.replaceChildren(picture.cloneNode(true));
    })
    .catch(() => pictures.delete(id));
  return place;
}

// Signals that have left the page take what is known of them along.
function forgetOthers(ids) {
  const here = new Set(ids);
  for (const each of [known, pictures]) {
    for (const id of [...each.keys()]) if (!here.has(id)) each.delete(id);
  }
}

function opens(element, id) {
  if (!id) return element;
  element.classList.add("opens");
  element.href = `#${id}`;
  return element;
}

const band = (low, high, unit, signal) =>
  `${low === null ? "−∞" : quantity(low, unit, signal)} … ${high === null ? "∞" : quantity(high, unit, signal)}`;

function drawTotals({ services, alerts, edges }) {
  const away = services.filter((service) => service.mode_since && service.level > 0).length;
  const critical = alerts.filter((alert) => alert.labels.severity === "critical").length;
  const tile = (name, value, state = "") => make("div", state, make("dt", "", name), make("dd", "", String(value)));
  return [
    tile("services", services.length),
    tile("alerts firing", alerts.length, critical ? "critical" : alerts.length ? "warning" : "healthy"),
    tile("services not in normal mode", away, away ? "warning" : ""),
    tile("caller → callee edges", edges.length),
  ];
}

const CORE = new Set(["alertname", "service", "metric", "signal", "severity"]);

function labels(pairs) {
  const shown = Object.entries(pairs).map(([key, value]) => make("span", "label", make("b", "", key), ` ${value}`));
  return shown.length ? make("p", "labels", ...shown) : null;
}

// Alerts that another system reports have a link of its own, or none, and no signal here.
const signalOf = (alert) => alert.generatorURL?.match(/#([0-9a-f]{32}-.+)$/)?.[1] ?? "";

function mutedBy({ silencedBy, inhibitedBy }) {
  if (silencedBy.length) return "silenced";
  return inhibitedBy.length ? "inhibited" : null;
}

function drawAlert(alert) {
  const { labels: l, annotations: a } = alert;
  const id = signalOf(alert);
  const muted = mutedBy(alert.status);
  if (id) known.set(id, { title: `${l.service} · ${l.metric} ${l.signal}`, attributes: l });
  const severity = l.severity === "critical" ? "critical" : "warning";
  const title = make("h3", "",
    make("span", `badge ${severity}`, l.severity ?? "alert"),
    make("span", "", l.alertname ?? ""),
    make("span", "soft", l.service ?? ""),
    muted ? make("span", "badge normal", muted) : null);
  const text = a.explanation ?? a.summary ?? a.description;
  const facts = ["observed", "expected", "sigma"].filter((name) => a[name] !== undefined);
  const words = make("div", "words",
    title,
    text ? make("p", "", text) : null,
    a.recommendation ? make("p", "recommendation", make("b", "", "What to do: "), a.recommendation) : null,
    make("p", "soft", `${l.metric ?? ""} ${l.signal ?? ""}`.trim(), " · since ", since(alert.startsAt),
      ...facts.map((name) => ` · ${name} ${name === "sigma" && Math.abs(a[name]) > MOST_SIGMA ? `more than ${MOST_SIGMA}` : a[name]}`)),
    labels(Object.fromEntries(Object.entries(l).filter(([key]) => !CORE.has(key)))));
  if (!id) return make("article", `alert ${severity}`, words);
  const picture = make("a", "", sparkline(id, `${l.metric} ${l.signal} of ${l.service}`));
  return make("article", `alert ${severity}`, words, opens(picture, id));
}

// What goes on as one story, and, where nothing does, what was last.
function drawIncidents(incidents) {
  if (!incidents.length) return nothing("No incident in the last 24 hours.");
  const open = incidents.filter((incident) => incident.state === "firing");
  const shown = open.length ? open.slice(0, INCIDENTS_SHOWN) : incidents.slice(0, 1);
  return shown.map((incident) => {
    const over = incident.state === "resolved";
    const critical = incident.alerts.some((alert) => alert.severity === "critical");
    const severity = over ? "over" : critical ? "critical" : "warning";
    const count = incident.alerts.length + incident.alerts_omitted;
    const others = incident.services.filter((service) => service !== incident.origin);
    const title = make("h3", "",
      make("span", `badge ${over ? "normal" : severity}`, over ? "resolved" : severity),
      make("span", "", incident.origin),
      others.length ? make("span", "soft", `and ${others.join(", ")}`) : null);
    return make("article", `alert ${severity}`, make("div", "words",
      title,
      make("p", "", incident.explanation),
      incident.recommendation && !over
        ? make("p", "recommendation", make("b", "", "What to do: "), incident.recommendation) : null,
      make("p", "soft", `${count} alert${count === 1 ? "" : "s"} · began `, since(incident.since),
        ...(over ? [" · ended ", since(incident.resolved_at)] : []), ` · ${incident.id}`)));
  });
}

function drawAlerts(alerts) {
  if (!alerts.length) return nothing("No alert fires.");
  const rank = (alert) => (alert.labels.severity === "critical" ? 0 : 1);
  // Where it began comes before what merely suffers from it.
  const suffers = (alert) => (alert.annotations.likely_origin ? 1 : 0);
  const sorted = [...alerts].sort((a, b) =>
    rank(a) - rank(b) || suffers(a) - suffers(b) || b.startsAt.localeCompare(a.startsAt));
  const shown = sorted.slice(0, ALERTS_SHOWN).map(drawAlert);
  const rest = sorted.length - shown.length;
  return rest > 0 ? [...shown, nothing(`and ${rest} more`)] : shown;
}

function drawSignal(signal) {
  const { last, unit } = signal;
  known.set(signal.id, { title: `${signal.service} · ${signal.metric} ${signal.signal}`, attributes: signal.attributes, signal });
  const size = Math.abs(last.sigma);
  const state = size >= 6 ? "critical" : size >= 3 ? "warning" : "calm";
  const label = `${signal.metric} ${signal.signal} of ${signal.service}: ${quantity(last.value, unit, signal.signal)}, ` +
    `expected ${quantity(last.expected, unit, signal.signal)}`;
  const card = make("a", `card ${state}`,
    make("div", "row", make("b", "", signal.service), make("span", `sigma ${state}`, sigma(last.sigma))),
    make("p", "soft clip", `${signal.metric} ${signal.signal}`),
    make("p", "soft clip", Object.entries(signal.attributes).map(([key, value]) => `${key}=${value}`).join(" ") || " "),
    sparkline(signal.id, label),
    make("div", "row", make("span", "", quantity(last.value, unit, signal.signal)),
      make("span", "soft", `expected ${quantity(last.expected, unit, signal.signal)}`)));
  return opens(card, signal.id);
}

function drawSignals(signals) {
  if (signals.length) return signals.map(drawSignal);
  return nothing("Still learning what is normal. A signal is judged once its baseline stands on enough samples.");
}

const HEALTH = { healthy: "healthy", warning: "warning", critical: "critical" };

function drawServices(services) {
  if (!services.length) {
    return nothing("Nothing has reported yet. Send OTLP to this machine: by default gRPC on port 4317, HTTP on port 4318.");
  }
  const worst = (service) => (service.health === "critical" ? 0 : service.health === "warning" ? 1 : 2);
  const sorted = [...services].sort((a, b) => worst(a) - worst(b) || a.service.localeCompare(b.service));
  const rows = sorted.slice(0, SERVICES_SHOWN).map((service) => [
    make("span", `health ${HEALTH[service.health] ?? ""}`, make("span", "dot"), service.service),
    service.health,
    make("span", `badge ${service.level === 0 ? "normal" : service.level === 1 ? "warning" : "critical"}`, service.mode),
    String(service.series),
    quantity(service.state_bytes, "By"),
    service.last_seen ? since(service.last_seen) : "–",
  ]);
  const shown = table([["service", ""], ["health", ""], ["mode", ""], ["series", "number spare"], ["memory", "number spare"], ["last heard", "number"]], rows);
  const rest = services.length - rows.length;
  return rest > 0 ? [shown, nothing(`and ${rest} more`)] : shown;
}

function drawTopology(edges) {
  if (!edges.length) return nothing("No calls between services have been seen in traces.");
  const rows = edges.slice(0, SERVICES_SHOWN).map((edge) => [
    make("span", "", edge.caller, make("span", "arrow", " → "), edge.callee),
    quantity(edge.rate, "1/s"),
    make("span", edge.error_ratio > 0.05 ? "text-critical" : "", quantity(edge.error_ratio, "1", "error_ratio")),
    quantity(edge.p50, "s"),
    quantity(edge.p95, "s"),
  ]);
  return table([["call", ""], ["rate", "number"], ["errors", "number"], ["p50", "number"], ["p95", "number"]], rows);
}

function notice(text) {
  byId("notice").textContent = text ?? "";
  byId("notice").hidden = !text;
}

async function readiness() {
  const response = await fetch("readyz");
  return response.ok ? null : (await response.text()).trim();
}

// While the daemon starts it knows of none, and says so instead of telling an empty list.
const told = () => data("api/v1/modes").catch((error) => (error.status === 503 ? [] : Promise.reject(error)));

let running = false;
let again = false;
async function refresh() {
  // Two at a time would draw old facts over new ones.
  if (running) {
    again = true;
    return;
  }
  running = true;
  try {
    const [services, alerts, incidents, edges, signals, unready, modes, freeze, proposals, episodes, plans, audit] = await Promise.all([
      data("api/v1/services"),
      ask("api/v2/alerts"),
      data("api/v1/incidents"),
      data("api/v1/topology"),
      data(`api/v1/series?sort=sigma&limit=${SIGNALS}`),
      readiness(),
      told(),
      data("api/v1/modes/freeze"),
      data("api/v1/modes/proposals"),
      data("api/v1/modes/episodes?limit=8"),
      data("api/v1/modes/plans?limit=4"),
      data("api/v1/modes/audit?limit=12"),
    ]);
    notice(unready);
    forgetOthers([...alerts.map(signalOf), ...signals.map((signal) => signal.id)]);
    draw("totals", { services, alerts, edges }, drawTotals);
    draw("incidents", incidents, drawIncidents);
    draw("alerts", alerts.map(({ endsAt, ...rest }) => rest), drawAlerts);
    draw("signals", signals, drawSignals);
    draw("services", services, drawServices);
    draw("topology", edges, drawTopology);
    draw("modes", { modes: modes.map(({ lease_expires_at, heard_at, ...rest }) => rest), freeze, proposals, episodes, plans, audit }, drawModes);
    refreshTimes();
    document.title = alerts.length ? `(${alerts.length}) Tidewatch` : "Tidewatch";
  } catch (error) {
    notice(`The daemon does not answer. What you see may be old. (${error.message})`);
  } finally {
    running = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

// The signal behind an alert, by what the alert's labels say of it.
async function find(id, of) {
  if (!of.service) return undefined;
  const quoted = (text) => `"${text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`;
  const parts = ["service", "metric", "signal"].filter((name) => of[name]).map((name) => `${name}=${quoted(of[name])}`);
  const signals = await data(`api/v1/series?limit=1000&match=${encodeURIComponent(`{${parts}}`)}`);
  return signals.find((signal) => signal.id === id);
}

async function openDetail() {
  const id = decodeURIComponent(location.hash.slice(1));
  const detail = byId("detail");
  if (!id) {
    if (detail.open) detail.close();
    return;
  }
  const facts = known.get(id) ?? { title: id, attributes: {} };
  const signal = facts.signal ?? (await find(id, facts.attributes).catch(() => undefined));
  const [unit, name] = [signal?.unit ?? "", signal?.signal ?? ""];
  byId("detail-title").textContent = facts.title;
  byId("detail-labels").replaceChildren(...(labels(facts.attributes)?.childNodes ?? []));
  byId("detail-numbers").replaceChildren();
  byId("detail-chart").replaceChildren();
  if (!detail.open) detail.showModal();
  let samples = [];
  try {
    samples = await data(`api/v1/series/${encodeURIComponent(id)}/samples`);
  } catch {
    byId("detail-chart").replaceChildren(nothing("This signal is no longer known."));
    return;
  }
  const axis = ({ low, high, first, last }) => [
    `${clock(first)} – ${clock(last)}`,
    `from ${quantity(low, unit, name)} to ${quantity(high, unit, name)}`,
  ];
  byId("detail-chart").replaceChildren(chart(samples, { width: 900, height: 260, label: facts.title, axis }));
  const newest = samples[samples.length - 1];
  const show = (value) => quantity(value, unit, name);
  const pairs = newest
    ? [["observed", show(newest.value)], ["expected", show(newest.expected)],
       ["band", band(newest.lower, newest.upper, unit, name)], ["deviation", sigma(newest.sigma)]]
    : [];
  if (signal) {
    const w = signal.window;
    pairs.push(["samples", `${w.count} of ${w.size}`], ["mean", show(w.mean)], ["standard deviation", show(w.stddev)],
      ["p50", show(w.p50)], ["p95", show(w.p95)], ["p99", show(w.p99)], ["min", show(w.min)], ["max", show(w.max)]);
    if (signal.rule) pairs.push(["watched by", signal.rule]);
  }
  byId("detail-numbers").replaceChildren(...numbers(pairs));
}

function connection(state, text) {
  byId("connection").className = `connection ${state}`;
  byId("connection").querySelector(".text").textContent = text;
}

function told(event) {
  let facts;
  try {
    facts = JSON.parse(event.data);
  } catch {
    return;
  }
  const body = facts.body ?? facts;
  const words = {
    alert: () => `${body.alert?.labels?.alertname} on ${body.alert?.service} is ${body.alert?.state}`,
    mode: () => `${body.state?.service}: ${body.from} → ${body.state?.mode}. ${body.cause ?? ""}`,
    freeze: () => `automatic mode changes ${body.frozen ? "stopped" : "allowed again"} by ${body.author}: ${body.reason}`,
    proposal: () => `${body.proposal?.service} → ${body.proposal?.mode}: ${{ made: "proposed", approved: "approved", rejected: "rejected", withdrawn: "no longer proposed" }[body.action]}`,
    plan: () => `plan ${body.plan?.policy} is ${body.plan?.state}`,
  }[event.type];
  if (!words) return;
  const line = make("li", "", make("span", "soft", clock(facts.time)), ` ${words()}`);
  byId("events").prepend(line);
  while (byId("events").children.length > EVENTS_KEPT) byId("events").lastChild.remove();
}

function listen() {
  const events = new EventSource("api/v1/events");
  let soon = null;
  const changed = (event) => {
    told(event);
    // Events come in bursts; one reading serves all of a burst.
    soon ??= setTimeout(() => {
      soon = null;
      refresh();
    }, 250);
  };
  for (const name of ["snapshot", "alert", "mode", "freeze", "proposal", "acknowledged", "episode", "plan"]) events.addEventListener(name, changed);
  events.onopen = () => connection("live", "live");
  events.onerror = () => connection("waiting", events.readyState === EventSource.CLOSED ? "every 10 s" : "reconnecting");
}

sayWhenDecided(refresh);
addEventListener("hashchange", openDetail);
byId("detail").addEventListener("close", () => {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
});
byId("detail").addEventListener("click", (event) => {
  if (event.target === byId("detail")) byId("detail").close();
});

await refresh();
openDetail();
// A stream never ends, and what takes pictures of pages waits for what is open: they get a page that
// is drawn and at rest, and people, for the first moments, one that asks every few seconds.
setTimeout(listen, LISTEN_AFTER_MS);
setInterval(() => {
  if (!document.hidden) refresh();
}, REFRESH_MS);
