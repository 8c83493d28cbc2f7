// What a call is, how one is answered, and how one asks another function.
import { headers, createInbox } from "@nats-io/transport-node";
import { Refusal, refusalOf } from "./errors.js";

const maxData = 17 << 10; // bytes: the largest body of a message, and the fields beside it
const name = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const text = new TextDecoder("utf-8", { fatal: true });

// parse returns the data of a call, an object.
export function parse(data) {
  if (data.length > maxData) throw new Refusal("too_large", `The data has ${data.length} bytes; at most ${maxData} are allowed.`);
  if (data.length === 0) return {};
  let value;
  try {
    value = JSON.parse(text.decode(data));
  } catch {
    throw new Refusal("bad_frame", "The data is not JSON.");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Refusal("bad_data", "The data must be a JSON object.");
  return value;
}

// Call is one request: who makes it, until when an answer is of use, and a way to ask other functions in the same name. The identity was verified by the edge; a
// handler trusts it, and nothing in the data, on who calls.
export class Call {
  constructor({ nc, signal, deadline, user = "", device = "", session = "", address = "", trace = "" }) {
    Object.assign(this, { nc, signal, deadline, user, device, session, address, trace });
  }

  // of reads a call from the headers of its request. Nobody waits for an answer after the deadline that stands there, nor longer than the method's timeout.
  static of(nc, msg, timeout) {
    const header = (key) => msg.headers?.get(key) ?? "";
    const given = Number(header("Confab-Deadline"));
    const latest = Date.now() + timeout;
    const deadline = given > 0 && given < latest ? given : latest;
    return new Call({
      nc,
      deadline,
      signal: AbortSignal.timeout(Math.max(0, deadline - Date.now())),
      user: header("Confab-User"),
      device: header("Confab-Device"),
      session: header("Confab-Session"),
      address: header("Confab-Address"),
      trace: header("traceparent"),
    });
  }

  // check refuses who may not make the call.
  check(method) {
    if ((this.user && !name.test(this.user)) || (this.device && !name.test(this.device))) {
      throw new Refusal("bad_id", "The identity of the call is not of the allowed form.");
    }
    if (method.public && !method.anonymous && !this.user) throw new Refusal("unauthenticated", "Sign in first.");
    if (Date.now() >= this.deadline) throw new Refusal("timeout", "The deadline had passed before the work began.");
  }

  // as returns the same call in another user's name.
  as(user) {
    return new Call({ ...this, user, device: "", session: "", address: "" });
  }

  // ask calls a method of another function, such as "send.post", and returns its answer or throws its Refusal. It goes through an edge, which
  // holds the call while that function sleeps, and wakes it.
  async ask(method, data) {
    const left = this.deadline - Date.now();
    if (left <= 0) throw new Refusal("timeout", "The time for the call was over before its work was done.");
    const head = headers();
    const set = { "Confab-User": this.user, "Confab-Device": this.device, "Confab-Session": this.session, "Confab-Address": this.address, traceparent: this.trace };
    for (const [key, value] of Object.entries(set)) if (value) head.set(key, value);
    head.set("Confab-Deadline", String(Math.floor(this.deadline)));
    const answer = await this.#answer(`im.call.${method}`, JSON.stringify(data), head, left);
    const code = answer.headers.get("Nats-Service-Error-Code");
    if (code) throw new Refusal(code, answer.headers.get("Nats-Service-Error"), Number(answer.headers.get("Confab-Retry-After")) || 0);
    return answer.json();
  }

  // answer waits for the first message that is a function's answer: a stream that captures the subject acknowledges the request too, and that is none.
  #answer(subject, data, head, patience) {
    return new Promise((resolve, reject) => {
      const inbox = createInbox(this.nc.options.inboxPrefix);
      const end = (settle, value) => {
        clearTimeout(timer);
        sub.unsubscribe();
        settle(value);
      };
      const timer = setTimeout(() => end(reject, new Refusal("timeout", "No answer came in time.")), patience);
      const sub = this.nc.subscribe(inbox, {
        callback: (error, msg) => {
          if (error) return end(reject, error);
          if (msg.headers?.code === 503 && msg.data.length === 0) return end(reject, new Refusal("unavailable", "No edge is there to pass calls on.", 1_000));
          if (msg.headers?.has("Confab-Reply")) end(resolve, msg);
        },
      });
      this.nc.publish(subject, data, { headers: head, reply: inbox });
    });
  }
}

// answer sends what a handler returned, or the Refusal of what it threw. untouched says that nothing was begun, so that the caller may send the call again.
export function answer(nc, msg, instance, { result, error, untouched = false }) {
  if (!msg.reply) return;
  const head = headers();
  head.set("Confab-Reply", instance);
  if (!error) {
    nc.publish(msg.reply, JSON.stringify(result ?? {}), { headers: head });
    return;
  }
  const refusal = refusalOf(error);
  head.set("Nats-Service-Error-Code", refusal.code);
  head.set("Nats-Service-Error", refusal.message);
  if (refusal.retryAfterMs > 0) head.set("Confab-Retry-After", String(refusal.retryAfterMs));
  if (untouched) head.set("Confab-Refused", "full");
  nc.publish(msg.reply, "", { headers: head });
}

// within runs a handler until it is done or its signal ends, whichever is first.
export function within(signal, work) {
  return new Promise((resolve, reject) => {
    const end = () => reject(signal.reason);
    if (signal.aborted) return end();
    signal.addEventListener("abort", end, { once: true });
    Promise.resolve()
      .then(work)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", end));
  });
}
