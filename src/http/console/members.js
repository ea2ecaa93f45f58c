// The table of members: what this node knows of each, and what each says of itself.

import { ago, byId, bytes, count, make, micros, rate, replace } from "./dom.js";
import { OPERATIONS, stateOf } from "./figures.js";
import { swatch } from "./ring.js";

const cell = (label, attributes, ...children) =>
  make("td", { "data-label": label, ...attributes }, make("span", { class: "cell" }, ...children));

const WRITES = ["put", "create", "delete"];

export class Members {
  constructor(ring) {
    this.body = byId("members-body");
    this.ring = ring;
  }

  show(cluster, history, colour, shares) {
    const focused = document.activeElement?.dataset?.member;
    replace(this.body, cluster.members.map((member) => this.row(member, cluster, history, colour, shares)));
    if (focused) {
      const row = [...this.body.rows].find((row) => row.dataset.member === focused);
      row?.focus({ preventScroll: true });
    }
    this.ring.light(this.lit ?? null);
  }

  row(member, cluster, history, colour, shares) {
    const figures = member.figures;
    const away = !member.reachable;
    const light = (owner) => () => {
      this.lit = owner;
      this.ring.light(owner);
    };
    const total = OPERATIONS.map((operation) => history.node(member.name, operation).rate);
    const known = total.filter((n) => n !== null);
    const pair = history.pair(member.name);
    const cpu = pair ? (pair.now.cpu_ms - pair.before.cpu_ms) / (pair.seconds * 10) : null;
    return make("tr", {
      class: away ? "away" : null,
      tabindex: "0",
      "data-member": member.name,
      onpointerenter: light(member.name),
      onpointerleave: light(null),
      onfocus: light(member.name),
      onblur: light(null),
    },
      make("th", { scope: "row" },
        swatch(colour(member.name)),
        make("span", { class: "name" }, member.name),
        member.name === cluster.node ? make("span", { class: "tag", title: "This page comes from it" }, "here") : null,
        make("span", { class: "zone" }, member.zone)),
      cell("State", {}, state(stateOf(member), figures, away)),
      cell("Answers", {}, reach(member, cluster)),
      cell("Ops/s", { class: "num" }, figures && known.length ? rate(known.reduce((a, b) => a + b, 0)) : "–"),
      cell("Get p50 · p99", { class: "num" }, figures ? times(history, member.name, ["get"]) : "–"),
      cell("Put p50 · p99", { class: "num" }, figures ? times(history, member.name, WRITES) : "–"),
      cell("Keys", { class: "num" }, figures ? count(figures.keys) : "–"),
      cell("Hints kept", {}, hints(figures)),
      cell("Share", { class: "num" }, share(shares.get(member.name) ?? 0)),
      cell("CPU", { class: "num" }, cpu === null || !figures ? "–" : cpu.toFixed(0) + " %"),
      cell("Memory", { class: "num" }, figures ? bytes(figures.resident_bytes) : "–"));
  }
}

function state(name, figures, away) {
  const shown = away ? "AWAY" : name;
  const tone = { READY: "good", PENDING: "busy", NEW: "busy", LEAVING: "busy", AWAY: "bad" }[shown] ?? "busy";
  const todo = (figures?.gaining ?? 0) + (figures?.recovering ?? 0);
  const title = todo > 0 ? `${todo} partitions to pull` : figures?.waiting_for ?? null;
  return make("span", { class: `pill ${tone}`, title }, todo > 0 ? `${shown} · ${todo}` : shown);
}

function reach(member, cluster) {
  if (member.name === cluster.node) return make("span", { class: "quiet" }, "itself");
  if (!member.reachable) return make("span", { class: "bad-text" }, "no");
  const time = member.latency_us ? micros(member.latency_us) : "yes";
  return member.preferred ? time : make("span", { class: "busy-text" }, "slow, " + time);
}

function times(history, name, operations) {
  const steps = [];
  for (const operation of operations) {
    history.node(name, operation).steps.forEach((n, i) => (steps[i] = (steps[i] ?? 0) + n));
  }
  const [median, late] = [0.5, 0.99].map((part) => history.percentile(steps, part));
  return median === null ? "–" : `${micros(median)} · ${micros(late)}`;
}

function hints(figures) {
  const kept = Object.entries(figures?.hints ?? {}).filter(([, hints]) => hints.count > 0);
  if (kept.length === 0) return make("span", { class: "quiet" }, figures ? "none" : "–");
  return kept.map(([peer, hints]) =>
    make("span", { class: "busy-text hint", title: `${bytes(hints.bytes)}, for ${ago(hints.oldest_seconds)}` },
      `${count(hints.count)} for ${peer}`));
}

function share(partitions) {
  return make("span", { class: "share" }, String(partitions),
    make("meter", { min: 0, max: 256, value: partitions, "aria-hidden": "true" }));
}
