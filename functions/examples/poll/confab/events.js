// The events of a function: every entry of every conversation, from a durable consumer on each stream of messages, at least once. The deployer makes the consumers; an
// instance asks for one entry of each stream at a time, so the entries of one conversation come one after another.
import { createInbox, headers } from "@nats-io/transport-node";
import { Call, parse, within } from "./calls.js";
import { Refusal, mayPass, refusalOf } from "./errors.js";
import { readAgain, streams } from "./log.js";

const wait = 30_000; // milliseconds that the server keeps a request for the next entry
const heartbeat = 5_000; // milliseconds; without a sign for twice as long, the request is taken for lost
const handTime = 15_000; // milliseconds after which another instance gets an entry of which nothing was heard
const attempts = 10; // after the last of them the entry is left as a dead letter

export class Events {
  #pulls;

  // of is {fn, nc, work, log}.
  constructor(of) {
    this.#pulls = [
      ...streams.map((stream) => new Pull(stream, of, (msg) => parse(msg.data))),
      new Pull("IM_JOBS", of, (msg) => readAgain(of.nc, of.fn.name, msg)), // entries that operators hand over again
    ];
  }

  start() {
    for (const pull of this.#pulls) pull.start();
  }

  stop() {
    return Promise.all(this.#pulls.map((pull) => pull.stop()));
  }
}

// Pull gets the entries of one stream, which read finds in a message; null is one that was erased.
class Pull {
  #stream;
  #of;
  #read;
  #inbox;
  #sub;
  #timer;
  #stopped = false;

  constructor(stream, of, read) {
    this.#stream = stream;
    this.#of = of;
    this.#read = read;
    this.#inbox = createInbox(of.nc.options.inboxPrefix);
  }

  start() {
    this.#sub = this.#of.nc.subscribe(this.#inbox, { callback: (error, msg) => error ?? this.#arrived(msg) });
    this.#ask();
  }

  // stop asks for nothing more. What comes all the same goes back at once, so that another instance gets it.
  async stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#sub.drain();
  }

  #ask() {
    if (this.#stopped) return;
    this.#awaitSign();
    const request = { batch: 1, expires: wait * 1e6, idle_heartbeat: heartbeat * 1e6 };
    this.#of.nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.#stream}.${this.#of.fn.name}`, JSON.stringify(request), { reply: this.#inbox });
  }

  #awaitSign() {
    this.#askIn(2 * heartbeat);
  }

  #askIn(ms) {
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(() => this.#ask(), ms);
  }

  #arrived(msg) {
    const status = msg.headers?.code ?? 0;
    if (status === 0) this.#take(msg);
    else if (status === 100) this.#awaitSign();
    else if (status === 408) this.#ask(); // the request was kept for its time
    else this.#askIn(1_000); // no consumer yet, no leader, a server that stops
  }

  #take(msg) {
    clearTimeout(this.#timer);
    if (this.#stopped) {
      msg.respond("-NAK");
      return;
    }
    if (!this.#wanted(msg)) {
      msg.respond("+ACK");
      this.#ask();
      return;
    }
    const taken = this.#of.work.submit(async () => {
      await this.#handle(msg);
      this.#ask();
    });
    if (!taken) {
      msg.respond(nak(1_000));
      this.#askIn(1_000);
    }
  }

  // wanted reads the kind of the entry from its header. What has none is no entry, and nobody's business here. Jobs are always meant for this function.
  #wanted(msg) {
    if (!streams.includes(this.#stream)) return true;
    const kind = / kind=([a-z]+)/.exec(msg.headers?.get("Confab-Entry") ?? "")?.[1];
    return this.#of.fn.events.kinds.includes(kind);
  }

  async #handle(msg) {
    const { fn, nc, log } = this.#of;
    const { tries, sequence } = delivery(msg.reply);
    const most = fn.events.attempts ?? attempts;
    const signs = setInterval(() => msg.respond("+WPI"), handTime / 3); // still at work on it
    let entry;
    try {
      if (tries > 2 * most) throw new Refusal("bad_data", "No instance ever finished it."); // it may have ended those that tried
      entry = await this.#read(msg);
      const patience = fn.events.timeout ?? 30_000;
      const call = new Call({ nc, deadline: Date.now() + patience, signal: AbortSignal.timeout(patience) });
      if (entry) await within(call.signal, () => fn.events.handle(call, entry));
      msg.respond("+ACK");
    } catch (error) {
      const refusal = refusalOf(error);
      if (error !== refusal) log("error", "event failed", { function: fn.name, conv: entry?.conversation, seq: entry?.seq, err: error.stack });
      if (mayPass(refusal) && tries < most) {
        msg.respond(nak(Math.max(refusal.retryAfterMs, pause(tries))));
        return;
      }
      await this.#bury(msg, entry, { tries, sequence, refusal });
    } finally {
      clearInterval(signs);
    }
  }

  // bury leaves the entry for operators, and only then lets it go. Where that does not work the entry comes again.
  async #bury(msg, entry, { tries, sequence, refusal }) {
    const { fn, nc, log } = this.#of;
    const { body: _, ...remains } = entry ?? {}; // the body stays in the log alone, where a recall can erase it
    const about = entry || !msg.subject.startsWith("im.job.") ? { entry: remains } : { job: { method: msg.subject.split(".")[3] } };
    const letter = {
      function: fn.name, stream: this.#stream, sequence, ...about, attempts: tries,
      code: refusal.code, message: refusal.message, at: new Date().toISOString(),
    };
    const head = headers();
    head.set("Nats-Msg-Id", `${fn.name}.${this.#stream}.${sequence}.${tries}`); // the store keeps one, should its answer get lost
    try {
      const stored = (await nc.request(`im.dead.${fn.name}`, JSON.stringify(letter), { headers: head, timeout: 5_000 })).json();
      if (stored.error || !stored.seq) throw new Error(stored.error?.description ?? "no acknowledgement");
      msg.respond("+TERM");
      log("warn", "event given up", { function: fn.name, conv: entry?.conversation, seq: entry?.seq, code: refusal.code, attempts: tries });
    } catch (error) {
      log("error", "dead letter not stored", { function: fn.name, err: error.message });
      msg.respond(nak(pause(tries)));
    }
  }
}

// delivery reads how often a message was handed out, and where it stands in its stream, from the subject on which it is acknowledged.
function delivery(reply) {
  const tokens = reply.split(".");
  const at = tokens.length >= 11 ? 4 : 2; // newer servers put a domain and an account in front
  return { tries: Number(tokens[at + 2]), sequence: Number(tokens[at + 3]) };
}

function nak(ms) {
  return `-NAK {"delay":${Math.round(ms * 1e6)}}`;
}

// pause returns how long to wait before the next try, in milliseconds: from half a second, doubling, to a minute.
function pause(tries) {
  return Math.min(60_000, 500 * 2 ** (tries - 1));
}
