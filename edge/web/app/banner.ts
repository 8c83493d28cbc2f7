// The banner that says how the connection is, when it is not good.

import type { Client, ConnectionState } from "../sdk/index.js";
import { el } from "./dom.js";

/** A reconnect that is over sooner is not worth a word. */
const PATIENCE_MS = 700;

const STOPPED: Record<number, [text: string, button: string]> = {
  4502: ["The server did not understand this page. Please reload it.", "Reload"],
  4503: ["confab is open in another window.", "Use it here"],
  4504: ["There are too many connections of yours.", "Try again"],
  4505: ["This page is too old for the server. Please reload it.", "Reload"],
};

export class Banner {
  readonly element = el("div", { class: "banner", role: "status", "data-test": "banner", "data-state": "offline", hidden: true });
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly client: Client) {
    client.on("state", (state) => this.update(state));
    this.update(client.connection.state);
  }

  private update(state: ConnectionState): void {
    this.element.dataset["state"] = state.phase;
    if (state.phase === "online" || state.phase === "offline") {
      clearTimeout(this.timer);
      this.timer = undefined;
      this.element.hidden = true;
    } else if (state.phase === "stopped") {
      const [text, button] = STOPPED[state.code ?? 0] ?? ["The connection was closed.", "Try again"];
      this.show(text, button, () => (button === "Reload" ? location.reload() : this.client.start()));
    } else {
      this.timer ??= setTimeout(() => this.waiting(), PATIENCE_MS);
      if (!this.element.hidden) this.waiting();
    }
  }

  private waiting(): void {
    const { phase, code } = this.client.connection.state;
    if (phase === "connecting") this.show(code ? "Reconnecting…" : "Connecting…");
    if (phase === "waiting") {
      const text = code === 4000 ? "The server is moving house. Reconnecting shortly…" : "No connection. Unsent messages are kept. Trying again…";
      this.show(text, "Try now", () => this.client.connection.wake());
    }
  }

  private show(text: string, button = "", act: () => void = () => {}): void {
    this.element.replaceChildren(
      el("span", {}, text),
      button ? el("button", { type: "button", class: "link", on: { click: act } }, button) : "",
    );
    this.element.hidden = false;
  }
}
