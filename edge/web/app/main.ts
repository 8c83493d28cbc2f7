// Where the page begins: read the address, then sign in or show the chat.

import { adopt, CallError, Client, signedIn } from "../sdk/index.js";
import { fragment, forgetFragment, options } from "./browser.js";
import { Chat } from "./chat.js";
import { el } from "./dom.js";
import { SignIn } from "./signin.js";
import { explain } from "./text.js";

const root = document.getElementById("app")!;
const settings = options();

const SIGNED_OUT: Record<string, string> = {
  left: "You are signed out.",
  revoked: "This session was ended from elsewhere. Please sign in again.",
  expired: "Your session has expired. Please sign in again.",
  refused: "The server no longer accepts this session. Please sign in again.",
};

async function begin(): Promise<void> {
  const { invite, token, refresh } = fragment();
  if (token !== undefined || refresh !== undefined || invite !== undefined) forgetFragment();
  if (token || refresh) return adoptTokens(token ?? "", refresh ?? "");
  const user = signedIn(settings);
  if (user && invite === undefined) return chat(user);
  signIn("", invite);
}

async function adoptTokens(token: string, refresh: string): Promise<void> {
  root.replaceChildren(el("p", { class: "boot", role: "status" }, "Signing in…"));
  try {
    chat(await adopt(settings, { token, refresh_token: refresh }));
  } catch (reason) {
    const refused = !CallError.of(reason).unknown;
    signIn(refused ? "This link is no longer valid. Please sign in." : explain(reason));
  }
}

function signIn(notice: string, invite?: string): void {
  new SignIn(root, settings, chat, invite, notice);
}

function chat(user: string): void {
  const client = new Client(user, settings);
  const view = new Chat(root, client);
  client.on("signedOut", ({ reason }) => {
    view.close();
    forgetFragment();
    signIn(SIGNED_OUT[reason] ?? "");
  });
  client.start();
}

// A link with a secret may be opened in a page that is running already.
window.addEventListener("hashchange", () => {
  const { invite, token, refresh } = fragment();
  if (invite !== undefined || token !== undefined || refresh !== undefined) location.reload();
});

void begin();
