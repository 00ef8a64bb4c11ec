// The first page: which project and period, when to ask, and who shows the answers.
import { getData } from "./api.js";
import { makeConnection } from "./connection.js";
import { byId, make, setText } from "./dom.js";
import { makeFigures, makeLive } from "./figures.js";
import { makeFilterBar, parseFilters, toggleFilter, writeFilters } from "./filters.js";
import { clock, dayRange } from "./format.js";
import { showInstall } from "./install.js";
import { makePanels } from "./panels.js";
import { PRESETS, rangeProblem, resolve } from "./periods.js";
import { poll } from "./poll.js";
import { makeTimeline, METRICS } from "./timeline.js";

const REALTIME_MS = 5000, REPORT_MS = 30000;

const root = byId("dashboard");
const COMPARISONS = [{ id: "previous", label: "Before" }, { id: "year", label: "Year ago" }, { id: "off", label: "Off" }];
const state = {
  projects: [], project: null, choice: { id: "30d" }, filters: [], compare: "previous",
  metrics: ["uniqueVisitors", "pageviews"], report: null,
};
const pollers = [];
const live = makeLive(), figures = makeFigures(), timeline = makeTimeline(byId("chart"));
const panels = makePanels(
  limit => getData(analyticsPath(), question(period(), limit)),
  (dimension, value) => filter(toggleFilter(state.filters, dimension, value)),
);
const filterBar = makeFilterBar(filter);
const connection = makeConnection(() => pollers.forEach(poller => poller.now()));

const zone = () => state.project.timezone || "UTC";
const period = () => resolve(state.choice, zone());
const analyticsPath = () => `/projects/${state.project.id}/analytics`;
const question = ({ start, end, granularity }, limit = 10) => ({
  startDate: start, endDate: end, granularity, limit, ...(state.filters.length ? { filters: writeFilters(state.filters) } : {}),
});

// The address holds project, period, filters and comparison, so that a view can be kept or sent to somebody.
function readAddress() {
  const params = new URLSearchParams(location.search);
  const id = params.get("range"), start = params.get("start"), end = params.get("end");
  if (id === "custom" && !rangeProblem(start || "", end || "")) state.choice = { id, start, end };
  else state.choice = { id: PRESETS.some(preset => preset.id === id && id !== "custom") ? id : "30d" };
  state.filters = parseFilters(params.get("filters"));
  const compare = params.get("compare");
  state.compare = COMPARISONS.some(one => one.id === compare) ? compare : "previous";
  const wanted = Number(params.get("project"));
  state.project = state.projects.find(project => project.id === wanted) || state.projects[0];
}

function writeAddress() {
  const params = new URLSearchParams({ project: state.project.id, range: state.choice.id });
  if (state.choice.id === "custom") {
    params.set("start", state.choice.start);
    params.set("end", state.choice.end);
  }
  if (state.filters.length) params.set("filters", writeFilters(state.filters));
  if (state.compare !== "previous") params.set("compare", state.compare);
  history.pushState(null, "", `?${params}`);
}

function showReport(report, asked) {
  state.report = { report, asked };
  const { comparison } = report;
  figures.show(report.overview, comparison);
  setText(byId("compared"), comparison ? dayRange(comparison.dateRange.start, comparison.dateRange.end) : "");
  timeline.show(report, asked, state.metrics);
  panels.show(report);
  setLoading(false);
  const empty = report.overview.events === 0, nothing = empty && !state.filters.length;
  byId("chart-empty").hidden = !empty;
  const first = state.project.id === 1;
  showInstall(nothing, state.project, first ? root.dataset.developmentKey : "", root.dataset.demo);
  setText(byId("updated"), `Updated ${clock(new Date())}`);
}

// A filtered report takes a moment: what is still shown meanwhile is of other filters.
function setLoading(loading) {
  byId("chart-box").classList.toggle("loading", loading);
  root.classList.toggle("loading", loading);
  root.setAttribute("aria-busy", String(loading));
}

function loadReport(asked) {
  const wanted = { ...question(asked), ...(state.compare === "off" ? {} : { compare: state.compare }) };
  return async signal => showReport(await getData(analyticsPath(), wanted, signal), asked);
}

async function loadRealtime(signal) {
  const realtime = await getData(`/projects/${state.project.id}/realtime`, {}, signal);
  live.show(realtime);
  panels.showLive(realtime);
}

