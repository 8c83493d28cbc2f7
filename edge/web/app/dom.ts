// The few lines that stand in for a framework. Text goes in as text nodes only:
// there is no way here to write markup.

export type Child = Node | string | null | undefined | false;
type Listeners = { [E in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[E]) => void };
export type Attributes = { on?: Listeners; [name: string]: string | number | boolean | Listeners | undefined };

/** el makes an element. False and undefined attributes are left out. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value as Listeners)) {
        element.addEventListener(event, listener as EventListener);
      }
    } else if (value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  back: "M15 5l-7 7 7 7",
  send: "M4 12l16-8-6 16-3-6-7-2z",
  write: "M4 20l1-4L16.5 4.5a2 2 0 0 1 3 3L8 19zM14.5 6.5l3 3",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 19c.8-3 3.3-5 6.5-5s5.7 2 6.5 5M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5c1.9.7 3.1 2.3 3.6 4.5",
  channel: "M5 9h15M4 15h15M10 4L8 20M16 4l-2 16",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  out: "M10 5H6a1 1 0 0 0-1 1v12a1 1 0 0 0 1 1h4M14 8l4 4-4 4M18 12H9",
  down: "M6 10l6 6 6-6",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 13l4 4L19 7",
  checks: "M2 13l4 4L15 8M12 16l1 1L22 8",
  clock: "M12 7v5l3 2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  alert: "M12 8v5M12 16.5h.01M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4",
  talk: "M5 5h14a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-6l-5 4v-4H5a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2z",
} as const;

export type Icon = keyof typeof PATHS;

/** icon is decoration: what it means must be said by a label beside it. */
export function icon(name: Icon): SVGSVGElement {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(ns, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** iconButton carries its label for a reader and as a tooltip. */
export function iconButton(name: Icon, label: string, attributes: Attributes = {}): HTMLButtonElement {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, ...attributes }, icon(name));
}

const TONES = 8;

/** avatar shows initials on one of a few tones, always the same for a name. */
export function avatar(id: string, name: string, kind: "direct" | "group" | "channel" = "direct"): HTMLElement {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619) >>> 0;
  const mark: Child = kind === "channel" ? icon("channel") : initials(name);
  return el("span", { class: `avatar tone-${hash % TONES} ${kind}`, "aria-hidden": "true" }, mark);
}

function initials(name: string): string {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[1]] : [words[0]];
  return letters.map((word) => [...(word ?? "?")][0]?.toUpperCase() ?? "").join("");
}

/** field is a labelled input. */
export function field(label: string, attributes: Attributes, hint = ""): HTMLLabelElement {
  return el(
    "label",
    { class: "field" },
    el("span", { class: "field-label" }, label, hint && el("span", { class: "hint" }, ` ${hint}`)),
    el("input", { dir: "auto", ...attributes }),
  );
}

/** isolated keeps a foreign text from turning the text around it. */
export function isolated(text: string, className = ""): HTMLElement {
  return el("bdi", { dir: "auto", ...(className ? { class: className } : {}) }, text);
}

/** focusables that arrow keys walk through, within a list or menu. */
export function arrowKeys(container: HTMLElement, selector: string): void {
  container.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    const all = [...container.querySelectorAll<HTMLElement>(selector)];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = Math.max(0, Math.min(all.length - 1, (at < 0 ? 0 : at) + step));
    if (!all[to] || at < 0) return;
    event.preventDefault();
    all[to].focus();
  });
}
