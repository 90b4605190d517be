// Boxes and lines stand where the server has laid them out; figures are written onto them.

import { attribute, svg, text } from "./dom.js";
import { bytes, count, cut, mood } from "./format.js";

const NAME = 20;
const SMALLEST = 0.62;

export class Topology {
  constructor(parent, open) {
    this.parent = parent;
    this.open = open;
    this.nodes = new Map();
    this.edges = new Map();
  }

  draw(picture) {
    this.nodes.clear();
    this.edges.clear();
    if (!picture) {
      this.parent.replaceChildren(svg("svg", { width: 0, height: 0 }));
      return;
    }
    const { width, height } = picture;
    const lines = picture.lines.map((line) => this.#line(line));
    const boxes = picture.boxes.map((box) => this.#box(box));
    const labels = picture.lines.map((line) => this.#label(line));
    const drawing = svg("svg",
      { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Topology" },
      ...lines, ...labels, ...boxes);
    // As wide as there is room, but never so small that nobody can read it.
    drawing.style.width = "100%";
    drawing.style.maxWidth = `${width}px`;
    drawing.style.minWidth = `${width * SMALLEST}px`;
    this.parent.replaceChildren(drawing);
  }

  #line(line) {
    const title = svg("title", {}, line.about ? `${line.id}: ${line.about}` : line.id);
    const way = svg("path", { d: line.path, class: line.durable ? "edge durable" : "edge", "stroke-width": 2 });
    const flow = svg("path", { d: line.path, class: "flow" });
    const group = svg("g", { class: "edge-ended" }, title, way, flow);
    this.edges.set(line.id, { group, way, flow });
    return group;
  }

  #label(line) {
    const figure = svg("text", { x: line.x, y: line.y + 4 });
    const back = svg("rect", { x: line.x - 30, y: line.y - 10, width: 60, height: 20, rx: 10 });
    const about = svg("text", { class: "about", x: line.x, y: line.y - 15 }, cut(line.about, 18));
    const lag = svg("text", { class: "lag", x: line.x, y: line.y + 24 });
    const label = svg("g", { class: "edge-label", visibility: "hidden" }, about, lag, back, figure);
    const group = svg("g", { class: "edge-ended" }, label);
    Object.assign(this.edges.get(line.id), { label, figure, lag, back, x: line.x, labelled: group });
    return group;
  }

  #box(box) {
    const { x, y, width, height } = box;
    const name = box.instances > 1 ? `${cut(box.id, NAME - 4)} ×${box.instances}` : cut(box.id, NAME);
    const rate = svg("text", { class: "rate", x: x + 16, y: y + height - 14 });
    const more = svg("text", { class: "more", x: x + width - 14, y: y + height - 14 });
    const go = () => this.open(box.id);
    const press = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      go();
    };
    const rectangle = (kind, by) =>
      svg("rect", { class: kind, x: x + by, y: y + by, width, height, rx: 10 });
    const group = svg("g",
      { class: `node ${box.role}`, tabindex: 0, role: "button", onclick: go, onkeydown: press },
      svg("title", {}, box.id),
      box.instances > 1 ? rectangle("back", 5) : null,
      rectangle("box", 0),
      svg("rect", { class: "mark", x: x + 1, y: y + 14, width: 4, height: height - 28, rx: 2 }),
      svg("text", { class: "id", x: x + 16, y: y + 25 }, name),
      svg("text", { class: "what", x: x + 16, y: y + 42 }, cut(`${box.role} · ${box.what}`, 26)),
      svg("circle", { class: "dot", cx: x + width - 17, cy: y + 20, r: 4.5 }),
      rate, more);
    this.nodes.set(box.id, { group, rate, more, box });
    return group;
  }

  show(figures) {
    for (const [id, node] of this.nodes) {
      const own = figures.components.filter((row) => row.component === id);
      this.#showNode(id, node, own);
    }
    for (const [id, edge] of this.edges) {
      const row = figures.edges.find((one) => one.edge === id);
      if (edge.label) this.#showEdge(edge, row);
    }
  }

  #showNode(id, { group, rate, more, box }, own) {
    const total = (name) => {
      const known = own.map((row) => row[name]).filter((value) => value !== null);
      return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
    };
    const rows = box.role === "sink" ? total("rows_in_per_second") : total("rows_out_per_second");
    text(rate, rows === null ? "–" : `${count(rows)} rows/s`);
    const memory = total("memory_bytes");
    text(more, memory === null ? "" : bytes(memory));
    const moods = own.map((row) => mood(row.status));
    const worst = ["bad", "warn", "good"].find((one) => moods.includes(one)) ?? "none";
    attribute(group, "class", `node ${box.role} ${worst}`);
    const states = [...new Set(own.map((row) => row.status))].join(", ");
    attribute(group, "aria-label", `${box.role} ${id}: ${states || "not there"}, ${rate.textContent}`);
  }

  #showEdge(edge, row) {
    const state = row?.state ?? "ended";
    attribute(edge.group, "class", `edge-${state}`);
    attribute(edge.labelled, "class", `edge-${state}`);
    const rate = row?.rows_per_second ?? 0;
    // By order of magnitude: a thousand times more is not a thousand times thicker.
    attribute(edge.way, "stroke-width", (1.75 + Math.min(5, Math.log10(1 + rate) * 0.75)).toFixed(2));
    attribute(edge.flow, "class", rate > 0 ? "flow moving" : "flow");
    attribute(edge.label, "visibility", row ? "visible" : "hidden");
    if (!row) return;
    const words = state === "broken" ? "reader away" : state === "ended" ? "ended" : `${count(rate)}/s`;
    text(edge.figure, words);
    text(edge.lag, row.lag > 0 ? `${count(row.lag)} behind` : "");
    const width = words.length * 6.4 + 20;
    attribute(edge.back, "width", width.toFixed(1));
    attribute(edge.back, "x", (edge.x - width / 2).toFixed(1));
  }
}
