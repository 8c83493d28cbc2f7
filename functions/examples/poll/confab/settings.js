// The settings that whoever starts a function gives it, in the environment. A function has no others than these and those of its own function.yaml.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { credsAuthenticator, nkeyAuthenticator } from "@nats-io/transport-node";

// UsageError is a setting that is wrong: the program ends with 2 before it has started anything.
export class UsageError extends Error {}

export function readSettings(env) {
  return {
    connection: connection(env),
    concurrency: number(env, "CONFAB_CONCURRENCY", 16),
    idleTimeout: duration(env, "CONFAB_IDLE_TIMEOUT", 0),
    drainTimeout: duration(env, "CONFAB_DRAIN_TIMEOUT", 20_000),
    unit: env.CONFAB_UNIT || undefined, // what whoever started the instance knows it by
    withParent: env.CONFAB_WITH_PARENT === "true",
    level: env.CONFAB_LOG || "info",
    opsListen: env.CONFAB_OPS_LISTEN || "",
  };
}

// connection returns the options for the NATS client. It goes on for ever to connect, as a server may come up later than the function.
function connection(env) {
  const seed = env.CONFAB_NATS_NKEY;
  const options = {
    servers: (env.CONFAB_NATS_URL || "nats://127.0.0.1:4222").split(",").map((url) => url.trim()),
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
    reconnectJitter: 400,
    waitOnFirstConnect: true,
    pingInterval: 5_000,
  };
  if (env.CONFAB_NATS_CREDENTIALS) options.authenticator = credsAuthenticator(read(env, "CONFAB_NATS_CREDENTIALS"));
  if (seed) {
    options.authenticator = nkeyAuthenticator(Buffer.from(read(env, "CONFAB_NATS_NKEY").toString().trim()));
    // A NATS user of confab may read its own inboxes only. The file with its seed has its name.
    options.inboxPrefix = `_INBOX_${basename(seed).split(".")[0]}`;
  }
  if (env.CONFAB_NATS_INBOX_PREFIX) options.inboxPrefix = env.CONFAB_NATS_INBOX_PREFIX;
  if (env.CONFAB_NATS_CA) options.tls = { caFile: env.CONFAB_NATS_CA };
  return options;
}

function read(env, name) {
  try {
    return readFileSync(env[name]);
  } catch (error) {
    throw new UsageError(`${name}: ${error.message}`);
  }
}

function number(env, name, preset) {
  if (!env[name]) return preset;
  const n = Number(env[name]);
  if (!Number.isInteger(n) || n < 1) throw new UsageError(`${name}: "${env[name]}" is no whole number from 1`);
  return n;
}

const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

// duration reads what Go writes, such as 1m30s or 1.5s, and returns milliseconds.
export function duration(env, name, preset) {
  const text = env[name];
  if (!text) return preset;
  if (text !== "0" && !/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) throw new UsageError(`${name}: "${text}" is no duration such as 1m30s`);
  let total = 0;
  for (const [, n, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) total += Number(n) * units[unit];
  return total;
}
