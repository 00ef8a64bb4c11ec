// Statements: all of them, one of them in full, the slowest runs, and sums by table, type and route.
import { getData } from "./api.js";
import { byId, make, moveWithArrows, setText } from "./dom.js";
import { count } from "./format.js";
import { cardOf, makeFacts, makeList, makeTable } from "./performance-table.js";
import { ms, numberOf, percent, when } from "./performance-units.js";

const OVERSIZE = 90;

/** Statements without a name of their own are called by their text, which may be long. */
const shortName = name => (name.length > OVERSIZE ? `${name.slice(0, OVERSIZE)}…` : name);
const keyOf = statement => `${statement.name}\n${statement.query}`;
const toneOfSlow = row => (row.slowQueries ? "bad" : "none");

const figure = (id, label, of, sort = of, more = {}) => ({ id, label, number: true, sort, of, ...more });

function statementColumns(open) {
  return [
    { label: "Statement", of: row => shortName(row.name), note: row => row.tables.join(", ") || row.type, title: row => row.query.slice(0, 300), mono: true, open },
    figure("calls", "Calls", row => count(row.calls), row => row.calls),
    figure("total", "Total", row => ms(row.totalMs), row => row.totalMs),
    figure("share", "Share", row => percent(row.share), row => row.totalMs, { sort: null }),
    figure("mean", "Mean", row => ms(row.averageDuration), row => numberOf(row.averageDuration)),
    figure("p95", "p95", row => ms(row.p95), row => numberOf(row.p95)),
    figure("slow", "Slow", row => count(row.slowQueries), row => row.slowQueries, { tone: toneOfSlow }),
  ];
}

const ROUTE_COLUMNS = [
  { label: "Route", of: row => row.route },
  { label: "Calls", number: true, of: row => count(row.calls) },
  { label: "Mean", number: true, of: row => ms(row.averageDuration) },
  { label: "Slow", number: true, of: row => count(row.slowQueries), tone: toneOfSlow },
];

/** Only statements of named blocks have a plan and a trend. */
const isNamed = row => row.name !== row.query && /^[a-z_]+\.[a-z0-9_]+$/.test(row.name);

/** PostgreSQL's plan, asked for when somebody wants to see it. */
function makePlan() {
  let asked = null;
  const code = make("pre", { class: "plan", tabindex: 0, "aria-label": "Plan" });
  const element = make("details", { class: "more", ontoggle: async () => {
    if (!element.open || !asked) return;
    const { name } = asked;
    setText(code, "Asking PostgreSQL…");
    let said;
    try {
      const found = await getData(`/performance/queries/${encodeURIComponent(name)}/plan`);
      said = found.problem || found.plan.join("\n");
    } catch (error) {
      said = error.message;
    }
    if (asked && asked.name === name) setText(code, said);
  } }, make("summary", {}, "Plan (made without running it)"), code);
  return {
    element,
    show(row) {
      asked = isNamed(row) ? row : null;
      element.open = false;
      element.hidden = !asked;
    },
  };
}

/** Mean time over the last day, as a bar for each step in which it was run. */
function makeTrend() {
  const bars = make("div", { class: "bars", role: "img" }), said = make("p", { class: "when" });
  const element = make("div", { class: "trend" }, make("h3", {}, "Mean time over the last 24 hours"), bars, said);
  let asked = null;
  const fill = points => {
    const most = Math.max(...points.map(point => point.meanMs));
    bars.replaceChildren(...points.map(point => {
      const bar = make("i", { title: `${when(point.at)}: ${ms(point.meanMs)}, ${count(point.calls)} calls, ${count(point.slowQueries)} slow`, class: point.slowQueries ? "bad" : "" });
      bar.style.height = `${Math.max(2, (100 * point.meanMs) / most)}%`;
      return bar;
    }));
    const text = points.length
      ? `${ms(points.at(-1).meanMs)} in the last five minutes it ran, at most ${ms(most)}; ${count(points.length)} of 288 steps`
      : "Kept from the second minute after the start on; nothing is kept yet";
    setText(said, text);
    bars.setAttribute("aria-label", text);
  };
  return {
    element,
    async show(row) {
      asked = row.name;
      element.hidden = !isNamed(row);
      bars.replaceChildren();
      setText(said, "Loading…");
      if (element.hidden) return;
      try {
        const found = await getData(`/performance/queries/${encodeURIComponent(row.name)}/history`);
        if (asked === row.name) fill(found.points);
      } catch (error) {
        if (asked === row.name) setText(said, error.message);
      }
    },
  };
}

