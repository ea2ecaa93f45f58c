// What two looks at a node, some seconds apart, say about the time in between.

const KEPT_MS = 130000;
const WINDOW_MS = 10000;

export const OPERATIONS = ["get", "put", "create", "delete"];

// Whether a member is on its way out the ring knows; the rest the member itself, if it answers.
export const stateOf = ({ state, figures }) => (state === "LEAVING" ? state : figures?.state ?? state);

export class History {
  constructor() {
    this.nodes = new Map();
    this.bounds = [];
    this.line = new Map(OPERATIONS.map((operation) => [operation, []]));
  }

  add(cluster) {
    this.bounds = cluster.bounds_us;
    for (const member of cluster.members) {
      if (!member.figures) continue;
      const looks = this.nodes.get(member.name) ?? [];
      const last = looks.at(-1);
      // It has started anew: nothing from before can be compared.
      if (last && last.uptime_ms > member.figures.uptime_ms) looks.length = 0;
      looks.push(member.figures);
      while (looks.length > 2 && looks.at(-1).uptime_ms - looks[0].uptime_ms > KEPT_MS) looks.shift();
      this.nodes.set(member.name, looks);
    }
    this.present = cluster.members.filter((member) => member.figures).map((member) => member.name);
    for (const operation of OPERATIONS) {
      const line = this.line.get(operation);
      line.push(this.cluster(operation, 2500).rate ?? 0);
      if (line.length > 120) line.shift();
    }
  }

  // The newest look, and the one about so long before it.
  pair(name, window = WINDOW_MS) {
    const looks = this.nodes.get(name);
    if (!looks || looks.length < 2) return null;
    const now = looks.at(-1);
    const then = looks.find((look) => now.uptime_ms - look.uptime_ms <= window) ?? looks.at(-2);
    const before = then === now ? looks.at(-2) : then;
    const seconds = (now.uptime_ms - before.uptime_ms) / 1000;
    return seconds > 0 ? { now, before, seconds } : null;
  }

  node(name, operation, window = WINDOW_MS) {
    const pair = this.pair(name, window);
    if (!pair) return { rate: null, failed: 0, steps: [] };
    const [now, before] = [pair.now.operations[operation], pair.before.operations[operation]];
    if (!now || !before) return { rate: null, failed: 0, steps: [] };
    return {
      rate: (now.answered - before.answered) / pair.seconds,
      failed: (now.failed - before.failed) / pair.seconds,
      steps: now.steps.map((n, i) => n - (before.steps[i] ?? 0)),
    };
  }

  cluster(operation, window = WINDOW_MS) {
    const total = { rate: null, failed: 0, steps: [] };
    for (const name of this.present ?? []) {
      const one = this.node(name, operation, window);
      if (one.rate === null) continue;
      total.rate = (total.rate ?? 0) + one.rate;
      total.failed += one.failed;
      one.steps.forEach((n, i) => (total.steps[i] = (total.steps[i] ?? 0) + n));
    }
    return total;
  }

  // A rate of any counter, over all nodes that answer.
  sum(counter, window = WINDOW_MS) {
    let total = 0;
    for (const name of this.present ?? []) {
      const pair = this.pair(name, window);
      if (pair) total += (counter(pair.now) - counter(pair.before)) / pair.seconds;
    }
    return total;
  }

  // The share of reads that showed more than one value; null without reads.
  conflicted() {
    let [all, many] = [0, 0];
    for (const name of this.present ?? []) {
      const pair = this.pair(name, 60000);
      if (!pair) continue;
      pair.now.siblings.forEach((n, i) => {
        const met = n - (pair.before.siblings[i] ?? 0);
        all += met;
        if (i >= 2) many += met;
      });
    }
    return all > 0 ? many / all : null;
  }

  percentile(steps, part) {
    const all = steps.reduce((sum, n) => sum + n, 0);
    if (all === 0) return null;
    let rest = all * part;
    for (let i = 0; i < steps.length; i += 1) {
      if (rest <= steps[i]) {
        const low = i === 0 ? 0 : this.bounds[i - 1];
        const high = this.bounds[i] ?? low;
        return low + (high - low) * (rest / steps[i]);
      }
      rest -= steps[i];
    }
    return this.bounds.at(-1);
  }
}
