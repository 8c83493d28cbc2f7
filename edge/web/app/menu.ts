// The small menu of a message: reactions first, then what may be done with it.

import { el } from "./dom.js";

export interface MenuItem {
  label: string;
  test: string;
  danger?: boolean;
  run(): void;
}

const EMOJI = ["👍", "❤️", "😂", "🎉", "😮", "😢"];

/** openMenu shows the menu below its button; Escape and a click outside close it. */
export function openMenu(button: HTMLElement, react: (emoji: string) => void, items: MenuItem[]): void {
  const menu = el("div", { class: "menu", role: "menu", "aria-label": "Message actions", "data-test": "menu" });
  const close = (focus: boolean) => {
    document.removeEventListener("pointerdown", outside, true);
    window.removeEventListener("resize", gone);
    button.setAttribute("aria-expanded", "false");
    menu.remove();
    if (focus) button.focus();
  };
  const gone = () => close(false);
  const outside = (event: Event) => {
    if (!menu.contains(event.target as Node) && !button.contains(event.target as Node)) close(false);
  };
  const choice = (label: string, className: string, test: string, run: () => void, name = label) =>
    el("button", { type: "button", role: "menuitem", tabindex: -1, class: className, "data-test": test, "aria-label": name, on: { click: () => (close(true), run()) } }, label);

  menu.append(
    el("div", { class: "menu-emoji", role: "group", "aria-label": "React" }, ...EMOJI.map((e) => choice(e, "emoji", "react", () => react(e), `React with ${e}`))),
    ...items.map((item) => choice(item.label, item.danger ? "menu-item danger" : "menu-item", item.test, () => item.run())),
  );
  menu.addEventListener("keydown", (event) => walk(event, menu, () => close(true)));
  document.body.append(menu);
  place(menu, button);
  button.setAttribute("aria-expanded", "true");
  document.addEventListener("pointerdown", outside, true);
  window.addEventListener("resize", gone);
  (menu.querySelector("[role=menuitem]") as HTMLElement | null)?.focus();
}

function walk(event: KeyboardEvent, menu: HTMLElement, close: () => void): void {
  if (event.key === "Escape" || event.key === "Tab") {
    event.preventDefault();
    close();
    return;
  }
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...menu.querySelectorAll<HTMLElement>("[role=menuitem]")];
  const at = all.indexOf(document.activeElement as HTMLElement);
  all[(at + step + all.length) % all.length]?.focus();
}

function place(menu: HTMLElement, button: HTMLElement): void {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const left = Math.max(8, Math.min(at.right - width, innerWidth - width - 8));
  const below = at.bottom + 4 + height < innerHeight;
  menu.style.left = `${left}px`;
  menu.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - height - 4)}px`;
}
