// One key: where it lives, what each replica holds, and its values side by side.

import { get, write } from "./api.js";
import { byId, bytes, make, micros, replace, say, visible } from "./dom.js";
import { swatch } from "./ring.js";

const SHOWN = 4000;

export class Explorer {
  constructor(colour) {
    this.colour = colour;
    this.found = byId("found");
    byId("look").addEventListener("submit", (event) => {
      event.preventDefault();
      this.look();
    });
    const named = new URLSearchParams(location.hash.slice(1)).get("key");
    if (named !== null) byId("key").value = named;
  }

  // The key as one path segment, or null if what was typed is none.
  segment() {
    const typed = byId("key").value;
    if (typed === "") return null;
    try {
      if (!byId("encoded").checked) return encodeURIComponent(typed);
    } catch {
      return null;
    }
    // Everything that is not an escape already is escaped.
    return typed.replace(/%[0-9a-fA-F]{2}|[^%]|%/gsu, (c) =>
      c.length === 3 && c[0] === "%" ? c : encodeURIComponent(c));
  }

  async look() {
    const key = this.segment();
    if (key === null) return this.tell("Type a key first.");
    try {
      this.show(key, await get("/explore?key=" + key));
    } catch (error) {
      this.tell(error.message);
    }
  }

  tell(text) {
    replace(this.found, make("p", { class: "note" }, text));
  }

  show(key, found) {
    const siblings = found.read.siblings;
    const name = make("bdi", { class: "key" }, visible(byId("key").value));
    const parts = [
      make("h3", {}, name, " ", make("span", { class: "quiet" }, this.verdict(found))),
      make("p", { class: "note" },
        `Partition ${found.partition}, hash ${found.hash}, epoch ${found.epoch}. `,
        `Read in ${micros(found.read.took_us)}${found.read.acks ? ", " + found.read.acks : ""}.`),
    ];
    if (siblings.length > 0) {
      parts.push(make("div", { class: "siblings" }, siblings.map((one, i) => this.sibling(key, found, one, i))));
    }
    if (siblings.length > 1) parts.push(this.merge(key, found));
    parts.push(this.replicas(found));
    replace(this.found, parts);
  }

  verdict(found) {
    const siblings = found.read.siblings.length;
    if (found.read.outcome === "not_found") return "no value";
    if (found.read.outcome !== "done") return "could not be read: " + found.read.outcome.replaceAll("_", " ");
    return siblings === 1 ? "one value" : `${siblings} values in conflict`;
  }

  sibling(key, found, one, number) {
    const others = found.read.siblings.length - 1;
    const keep = others > 0 && !one.cut
      ? make("button", { type: "button", class: "keep", onclick: () => this.keep(key, found, one, others) }, "Keep this value")
      : null;
    const long = one.text.length > SHOWN;
    return make("article", { class: "sibling", "aria-label": `Value ${number + 1}` },
      make("pre", { tabindex: "0", dir: "ltr" }, visible(long ? one.text.slice(0, SHOWN) + " …" : one.text)),
      make("footer", {},
        make("span", { class: "quiet", title: "The write that made it: incarnation, epoch, number" }, `${bytes(one.bytes)} · ${one.dot}`),
        one.cut ? make("span", { class: "busy-text" }, "too long to show whole") : null,
        keep));
  }

  merge(key, found) {
    const box = make("textarea", { id: "merged", rows: "3", spellcheck: "false", dir: "ltr" });
    box.value = found.read.siblings[0].cut ? "" : found.read.siblings[0].text;
    const wrong = make("p", { class: "note bad-text", role: "alert" });
    const send = () => {
      try {
        JSON.parse(box.value);
      } catch (error) {
        return say(wrong, "This is not JSON: " + error.message);
      }
      say(wrong, "");
      const all = found.read.siblings.length;
      return this.resolve(key, found, box.value, `Replace all ${all} values by the merged one?`, "Merge");
    };
    return make("details", { class: "merge" },
      make("summary", {}, "Merge by hand"),
      make("label", { for: "merged" }, "The value that replaces all of them, as JSON"),
      box, wrong,
      make("div", { class: "line end" }, make("button", { type: "button", class: "strong", onclick: send }, "Write the merged value")));
  }

  keep(key, found, one, others) {
    const what = others === 1 ? "the other one" : `the other ${others}`;
    return this.resolve(key, found, one.text, `Keep this value, and drop ${what}?`, "Keep");
  }

  // Covers exactly the values that are shown: one written meanwhile stays, beside this one.
  async resolve(key, found, text, question, verb) {
    if (/^(\.|%2e){1,2}$/i.test(key)) {
      return this.tell("A browser cannot write this key, because it takes it for a place among paths. Use: quorate put");
    }
    const shown = text.length > 300 ? text.slice(0, 300) + " …" : text;
    if (!(await sure(question, visible(shown), verb))) return null;
    try {
      await write("PUT", "/v1/" + key, text, found.read.clock);
    } catch (error) {
      return this.tell("Not written: " + error.message);
    }
    return this.look();
  }

  replicas(found) {
    const dots = new Set(found.replicas.flatMap((replica) => replica.siblings.map((one) => one.dot)));
    const rows = found.replicas.map((replica) => {
      const held = new Set(replica.siblings.map((one) => one.dot));
      const missing = replica.why === null && replica.role !== "fallback"
        ? [...dots].filter((dot) => !held.has(dot)).length : 0;
      return make("tr", {},
        make("th", { scope: "row" }, swatch(this.colour(replica.node)), replica.node),
        make("td", {}, { owner: "owner", incoming: "owner to be", fallback: "keeps a hint" }[replica.role]),
        make("td", {}, this.held(replica)),
        make("td", {}, missing > 0 ? make("span", { class: "busy-text" }, `differs by ${missing}`) : null));
    });
    return make("table", { class: "replicas" },
      make("caption", {}, "What each replica holds"),
      make("thead", { class: "hidden" }, make("tr", {}, ["Node", "Part", "Holds", ""].map((t) => make("th", { scope: "col" }, t)))),
      make("tbody", {}, rows));
  }

  held(replica) {
    if (replica.why !== null) return make("span", { class: "bad-text" }, replica.why);
    if (replica.siblings.length === 0) return make("span", { class: "quiet" }, "nothing");
    return replica.siblings.map((one) =>
      make("code", { class: "value", title: one.dot }, one.tombstone ? "deleted" : visible(one.text) + (one.cut ? " …" : "")));
  }
}

// Who waits for the answer to the question that is asked.
let asked = null;

function answered(yes) {
  const tell = asked;
  asked = null;
  tell?.(yes);
}

byId("sure").addEventListener("close", () => {
  // The end of a dialog may be told when the next question is open already.
  if (!byId("sure").open) answered(byId("sure").returnValue === "yes");
});

function sure(question, text, verb) {
  answered(false);
  const dialog = byId("sure");
  say(byId("sure-title"), question);
  say(byId("sure-text"), text);
  say(byId("sure-yes"), verb);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((tell) => {
    asked = tell;
  });
}
