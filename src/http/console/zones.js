// Zones, where there are several: each has a tone between the paper and the ink, in the ring and in
// the list below it.

import { byId, draw, make, replace } from "./dom.js";

export class Zones {
  // `light` is told which zone is pointed at, or null.
  constructor(light) {
    this.list = byId("zones");
    this.light = light;
    this.members = new Map();
    this.tones = new Map();
  }

  show(members) {
    this.members = members;
    const names = [...new Set(members.values())].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const last = Math.max(1, names.length - 1);
    this.tones = new Map(names.map((name, at) => [name, (0.08 + 0.84 * at / last).toFixed(2)]));
    this.list.hidden = !this.several();
    this.light(null);
    replace(this.list, this.several() ? names.map((name) => this.entry(name)) : []);
  }

  several() {
    return this.tones.size > 1;
  }

  of(member) {
    return this.members.get(member);
  }

  // A member as a note names it.
  tell(member) {
    return this.several() && this.of(member) !== undefined ? `${member} in ${this.of(member)}` : member;
  }

  draw(zone, d) {
    return draw("path", { d, class: "zone-edge", "fill-opacity": this.tones.get(zone), "data-zone": zone });
  }

  entry(zone) {
    const members = [...this.members].filter(([, of]) => of === zone).map(([name]) => name);
    const tone = draw("svg", { class: "tone", viewBox: "0 0 10 10", "aria-hidden": "true" },
      draw("rect", { width: 10, height: 10, "fill-opacity": this.tones.get(zone) }));
    const light = (zone) => () => this.light(zone);
    return make("li", {
      tabindex: "0",
      "data-zone": zone,
      title: members.join(", "),
      onpointerenter: light(zone),
      onpointerleave: light(null),
      onfocus: light(zone),
      onblur: light(null),
    },
      tone,
      make("span", { class: "name" }, zone),
      make("span", { class: "quiet" }, members.length === 1 ? members[0] : `${members.length} members`));
  }
}
