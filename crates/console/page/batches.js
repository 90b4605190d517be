// Batches of durable edges, as their coordinator knows them; failed ones start anew by a click.

import { get, hasToken, post } from "./api.js";
import { ask, attribute, by, html, keyed, say, Table, text } from "./dom.js";
import { bytes, count, mood, when, whole } from "./format.js";

const STATES = ["failed", "pending", "processing", "scheduled", "waiting", "completed", "cancelled", "expired"];

export class Batches {
  constructor() {
    this.pipeline = null;
    this.state = "failed";
    this.pages = 1;
    const requeue = (batch) => [
      html("button", { type: "button", class: "small", onclick: () => this.#requeue(batch.id) }, "Requeue"),
    ];
    this.table = new Table(by("batch-table"), "Batches", [
      ["Batch", "mono", (cell, batch) => text(cell, batch.id)],
      ["Stage", null, (cell, batch) => text(cell, batch.queue)],
      ["Attempts", "number", (cell, batch) => text(cell, batch.attempts)],
      ["Rows", "number", (cell, batch) => text(cell, whole(batch.rows))],
      ["Size", "number", (cell, batch) => text(cell, bytes(batch.bytes))],
      ["Error", "wide", (cell, batch) => {
        if (!cell.firstChild) cell.append(html("span", { class: "code bad" }), html("span"));
        text(cell.children[0], batch.error?.code ?? "");
        text(cell.children[1], batch.error?.message ?? "");
      }],
      ["Changed", null, (cell, batch) => text(cell, when(batch.updated_at_ms))],
      ["", "buttons", (cell, batch) => {
        const ended = ["failed", "cancelled", "expired"].includes(batch.state);
        cell.firstChild.hidden = !ended;
        attribute(cell.firstChild, "aria-label", `Requeue ${batch.id}`);
      }, requeue],
    ], (batch) => `${batch.id} ${batch.state}`);
    by("batch-queue").addEventListener("change", () => this.#again());
    by("batch-more").addEventListener("click", () => {
      this.pages += 1;
      this.refresh();
    });
    by("requeue-all").addEventListener("click", () => this.#requeueAll());
  }

  of(pipeline) {
    this.pipeline = pipeline;
    this.queues = [];
    this.#clear("");
    this.#again();
  }

  #again() {
    this.pages = 1;
    this.refresh();
  }

  #clear(note) {
    this.table.show([]);
    by("batch-states").replaceChildren();
    by("failed-count").hidden = true;
    by("requeue-all").hidden = true;
    by("batch-more").hidden = true;
    by("batch-stage").hidden = true;
    text(by("batch-title"), "Batches");
    text(by("batch-note"), note);
  }

  async refresh() {
    const pipeline = this.pipeline;
    if (!pipeline) return;
    if (!pipeline.has_coordinator) {
      this.#clear("No coordinator of this pipeline is known: it has no durable edge, or it was started without --coordinator.");
      return;
    }
    if (!hasToken()) {
      this.#clear("Batches are shown to who has the token: sheafctl console prints a link with it.");
      return;
    }
    try {
      const answer = await this.#read(pipeline.summary.id);
      if (pipeline === this.pipeline) this.#show(answer);
    } catch (error) {
      if (pipeline === this.pipeline) this.#clear(`The batches cannot be read: ${error.message}`);
    }
  }

  /** As many pages as are shown. */
  async #read(pipeline) {
    const queue = by("batch-queue").value || null;
    const asked = { pipeline, state: this.state, queue };
    const answer = await get("/api/batches", asked);
    for (let page = 1; page < this.pages && answer.next_cursor; page += 1) {
      const next = await get("/api/batches", { ...asked, cursor: answer.next_cursor });
      answer.batches.push(...next.batches);
      answer.next_cursor = next.next_cursor;
    }
    return answer;
  }

  #show(answer) {
    if (answer.state !== this.state) return;
    this.queues = answer.queues;
    const create = (state) => html("button",
      { type: "button", onclick: () => this.#choose(state) }, html("span", {}, state), html("b"));
    keyed(by("batch-states"), STATES, (state) => state, create, (button, state) => {
      text(button.lastChild, count(answer.counts[state]));
      attribute(button, "title", whole(answer.counts[state]));
      attribute(button, "aria-pressed", state === this.state);
      attribute(button, "class", state === "failed" && answer.counts.failed > 0 ? "bad" : mood(""));
    });
    const failed = answer.counts.failed;
    by("failed-count").hidden = failed === 0;
    text(by("failed-count"), count(failed));
    by("requeue-all").hidden = this.state !== "failed" || answer.batches.length === 0;
    by("batch-more").hidden = !answer.next_cursor;
    text(by("batch-title"), `Batches: ${this.state}`);
    text(by("batch-note"), answer.batches.length ? "" : `No batch is ${this.state}.`);
    this.table.show(answer.batches);
    by("batch-stage").hidden = false;
    const queues = ["", ...answer.queues.map((one) => one.queue)];
    keyed(by("batch-queue"), queues, (queue) => queue,
      (queue) => html("option", { value: queue }, queue || "all"), () => {});
  }

  #choose(state) {
    this.state = state;
    this.#again();
  }

  async #requeue(id) {
    await this.#post({ ids: [id] }, (answer) => {
      const [batch] = answer.batches;
      if (batch?.verdict === "applied") return say(`${id} is ${batch.state} again`);
      return say(`${id} was not requeued: it is ${batch?.state ?? "not there"}`, true);
    });
  }

  async #requeueAll() {
    const chosen = by("batch-queue").value;
    const meant = this.queues.filter((one) => one.counts.failed > 0 && (!chosen || one.queue === chosen));
    const sum = meant.reduce((all, one) => all + one.counts.failed, 0);
    const where = meant.map((one) => one.queue).join(", ");
    const agreed = await ask({
      title: "Requeue all failed batches?",
      words: `${whole(sum)} batches of ${where} start anew, with all their retries.`,
      yes: "Requeue all",
    });
    if (!agreed) return;
    for (const { queue } of meant) {
      await this.#post({ queue }, (answer) => say(`${whole(answer.count)} batches of ${queue} start anew`));
    }
  }

  async #post(body, done) {
    try {
      done(await post("/api/requeue", { pipeline: this.pipeline.summary.id, ...body }));
    } catch (error) {
      say(`Nothing was requeued: ${error.message}`, true);
    }
    await this.refresh();
  }
}
