// Waiting before the next try. Full jitter: a fleet of clients that lost the
// same edge must not come back in step.

export const MIN_MS = 500;
export const MAX_MS = 20_000;

/** MAX_ASKED_MS bounds what a server may ask for. */
export const MAX_ASKED_MS = 300_000;

/**
 * delay of try n (from 0): uniform between MIN_MS and a doubling ceiling. Where the server asked for a time it is never shorter, and up to
 * half as long again: many were asked for the same.
 */
export function delay(attempt: number, asked = 0, random: () => number = Math.random): number {
  const ceiling = Math.min(MAX_MS, MIN_MS * 2 ** Math.min(attempt + 1, 10));
  const share = random();
  return Math.round(Math.max(MIN_MS + share * (ceiling - MIN_MS), Math.min(asked, MAX_ASKED_MS) * (1 + share / 2)));
}

/** sleep ends after ms, or at once when wake is called. */
export interface Sleep {
  done: Promise<void>;
  wake(): void;
}

export function sleep(ms: number): Sleep {
  let wake = () => {};
  const done = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  return { done, wake: () => wake() };
}

/** What a close code asks for: come back, sign in again, or stay away. */
export type AfterClose = "reconnect" | "refresh" | "stop";

export function afterClose(code: number): AfterClose {
  if (code === 4003 || code === 4500) return "refresh";
  if (code >= 4500 && code <= 4999) return "stop";
  return "reconnect";
}
