// The page: what is chosen, what comes, and who is told.

import { get, hasToken, post, setToken, takeToken } from "./api.js";
import { Batches } from "./batches.js";
import { Chart } from "./chart.js";
import { Components } from "./components.js";
import { ask, attribute, by, html, keyed, say, text } from "./dom.js";
import { bytes, count, mood, span } from "./format.js";
import { History } from "./history.js";
import { Logs } from "./logs.js";
import { Topology } from "./topology.js";

const TABS = ["overview", "components", "batches", "runs", "logs"];
const THEMES = ["auto", "light", "dark"];
/** When to look again at what does not come by itself. */
const AGAIN_MS = 2_000;

const page = { pipelines: [], id: null, planHash: null, minutes: 5, tab: "overview", events: null };
const history = new History();
const batches = new Batches();
const logs = new Logs();
const components = new Components({ restart, logs: openLogs });
const topology = new Topology(by("topology"), openLogs);
const column = (index) => (all) =>
  new Map([...all].map(([name, points]) => [name, points.map((point) => [point[0], point[index]])]));
const instance = (place) => place.slice(place.indexOf(":") + 1);
const places = (all) => new Map([...all].map(([place, points]) => [instance(place), points]));
const charts = [
  ["Rows per second", count, (all) => column(1)(all.edges)],
  ["Batches not acknowledged", count, (all) => column(3)(all.edges)],
  ["Bytes per second", bytes, (all) => column(2)(all.edges)],
  ["Memory", bytes, (all) => column(4)(places(all.components))],
].map(([title, show, of]) => new Chart(by("charts"), title, show, of));

const chosen = () => page.pipelines.find((one) => one.summary.id === page.id);

function showTiles(figures) {
  const sum = (rows, name) => rows.reduce((all, row) => all + (row[name] ?? 0), 0);
  const kind = (wanted) => figures.components.filter((row) => row.kind === wanted);
  const healthy = figures.components.filter((row) => row.status === "healthy").length;
  const tiles = [
    ["Rows read", count(sum(kind("source"), "rows_out_per_second")), "/s"],
    ["Rows written", count(sum(kind("sink"), "rows_in_per_second")), "/s"],
    ["Not acknowledged", count(sum(figures.edges, "lag")), "batches"],
    ["Healthy", String(healthy), `of ${figures.components.length}`],
    ["Restarts", count(sum(figures.components, "restarts")), ""],
    ["Memory", bytes(sum(figures.components, "memory_bytes")), ""],
  ];
  const create = ([name]) => html("div", {}, html("dt", {}, name), html("dd", {}, html("span"), html("small")));
  keyed(by("tiles"), tiles, ([name]) => name, create, (tile, [, value, unit]) => {
    text(tile.lastChild.firstChild, value);
    text(tile.lastChild.lastChild, unit);
  });
}

function showState() {
  const summary = chosen()?.summary;
  text(by("state"), summary?.state ?? "nothing runs");
  attribute(by("state"), "class", `pill ${mood(summary?.state)}`);
  const began = summary?.started_at_ms;
  const until = summary?.stopped_at_ms ?? page.now ?? Date.now();
  text(by("run"), began ? `run ${summary.run}, ${span(until - began)}` : "");
  const problem = summary && ["failed", "stopped"].includes(summary.state) ? summary.reason : "";
  by("notice").hidden = !problem && page.pipelines.length > 0;
  text(by("notice"), problem || "Nothing has run here yet: sheafctl run FILE starts a pipeline.");
  by("stop").disabled = !hasToken() || !["starting", "running"].includes(summary?.state);
}

function showToken() {
  document.body.classList.toggle("locked", !hasToken());
  text(by("unlock"), hasToken() ? "Lock" : "Unlock");
  const why = hasToken() ? "Forget the token in this tab" : "Show logs and batches; requeue, restart and stop";
  attribute(by("unlock"), "title", why);
  for (const button of document.querySelectorAll("td .needs-token")) button.disabled = !hasToken();
  showState();
}

function showCharts() {
  if (page.tab !== "overview") return;
  for (const chart of charts) chart.show(history, page.now ?? Date.now(), page.minutes);
}

function showPicker() {
  const ids = page.pipelines.map((one) => one.summary.id);
  keyed(by("pipeline"), ids, (id) => id, (id) => html("option", { value: id }, id), () => {});
  by("pipeline").value = page.id ?? "";
  document.title = page.id ? `${page.id} · Sheaf` : "Sheaf console";
}

/** What does not come by itself: runs, pictures, batches. */
async function refresh() {
  try {
    const answer = await get("/api/pipelines");
    page.pipelines = answer.pipelines;
    const known = answer.pipelines.some((one) => one.summary.id === page.id);
    if (!known) {
      const first = answer.pipelines.find((one) => one.summary.state === "running") ?? answer.pipelines[0];
      if (first) await choose(first.summary.id);
    }
    showPicker();
    showState();
    components.showRuns(chosen()?.runs ?? []);
    if (chosen()) {
      batches.pipeline = chosen();
      await batches.refresh();
    }
  } catch (error) {
    lost();
  }
}

async function drawTopology() {
  const id = page.id;
  const { plan_hash: hash, picture } = await get("/api/picture", { pipeline: id });
  if (id !== page.id) return;
  page.planHash = hash;
  topology.draw(picture);
  if (page.figures) topology.show(page.figures);
}

