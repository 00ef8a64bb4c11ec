// The graphs: live from the service's slices of ten seconds, or over hours, weeks and a year out of what it keeps.
import { byId, colour, make, setText } from "./dom.js";
import { brief, clock } from "./format.js";
import { addTabs } from "./performance-queries.js";
import { ms, percent, rate } from "./performance-units.js";

const MINUTE_MS = 60000, HOUR_MS = 60 * MINUTE_MS, DAY_MS = 24 * HOUR_MS;
const RANGES = [
  { label: "Live", range: "5m", lengthMs: 10 * MINUTE_MS, tickMs: 2 * MINUTE_MS, everyMs: 5000, said: "last ten minutes" },
  { label: "1 h", range: "1h", lengthMs: HOUR_MS, tickMs: 10 * MINUTE_MS, everyMs: 10000, said: "last hour" },
  { label: "24 h", range: "24h", lengthMs: DAY_MS, tickMs: 4 * HOUR_MS, everyMs: MINUTE_MS, said: "last 24 hours" },
  { label: "14 d", range: "14d", lengthMs: 14 * DAY_MS, tickMs: 2 * DAY_MS, everyMs: 5 * MINUTE_MS, said: "last 14 days" },
  { label: "30 d", range: "30d", lengthMs: 30 * DAY_MS, tickMs: 5 * DAY_MS, everyMs: 5 * MINUTE_MS, said: "last 30 days" },
  { label: "1 y", range: "1y", lengthMs: 365 * DAY_MS, tickMs: 60 * DAY_MS, everyMs: 5 * MINUTE_MS, said: "last year" },
];

const GRAPHS = [
  { id: "requests", title: "Requests a second", unit: "", write: rate, lines: [{ metric: "requestsPerSecond", label: "Requests/s", colour: "accent" }] },
  { id: "latency", title: "Answer times", unit: " ms", write: ms, lines: [
    { metric: "p50", label: "p50", colour: "second" },
    { metric: "p95", label: "p95", colour: "accent" },
    { metric: "p99", label: "p99", colour: "fourth" },
  ] },
  { id: "hits", title: "Cache hit rate", unit: " %", write: percent, most: 100, target: [80], targetText: "target > 80 %",
    lines: [{ metric: "cacheHits", label: "Hits", colour: "second" }] },
  { id: "pool", title: "Connection pool used", unit: " %", write: percent, most: 100, target: [50, 80], targetText: "target 50 to 80 % under load",
    lines: [{ metric: "poolUsed", label: "Used", colour: "accent" }] },
  { id: "failed", title: "Failed requests", unit: " %", write: percent, target: [1], targetText: "target < 1 %",
    lines: [{ metric: "errorRate", label: "Failed", colour: "fourth" }] },
  { id: "waits", title: "Where time goes, p99", unit: " ms", write: ms, lines: [
    { metric: "queryP99", label: "Queries", colour: "accent" },
    { metric: "groupCommitP99", label: "Group commits", colour: "second" },
    { metric: "eventLoopBlockedP99", label: "Held up", colour: "fourth" },
  ] },
];

/** The metrics to ask `/performance/history` for. */
export const METRICS = GRAPHS.flatMap(graph => graph.lines.map(line => line.metric));

