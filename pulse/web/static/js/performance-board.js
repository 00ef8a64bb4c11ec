// The verdict, the headline tiles and the target board.
import { byId, make, setText } from "./dom.js";
import { capitalised, count } from "./format.js";
import { nameAlert, nowOf } from "./performance-alerts.js";
import { cardOf, makeTable } from "./performance-table.js";
import { ms, numberOf, percent, rate, spaced, span, when, whenShort, whole } from "./performance-units.js";

const TONES = { met: "good", missed: "bad", noData: "none" };
const MARKS = { met: ["✓", " met"], missed: ["✕", " missed"], noData: ["", ""] };
const MOST_NAMED = 4;
const LAG_LIMIT_S = 30;

// Three figures, cut off rather than rounded: 199.99 must not read as the 200 it stays under.
const written = ({ value, display }) => {
  const places = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return spaced(display.replace(/\.\d+/, decimals => (places ? decimals.slice(0, places + 1) : "")));
};

/** Measured, but too few times to be met or missed. */
const isOpen = actual => actual.status === "noData" && actual.value !== null;

const actual = (label, of) => ({
  label, number: true,
  of: target => (of(target).value === null ? "no data" : written(of(target))),
  tone: target => TONES[of(target).status],
  mark: target => (isOpen(of(target)) ? ["", " (not judged)"] : MARKS[of(target).status]),
  title: target => `${count(of(target).samples)} samples; judged from ${count(target.minSamples)} on`,
});

/** "since 12:03"; a rate nobody asked for is neither met nor missed, nor is what was hardly asked for. */
const standing = target => {
  if (isOpen(target.fiveMinutes)) {
    if (target.fiveMinutes.samples < target.minSamples) return `too few: ${count(target.fiveMinutes.samples)} of ${count(target.minSamples)}`;
    return target.id === "database.pool" ? "more than needed" : "fewer sent";
  }
  return target.since && target.status !== "noData" ? `since ${whenShort(target.since)}` : "";
};

const TARGET_COLUMNS = [
  { label: "Target", of: target => capitalised(target.name), title: target => target.note || "", note: standing },
  { label: "Should be", number: true, of: target => target.target, tone: () => "none" },
  actual("5 min", target => target.fiveMinutes),
  actual("1 hour", target => target.oneHour),
];

// Cut off rather than rounded: 99.96 must not read as 100.
const cutPercent = share => `${Math.floor(share.percent * 100) / 100} %`;

/** A share of minutes, of the last day or month. */
const available = (label, of) => ({
  label, number: true,
  of: row => (of(row).percent === null ? "no data" : cutPercent(of(row))),
  tone: row => TONES[of(row).status],
  mark: row => (isOpen({ value: of(row).percent, ...of(row) }) ? ["", " (not judged)"] : MARKS[of(row).status]),
  title: row => `${count(of(row).availableMinutes)} of ${count(of(row).minutes)} minutes since ${when(of(row).since)}`,
});
const AVAILABILITY_COLUMNS = [
  { label: "Availability", of: () => "Available", note: () => "of all minutes", title: () => "Minutes in which the service was ready and under 1 % of its requests failed" },
  { label: "Should be", number: true, of: row => `> ${spaced(row.target)}`, tone: () => "none" },
  available("24 h", row => row.day),
  available("30 d", row => row.month),
];

/** The board: `show(targets, availability)`. */
export function makeBoard() {
  const areas = ["ingestion", "reports", "database"].map(area => {
    const table = makeTable({ caption: `Targets of ${area}`, columns: TARGET_COLUMNS, key: target => target.id, empty: "No targets" });
    const card = cardOf(`${area}-targets`);
    card.body.append(table.element);
    return { area, table, card };
  });
  const minutes = makeTable({ caption: "Availability", columns: AVAILABILITY_COLUMNS, key: () => "available", empty: "Availability is counted once the background worker runs" });
  minutes.small();
  areas.at(-1).card.body.append(minutes.element);
  return {
    show(targets, availability) {
      minutes.show(availability ? [availability] : []);
      for (const { area, table, card } of areas) {
        const mine = targets.filter(target => target.area === area);
        const measured = mine.filter(target => target.status !== "noData");
        const met = measured.filter(target => target.status === "met").length;
        setText(card.aside, measured.length ? `${met} of ${measured.length} met` : mine.some(target => isOpen(target.fiveMinutes)) ? "too few to judge" : "no data");
        table.show(mine);
      }
    },
  };
}

const plural = (number, one, many) => `${number} ${number === 1 ? one : many}`;

/**
 * What somebody reads first: `show(targets, alerts, availability)`, with what `showAdvice` found urgent. Only the short sentence is
 * spoken when it changes.
 */