async function choose(id) {
  page.id = id;
  page.figures = null;
  sessionStorage.setItem("sheaf-pipeline", id);
  showPicker();
  await drawTopology();
  history.load(await get("/api/history", { pipeline: id }));
  if (id !== page.id) return;
  batches.of(chosen());
  listen();
}

function listen() {
  page.events?.close();
  const events = new EventSource(`/api/events?${new URLSearchParams({ pipeline: page.id })}`);
  page.events = events;
  events.addEventListener("figures", (event) => take(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    lost();
    // A server that refused is asked again; a connection that broke is made again by itself.
    if (events.readyState === EventSource.CLOSED && events === page.events) setTimeout(listen, AGAIN_MS);
  });
}

function lost() {
  by("link").classList.remove("on");
  text(by("link"), "not connected");
}

function take(figures) {
  page.figures = figures;
  page.now = figures.at_ms;
  by("link").classList.add("on");
  text(by("link"), "live");
  for (const summary of figures.pipelines) {
    const known = page.pipelines.find((one) => one.summary.id === summary.id);
    if (known) known.summary = summary;
  }
  const summary = chosen()?.summary;
  if (summary && summary.plan_hash !== page.planHash) drawTopology().catch(lost);
  history.add(figures);
  showState();
  showTiles(figures);
  topology.show(figures);
  components.show(figures);
  logs.of(page.id, [...new Set(figures.components.map((row) => row.component))]);
  for (const button of document.querySelectorAll("td .needs-token")) button.disabled = !hasToken();
  showCharts();
}

function show(tab) {
  page.tab = TABS.includes(tab) ? tab : "overview";
  for (const name of TABS) {
    const own = name === page.tab;
    by(name).hidden = !own;
    attribute(by(`tab-${name}`), "aria-selected", own);
    attribute(by(`tab-${name}`), "tabindex", own ? 0 : -1);
  }
  logs.show(page.tab === "logs");
  showCharts();
}

function go(tab) {
  show(tab);
  location.hash = `/${tab}`;
}

function openLogs(component) {
  logs.choose(component);
  go("logs");
}

async function restart(component) {
  const agreed = await ask({
    title: `Restart ${component}?`,
    words: "It is ended, and started again. What it had not acknowledged is sent again.",
    yes: "Restart",
  });
  if (!agreed) return;
  try {
    const { instances } = await post("/api/restart", { pipeline: page.id, component });
    say(`${instances === 1 ? component : `${instances} instances of ${component}`} will be started again`);
  } catch (error) {
    say(`${component} was not restarted: ${error.message}`, true);
  }
}

async function stop() {
  const agreed = await ask({
    title: `Stop ${page.id}?`,
    words: "Sources stop first; what is on its way is waited for.",
    yes: "Stop",
  });
  if (!agreed) return;
  try {
    await post("/api/stop", { pipeline: page.id });
    say(`${page.id} is being stopped`);
  } catch (error) {
    say(`${page.id} was not stopped: ${error.message}`, true);
  }
}

async function unlock() {
  if (hasToken()) {
    setToken(null);
  } else {
    const words = "It is in control-token in the --data-dir of the server; sheafctl console prints a link with it.";
    const token = await ask({ title: "The token of this server", words, yes: "Unlock", token: true });
    if (!token) return;
    setToken(token);
  }
  showToken();
  logs.again();
  refresh();
}

function theme(next) {
  const root = document.documentElement;
  if (next === "auto") root.removeAttribute("data-theme");
  else root.setAttribute("data-theme", next);
  localStorage.setItem("sheaf-theme", next);
  attribute(by("theme"), "title", `Scheme: ${next}`);
}

function wire() {
  by("pipeline").addEventListener("change", (event) => choose(event.target.value).catch(lost));
  by("stop").addEventListener("click", stop);
  by("unlock").addEventListener("click", unlock);
  by("theme").addEventListener("click", () => {
    const now = localStorage.getItem("sheaf-theme") ?? "auto";
    theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  });
  for (const name of TABS) by(`tab-${name}`).addEventListener("click", () => go(name));
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(page.tab) + step + TABS.length) % TABS.length];
    go(next);
    by(`tab-${next}`).focus();
  });
  // Nothing is sent to who does not look; what was missed is in the history.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) page.events?.close();
    else if (page.id) choose(page.id).catch(lost);
  });
  window.addEventListener("hashchange", () => {
    if (location.hash.startsWith("#token=")) {
      takeToken();
      showToken();
    } else if (location.hash !== "#content") {
      show(location.hash.slice(2));
    }
  });
  by("range").addEventListener("click", (event) => {
    const minutes = Number(event.target.dataset.minutes);
    if (!minutes) return;
    page.minutes = minutes;
    for (const button of by("range").children) {
      attribute(button, "aria-pressed", Number(button.dataset.minutes) === minutes);
    }
    showCharts();
  });
}

takeToken();
theme(localStorage.getItem("sheaf-theme") ?? "auto");
wire();
page.id = sessionStorage.getItem("sheaf-pipeline");
show(location.hash.slice(2));
showToken();
(async () => {
  const wanted = page.id;
  page.id = null;
  await refresh();
  if (wanted && wanted !== page.id && page.pipelines.some((one) => one.summary.id === wanted)) {
    await choose(wanted);
  }
  // One after another: a slow answer does not pile up.
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    if (!document.hidden) await refresh();
  }
})().catch(lost);
