// The graphs: ten minutes of points, kept in the page, from the service's own slices of ten seconds.
import { byId, colour, make } from "./dom.js";
import { brief, clock } from "./format.js";
import { ms, percent, rate } from "./performance-units.js";

const KEPT_MS = 600000, TICK_MS = 120000;

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
];

/** The metrics to ask `/performance/history` for. */
export const METRICS = GRAPHS.flatMap(graph => graph.lines.map(line => line.metric));

const minute = new Intl.DateTimeFormat(navigator.language || "en", { timeStyle: "short" });
const transparent = (rgb, share) => rgb.replace(/^rgb\(([^)]*)\)$/, `rgba($1, ${share})`);

function makeConfig(graph) {
  window.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  return {
    type: "line",
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
          afterBuildTicks: axis => {
            axis.ticks = [];
            for (let at = Math.ceil(axis.min / TICK_MS) * TICK_MS; at <= axis.max; at += TICK_MS) axis.ticks.push({ value: at });
          },
          ticks: { maxRotation: 0, callback: at => minute.format(at) },
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
            title: items => (items.length ? clock(items[0].parsed.x) : ""),
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
    show(series, end) {
      const start = end - KEPT_MS;
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
        ? `${graph.title}, last ten minutes: ${lines.map(set => describe(set, graph.write)).join("; ")}`
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

/** All graphs: `show(histories)` adds points, `clear()` forgets them, `newest(metric)` is the last whole slice's value. */
export function makeGraphs() {
  const series = new Map(METRICS.map(metric => [metric, new Map()]));
  const graphs = GRAPHS.map(makeGraph);
  let end = Date.now(), newest = {};
  const paint = () => graphs.forEach(graph => graph.show(series, end));
  document.addEventListener("themechange", () => {
    graphs.forEach(graph => graph.dress());
    paint();
  });
  paint();
  return {
    show(histories) {
      for (const { metric, points, stepSeconds } of histories) {
        const kept = series.get(metric);
        // The running slice is left out: a second of it says little, and the line would twitch.
        const whole = points.slice(0, -1);
        // A slice's figure stands at its end, when it was known.
        for (const { at, value } of whole) kept.set(Date.parse(at) + stepSeconds * 1000, value);
        if (whole.length) {
          end = Date.parse(whole.at(-1).at) + stepSeconds * 1000;
          newest[metric] = whole.at(-1).value;
        }
        for (const at of kept.keys()) if (at < end - KEPT_MS) kept.delete(at);
      }
      paint();
    },
    clear() {
      newest = {};
      for (const kept of series.values()) kept.clear();
      paint();
    },
    newest: () => newest,
  };
}
