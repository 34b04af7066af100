// Small pieces that every part of the page is made of; text of clients only ever becomes text.

import { ago } from "./format.js";

export const byId = (id) => document.getElementById(id);

// make("p", "hint", "text", child, …): an element with a class and children.
export function make(name, classes, ...children) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export async function ask(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw Object.assign(new Error(`${path}: ${response.status}`), { status: response.status });
  return response.json();
}

export const data = async (path) => (await ask(path)).data;

export const nothing = (text) => make("p", "nothing", text);

// Times like "3 min ago" grow old by themselves.
export function since(time) {
  const made = make("time", "", ago(time));
  made.dateTime = time;
  made.title = new Date(time).toLocaleString();
  return made;
}

export function table(heads, rows) {
  const head = make("thead", "", make("tr", "", ...heads.map(([text, kind]) => make("th", kind, text))));
  const cells = (row) => row.map((cell, at) => make("td", heads[at][1], cell));
  return make("div", "scroll", make("table", "", head, make("tbody", "", ...rows.map((row) => make("tr", "", ...cells(row))))));
}