const minute = new Intl.DateTimeFormat(navigator.language || "en", { timeStyle: "short" });
const day = new Intl.DateTimeFormat(navigator.language || "en", { day: "numeric", month: "short" });
const dayAndMinute = new Intl.DateTimeFormat(navigator.language || "en", { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" });
const tickText = (at, chosen) => (chosen.tickMs < DAY_MS ? minute : day).format(at);
const pointText = (at, chosen) => (chosen.lengthMs <= HOUR_MS ? clock(at) : dayAndMinute.format(at));

/** Whole minutes, hours or days of the reader's clock. */
function ticksBetween(from, to, tickMs) {
  const ticks = [];
  const first = new Date(from);
  if (tickMs < DAY_MS) {
    const offset = first.getTimezoneOffset() * MINUTE_MS;
    for (let at = Math.ceil((from - offset) / tickMs) * tickMs + offset; at <= to; at += tickMs) ticks.push({ value: at });
    return ticks;
  }
  first.setHours(24, 0, 0, 0);
  for (; first <= to; first.setDate(first.getDate() + tickMs / DAY_MS)) ticks.push({ value: Number(first) });
  return ticks;
}

/** Draws when a release was started, as a line with a flag. */
const startMarks = {
  id: "starts",
  afterDatasetsDraw(chart) {
    const { ctx, chartArea, scales: { x }, $starts: starts = [] } = chart;
    if (!starts.length) return;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("--text");
    ctx.setLineDash([2, 3]);
    for (const start of starts) {
      const at = x.getPixelForValue(Date.parse(start.at));
      if (at < chartArea.left || at > chartArea.right) continue;
      ctx.beginPath();
      ctx.moveTo(at, chartArea.top);
      ctx.lineTo(at, chartArea.bottom);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(at, chartArea.top - 5);
      ctx.lineTo(at + 7, chartArea.top - 1);
      ctx.lineTo(at, chartArea.top + 3);
      ctx.fill();
    }
    ctx.restore();
  },
};
const transparent = (rgb, share) => rgb.replace(/^rgb\(([^)]*)\)$/, `rgba($1, ${share})`);

function makeConfig(graph) {
  window.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  return {
    type: "line",
    plugins: [{ id: "range", beforeInit: chart => { chart.$chosen = RANGES[0]; } }, startMarks],
    data: { datasets: [] },
    options: {
      responsive: true,
      maintainAspectRatio: false,
      animation: false,
      parsing: false,
      interaction: { mode: "index", intersect: false },
      layout: { padding: { top: 6 } },
      scales: {
        x: {
          type: "linear", grid: { display: false }, border: { display: false },
          // Ticks stand on whole minutes and travel with them.
          afterBuildTicks: axis => { axis.ticks = ticksBetween(axis.min, axis.max, axis.chart.$chosen.tickMs); },
          ticks: { maxRotation: 0, autoSkipPadding: 12, callback(at) { return tickText(at, this.chart.$chosen); } },
        },
        y: {
          min: 0, max: graph.most, suggestedMax: graph.most ? undefined : 5,
          border: { display: false }, ticks: { maxTicksLimit: 5, padding: 8, callback: value => `${brief(value)}${graph.unit}` },
          // The axis keeps its width whatever it says, or the graphs would jump.
          afterFit: axis => { axis.width = 66; },
        },
      },
      plugins: {
        legend: { display: false },
        tooltip: {
          padding: 10, boxPadding: 5, usePointStyle: true, borderWidth: 1,
          filter: item => Boolean(item.dataset.metric),
          callbacks: {
            title: items => (items.length ? pointText(items[0].parsed.x, items[0].chart.$chosen) : ""),
            label: item => ` ${item.dataset.label}: ${graph.write(item.parsed.y)}`,
          },
        },
      },
    },
  };
}

function makeGraph(graph) {
  const canvas = make("canvas", { role: "img", "aria-label": `Graph: ${graph.title}` });
  const empty = make("div", { class: "empty" }, "No data yet");
  const legend = make("div", { class: "legend", "aria-hidden": "true" });
  if (graph.lines.length > 1) legend.append(...graph.lines.map(line => make("span", { class: line.colour }, line.label)));
  if (graph.target) legend.append(make("span", { class: "target" }, graph.targetText));
  byId("graphs").append(make("section", { class: "card graph", "aria-labelledby": `${graph.id}-graph` },
    make("div", { class: "card-head" }, make("h2", { id: `${graph.id}-graph` }, graph.title), legend),
    make("div", { class: "card-body" }, make("div", { class: "chart-box" }, canvas, empty))));
  const chart = new window.Chart(canvas, makeConfig(graph));

  const dress = () => {
    const muted = colour("--muted"), { x, y } = chart.options.scales;
    x.ticks.color = y.ticks.color = muted;
    y.grid = { color: transparent(colour("--line"), 0.7), drawTicks: false };
    Object.assign(chart.options.plugins.tooltip, {
      backgroundColor: colour("--raised"), titleColor: colour("--text"), bodyColor: colour("--text"), borderColor: colour("--line"),
    });
    chart.data.datasets = [
      ...graph.lines.map(line => {
        const paint = colour(`--${line.colour}`);
        return {
          metric: line.metric, label: line.label, data: [], borderColor: paint, backgroundColor: transparent(paint, 0.1),
          fill: graph.lines.length === 1 ? "origin" : false, borderWidth: 2, cubicInterpolationMode: "monotone",
          // A single point between gaps has no line to be seen by.
          pointRadius: context => (isAlone(context.dataset.data, context.dataIndex) ? 2.5 : 0),
          pointHoverRadius: 4, pointBackgroundColor: paint,
        };
      }),
      ...(graph.target || []).map(limit => ({ limit, data: [], borderColor: muted, borderWidth: 1, borderDash: [4, 4], pointRadius: 0, pointHoverRadius: 0 })),
    ];
  };
  dress();
  return {
    dress,
    show(series, end, chosen, starts) {
      const start = end - chosen.lengthMs;
      Object.assign(chart, { $chosen: chosen, $starts: starts });
      Object.assign(chart.options.scales.x, { min: start, max: end });
      for (const set of chart.data.datasets) {
        set.data = set.metric
          ? [...series.get(set.metric)].map(([x, y]) => ({ x, y })).sort((one, other) => one.x - other.x)
          : [{ x: start, y: set.limit }, { x: end, y: set.limit }];
      }
      chart.update("none");
      const lines = chart.data.datasets.filter(set => set.metric);
      const values = lines.flatMap(set => set.data.map(point => point.y)).filter(value => value !== null);
      empty.hidden = values.length > 0;
      canvas.setAttribute("aria-label", values.length
        ? `${graph.title}, ${chosen.said}: ${lines.map(set => describe(set, graph.write)).join("; ")}`
        : `${graph.title}: no data yet`);
    },
  };
}

const isAlone = (data, index) => {
  const gap = point => !point || point.y === null;
  return gap(data[index - 1]) && gap(data[index + 1]);
};

function describe(set, write) {
  const values = set.data.map(point => point.y).filter(value => value !== null);
  return values.length ? `${set.label} ${write(values.at(-1))} now, ${write(Math.max(...values))} at most` : `${set.label} unknown`;
}

const startText = ({ at, node, version, commit }) => `${node} started ${version}${commit ? ` (${commit})` : ""} at ${dayAndMinute.format(Date.parse(at))}`;

/**
 * All graphs. `show(history)` adds an answer's points, `clear()` forgets them, `newest()` holds the last whole slice's
 * values; `changed(range, everyMs)` hears which range is to be asked for, and how often.
 */
export function makeGraphs(changed) {
  const series = new Map(METRICS.map(metric => [metric, new Map()]));
  const graphs = GRAPHS.map(makeGraph);
  const head = byId("ranges"), aside = head.querySelector("[data-aside]");
  let chosen = RANGES[0], end = Date.now(), newest = {}, starts = [];
  const paint = () => graphs.forEach(graph => graph.show(series, end, chosen, starts));
  const forget = () => {
    newest = {};
    starts = [];
    for (const kept of series.values()) kept.clear();
  };
  addTabs({ head }, "range", "Range of the graphs", RANGES, range => {
    chosen = range;
    end = Date.now();
    forget();
    setText(aside, "Loading…");
    paint();
    changed(chosen.range, chosen.everyMs);
  }, "graphs");
  document.addEventListener("themechange", () => {
    graphs.forEach(graph => graph.dress());
    paint();
  });
  paint();
  return {
    show(history) {
      if (history.range !== chosen.range) return;
      const live = chosen === RANGES[0], first = Date.parse(history.startAt), stepMs = history.stepSeconds * 1000;
      for (const { metric, values } of history.series) {
        const kept = series.get(metric);
        if (!live) kept.clear();
        // The running step is left out: a second of it says little, and the line would twitch.
        const whole = live ? values.slice(0, -1) : values;
        // A step's figure stands at its end, when it was known.
        whole.forEach((value, index) => kept.set(first + (index + 1) * stepMs, value));
        if (whole.length) {
          end = live ? first + whole.length * stepMs : Math.max(Date.now(), first + whole.length * stepMs);
          newest[metric] = whole.at(-1);
        }
        for (const at of kept.keys()) if (at < end - chosen.lengthMs) kept.delete(at);
      }
      if (!live) newest = {};
      starts = history.starts;
      setText(aside, history.problem ? `Older figures are missing: ${history.problem}` : starts.length ? `⚑ ${startText(starts.at(-1))}` : "");
      aside.title = starts.map(startText).join("\n");
      aside.classList.toggle("bad", Boolean(history.problem));
      paint();
    },
    clear() {
      if (chosen !== RANGES[0]) return;
      forget();
      paint();
    },
    newest: () => newest,
  };
}
