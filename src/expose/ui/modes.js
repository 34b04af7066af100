// What services are told, what they say of it, what waits for people, and what was decided.

import { byId, make, nothing, since, table } from "./dom.js";
import { clock } from "./format.js";

const SERVICES_SHOWN = 200;

const badge = (mode, level) =>
  make("span", `badge ${level === 0 ? "normal" : level === 1 ? "warning" : "critical"}`, mode);

const percent = (share) => `${Math.round(share * 100)} %`;

// Who decides is asked for in a dialog; what happens then.
let decided = () => {};
export function sayWhenDecided(then) {
  decided = then;
}

async function send(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(body),
  });
  if (response.ok) return;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error ?? `${path}: ${response.status}`);
}

const AUTHOR = "tidewatch.author";
function remembered() {
  try {
    return localStorage.getItem(AUTHOR) ?? "";
  } catch {
    return "";
  }
}
function remember(author) {
  try {
    localStorage.setItem(AUTHOR, author);
  } catch {
    // Without storage it is asked for again.
  }
}

// Asks for author and reason, then sends them.
function decide(title, text, method, path) {
  const dialog = byId("decision");
  byId("decision-title").textContent = title;
  byId("decision-text").textContent = text;
  byId("decision-problem").textContent = "";
  byId("decision-author").value = remembered();
  byId("decision-reason").value = "";
  byId("decision-form").onsubmit = async (event) => {
    event.preventDefault();
    const author = byId("decision-author").value.trim();
    const reason = byId("decision-reason").value.trim();
    try {
      await send(method, path, { author, reason });
      remember(author);
      dialog.close();
      decided();
    } catch (error) {
      byId("decision-problem").textContent = error.message;
    }
  };
  byId("decision-cancel").onclick = () => dialog.close();
  dialog.showModal();
  byId(byId("decision-author").value ? "decision-reason" : "decision-author").focus();
}

function button(text, kind, onclick) {
  const made = make("button", kind, text);
  made.type = "button";
  made.onclick = onclick;
  return made;
}

function drawFreeze(freeze) {
  const path = "api/v1/modes/freeze";
  if (freeze) {
    return make("p", "freeze frozen",
      make("span", "badge critical", "frozen"),
      make("span", "", `by ${freeze.author}: ${freeze.reason} · `, since(freeze.set_at)),
      button("Allow changes again", "act", () =>
        decide("Allow automatic changes again", "Policies change modes again.", "DELETE", path)));
  }
  return make("p", "freeze",
    make("span", "soft", "Policies may change modes."),
    button("Freeze", "act", () =>
      decide("Freeze automatic changes", "No mode changes by itself until somebody allows it again.", "PUT", path)));
}

// Told, acknowledged, actual: what differs stands out.
function drawStates(modes) {
  const interesting = modes.filter((mode) =>
    mode.level > 0 || mode.override || mode.differs_since || (mode.instances ?? 0) > 0 || mode.episode);
  if (!interesting.length) return nothing(modes.length ? "All services are told to run normally, and none reports its mode." : "No services yet.");
  const rank = (mode) => (mode.differs_since ? 0 : mode.level > 0 || mode.override ? 1 : 2);
  const sorted = [...interesting].sort((a, b) => rank(a) - rank(b) || a.service.localeCompare(b.service));
  const rows = sorted.slice(0, SERVICES_SHOWN).map((mode) => {
    const why = mode.override
      ? `set by ${mode.override.author}: ${mode.override.reason}`
      : [...new Set((mode.why ?? []).map((reason) => `${reason.alertname} (${reason.policy})`))].join(", ");
    const actual = (mode.actual ?? []).map((each) => `${each.instances} × ${each.mode}`).join(", ");
    const heard = mode.acknowledged === true ? "yes" : mode.acknowledged === false ? "not yet" : "–";
    return [
      mode.service,
      badge(mode.mode, mode.level),
      make("span", mode.acknowledged === false ? "text-warning" : "", heard),
      make("span", mode.differs_since ? "text-critical" : "", actual || "–"),
      since(mode.since),
      make("span", "why", why),
    ];
  });
  const heads = [["service", ""], ["told", ""], ["acknowledged", "spare"], ["actual", ""], ["since", "number"], ["why", "spare"]];
  const shown = table(heads, rows);
  const rest = interesting.length - rows.length;
  return rest > 0 ? make("div", "", shown, nothing(`and ${rest} more`)) : shown;
}

const RESTRAINTS = {
  limit: () => "as many services are away from normal as may be",
  group_limit: ({ group }) => `as many services of group ${group} are away from normal as may be`,
  dry_run: () => "the policy only tries what it would do",
  frozen: () => "automatic changes are frozen",
};

function drawProposal(proposal) {
  const { id, service, mode, level, policy, restraint, why } = proposal;
  const path = (verb) => `api/v1/modes/proposals/${encodeURIComponent(id)}/${verb}`;
  const held = RESTRAINTS[restraint.kind]?.(restraint) ?? restraint.kind;
  return make("article", `alert ${level > 1 ? "critical" : "warning"} proposal`,
    make("div", "words",
      make("h3", "", make("span", "badge warning", "proposed"), make("span", "", service), badge(mode, level)),
      make("p", "", `Policy ${policy} would; it does not, because ${held}.`),
      why.length ? make("p", "", why[0].explanation || why[0].alertname) : null,
      make("p", "soft", "since ", since(proposal.since))),
    make("div", "acts",
      button("Approve", "act yes", () =>
        decide(`${service} to ${mode}`, "The step is taken now, also beyond the limit.", "POST", path("approve"))),
      button("Reject", "act", () =>
        decide(`Not ${service} to ${mode}`, "The policy leaves the service alone until its alerts are over.", "POST", path("reject")))));
}

