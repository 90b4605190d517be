// Components, edges and runs, as tables.

import { attribute, by, html, Table, text } from "./dom.js";
import { bytes, count, mood, span, when, whole } from "./format.js";

const instance = (row) => row.place.slice(row.pipeline.length + 1);

function pill(cell, word, kind) {
  if (!cell.firstChild) cell.append(html("span"));
  attribute(cell.firstChild, "class", `pill bare ${kind}`);
  text(cell.firstChild, word);
}

const number = (name, show = count) => (cell, row) => text(cell, show(row[name]));

export class Components {
  constructor({ restart, logs }) {
    const buttons = (row) => [
      html("button", { type: "button", class: "small", onclick: () => logs(row.component) }, "Logs"),
      html("button", { type: "button", class: "small needs-token", onclick: () => restart(instance(row)) }, "Restart"),
    ];
    this.components = new Table(by("component-table"), "Components", [
      ["Component", null, (cell, row) => {
        text(cell, instance(row));
        attribute(cell, "title", `${row.address} ${row.version}`.trim());
      }],
      ["Kind", "quiet", (cell, row) => text(cell, row.kind)],
      ["Status", null, (cell, row) => pill(cell, row.status, mood(row.status))],
      ["Rows in/s", "number", number("rows_in_per_second")],
      ["Rows out/s", "number", number("rows_out_per_second")],
      ["Bytes/s", "number", number("bytes_per_second", bytes)],
      ["Lag", "number", number("lag")],
      ["Memory", "number", number("memory_bytes", bytes)],
      ["Restarts", "number", number("restarts")],
      ["Last beat", "number", (cell, row) =>
        text(cell, row.last_heartbeat_ms ? `${span(this.now - row.last_heartbeat_ms)} ago` : "–")],
      ["Reason", "wide", number("reason", (reason) => reason)],
      ["", "buttons", null, buttons],
    ], (row) => row.place);
    this.edges = new Table(by("edge-table"), "Edges", [
      ["Edge", null, (cell, row) => text(cell, row.edge.replace(":", " → "))],
      ["State", null, (cell, row) =>
        pill(cell, row.state, { flows: "good", waits: "warn", broken: "bad" }[row.state] ?? "none")],
      ["Rows/s", "number", number("rows_per_second")],
      ["Bytes/s", "number", number("bytes_per_second", bytes)],
      ["Rows", "number", number("rows", whole)],
      ["Lag", "number", number("lag")],
      ["Waiting", "number", number("waiting")],
      ["Credits", "number", number("credits")],
      ["Dropped", "number", number("dropped", whole)],
      ["In memory", "number", number("memory_bytes", bytes)],
      ["On disk", "number", number("disk_bytes", bytes)],
      ["Taps", "number", number("taps")],
    ], (row) => row.edge);
    this.runs = new Table(by("run-table"), "Runs", [
      ["Run", "number", (cell, row) => text(cell, row.run)],
      ["Outcome", null, (cell, row) => pill(cell, row.outcome, mood(row.outcome))],
      ["Started", null, (cell, row) => text(cell, when(row.started_at_ms))],
      ["Took", "number", (cell, row) => text(cell, span((row.stopped_at_ms ?? Date.now()) - row.started_at_ms))],
      ["Reason", "wide", (cell, row) => text(cell, row.reason)],
    ], (row) => row.run);
  }

  show(figures) {
    this.now = figures.at_ms;
    this.components.show(figures.components);
    this.edges.show(figures.edges);
  }

  showRuns(runs) {
    this.runs.show(runs);
  }
}
