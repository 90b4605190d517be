// What components wrote.

import { hasToken, lines } from "./api.js";
import { by, html, keyed, text } from "./dom.js";
import { clock } from "./format.js";

const MOST = 3_000;

export class Logs {
  constructor() {
    this.pipeline = null;
    this.open = false;
    for (const id of ["log-component", "log-follow"]) by(id).addEventListener("change", () => this.#read());
    by("log-filter").addEventListener("input", () => this.#filter());
  }

  of(pipeline, components) {
    const names = ["", ...components];
    keyed(by("log-component"), names, (name) => name,
      (name) => html("option", { value: name }, name || "all"), () => {});
    if (pipeline === this.pipeline) return;
    this.pipeline = pipeline;
    if (this.open) this.#read();
  }

  choose(component) {
    by("log-component").value = component;
  }

  /** After the token has come or gone. */
  again() {
    this.#read();
  }

  /** Lines are read only while they are looked at. */
  show(open) {
    if (open === this.open) return;
    this.open = open;
    if (open) this.#read();
    else this.reading?.abort();
  }

  async #read() {
    this.reading?.abort();
    if (!this.open || !this.pipeline) return;
    by("log-lines").replaceChildren();
    by("log-lines").hidden = !hasToken();
    if (!hasToken()) {
      text(by("log-note"), "Logs are shown to who has the token: sheafctl console prints a link with it.");
      return;
    }
    text(by("log-note"), "");
    const reading = new AbortController();
    this.reading = reading;
    const follow = by("log-follow").checked;
    const asked = { pipeline: this.pipeline, component: by("log-component").value, tail: 500, follow };
    try {
      await lines("/api/logs", asked, reading.signal, (found) => this.#add(found));
      if (reading === this.reading && !by("log-lines").children.length) {
        text(by("log-note"), "Nothing was written.");
      }
    } catch (error) {
      if (error.name !== "AbortError" && reading === this.reading) {
        text(by("log-note"), `The logs cannot be read: ${error.message}`);
      }
    }
  }

  #add(found) {
    const log = by("log-lines");
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const wanted = by("log-filter").value.toLowerCase();
    log.append(...found.slice(-MOST).map((line) => {
      const level = / ERROR |^error/.test(line.text) ? "bad" : / WARN |^warning/.test(line.text) ? "warn" : null;
      const item = html("div", { class: level },
        html("time", {}, clock(line.at_ms)), html("b", {}, line.instance), line.text);
      item.hidden = !item.textContent.toLowerCase().includes(wanted);
      return item;
    }));
    while (log.children.length > MOST) log.firstChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  #filter() {
    const wanted = by("log-filter").value.toLowerCase();
    for (const item of by("log-lines").children) {
      item.hidden = !item.textContent.toLowerCase().includes(wanted);
    }
  }
}
