// Refusal is an error that a caller may see: one of the codes of subjects/PROTOCOL.md, section 8, and a sentence. Any other error is logged, and
// callers learn of it as "internal" and no more.
export class Refusal extends Error {
  constructor(code, message, retryAfterMs = 0) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

// The codes after which another try may go better: four that leave open what happened, and one that asks for patience.
const passing = new Set(["unavailable", "timeout", "storage_unavailable", "internal", "rate_limited"]);

// refusalOf returns what callers may see of an error.
export function refusalOf(error) {
  if (error instanceof Refusal) return error;
  if (error?.name === "TimeoutError") return new Refusal("timeout", "The time for the call was over before its work was done.");
  return new Refusal("internal", "Something broke on the server.");
}

export function mayPass(refusal) {
  return passing.has(refusal.code);
}
