// The graph over time. Chart.js is loaded as a plain script before the modules.
import { byId, colour, make } from "./dom.js";
import { brief, bucketName, bucketTick, count } from "./format.js";
import { bucketWall, wallTime } from "./periods.js";

export const METRICS = [
  { id: "uniqueVisitors", label: "Visitors", colour: "--accent" },
  { id: "pageviews", label: "Pageviews", colour: "--second" },
  { id: "sessions", label: "Sessions", colour: "--third" },
  { id: "events", label: "Events", colour: "--fourth" },
];

const transparent = (rgb, share) => rgb.replace(/^rgb\(([^)]*)\)$/, `rgba($1, ${share})`);

function makeConfig() {
  window.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  return {
    type: "line",
    data: { labels: [], datasets: [] },
    options: {
      responsive: true,
      maintainAspectRatio: false,
      animation: still ? false : { duration: 250 },
      interaction: { mode: "index", intersect: false },
      layout: { padding: { top: 6 } },
      scales: {
        x: { grid: { display: false }, border: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 22 } },
        y: { beginAtZero: true, border: { display: false }, ticks: { precision: 0, maxTicksLimit: 6, callback: brief } },
      },
      plugins: {
        legend: { display: false },
        tooltip: { padding: 10, boxPadding: 5, usePointStyle: true, callbacks: {} },
      },
    },
  };
}

/** A graph with `show(report, period, metricIds)`. */
export function makeTimeline(canvas) {
  const chart = new window.Chart(canvas, makeConfig());
  let last = null;

  const paint = () => {
    if (!last) return;
    const { buckets, granularity, current, metrics, manyDays } = last;
    const muted = colour("--muted"), surface = colour("--surface");
    chart.data.labels = buckets.map(bucket => bucketTick(bucket.wall, granularity, manyDays));
    chart.data.datasets = METRICS.filter(metric => metrics.includes(metric.id)).map((metric, index) => {
      const line = colour(metric.colour);
      return {
        label: metric.label,
        data: buckets.map(bucket => (bucket.future ? null : bucket[metric.id])),
        borderColor: line,
        backgroundColor: transparent(line, index === 0 ? 0.1 : 0),
        fill: index === 0 ? "origin" : false,
        borderWidth: 2,
        // Monotone: a smooth line that never dips below what was counted.
        cubicInterpolationMode: "monotone",
        pointRadius: buckets.length === 1 ? 4 : 0,
        pointHoverRadius: 4,
        pointHoverBorderColor: surface,
        pointHoverBorderWidth: 2,
        pointBackgroundColor: line,
        // The bucket that is still being counted is dashed.
        segment: { borderDash: context => (context.p1DataIndex === current ? [5, 5] : undefined) },
      };
    });
    const { x, y } = chart.options.scales;
    x.ticks.color = y.ticks.color = muted;
    y.grid = { color: transparent(colour("--line"), 0.7), drawTicks: false };
    y.ticks.padding = 8;
    y.suggestedMax = 5;
    const tooltip = chart.options.plugins.tooltip;
    Object.assign(tooltip, {
      backgroundColor: colour("--raised"), titleColor: colour("--text"), bodyColor: colour("--text"),
      borderColor: colour("--line"), borderWidth: 1,
    });
    tooltip.callbacks.title = items => {
      const { dataIndex } = items[0];
      return bucketName(buckets[dataIndex].wall, granularity) + (dataIndex === current ? " (so far)" : "");
    };
    tooltip.callbacks.label = item => ` ${item.dataset.label}: ${count(item.parsed.y)}`;
    chart.update();
  };
  document.addEventListener("themechange", paint);

  return {
    show(report, period, metrics) {
      const { timezone, granularity } = report.dateRange;
      const now = wallTime(new Date(), timezone);
      const buckets = report.timeSeries.map(entry => {
        const wall = bucketWall(entry.period, timezone);
        return { ...entry, wall, future: wall > now };
      });
      const reached = buckets.filter(bucket => !bucket.future).length;
      last = {
        buckets, granularity, metrics,
        current: period.running ? reached - 1 : -1,
        manyDays: granularity === "hour" && period.days > 1,
      };
      paint();
      describe(canvas, last);
    },
  };
}

/** The same figures for who can't see the graph. */
function describe(canvas, { buckets, granularity, metrics }) {
  const shown = METRICS.filter(metric => metrics.includes(metric.id));
  const labels = shown.map(metric => metric.label.toLowerCase()).join(" and ");
  canvas.setAttribute("aria-label", `Graph of ${labels}, one point a ${granularity}; a table follows.`);
  const past = buckets.filter(bucket => !bucket.future);
  byId("chart-table").replaceChildren(
    make("caption", {}, `${labels} by ${granularity}`),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Period"),
      ...shown.map(metric => make("th", { scope: "col" }, metric.label)))),
    make("tbody", {}, ...past.map(bucket => make("tr", {},
      make("th", { scope: "row" }, bucketName(bucket.wall, granularity)),
      ...shown.map(metric => make("td", {}, count(bucket[metric.id])))))),
  );
}