/** The dialog about one statement; it follows the figures while it is open. */
function makeDetails() {
  const dialog = byId("statement");
  const title = make("h2", { id: "statement-title" });
  const close = make("button", { class: "button quiet", type: "button", onclick: () => dialog.close() }, "Close");
  const text = make("pre", { tabindex: 0, "aria-label": "Text of the statement, values left out" });
  const facts = makeFacts();
  const routes = makeTable({ caption: "Routes that run it", columns: ROUTE_COLUMNS, key: row => row.route, empty: "No route has run it" });
  const plan = makePlan(), trend = makeTrend();
  dialog.append(make("div", { class: "card-head" }, title, close),
    make("div", { class: "card-body" }, text, facts.element, trend.element, plan.element, make("h3", {}, "Routes that run it"), routes.element));
  dialog.addEventListener("click", event => event.target === dialog && dialog.close());
  let open = null;

  const fill = row => {
    setText(title, shortName(row.name));
    setText(text, row.query);
    facts.show([
      ["Calls", count(row.calls)], ["Total time", ms(row.totalMs)], ["Share of all time", percent(row.share)],
      ["Mean", ms(row.averageDuration)], ["p50", ms(row.p50)], ["p95", ms(row.p95)], ["p99", ms(row.p99)],
      ["Longest", ms(row.maxDuration)], ["Rows", count(row.rows)],
      ["Slow", count(row.slowQueries), row.slowQueries ? "bad" : ""], ["Errors", count(row.errors), row.errors ? "bad" : ""],
      ["Repeated in", `${count(row.repeatedInRequests)} requests`, row.repeatedInRequests ? "bad" : ""],
      ["Type", row.type], ["Tables", row.tables.join(", ") || "none"],
    ]);
    routes.show(Object.entries(row.routes).map(([route, use]) => ({ route, ...use })));
  };
  return {
    open(row) {
      open = keyOf(row);
      fill(row);
      trend.show(row);
      plan.show(row);
      dialog.showModal();
      dialog.scrollTop = 0;
    },
    follow(rows) {
      const row = dialog.open && rows.find(one => keyOf(one) === open);
      if (row) fill(row);
    },
  };
}

const runColumns = (open, limitMs) => [
  { label: "Statement", of: run => shortName(run.name), mono: true, title: run => run.query.slice(0, 300), open,
    note: run => (run.route ? `${run.method || ""} ${run.route}` : "in the background") },
  { label: "Took", number: true, of: run => ms(run.durationMs), tone: run => (run.durationMs >= limitMs() ? "bad" : "") },
  { label: "Rows", number: true, of: run => count(run.rows) },
  { label: "At", number: true, of: run => when(run.timestamp) },
];
const latest = { label: "Latest", runs: (statistics, limitMs) => [...new Map([...statistics.recentQueries, ...statistics.topSlowQueries]
  .filter(run => run.durationMs >= limitMs).map(run => [runKey(run), run])).values()]
  .sort((one, other) => Date.parse(other.timestamp) - Date.parse(one.timestamp)) };
const slowest = { label: "Slowest", runs: statistics => statistics.topSlowQueries };
const recent = { label: "All recent", runs: statistics => statistics.recentQueries, empty: "No query has been run yet" };
const runKey = run => `${run.timestamp} ${run.durationMs} ${run.name}`;

