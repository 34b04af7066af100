// Numbers, times and units for people.

const finite = (number) => typeof number === "number" && Number.isFinite(number);

function plain(number) {
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return number.toExponential(2);
  return String(Number(number.toPrecision(3)));
}

function scaled(number, steps) {
  const size = Math.abs(number);
  const [factor, unit] = steps.find(([factor]) => size >= factor) ?? steps[steps.length - 1];
  return `${plain(number / factor)} ${unit}`;
}

const SECONDS = [[60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];
const BYTES = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];

export function quantity(number, unit, signal) {
  if (!finite(number)) return "–";
  if (signal === "error_ratio") return `${plain(number * 100)} %`;
  switch (unit) {
    case "s": return number === 0 ? "0 s" : scaled(number, SECONDS);
    case "ms": return number === 0 ? "0 ms" : scaled(number / 1e3, SECONDS);
    case "By": return scaled(number, BYTES);
    case "1/s": return `${plain(number)} /s`;
    case "1": case "": case undefined: return plain(number);
    // Annotations of UCUM, as in {request}, are for people already.
    default: return `${plain(number)} ${unit.replace(/[{}]/g, "")}`;
  }
}

export function sigma(number) {
  if (!finite(number)) return "–";
  // Beyond 38 the tail of a normal distribution is less than any double: more is not more surprising.
  if (Math.abs(number) > 38) return number > 0 ? "> 38 σ" : "< −38 σ";
  const shown = number.toFixed(1);
  return `${number > 0 ? "+" : ""}${String(shown).replace("-", "−")} σ`;
}

export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (!finite(seconds)) return "–";
  if (seconds < 5) return "just now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString();
}

export function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "–" : date.toLocaleTimeString();
}
