// The log of conversations: where an entry stands, and how one is read a second time.
import { parse } from "./calls.js";
import { Refusal } from "./errors.js";

const streamOf = (partition) => `IM_MESSAGES_${String(partition).padStart(2, "0")}`;

// streams holds the names of the streams of messages, one a partition.
export const streams = Array.from({ length: 16 }, (_, p) => streamOf(p));

// partition returns where a conversation is kept: FNV-1a, 32 bits, of its id.
export function partition(conversation) {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(conversation)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash % streams.length;
}

// readAgain returns the entry that a job names, for an operator wants it handled once more; null where it has been erased meanwhile.
export async function readAgain(nc, functionName, job) {
  if (job.subject !== `im.job.${functionName}.entry` || job.headers?.has("Nats-Scheduler")) throw new Refusal("unknown_call", "The function has no such job.");
  const { conversation, sequence } = parse(job.data);
  if (typeof conversation !== "string" || !Number.isSafeInteger(sequence)) throw new Refusal("bad_data", "conversation and sequence are needed.");
  const at = partition(conversation);
  const found = await nc.request(`$JS.API.DIRECT.GET.${streamOf(at)}`, JSON.stringify({ seq: sequence }), { timeout: 5_000 });
  if (found.headers?.code === 404) return null;
  if (found.headers?.get("Nats-Subject") !== `im.msg.p${String(at).padStart(2, "0")}.${conversation}`) {
    throw new Refusal("bad_data", "The job names an entry of another conversation.");
  }
  return parse(found.data);
}