const sumColumns = name => [
  { label: name, of: row => row.name },
  figure("count", "Calls", row => count(row.count), row => row.count),
  figure("total", "Total", row => ms(row.totalDuration), row => numberOf(row.totalDuration)),
  figure("mean", "Mean", row => ms(row.averageDuration), row => numberOf(row.averageDuration)),
  figure("slow", "Slow", row => count(row.slowQueries), row => row.slowQueries, { tone: toneOfSlow }),
];
const rowsOf = sums => Object.entries(sums).map(([name, sum]) => ({ name, ...sum }));
const GROUPS = [
  { label: "Table", rows: queries => rowsOf(queries.patterns.byTable) },
  { label: "Type", rows: queries => rowsOf(queries.patterns.byType) },
  { label: "Route", rows: queries => rowsOf(queries.patterns.byRoute) },
];

/** Tabs in a card's head, over the element `controls`; `choose(tab)` hears of the choice. */
export function addTabs(card, id, label, tabs, choose, controls = `${id}-list`) {
  const buttons = tabs.map((tab, index) => make("button", {
    type: "button", role: "tab", id: `${id}-tab-${index}`, "aria-selected": String(index === 0), "aria-controls": controls, tabindex: index ? -1 : 0,
    onclick: event => {
      for (const button of buttons) {
        button.setAttribute("aria-selected", String(button === event.currentTarget));
        button.tabIndex = button === event.currentTarget ? 0 : -1;
      }
      choose(tab);
    },
  }, tab.label));
  const list = make("div", { class: "tabs", role: "tablist", "aria-label": label }, ...buttons);
  moveWithArrows(list);
  card.head.append(list);
}

/** One list of a card, chosen by tabs. */
function makeTabbed(id, label, tabs, tableOf) {
  const card = cardOf(id);
  const tables = new Map(tabs.map(tab => [tab, tableOf(tab)]));
  const list = makeList(label, ...[...tables.values()].map(table => table.element));
  list.id = `${id}-list`;
  list.setAttribute("role", "tabpanel");
  const choose = chosen => {
    for (const [tab, table] of tables) table.element.hidden = tab !== chosen;
    list.setAttribute("aria-label", `${label} ${chosen.label.toLowerCase()}`);
    list.scrollTop = 0;
  };
  addTabs(card, id, label, tabs, choose);
  card.body.append(list);
  choose(tabs[0]);
  return { card, show: rowsOfTab => tables.forEach((table, tab) => table.show(rowsOfTab(tab))) };
}

/** Everything about queries: `show(queries, system)`. */
export function makeQueries() {
  const details = makeDetails();
  let monitored = true, limit = "", limitMs = 0, known = [];
  const openRun = run => {
    const row = known.find(one => keyOf(one) === keyOf(run));
    if (row) details.open(row);
  };
  const nothing = text => () => (monitored ? text() : "The query monitor is off (ENABLE_QUERY_MONITORING=false)");
  const statements = makeTable({
    caption: "Statements since the last reset", columns: statementColumns(row => details.open(row)), key: keyOf, sortBy: "total",
    empty: nothing(() => "No statement has been run yet"),
  });
  const card = cardOf("statements");
  card.body.append(makeList("Statements", statements.element));
  const slow = makeTabbed("slow", "Slow queries:", [latest, slowest, recent], tab => makeTable({
    caption: "Slow queries", columns: runColumns(openRun, () => limitMs), key: runKey, empty: nothing(() => tab.empty || `No query took longer than ${limit}`) }));
  const groups = makeTabbed("groups", "Queries by", GROUPS, tab => makeTable({
    caption: `Queries by ${tab.label.toLowerCase()}`, columns: sumColumns(tab.label), key: row => row.name, sortBy: "total",
    empty: nothing(() => "No statement has been run yet") }));
  return {
    show(queries, system) {
      monitored = system.queryMonitoringEnabled;
      limit = ms(system.slowQueryThreshold);
      limitMs = numberOf(system.slowQueryThreshold);
      known = queries.statements;
      const { statistics } = queries;
      setText(card.aside, `${count(statistics.totalQueries)} queries, ${ms(statistics.averageDuration)} on average, ${count(statistics.errors)} failed`);
      statements.show(queries.statements);
      details.follow(queries.statements);
      setText(slow.card.aside, `over ${limit}`);
      slow.show(tab => tab.runs(statistics, limitMs));
      groups.show(tab => tab.rows(queries));
    },
  };
}
