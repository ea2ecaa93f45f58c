// What is staged, and what is on its way: shown for as long as there is any of it.

import { get } from "./api.js";
import { ago, byId, bytes, count, make, replace } from "./dom.js";
import { swatch } from "./ring.js";

const STEPS = { flipped: "served by it", verified: "whole", pulling: "on their way", queued: "not begun" };

export class Changes {
  constructor(colour) {
    this.colour = colour;
    this.asking = false;
  }

  // Beside the page's own turn, because members that are away are waited for.
  look(ring) {
    const [staged, moving] = [ring?.staged.length > 0, ring?.moving > 0];
    byId("changes").hidden = !staged && !moving;
    if (this.asking || (!staged && !moving)) return;
    this.asking = true;
    this.ask(staged, moving).catch(() => null).finally(() => {
      this.asking = false;
    });
  }

  async ask(staged, moving) {
    replace(byId("plan"), staged ? this.plan(await get("/cluster/plan")) : []);
    replace(byId("transfers"), moving ? this.transfers(await get("/cluster/transfers")) : []);
  }

  plan(plan) {
    const told = [
      make("h3", {}, "Staged, not made yet: " + plan.staged.join("; ")),
      make("p", { class: "note" }, plan.error
        ? "It cannot be made: " + plan.error
        : `It would move ${plan.moving} partitions in about ${ago(plan.seconds)}. To make it: quorate cluster commit`),
    ];
    const warnings = [
      [plan.under_replicated, "would have fewer owners meanwhile"],
      [plan.lost, "would be lost"],
      [plan.zones_violated, "would have owners in too few zones"],
    ].filter(([partitions]) => partitions?.length > 0);
    told.push(...warnings.map(([partitions, what]) =>
      make("p", { class: "note bad-text" }, `${partitions.length} partitions ${what}.`)));
    const rows = (plan.nodes ?? []).map((node) => make("tr", {},
      this.name(node.node),
      make("td", {}, `${node.before} → ${node.after} partitions`),
      make("td", {}, node.gains > 0 ? `gains ${node.gains}: about ${count(node.keys)} keys, ${bytes(node.bytes)}` : "")));
    return [...told, table("What each member would own", rows)];
  }

  transfers({ transfers, silent }) {
    const nodes = Map.groupBy(transfers, (transfer) => transfer.to);
    const rows = [...nodes].map(([node, all]) => {
      const sum = (field) => all.reduce((sum, one) => sum + one[field], 0);
      const at = (step) => all.filter((one) => one.step === step).length;
      const steps = Object.entries(STEPS).filter(([step]) => at(step) > 0);
      const waits = all.find((one) => one.waiting_for)?.waiting_for;
      return make("tr", {},
        this.name(node),
        make("td", {}, make("progress", { max: all.length, value: at("flipped") + at("verified"), "aria-label": "Partitions there" })),
        make("td", {}, steps.map(([step, what]) => `${at(step)} ${what}`).join(", ")),
        make("td", { class: "num" }, `${count(sum("done"))} of ${count(sum("total"))} records`),
        make("td", { class: "num" }, bytes(sum("rate_bytes_s")) + "/s"),
        make("td", {}, waits ? make("span", { class: "busy-text" }, "waits for " + waits) : null));
    });
    const missing = silent.length > 0 ? make("p", { class: "note bad-text" }, "Not told by " + silent.join(", ")) : [];
    return [table("On the way, by the member that gains them", rows), missing];
  }

  name(node) {
    return make("th", { scope: "row" }, swatch(this.colour(node)), node);
  }
}

const table = (caption, rows) => make("table", { class: "plain" }, make("caption", {}, caption), make("tbody", {}, rows));
