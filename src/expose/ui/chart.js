// Draws samples with their band as SVG. Everything goes through the DOM's own methods, so that no text
// of a client can become markup.

const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes, children = []) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const finite = (number) => typeof number === "number" && Number.isFinite(number);

// The span of values to show: all samples, and the band as far as it does not flatten them.
function range(samples) {
  const values = samples.map((sample) => sample.value).filter(finite);
  let low = Math.min(...values);
  let high = Math.max(...values);
  const room = Math.max((high - low) * 1.5, Math.abs(high) * 0.05, 1e-12);
  for (const sample of samples) {
    for (const edge of [sample.lower, sample.upper, sample.expected]) {
      if (!finite(edge)) continue;
      low = Math.min(low, Math.max(edge, low - room));
      high = Math.max(high, Math.min(edge, high + room));
    }
  }
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - margin, high + margin];
}

// Runs of neighbours for which `has` holds: the band may begin late and stop in between.
function runs(points, has) {
  const found = [];
  let open = null;
  for (const point of points) {
    if (!has(point)) open = null;
    else if (open) open.push(point);
    else found.push((open = [point]));
  }
  return found;
}

const at = (x, y) => `${x.toFixed(1)},${y.toFixed(1)}`;

// `samples` as the API gives them; `label` says in words what is drawn.
export function chart(samples, { width = 320, height = 72, label = "", axis = null } = {}) {
  const shown = samples.filter((sample) => finite(sample.value));
  const picture = node("svg", {
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    class: "chart",
    role: "img",
    "aria-label": label,
  });
  if (shown.length < 2) return picture;

  const [low, high] = range(shown);
  const times = shown.map((sample) => Date.parse(sample.time));
  const first = times[0];
  const length = times[times.length - 1] - first || 1;
  const x = (time) => ((time - first) / length) * (width - 8) + 2;
  const y = (value) => {
    const clipped = Math.min(Math.max(value, low), high);
    return height - ((clipped - low) / (high - low)) * height;
  };
  const points = shown.map((sample, index) => ({ ...sample, x: x(times[index]) }));

  for (const run of runs(points, (point) => finite(point.expected))) {
    if (run.length < 2) continue;
    // A side of the band that is missing is open: it reaches the edge of the picture.
    const above = run.map((p) => at(p.x, finite(p.upper) ? y(p.upper) : 0));
    const below = run.map((p) => at(p.x, finite(p.lower) ? y(p.lower) : height)).reverse();
    picture.append(node("polygon", { class: "band", points: [...above, ...below].join(" ") }));
    const middle = run.map((p) => at(p.x, y(p.expected))).join(" ");
    picture.append(node("polyline", { class: "expected", points: middle }));
  }
  const line = points.map((p) => at(p.x, y(p.value))).join(" ");
  picture.append(node("polyline", { class: "value", points: line }));

  const outside = (p) => (finite(p.upper) && p.value > p.upper) || (finite(p.lower) && p.value < p.lower);
  // A path without length and with round ends is a dot that keeps its shape when stretched.
  const dots = points.filter(outside).map((p) => `M${at(p.x, y(p.value))}h0`).join("");
  if (dots) picture.append(node("path", { class: "outside", d: dots }));

  if (!axis) return picture;
  const figure = document.createElement("figure");
  const scale = document.createElement("figcaption");
  for (const text of axis({ low, high, first, last: first + length })) {
    const part = document.createElement("span");
    part.textContent = text;
    scale.append(part);
  }
  figure.append(picture, scale);
  return figure;
}