/** Begin again with the current project and period. */
function restart({ projectChanged = false } = {}) {
  const asked = period();
  let day = asked.end;
  pollers.splice(0).forEach(poller => poller.stop());
  setLoading(true);
  if (projectChanged) {
    live.clear();
    figures.clear();
    panels.clear();
  }
  setText(byId("title"), state.project.name);
  document.title = `${state.project.name} · Analytics-Pulse`;
  setText(byId("period"), dayRange(asked.start, asked.end));
  filterBar.show(state.filters);
  setText(byId("live").querySelector("[data-note]"), state.filters.length ? "not filtered" : "last 5 minutes");
  for (const button of byId("compare").children) button.setAttribute("aria-pressed", String(button.dataset.compare === state.compare));
  setText(byId("zone"), `Days in ${zone()}`);
  for (const button of byId("ranges").children) button.setAttribute("aria-pressed", String(button.dataset.range === state.choice.id));
  byId("project").value = String(state.project.id);

  pollers.push(poll(loadRealtime, REALTIME_MS, error => {
    if (error) live.stale();
    connection.report("realtime", error);
  }));
  pollers.push(poll(loadReport(asked), REPORT_MS, error => {
    connection.report("report", error);
    // Past midnight, "today" is another day.
    if (state.choice.id !== "custom" && period().end !== day) {
      day = period().end;
      restart();
    }
  }));
}

function choose(choice) {
  state.choice = choice;
  writeAddress();
  restart();
}

function filter(filters) {
  state.filters = filters;
  writeAddress();
  restart();
}

function makeControls() {
  byId("compare").append(...COMPARISONS.map(one => make("button", {
    type: "button", "data-compare": one.id, "aria-pressed": "false",
    onclick: () => {
      state.compare = one.id;
      writeAddress();
      restart();
    },
  }, one.label)));
  const custom = byId("custom");
  byId("ranges").append(...PRESETS.map(preset => make("button", {
    type: "button", "data-range": preset.id, "aria-pressed": "false",
    onclick: () => {
      custom.hidden = preset.id !== "custom";
      if (preset.id !== "custom") return choose({ id: preset.id });
      const shown = period();
      custom.elements.start.value = shown.start;
      custom.elements.end.value = shown.end;
      return custom.elements.start.focus();
    },
  }, preset.label)));
  custom.addEventListener("submit", event => {
    event.preventDefault();
    const start = custom.elements.start.value, end = custom.elements.end.value;
    const problem = rangeProblem(start, end), error = custom.querySelector(".error");
    setText(error, problem || "");
    error.hidden = !problem;
    if (!problem) choose({ id: "custom", start, end });
  });
  byId("metrics").append(...METRICS.map(metric => make("button", {
    type: "button", "data-metric": metric.id, "aria-pressed": String(state.metrics.includes(metric.id)),
    onclick: event => {
      const on = !state.metrics.includes(metric.id);
      if (!on && state.metrics.length === 1) return;
      state.metrics = on ? [...state.metrics, metric.id] : state.metrics.filter(id => id !== metric.id);
      event.currentTarget.setAttribute("aria-pressed", String(on));
      if (state.report) timeline.show(state.report.report, state.report.asked, state.metrics);
    },
  }, metric.label)));
  byId("project").addEventListener("change", event => {
    state.project = state.projects.find(project => String(project.id) === event.target.value);
    state.filters = [];
    writeAddress();
    restart({ projectChanged: true });
  });
  addEventListener("popstate", () => {
    if (!state.projects.length) return;
    const before = state.project;
    readAddress();
    custom.hidden = state.choice.id !== "custom";
    restart({ projectChanged: before !== state.project });
  });
}

/** Find the projects, again and again while there are none or the service can't be reached. */
function start() {
  const finding = poll(async signal => { state.projects = await getData("/projects", {}, signal); }, REALTIME_MS, error => {
    connection.report("projects", error);
    if (error) return;
    root.classList.toggle("no-project", !state.projects.length);
    if (!state.projects.length) {
      setText(byId("title"), "No projects yet");
      setText(byId("period"), "POST /api/v1/projects makes the first; this page notices by itself.");
      return;
    }
    finding.stop();
    const select = byId("project");
    select.replaceChildren(...state.projects.map(project => make("option", { value: project.id }, project.name)));
    select.disabled = false;
    readAddress();
    byId("custom").hidden = true;
    restart({ projectChanged: true });
  });
  pollers.push(finding);
}

makeControls();
start();
