// What happens at the node that serves this page, in sentences.

import { stream } from "./api.js";
import { byId, make } from "./dom.js";

const KEPT = 200;

const SENTENCES = {
  "started": (e) => ["busy", `${e.node} began to watch`],
  "state-changed": (e) => [e.state === "READY" ? "good" : "busy", `${e.node} is ${e.state}`],
  "ring-changed": (e) => ["busy", e.moving > 0
    ? `The ring is at epoch ${e.epoch}: ${e.moving} partitions begin to move`
    : `The ring is at epoch ${e.epoch}, at rest`],
  "member-joined": (e) => ["good", `${e.member} is a member`],
  "member-left": (e) => ["busy", `${e.member} is a member no more`],
  "member-ready": (e) => ["good", `${e.member} has all of its partitions`],
  "peer-down": (e) => ["bad", `${e.member} does not answer ${e.node}`],
  "peer-slow": (e) => ["busy", `${e.member} is slow, and asked last`],
  "peer-up": (e) => ["good", `${e.member} answers ${e.node} again`],
  "hints-kept": (e) => ["busy", `${e.node} keeps ${many(e.count, "write")} for ${e.member}`],
  "hints-delivered": (e) => ["good", `${e.node} keeps nothing for ${e.member} any more`],
  "read-repair": (e) => ["busy", `Reads brought ${many(e.count, "replica")} up to date`],
  "anti-entropy-repair": (e) => ["busy", `Anti-entropy brought ${many(e.count, "key")} into agreement`],
  "damage-found": (e) => ["bad", `${many(e.count, "record")} on ${e.node} had a wrong checksum`],
  "damage-mended": (e) => ["good", `${many(e.count, "damaged record")} mended from other owners`],
  "quorum-not-met": (e) => ["bad", `${many(e.count, "operation")} found too few replicas`],
  "overloaded": (e) => ["bad", `${many(e.count, "operation")} refused: too many in flight`],
  "draining": (e) => ["busy", `${e.node} is about to stop`],
};

const many = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

export class Events {
  constructor() {
    this.list = byId("events");
    this.last = 0;
  }

  // Begins again, a little later each time, for as long as the page is there.
  async follow(refused) {
    let pause = 500;
    for (;;) {
      try {
        await stream("/events?after=" + this.last, (event) => {
          pause = 500;
          this.add(event);
        });
      } catch (error) {
        if (error.status === 401) return refused();
      }
      await new Promise((go) => setTimeout(go, pause));
      pause = Math.min(pause * 2, 8000);
    }
  }

  add(event) {
    // A node that has started anew counts from the beginning.
    this.last = event.seq;
    const sentence = SENTENCES[event.action];
    const [tone, text] = sentence ? sentence(event) : ["busy", event.action];
    const time = new Date(event.at);
    const item = make("li", { class: tone },
      make("time", { datetime: event.at, title: event.at }, time.toLocaleTimeString([], { hour12: false })),
      make("span", {}, text));
    this.list.prepend(item);
    while (this.list.children.length > KEPT) this.list.lastChild.remove();
  }
}
