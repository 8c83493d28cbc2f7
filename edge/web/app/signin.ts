// The page before the chat: sign in, or create an account.

import { CallError, signIn, type ClientOptions } from "../sdk/index.js";
import { el, field, icon } from "./dom.js";
import { explain } from "./text.js";

type Call = "auth.login" | "auth.register";

/** SignIn shows the form in root and calls done once there are tokens. */
export class SignIn {
  private readonly error = el("p", { class: "error", role: "alert", "data-test": "error" });
  private readonly user = field("User name", {
    name: "username",
    "data-test": "user",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
    pattern: "[a-z0-9][a-z0-9_\\-]{0,62}",
    title: "Lower-case letters, digits, - and _",
    maxlength: 63,
  });
  private readonly password = field("Password", {
    name: "password",
    type: "password",
    "data-test": "password",
    required: true,
    dir: "ltr",
  });
  private readonly name = field("Display name", { name: "name", "data-test": "name", autocomplete: "name", maxlength: 64 }, "optional");
  private readonly invite = field("Invite code", { name: "invite", "data-test": "invite", autocomplete: "off", spellcheck: "false" }, "if you have one");
  private busy = false;

  constructor(
    private readonly root: HTMLElement,
    private readonly options: ClientOptions,
    private readonly done: (user: string) => void,
    private readonly invited: string | undefined,
    notice: string,
  ) {
    this.show(notice);
  }

  private show(notice: string): void {
    const invited = this.invited !== undefined;
    input(this.invite).value = this.invited ?? "";
    input(this.password).autocomplete = invited ? "new-password" : "current-password";
    const login = this.button("auth.login", "Sign in", "login", !invited);
    const register = this.button("auth.register", "Create account", "register", invited);
    const known = [this.user, this.password];
    const extra = [this.name, this.invite];
    const parts = invited
      ? [...known, ...extra, this.error, register, divider("Already have an account?"), login]
      : [...known, this.error, login, divider("New here?"), ...extra, register];
    const form = el("form", { class: "card", novalidate: true, "aria-labelledby": "sign-in-title" }, ...parts);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const submitter = (event as SubmitEvent).submitter as HTMLButtonElement | null;
      void this.submit((submitter?.value as Call) || (invited ? "auth.register" : "auth.login"), form);
    });
    this.root.replaceChildren(
      el(
        "main",
        { class: "sign-in" },
        el("div", { class: "brand" }, el("span", { class: "logo" }, icon("talk")), el("h1", { id: "sign-in-title" }, invited ? "You are invited to confab" : "Welcome to confab")),
        el("p", { class: "lead" }, notice || (invited ? "Choose a name and a password to join." : "Sign in to go on with your conversations.")),
        form,
      ),
    );
    input(this.user).focus();
  }

  private button(call: Call, label: string, test: string, primary: boolean): HTMLButtonElement {
    return el("button", { type: "submit", value: call, class: primary ? "button primary" : "button", "data-test": test }, label);
  }

  private async submit(call: Call, form: HTMLFormElement): Promise<void> {
    if (this.busy || !this.valid()) return;
    this.busy = true;
    form.setAttribute("aria-busy", "true");
    this.error.textContent = "";
    const data: { user: string; password: string; [field: string]: unknown } = {
      user: input(this.user).value.trim(),
      password: input(this.password).value,
      device: this.options.device,
    };
    const name = input(this.name).value.trim();
    const invite = input(this.invite).value.trim();
    if (call === "auth.register" && name) data["name"] = name;
    if (call === "auth.register" && invite) data["invite"] = invite;
    try {
      this.done(await signIn(this.options, call, data));
    } catch (reason) {
      const refused = call === "auth.register" && CallError.of(reason).code === "forbidden";
      this.error.textContent = refused ? "An invite code is needed here, and this one is not valid." : explain(reason);
    } finally {
      this.busy = false;
      form.removeAttribute("aria-busy");
    }
  }

  private valid(): boolean {
    const user = input(this.user);
    user.value = user.value.trim().toLowerCase();
    for (const [box, message] of [
      [user, "A user name is lower-case letters, digits, - and _, at most 63."],
      [input(this.password), "Please give a password."],
    ] as const) {
      const bad = !box.validity.valid;
      box.setAttribute("aria-invalid", String(bad));
      if (bad) {
        this.error.textContent = message;
        box.focus();
        return false;
      }
    }
    return true;
  }
}

function input(label: HTMLLabelElement): HTMLInputElement {
  return label.querySelector("input")!;
}

function divider(text: string): HTMLElement {
  return el("p", { class: "divider" }, el("span", {}, text));
}
