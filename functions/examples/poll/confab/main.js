// The program of a function: what subjects/PROTOCOL.md, section 15, asks of a function in any language. It starts an instance, runs it, and drains it so that
// nothing that was handed to it is lost.
import { createServer } from "node:http";
import { connect, nuid } from "@nats-io/transport-node";
import { Announcer } from "./announce.js";
import { Call, answer, parse, within } from "./calls.js";
import { Refusal, refusalOf } from "./errors.js";
import { Events } from "./events.js";
import { answerControl } from "./micro.js";
import { UsageError, readSettings } from "./settings.js";
import { Work } from "./work.js";

export { Refusal } from "./errors.js";

// Exit codes, by which whoever started the program knows what to do next.
const exit = { done: 0, broken: 1, usage: 2, disconnected: 3, incomplete: 4 };

// main runs one instance until SIGTERM or SIGINT, or until it was idle for as long as the settings say, and ends the process.
//
// A function is {name, description, version, methods, events?}. methods are {<method>: {public?, anonymous?, idempotent?, passive?, timeout, handle}}, where
// timeout is in milliseconds and handle(call, data) returns the answer. events are {kinds, attempts?, handle(call, entry)}.
export async function main(fn) {
  let ask;
  const asked = new Promise((resolve) => (ask = () => resolve("asked")));
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, ask); // a second one ends the process at once
  try {
    const settings = readSettings(process.env);
    least = levels.indexOf(settings.level);
    if (settings.withParent) process.stdin.on("end", ask).resume();
    const connected = connect({ ...settings.connection, name: `im-${fn.name}` });
    const nc = await Promise.race([connected, asked]);
    if (nc === "asked") process.exit(exit.done);
    const instance = new Instance(fn, settings, nc);
    process.exitCode = await instance.run(asked);
  } catch (error) {
    log("error", "instance broken", { function: fn.name, err: error.message });
    process.exitCode = error instanceof UsageError ? exit.usage : exit.broken;
  }
  process.exit(); // timers of calls that were cut off would hold it up
}

class Instance {
  #fn;
  #settings;
  #nc;
  #id = nuid.next();
  #work;
  #announcer;
  #events;
  #subs = [];
  #counters = {};
  #started = new Date().toISOString();

  constructor(fn, settings, nc) {
    this.#fn = fn;
    this.#settings = settings;
    this.#nc = nc;
    this.#work = new Work(settings.concurrency);
    this.#announcer = new Announcer(nc, fn.name, () => this.#up());
    if (fn.events) this.#events = new Events({ fn, nc, work: this.#work, log });
  }

