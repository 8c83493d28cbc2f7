// How a user comes to be signed in: by a password, or by tokens made elsewhere.

import type { ClientOptions } from "./client.js";
import { Credentials } from "./credentials.js";
import { CallError, type Hello, type Tokens, type UserID } from "./protocol.js";
import { once } from "./socket.js";

/** signIn asks for tokens and keeps them; register is the same with a new user. */
export async function signIn(
  options: ClientOptions,
  call: "auth.login" | "auth.register",
  data: { user: UserID; password: string; [field: string]: unknown },
): Promise<UserID> {
  const tokens = (await once(options.url, call, data)) as Tokens;
  const user = tokens.user ?? data.user;
  new Credentials(options.storage, options.lock).save({ ...tokens, user });
  return user;
}

/**
 * adopt keeps tokens that were made elsewhere and asks the server whose they are:
 * the subject of a foreign token need not be the user's name here. An empty or an
 * expired token is replaced by spending the refresh token.
 */
export async function adopt(options: ClientOptions, tokens: Tokens): Promise<UserID> {
  const credentials = new Credentials(options.storage, options.lock);
  const refresh = async () => (await once(options.url, "auth.refresh", { refresh_token: tokens.refresh_token })) as Tokens;
  if (!tokens.token) {
    const fresh = await refresh();
    credentials.save(fresh); // Spent is spent: keep it whatever comes.
    if (fresh.user) return fresh.user;
    tokens = fresh;
  }
  const hello = async () => (await once(options.url, "hello", { token: tokens.token, device: options.device })) as Hello;
  let welcome: Hello;
  try {
    welcome = await hello();
  } catch (reason) {
    if (CallError.of(reason).code !== "token_expired" || !tokens.refresh_token) throw reason;
    tokens = await refresh();
    credentials.save(tokens);
    welcome = await hello();
  }
  const { user, expires_at } = welcome;
  credentials.save({ expires_at, ...tokens, user });
  return user;
}

/** signedIn is the user whose tokens are kept, or undefined. */
export function signedIn(options: ClientOptions): UserID | undefined {
  return new Credentials(options.storage, options.lock).load()?.user;
}
