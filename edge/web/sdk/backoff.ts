// Waiting before the next try. Full jitter: a fleet of clients that lost the
// same edge must not come back in step.

export const MIN_MS = 500;
export const MAX_MS = 20_000;

/** delay of try n (from 0): uniform between MIN_MS and a doubling ceiling. */
export function delay(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(MAX_MS, MIN_MS * 2 ** Math.min(attempt + 1, 10));
  return Math.round(MIN_MS + random() * (ceiling - MIN_MS));
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