  // run returns the exit code.
  async run(asked) {
    this.#watch();
    for (const [name, method] of Object.entries(this.#fn.methods)) {
      this.#counters[name] = { requests: 0, errors: 0, took: 0 };
      const callback = (error, msg) => error ?? this.#take(name, method, msg);
      this.#subs.push(this.#nc.subscribe(`im.rpc.${this.#fn.name}.${name}`, { queue: `im-${this.#fn.name}`, callback }));
    }
    const control = answerControl(this.#nc, () => this.#describe());
    await this.#announcer.start();
    this.#events?.start();
    answerProbes(this.#settings.opsListen, () => !this.#nc.isClosed());
    log("info", "instance is up", { function: this.#fn.name, instance: this.#id });
    const reason = await Promise.race([asked, this.#idle(), this.#nc.closed().then(() => "closed")]);
    if (reason === "closed") {
      log("error", "the connection to nats was closed for good", { function: this.#fn.name });
      return exit.disconnected;
    }
    log("info", "instance leaves", { function: this.#fn.name, reason });
    return this.#drain(control);
  }

  // drain says bye, takes what was on its way, waits for what is at work, and lets the answers out.
  async #drain(control) {
    this.#announcer.stop(this.#id);
    const late = new Promise((resolve) => setTimeout(resolve, this.#settings.drainTimeout, exit.incomplete));
    const finished = (async () => {
      await Promise.all([this.#events?.stop(), ...this.#subs.map((sub) => sub.drain())]);
      await this.#work.done();
      await this.#nc.flush();
      return exit.done;
    })();
    const code = await Promise.race([finished, late]);
    if (code === exit.incomplete) log("error", "calls were cut off at the end of the drain", { function: this.#fn.name, working: this.#work.load });
    for (const sub of control) sub.unsubscribe();
    await this.#nc.close();
    return code;
  }

  // idle resolves when the instance has had nothing to do for the idle timeout, and never where there is none.
  #idle() {
    const patience = this.#settings.idleTimeout;
    return new Promise((resolve) => {
      const look = () => {
        const left = this.#work.load > 0 ? patience : patience - this.#work.idleMs;
        if (left <= 0) resolve("idle");
        else setTimeout(look, Math.max(10, left));
      };
      if (patience > 0) look();
    });
  }

  // take hands a call to the work, or refuses it where there is no place: the caller may send it again at once, to another instance.
  #take(name, method, msg) {
    const call = Call.of(this.#nc, msg, method.timeout);
    const began = performance.now();
    const taken = this.#work.submit(async () => {
      const outcome = await this.#answerOf(method, call, msg);
      const counters = this.#counters[name];
      counters.requests++;
      counters.took += Math.round((performance.now() - began) * 1e6);
      if (outcome.error) counters.errors++;
      answer(this.#nc, msg, this.#id, outcome);
    }, method.passive);
    if (!taken) answer(this.#nc, msg, this.#id, { error: new Refusal("unavailable", "Too many calls wait; try again.", 200), untouched: true });
  }

  async #answerOf(method, call, msg) {
    try {
      call.check(method);
      const data = parse(msg.data);
      return { result: await within(call.signal, () => method.handle(call, data)) };
    } catch (error) {
      if (!(error instanceof Refusal)) log("error", "call failed", { function: this.#fn.name, code: refusalOf(error).code, err: error.stack });
      return { error };
    }
  }

  #up() {
    const methods = Object.entries(this.#fn.methods).map(([name, m]) => ({
      name,
      public: m.public,
      anonymous: m.anonymous,
      idempotent: m.idempotent,
      timeout_ms: m.timeout,
    }));
    return {
      function: this.#fn.name,
      instance: this.#id,
      description: this.#fn.description,
      concurrency: this.#settings.concurrency,
      methods,
      peak: this.#work.takePeak(),
      idle_ms: this.#work.idleMs,
      unit: this.#settings.unit,
    };
  }

  #describe() {
    const { name, description, version, methods } = this.#fn;
    const endpoints = Object.entries(methods).map(([method, m]) => {
      const shared = { name: method, subject: `im.rpc.${name}.${method}`, queue_group: `im-${name}` };
      const { requests, errors, took } = this.#counters[method];
      return {
        info: { ...shared, metadata: { public: String(!!m.public), idempotent: String(!!m.idempotent) } },
        stats: { ...shared, num_requests: requests, num_errors: errors, processing_time: took, average_processing_time: requests && Math.round(took / requests) },
      };
    });
    return { service: { name: `im-${name}`, id: this.#id, version, metadata: {} }, description, started: this.#started, endpoints };
  }

  // watch logs what happens to the connection. What the server refuses its user is an error: the user's permissions follow from function.yaml.
  async #watch() {
    for await (const status of this.#nc.status()) {
      if (status.type === "error") log("error", "nats reports an error", { function: this.#fn.name, err: String(status.error) });
      if (status.type === "disconnect") log("warn", "disconnected from nats", { function: this.#fn.name });
      if (status.type === "reconnect") log("info", "reconnected to nats", { function: this.#fn.name });
    }
  }
}

// answerProbes answers /livez and /readyz where whoever runs the instance asks for that.
function answerProbes(listen, ready) {
  if (!listen) return;
  const [, host, port] = /^(.*):(\d+)$/.exec(listen) ?? [];
  createServer((request, response) => {
    response.statusCode = request.url === "/livez" || (request.url === "/readyz" && ready()) ? 200 : 503;
    response.end();
  }).listen(Number(port), host || undefined);
}

const levels = ["debug", "info", "warn", "error"];
let least = levels.indexOf("info"); // what is below is not written

// log writes one JSON object a line. What users write and what proves who they are never belongs there.
function log(level, msg, attributes) {
  if (levels.indexOf(level) < least) return;
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), level: level.toUpperCase(), msg, ...attributes })}\n`);
}
