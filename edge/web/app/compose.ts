// The box in which messages are written, also to edit one or to answer one.

import { el, icon, iconButton, isolated } from "./dom.js";

export interface Draft {
  text: string;
  /** The seq that is edited or answered, if any. */
  edit?: number;
  replyTo?: number;
}

interface About {
  kind: "edit" | "reply";
  seq: number;
}

export class Compose {
  readonly element: HTMLElement;
  private readonly box: HTMLTextAreaElement;
  private readonly about = el("div", { class: "about", hidden: true });
  private doing: About | undefined;
  private shift = false;

  constructor(
    placeholder: string,
    private readonly send: (draft: Draft) => void,
    private readonly typing: () => void,
    private readonly editLast: () => void,
  ) {
    this.box = el("textarea", {
      rows: 1,
      placeholder,
      "aria-label": placeholder,
      dir: "auto",
      "data-test": "compose",
      enterkeyhint: "send",
      autocomplete: "off",
    });
    const button = el("button", { type: "submit", class: "send", "aria-label": "Send", title: "Send", "data-test": "send" }, icon("send"));
    const form = el("form", { class: "compose" }, this.box, button);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("keyup", (event) => (this.shift = event.shiftKey));
    this.box.addEventListener("beforeinput", (event) => this.lineBreak(event));
    this.box.addEventListener("input", () => {
      this.grow();
      if (this.box.value.trim() !== "") this.typing();
    });
    this.element = el("div", { class: "compose-area" }, this.about, form);
  }

  focus(): void {
    this.grow();
    this.box.focus();
  }

  get value(): string {
    return this.doing?.kind === "edit" ? "" : this.box.value;
  }

  set value(text: string) {
    this.box.value = text;
    this.grow();
  }

  edit(seq: number, text: string): void {
    this.value = text;
    this.begin({ kind: "edit", seq }, "Editing your message", "");
  }

  reply(seq: number, from: string, text: string): void {
    this.begin({ kind: "reply", seq }, `Answering ${from}`, text.slice(0, 120));
  }

  private begin(doing: About, title: string, text: string): void {
    this.doing = doing;
    this.about.replaceChildren(
      el("span", { class: "about-text" }, el("strong", {}, title), text && isolated(text)),
      iconButton("close", "Cancel", { on: { click: () => this.cancel() } }),
    );
    this.about.hidden = false;
    this.focus();
  }

  private cancel(): void {
    if (this.doing?.kind === "edit") this.value = "";
    this.doing = undefined;
    this.about.hidden = true;
    this.focus();
  }

  /** Some keyboards on glass give no usable keydown for Enter, only its effect. */
  private lineBreak(event: InputEvent): void {
    if (event.inputType !== "insertLineBreak" || event.isComposing || this.shift) return;
    event.preventDefault();
    this.submit();
  }

  private key(event: KeyboardEvent): void {
    this.shift = event.shiftKey;
    // While an input method composes, Enter chooses a word.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.submit();
    } else if (event.key === "Escape" && this.doing) {
      event.preventDefault();
      this.cancel();
    } else if (event.key === "ArrowUp" && this.box.value === "") {
      event.preventDefault();
      this.editLast();
    }
  }

  private submit(): void {
    const text = this.box.value.trim();
    if (text === "") return;
    const doing = this.doing;
    this.doing = undefined;
    this.about.hidden = true;
    this.value = "";
    this.send({
      text,
      ...(doing?.kind === "edit" ? { edit: doing.seq } : {}),
      ...(doing?.kind === "reply" ? { replyTo: doing.seq } : {}),
    });
    this.focus();
  }

  /** grow fits the box to its lines; the stylesheet bounds it. */
  private grow(): void {
    this.box.style.height = "";
    if (this.box.value !== "" && this.box.isConnected) this.box.style.height = `${this.box.scrollHeight}px`;
  }
}
