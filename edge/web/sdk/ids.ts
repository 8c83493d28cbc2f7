// Client ids are UUIDv7: their own time decides how long the server may still
// recognise a repeat, so the clock is the server's, not the machine's.

let lastMs = 0;
let lastCounter = 0;

/**
 * uuidv7 makes an id that sorts after all ids made before it in this page, also
 * within one millisecond (RFC 9562, method 1: a counter in rand_a).
 */
export function uuidv7(nowMs: number): string {
  const random = crypto.getRandomValues(new Uint8Array(10));
  let ms = Math.max(Math.floor(nowMs), lastMs);
  let counter = ((random[0]! & 0x07) << 8) | random[1]!;
  if (ms === lastMs) {
    counter = lastCounter + 1;
    if (counter > 0xfff) {
      ms++;
      counter = 0;
    }
  }
  // A clock that was set back would pin ids to a time far ahead: follow it.
  if (lastMs - nowMs > 60_000) ms = Math.floor(nowMs);
  lastMs = ms;
  lastCounter = counter;

  const hex = (n: number, width: number) => n.toString(16).padStart(width, "0");
  const time = hex(ms, 12);
  const tail = Array.from(random.subarray(2), (b, i) => hex(i === 0 ? (b & 0x3f) | 0x80 : b, 2)).join("");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(counter, 3)}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}

/** timeOf reads the milliseconds of a UUIDv7, or 0 when it is none. */
export function timeOf(id: string): number {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/.test(id)) return 0;
  return parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}
