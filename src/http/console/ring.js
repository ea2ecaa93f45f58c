// The ring: one ray for each partition, from its first owner on the inside to its last; along the
// outer edge of each the owner's zone, where there are several; beyond them, moving, who is about
// to own it.

import { byId, draw, make, replace, say } from "./dom.js";
import { stateOf } from "./figures.js";
import { Zones } from "./zones.js";

const INNER = 92;
const OUTER = 176;
const MOVING = [181, 192];
const GAP = 1.2;
// How deep a zone's tone is, and where the partitions are marked that have too few zones.
const ZONE = 5;
const CROWDED = [INNER - 7, INNER - 3];

const ray = (from, to, low, high) => {
  const point = (angle, radius) =>
    (Math.sin(angle) * radius).toFixed(2) + " " + (-Math.cos(angle) * radius).toFixed(2);
  const [a, b] = [from * 2 * Math.PI, to * 2 * Math.PI];
  const large = to - from > 0.5 ? 1 : 0;
  if (to - from > 0.999) {
    const half = ray(from, from + 0.5, low, high);
    return half + ray(from + 0.5, from + 0.9999, low, high);
  }
  return `M${point(a, high)}A${high} ${high} 0 ${large} 1 ${point(b, high)}L${point(b, low)}A${low} ${low} 0 ${large} 0 ${point(a, low)}Z`;
};

