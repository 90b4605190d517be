// Lines over time.

import { attribute, html, keyed, svg, text } from "./dom.js";
import { clock } from "./format.js";

const WIDTH = 640;
const HEIGHT = 170;
const LEFT = 52;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const MOST = 8;
/** Where readings are further apart than that, nothing is known of what was between. */
const GAP_MS = 40_000;
const LEAST_MS = 30_000;

/** A round number at or above, of which quarters are easy to read. */
function ceiling(value) {
  if (!(value > 0)) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].find((one) => one * power >= value) ?? 10;
  return Math.max(4, step * power);
}

export class Chart {
  constructor(parent, title, show, of) {
    this.showValue = show;
    this.of = of;
    this.cursor = null;
    this.grid = svg("g");
    this.lines = svg("g", { class: "lines" });
    this.mark = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.legend = html("ul", { class: "series" });
    this.picture = svg("svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: 0,
        "aria-label": title,
        onpointermove: (event) => this.#point(event),
        onpointerleave: () => this.#go(null),
        onkeydown: (event) => this.#press(event),
        onblur: () => this.#go(null),
      },
      this.grid, this.lines, this.mark);
    parent.append(html("div", { class: "card chart" }, html("h3", {}, title), this.picture, this.legend));
    new ResizeObserver(() => this.last && this.show(...this.last)).observe(this.picture);
  }

  /** Draws what `of` gives of the history: a map from names to points of time and value. */
  show(history, now, minutes) {
    this.last = [history, now, minutes];
    // One unit is one pixel: letters keep their shape.
    this.width = Math.max(240, this.picture.clientWidth || WIDTH);
    attribute(this.picture, "viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.from = now - minutes * 60_000;
    this.to = now;
    const all = [...this.of(history)].map(([name, points]) =>
      ({ name, points: points.filter(([at]) => at >= this.from) }));
    // What began a moment ago is not drawn into a corner.
    const first = all.reduce((least, { points }) => Math.min(least, points[0]?.[0] ?? now), now);
    this.from = Math.min(Math.max(this.from, first), now - LEAST_MS);
    const peak = ({ points }) => points.reduce((most, [, value]) => Math.max(most, value ?? 0), 0);
    const largest = all.filter(({ points }) => points.length)
      .sort((one, two) => peak(two) - peak(one)).slice(0, MOST);
    this.series = largest.sort((one, two) => one.name.localeCompare(two.name));
    this.top = ceiling(Math.max(0, ...this.series.map(peak)));
    this.#frame();
    keyed(this.lines, this.series, ({ name }) => name, () => svg("path"), (path, one) => {
      attribute(path, "class", `k${this.series.indexOf(one)} line`);
      attribute(path, "d", this.#path(one.points));
    });
    attribute(this.lines, "fill", "none");
    this.#tell();
  }

  #x(at) {
    const room = this.width - LEFT - RIGHT;
    return LEFT + ((at - this.from) / (this.to - this.from)) * room;
  }

  #y(value) {
    return HEIGHT - BOTTOM - (value / this.top) * (HEIGHT - TOP - BOTTOM);
  }

  #path(points) {
    let path = "";
    let before = null;
    for (const [at, value] of points) {
      if (value === null || value === undefined) {
        before = null;
        continue;
      }
      const joined = before !== null && at - before < GAP_MS;
      path += `${joined ? "L" : "M"}${Math.max(LEFT, this.#x(at)).toFixed(1)} ${this.#y(value).toFixed(1)}`;
      before = at;
    }
    return path;
  }

  #frame() {
    const rows = [0, 0.25, 0.5, 0.75, 1].map((part) => part * this.top);
    const lines = rows.flatMap((value) => {
      const y = this.#y(value);
      const line = svg("line", { class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y });
      const label = svg("text", { class: "axis right", x: LEFT - 7, y: y + 4 }, this.showValue(value));
      return [line, label];
    });
    const times = [0.01, 0.5, 0.99].map((part, index) => {
      const at = this.from + part * (this.to - this.from);
      const kind = ["axis", "axis middle", "axis right"][index];
      return svg("text", { class: kind, x: this.#x(at), y: HEIGHT - 6 }, clock(at));
    });
    this.grid.replaceChildren(...lines, ...times);
  }

  #point(event) {
    const box = this.picture.getBoundingClientRect();
    const part = ((event.clientX - box.left) / box.width * this.width - LEFT) / (this.width - LEFT - RIGHT);
    this.#go(part < 0 || part > 1 ? null : this.from + part * (this.to - this.from));
  }

  #press(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.#go(null);
    if (!step || !this.to) return;
    event.preventDefault();
    const by = (this.to - this.from) / 60;
    this.#go(Math.min(this.to, Math.max(this.from, (this.cursor ?? this.to) + step * by)));
  }

  #go(at) {
    this.cursor = at;
    if (this.series) this.#tell();
  }

  /** The values at the cursor, or the last ones. */
  #tell() {
    const at = this.cursor === null ? null : Math.min(this.to, Math.max(this.from, this.cursor));
    attribute(this.mark, "visibility", at === null ? "hidden" : "visible");
    if (at !== null) {
      attribute(this.mark, "x1", this.#x(at));
      attribute(this.mark, "x2", this.#x(at));
    }
    const value = (points) => {
      const found = at === null ? points.at(-1) : points.findLast(([time]) => time <= at);
      return found ? found[1] : null;
    };
    const create = () => html("li", {}, html("i"), html("span", { class: "name" }), html("b"));
    keyed(this.legend, this.series, ({ name }) => name, create, (item, one) => {
      attribute(item.children[0], "class", `k${this.series.indexOf(one)}`);
      text(item.children[1], one.name);
      attribute(item.children[1], "title", one.name);
      text(item.children[2], this.showValue(value(one.points)));
    });
  }
}