export function makeVerdict() {
  const box = byId("verdict"), said = box.querySelector(".said"), named = box.querySelector(".named");
  let urgent = [], last = null;
  const verdict = {
    showAdvice(advice) {
      urgent = advice.filter(one => one.severity === "high");
      if (last) verdict.show(...last);
    },
    show(targets, alerts, availability) {
      last = [targets, alerts, availability];
      const missed = targets.filter(target => target.status === "missed");
      const met = targets.filter(target => target.status === "met");
      const unknown = targets.length - missed.length - met.length;
      // Of the two spans the longer one that falls short: it says more.
      const short = availability && [["30 d", availability.month], ["24 h", availability.day]].find(([, share]) => share.status === "missed");
      const problems = [
        missed.length ? `${plural(missed.length, "target", "targets")} missed` : "",
        short ? "availability short" : "",
        alerts.active.length ? plural(alerts.active.length, "alert", "alerts") : "",
        urgent.length ? plural(urgent.length, "urgent finding", "urgent findings") : "",
      ].filter(Boolean);
      box.className = `card verdict ${problems.length ? "bad" : met.length ? "good" : ""}`;
      if (problems.length) setText(said, problems.join(", "));
      else setText(said, met.length ? `All ${met.length} measured targets met` : "No target can be judged yet");
      const names = [
        ...urgent.map(one => one.title),
        ...alerts.active.map(alert => `${nameAlert(alert, alerts.rules)}, ${nowOf(alert, alerts.rules)}`),
        ...(short ? [`available ${cutPercent(short[1])} of the last ${short[0]} (> ${spaced(availability.target)})`] : []),
        ...missed.map(target => `${target.area} ${target.name} ${written(target.fiveMinutes)} (${target.target})${target.since ? ` since ${when(target.since)}` : ""}`),
      ];
      const rest = names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : "";
      named.title = names.join("\n");
      if (names.length) setText(named, capitalised(names.slice(0, MOST_NAMED).join(" · ") + rest));
      else if (met.length) setText(named, unknown ? `${unknown} of ${targets.length} had too little traffic to be judged in the last 5 minutes.` : "Over the last 5 minutes.");
      else setText(named, "Figures appear as soon as events or reports are asked for.");
    },
  };
  return verdict;
}

/** A tile that shows a target's figure of the last five minutes. */
const targeted = (label, id, write) => ({
  label,
  read({ targets }) {
    const target = targets.find(one => one.id === id);
    if (!target) return { text: "–", note: "", tone: "" };
    const { value, status } = target.fiveMinutes;
    // Short enough for a tile on a phone.
    const why = value === null ? "no data" : isOpen(target.fiveMinutes) ? "too few yet" : "";
    return { text: write(value), note: why ? `${target.target}, ${why}` : `target ${target.target}`, tone: TONES[status] };
  },
});
const firing = (alerts, name) => alerts.rules.find(rule => rule.name === name && rule.firing);

const TILES = [
  { label: "Requests/s", read: ({ latency, ingestion }, now) => ({
    text: rate(now.requestsPerSecond ?? latency.overall.requestsPerSecond), note: `${rate(ingestion.eventsPerSecond)} events/s stored` }) },
  targeted("Ingest p99", "ingest.single.p99", ms),
  targeted("Report p99", "reports.historical.p99", ms),
  targeted("Query average", "database.query_average", ms),
  targeted("Slow queries", "database.slow_queries", percent),
  targeted("Cache hits", "reports.cache_hits", percent),
  // A look at this moment may fall between two peaks: with an alert the tile shows the minute that the alert is about.
  { label: "Pool used", read: ({ database, alerts }) => {
    const alert = firing(alerts, "pool"), minute = alert && alert.value !== null;
    return {
      text: percent(minute ? alert.value : database.utilizationPercentage),
      note: `${minute ? "now " : ""}${count(database.activeConnections)} of ${count(database.maxConnections)}, ${count(database.waitingRequests)} waiting`,
      tone: database.waitingRequests || alert ? "bad" : "" };
  } },
  { label: "Failed requests", read: ({ latency }) => {
    const failed = numberOf(latency.overall.errorRate);
    return { text: latency.overall.requests ? percent(failed) : "–", note: `${count(latency.overall.errors)} in 5 min`,
      tone: failed >= 1 ? "bad" : latency.overall.requests ? "good" : "" };
  } },
  { label: "Fold lag", read: ({ ingestion: { gauges } }) => ({
    text: span(gauges.foldLagS), note: "reports behind events", tone: gauges.foldLagS > LAG_LIMIT_S ? "bad" : "" }) },
  { label: "Waiting rows", read: ({ ingestion }) => ({
    text: whole(ingestion.gauges.ingestWaitingRows), note: `${count(ingestion.refused)} refused`, tone: ingestion.refused ? "bad" : "" }) },
];

/** The tiles: `show(overview, now)`; `now` holds the newest points of the graphs. */
export function makeTiles() {
  const boxes = TILES.map(tile => {
    const value = make("span", { class: "value skeleton" }, "0");
    const note = make("span", { class: "change" }, "\u00a0");
    const element = make("div", { class: "card figure" }, make("dt", {}, tile.label), make("dd", {}, value, note));
    byId("tiles").append(element);
    return { tile, value, note, element };
  });
  return {
    show(overview, now) {
      for (const { tile, value, note, element } of boxes) {
        const found = tile.read(overview, now);
        value.classList.remove("skeleton");
        setText(value, found.text);
        setText(note, found.note);
        note.title = found.note;
        element.className = `card figure ${found.tone === "none" ? "" : found.tone || ""}`;
      }
    },
  };
}
