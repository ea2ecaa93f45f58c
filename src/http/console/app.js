// The console: asks the node it came from once a second, and shows the whole cluster.

import { get, token } from "./api.js";
import { Changes } from "./changes.js";
import { byId, bytes, count, draw, make, micros, rate, replace, say } from "./dom.js";
import { Events } from "./events.js";
import { Explorer } from "./explorer.js";
import { History, OPERATIONS } from "./figures.js";
import { Members } from "./members.js";
import { Ring } from "./ring.js";

const EVERY_MS = 1000;
const COLOURS = 12;

const history = new History();
const ring = new Ring();
const members = new Members(ring);
const numbers = new Map();
const colour = (name) => {
  if (!numbers.has(name)) numbers.set(name, numbers.size % COLOURS);
  return numbers.get(name);
};
const explorer = new Explorer(colour);
const events = new Events();
const changes = new Changes(colour);

let shown = { ring: "", table: null, shares: new Map() };
let answered = 0;
let following = false;
let opening = true;

async function look() {
  const cluster = await get("/figures");
  answered = Date.now();
  // By name, so that a node has the same colour on every page.
  for (const name of cluster.members.map((member) => member.name).sort(byNumber)) colour(name);
  const zones = new Map(cluster.members.map((member) => [member.name, member.zone]));
  const hash = cluster.ring ? JSON.stringify([cluster.ring.epoch, cluster.ring.hash, [...zones]]) : "";
  if (hash !== shown.ring && cluster.ring) {
    const table = await get("/ring");
    shown = { ring: hash, table, shares: shares(table) };
    ring.show(table, colour, zones);
  }
  history.add(cluster);
  show(cluster);
}

const byNumber = (a, b) => a.localeCompare(b, "en", { numeric: true });

function shares(table) {
  const held = new Map();
  for (const owners of table.partitions) {
    for (const owner of owners) held.set(owner, (held.get(owner) ?? 0) + 1);
  }
  return held;
}

function show(cluster) {
  byId("door").hidden = true;
  byId("main").hidden = false;
  const away = new Set(cluster.members.filter((m) => !m.reachable).map((m) => m.name));
  const owners = shown.table?.partitions ?? [];
  const under = owners.filter((row) => row.some((owner) => away.has(owner))).length;
  facts(cluster);
  strip(cluster, under);
  ring.state({
    members: cluster.members,
    away,
    epoch: cluster.ring?.epoch ?? 0,
    moving: cluster.ring?.moving ?? 0,
    under,
  });
  members.show(cluster, history, colour, shown.shares);
  changes.look(cluster.ring);
  document.title = away.size > 0 ? `${away.size} away – Quorate` : `Quorate – ${cluster.node}`;
  byId("banner").hidden = cluster.members.length > 0;
  if (cluster.members.length === 0) {
    say(byId("banner"), `${cluster.node} is in no ring yet. ${cluster.waiting_for ?? ""}`);
  }
}

function facts(cluster) {
  const rows = [
    ["seen from", cluster.node],
    ["cluster", cluster.cluster ?? "none yet"],
    ["epoch", cluster.ring ? String(cluster.ring.epoch) : "–"],
    ["N", String(cluster.replicas ?? "–")],
    ["version", cluster.version],
  ];
  replace(byId("facts"), rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function strip(cluster, under) {
  const tiles = OPERATIONS.map((operation) => {
    const { rate: speed, failed, steps } = history.cluster(operation);
    const [median, late] = [0.5, 0.99].map((part) => history.percentile(steps, part));
    return make("div", { class: "tile" },
      make("h2", {}, operation),
      make("p", { class: "figure" }, rate(speed), make("span", { class: "unit" }, "/s")),
      make("p", { class: "under" }, median === null ? "no answers lately" : `p50 ${micros(median)} · p99 ${micros(late)}`),
      failed > 0 ? make("p", { class: "under bad-text" }, `${rate(failed)}/s fail`) : null,
      spark(history.line.get(operation)));
  });
  const figures = cluster.members.map((m) => m.figures).filter(Boolean);
  const kept = figures.flatMap((f) => Object.values(f.hints)).reduce((sum, h) => sum + h.count, 0);
  const differing = figures.reduce((sum, f) => Math.max(sum, f.differing), 0);
  const conflicted = history.conflicted();
  const repairs = history.sum((f) => f.read_repairs + f.keys_repaired);
  const damaged = figures.reduce((sum, f) => sum + f.damaged[0] - f.damaged[1], 0);
  const moved = history.sum((f) => f.background.transfers ?? 0);
  const health = [
    ["Hints kept", count(kept), kept > 0 ? "busy" : "good"],
    ["Repairs", rate(repairs) + "/s", repairs > 0 ? "busy" : "good"],
    ["Partitions that differ", count(differing), differing > 0 ? "busy" : "good"],
    ["Partitions short of an owner", count(under), under > 0 ? "bad" : "good"],
    ["Reads in conflict, 1 min", share(conflicted), conflicted > 0 ? "busy" : "good"],
  ];
  if (damaged > 0) health.push(["Damaged records", count(damaged), "bad"]);
  if ((cluster.ring?.moving ?? 0) > 0) health.push(["Transfers", bytes(moved) + "/s", "busy"]);
  tiles.push(make("dl", { class: "tile health" }, health.map(([name, value, tone]) =>
    make("div", { class: tone }, make("dt", {}, name), make("dd", {}, value)))));
  replace(byId("strip"), tiles);
}

function share(part) {
  if (part === null) return "–";
  return part > 0 && part < 0.0005 ? "< 0.1 %" : (part * 100).toFixed(1) + " %";
}

function spark(line) {
  const [width, height] = [120, 26];
  const top = Math.max(1, ...line);
  const points = line.map((n, i) =>
    `${((i + 120 - line.length) / 119 * width).toFixed(1)},${(height - 1 - n / top * (height - 3)).toFixed(1)}`);
  const svg = { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return draw("svg", svg, points.length > 1 ? draw("polyline", { points: points.join(" ") }) : null);
}

function live(tone, text) {
  byId("live").className = "live " + tone;
  say(byId("live-text"), text);
}

function ask() {
  const door = byId("door");
  if (!door.hidden) return;
  token.forget();
  byId("main").hidden = true;
  door.hidden = false;
  live("busy", "waits for a token");
  byId("token").focus();
}

function fail(error) {
  if (error.status === 401) return ask();
  const since = answered ? Math.round((Date.now() - answered) / 1000) : 0;
  live("bad", "no answer");
  const banner = byId("banner");
  banner.hidden = false;
  say(banner, error.status
    ? `The node refuses: ${error.message}`
    : `The node that serves this page does not answer${answered ? `. What is shown is ${since} s old` : ""}.`);
  document.body.classList.add("stale");
  return undefined;
}

async function turn() {
  try {
    await look();
    document.body.classList.remove("stale");
    live("good", "live");
    if (opening) {
      opening = false;
      if (byId("key").value !== "") explorer.look();
    }
    if (!following) {
      following = true;
      events.follow(() => {
        following = false;
      });
    }
  } catch (error) {
    fail(error);
  }
  const wait = document.hidden ? EVERY_MS * 5 : EVERY_MS;
  if (byId("door").hidden) setTimeout(turn, wait);
}

byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(byId("token").value);
  byId("token").value = "";
  byId("door").hidden = true;
  turn();
});

turn();
