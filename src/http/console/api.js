// The way to the node that serves this page, and to no other.

const PLACE = "quorate.token";

export const token = {
  get: () => sessionStorage.getItem(PLACE),
  set: (value) => sessionStorage.setItem(PLACE, value),
  forget: () => sessionStorage.removeItem(PLACE),
};

export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.message ?? "the node answered " + status);
    this.status = status;
    this.answer = answer;
  }
}

function headers(more = {}) {
  const shown = token.get();
  return shown ? { ...more, authorization: "Bearer " + shown } : more;
}

async function parsed(response) {
  const text = await response.text();
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // Only the status is known then.
  }
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

export async function get(path, milliseconds = 5000) {
  const signal = AbortSignal.timeout(milliseconds);
  return parsed(await fetch(path, { headers: headers(), signal, cache: "no-store" }));
}

// `value` is JSON as text, and stays it: numbers that JavaScript cannot hold survive.
export async function write(method, path, value, clock) {
  const fields = [];
  if (value !== null) fields.push('"value":' + value);
  if (clock) fields.push('"clock":' + JSON.stringify(clock));
  const request = {
    method,
    headers: headers({ "content-type": "application/json" }),
    body: "{" + fields.join(",") + "}",
    signal: AbortSignal.timeout(10000),
  };
  return parsed(await fetch(path, request));
}

// Server-sent events, read by hand because EventSource cannot show a token.
export async function stream(path, tell, signal) {
  const response = await fetch(path, { headers: headers(), signal, cache: "no-store" });
  if (!response.ok) throw new Refused(response.status, null);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: "));
      if (data.length > 0) tell(JSON.parse(data.map((line) => line.slice(6)).join("\n")));
    }
  }
}