const VERDICTS = { improved: "better", no_effect: "no effect", worse: "worse", unknown: "unknown", watching: "watching" };
const KINDS = { improved: "good", no_effect: "warning", worse: "critical", unknown: "normal", watching: "normal" };

function drawEffect(effect) {
  if (!effect) return null;
  const shares = effect.before !== null && effect.after !== null
    ? ` ${percent(effect.before)} → ${percent(effect.after)}` : "";
  const made = make("span", `badge ${KINDS[effect.verdict] ?? "normal"}`, `${VERDICTS[effect.verdict] ?? effect.verdict}${shares}`);
  made.title = effect.sentence;
  return made;
}

function drawEpisode(episode) {
  const over = episode.ended_at !== null;
  const steps = episode.actions.map((action) => make("li", "",
    make("span", "soft", clock(action.at)), " ",
    make("b", "", `${action.from} → ${action.to}`), " ",
    make("span", "soft", action.step), " ",
    drawEffect(action.effect),
    action.cause ? make("span", "", ` ${action.cause}`) : null));
  return make("article", `alert ${over ? "over" : "warning"} single`, make("div", "words",
    make("h3", "",
      make("span", `badge ${over ? "normal" : "warning"}`, over ? "ended" : "away from normal"),
      make("span", "", episode.service),
      make("span", "soft", "began ", since(episode.opened_at), ...(over ? [" · ended ", since(episode.ended_at)] : []))),
    make("ol", "steps", ...steps),
    episode.outcome ? make("p", "", episode.outcome) : null));
}

function drawPlan(plan) {
  const bad = ["undoing", "undone"].includes(plan.state);
  const steps = plan.steps.map((step) => make("li", "",
    make("b", "", `${step.service} ${step.mode}`), " ",
    make("span", `badge ${step.state === "failed" ? "critical" : step.state === "acknowledged" ? "good" : "normal"}`, step.state),
    step.detail ? ` ${step.detail}` : ""));
  return make("article", `alert ${bad ? "critical" : plan.ended_at ? "over" : "warning"} single`, make("div", "words",
    make("h3", "", make("span", `badge ${bad ? "critical" : "normal"}`, plan.state), make("span", "", `plan ${plan.policy}`),
      make("span", "soft", "began ", since(plan.started_at))),
    make("ol", "steps", ...steps),
    plan.outcome ? make("p", "", plan.outcome) : null));
}

// One entry of the audit in a line.
function words(entry) {
  const d = entry.data;
  switch (entry.type) {
    case "mode": return `${d.state.service}: ${d.from === d.state.mode ? `stays ${d.from}` : `${d.from} → ${d.state.mode}`}. ${d.cause}`;
    case "freeze": return `${d.author} ${d.frozen ? `froze automatic changes: ${d.reason}` : "allowed automatic changes again"}`;
    case "proposal": {
      const what = `${d.proposal.service} → ${d.proposal.mode} by policy ${d.proposal.policy}`;
      const done = { made: "proposed", withdrawn: "no longer proposed" }[d.action] ?? `${d.action} by ${d.author} (${d.reason})`;
      return `${what}: ${done}`;
    }
    case "acknowledged": return `${d.service}${d.acknowledgement.instance ? ` (${d.acknowledgement.instance})` : ""} runs in ${d.acknowledgement.mode}`;
    case "episode": {
      const judged = [...d.episode.actions].reverse().find((action) => action.effect && action.effect.verdict !== "watching");
      const last = d.episode.actions[d.episode.actions.length - 1];
      const said = {
        opened: () => `left normal. ${last?.cause ?? ""}`,
        stepped: () => `${last?.from} → ${last?.to} (${last?.step})`,
        judged: () => `${VERDICTS[judged?.effect.verdict] ?? "judged"}. ${judged?.effect.sentence ?? ""}`,
        ended: () => `is normal again. ${d.episode.outcome}`,
      }[d.action]?.() ?? d.action;
      return `${d.episode.service}: ${said}`;
    }
    case "plan": return `plan ${d.plan.policy} is ${d.plan.state}. ${d.plan.outcome}`;
    default: return entry.type;
  }
}

function drawAudit(audit) {
  const lines = audit.map((entry) => make("li", "",
    make("span", "soft", clock(entry.time)), ` ${words(entry)}`));
  return make("ol", "events", ...lines);
}

export function drawModes({ modes, freeze, proposals, episodes, plans, audit }) {
  const part = (title, ...children) => [make("h3", "part", title), ...children];
  return [
    drawFreeze(freeze),
    drawStates(modes),
    ...(proposals.length ? part("Waits for you", ...proposals.map(drawProposal)) : []),
    ...(plans.length ? part("Plans", ...plans.map(drawPlan)) : []),
    ...(episodes.length ? part("Departures from normal, and whether they helped", ...episodes.map(drawEpisode)) : []),
    ...(audit.length ? part("Decided lately", drawAudit(audit)) : []),
  ];
}