export class Ring {
  constructor() {
    this.svg = byId("ring");
    this.note = byId("ring-note");
    this.chosen = null;
    this.lit = null;
    this.litZone = null;
    this.zones = new Zones((zone) => {
      this.litZone = zone;
      this.paint();
    });
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.choose(null));
    this.svg.addEventListener("keydown", (event) => this.walk(event));
    this.svg.addEventListener("blur", () => this.choose(null));
  }

  // `colour` gives a member's number among the colours, `zones` each member's zone.
  show(ring, colour, zones) {
    this.ring = ring;
    this.colour = colour;
    this.zones.show(zones);
    const all = ring.partitions.length;
    const bands = Math.max(1, ...ring.partitions.map((owners) => owners.length));
    const depth = (OUTER - INNER) / bands;
    const edge = this.zones.several() ? ZONE : 0;
    const shapes = [];
    for (let band = 0; band < bands; band += 1) {
      const [low, high] = [INNER + band * depth + GAP / 2, INNER + (band + 1) * depth - GAP / 2];
      const owners = ring.partitions.map((row) => row[band]);
      for (const [from, to, owner] of runs(owners)) {
        if (owner) shapes.push(this.shape(from, to, low, high - edge, owner, "held"));
      }
      if (edge === 0) continue;
      for (const [from, to, zone] of runs(owners.map((owner) => this.zones.of(owner)))) {
        if (zone !== undefined) shapes.push(this.zones.draw(zone, ray(from / all, to / all, high - edge, high)));
      }
    }
    const incoming = new Map(ring.incoming);
    const gained = ring.partitions.map((owners, p) =>
      (incoming.get(p) ?? []).find((owner) => !owners.includes(owner)));
    for (const [from, to, owner] of runs(gained)) {
      if (owner) shapes.push(this.shape(from, to, ...MOVING, owner, "moving"));
    }
    const crowded = new Set(ring.crowded);
    for (const [from, to, is] of runs(ring.partitions.map((_, p) => crowded.has(p)))) {
      if (is) shapes.push(draw("path", { d: ray(from / all, to / all, ...CROWDED), class: "crowded" }));
    }
    this.mark = draw("path", { class: "mark" });
    this.big = draw("text", { class: "big", y: 2 });
    this.small = draw("text", { class: "small", y: 26 });
    this.top = draw("text", { class: "small", y: -30 });
    replace(this.svg, draw("g", {}, shapes), this.mark, this.big, this.small, this.top);
    this.choose(this.chosen);
    this.paint();
  }

  shape(from, to, low, high, owner, kind) {
    const all = this.ring.partitions.length;
    return draw("path", {
      d: ray(from / all, to / all, low, high),
      class: `${kind} c${this.colour(owner)}`,
      "data-owner": owner,
    });
  }

  // What stands in the middle, who does not answer, and who is neither away nor READY.
  state({ members, away, epoch, moving, under }) {
    if (!this.big) return;
    const unsettled = members.filter((member) => member.reachable && stateOf(member) !== "READY");
    const names = new Set(unsettled.map((member) => member.name));
    say(this.top, "members");
    say(this.big, `${members.length - away.size}/${members.length}`);
    say(this.small, moving > 0 ? `${moving} moving` : `epoch ${epoch}`);
    for (const shape of this.svg.querySelectorAll("[data-owner]")) {
      shape.classList.toggle("away", away.has(shape.dataset.owner));
      shape.classList.toggle("unsettled", names.has(shape.dataset.owner));
    }
    const all = this.ring.partitions.length;
    const rest = [under > 0
      ? `${under} of ${all} partitions have an owner that does not answer`
      : `${all} partitions, from the first owner inside to the last outside`];
    if (moving > 0) rest.push(`${moving} move to the owner on the rim`);
    const crowded = this.ring.crowded.length;
    if (crowded > 0) rest.push(`${crowded}, marked inside, have owners in too few zones`);
    rest.push(...unsettled.map((member) => `${member.name} is ${stateOf(member)}`));
    this.rest = rest.join("; ");
    if (this.chosen === null) say(this.note, this.rest);
  }

  light(owner) {
    this.lit = owner;
    this.paint();
  }

  // One member, or else all of one zone, before the others.
  paint() {
    const some = this.lit !== null || this.litZone !== null;
    this.svg.classList.toggle("dimmed", some);
    for (const shape of this.svg.querySelectorAll("[data-owner]")) {
      const { owner } = shape.dataset;
      const lit = this.lit === null ? some && this.zones.of(owner) === this.litZone : owner === this.lit;
      shape.classList.toggle("lit", lit);
    }
  }

  choose(partition) {
    this.chosen = partition;
    if (!this.ring) return;
    const all = this.ring.partitions.length;
    if (partition === null) {
      this.mark?.removeAttribute("d");
      return say(this.note, this.rest ?? "");
    }
    this.mark.setAttribute("d", ray(partition / all, (partition + 1) / all, INNER - 5, OUTER + 3));
    const to = new Map(this.ring.incoming).get(partition);
    const moves = to ? `, moving to ${to.map((owner) => this.zones.tell(owner)).join(", ")}` : "";
    const owners = this.ring.partitions[partition].map((owner) => this.zones.tell(owner));
    say(this.note, `Partition ${partition}: ${owners.join(", ")}${moves}`);
  }

  point(event) {
    if (!this.ring) return;
    const box = this.svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width - 0.5) * 420;
    const y = ((event.clientY - box.top) / box.height - 0.5) * 420;
    const radius = Math.hypot(x, y);
    if (radius < INNER - 8 || radius > MOVING[1] + 8) return this.choose(null);
    const turn = (Math.atan2(x, -y) / (2 * Math.PI) + 1) % 1;
    this.choose(Math.floor(turn * this.ring.partitions.length));
  }

  walk(event) {
    if (!this.ring) return;
    const all = this.ring.partitions.length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 16, ArrowDown: -16, PageUp: 32, PageDown: -32 };
    if (event.key === "Escape") return this.choose(null);
    if (event.key === "Home") this.choose(0);
    else if (event.key === "End") this.choose(all - 1);
    else if (event.key in steps) this.choose(((this.chosen ?? -1) + steps[event.key] + all) % all);
    else return;
    event.preventDefault();
  }
}

// Neighbours with the same owner, or the same of anything else, as one.
function runs(owners) {
  const out = [];
  owners.forEach((owner, at) => {
    const last = out.at(-1);
    if (last && last[2] === owner) last[1] = at + 1;
    else out.push([at, at + 1, owner]);
  });
  return out;
}

export const swatch = (number) => make("span", { class: `swatch c${number}`, "aria-hidden": "true" });
