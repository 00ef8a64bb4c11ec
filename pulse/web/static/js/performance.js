// The performance page: when to ask, and who shows the answers.
import { ApiError, getData } from "./api.js";
import { makeConnection } from "./connection.js";
import { byId, setText } from "./dom.js";
import { clock, count } from "./format.js";
import { makeAdvice, makeAlerts } from "./performance-alerts.js";
import { makeBoard, makeTiles, makeVerdict } from "./performance-board.js";
import { makeReset, post } from "./performance-changes.js";
import { makeGraphs, METRICS } from "./performance-graphs.js";
import { makeQueries } from "./performance-queries.js";
import { makeCache, makeDatabase, makeIngestion, makeRoutes } from "./performance-system.js";
import { span, when } from "./performance-units.js";
import { poll } from "./poll.js";

// The service measures in slices of ten seconds; PostgreSQL's own view is no younger than five.
const OVERVIEW_MS = 2000, LIVE_MS = 5000, SERVER_MS = 10000;

const verdict = makeVerdict(), tiles = makeTiles(), board = makeBoard();
const queries = makeQueries(), database = makeDatabase(), cache = makeCache();
const ingestion = makeIngestion(), routes = makeRoutes(), advice = makeAdvice();
const alerts = makeAlerts(async alert => {
  await post(`/performance/alerts/${encodeURIComponent(alert.id)}/acknowledge`);
  overviewPoller.now();
});
let since = null;

function showSystem(system, statistics) {
  const web = system.workers.filter(worker => worker.role === "web").length;
  const nodes = system.nodes.length > 1 ? ` on ${count(system.nodes.length)} nodes` : "";
  setText(byId("about"), `${count(web)} web ${web === 1 ? "worker" : "workers"}${nodes}, ${system.environment}, up ${span(system.uptimeSeconds)}, `
    + `figures since ${when(statistics.since)}`);
}

async function loadOverview(signal) {
  const overview = await getData("/performance", {}, signal);
  const { statistics } = overview.queries;
  // Somebody has reset the figures, or the service was started anew: old points would be of another count.
  if (since !== null && Math.abs(Date.parse(statistics.since) - since) > 1000) {
    graphs.clear();
    historyPoller.now();
  }
  since = Date.parse(statistics.since);
  showSystem(overview.system, statistics);
  verdict.show(overview.targets, overview.alerts, overview.availability);
  tiles.show(overview, graphs.newest());
  board.show(overview.targets, overview.availability);
  alerts.show(overview.alerts);
  queries.show(overview.queries, overview.system);
  database.show(overview.database);
  cache.show(overview.cache, overview.system);
  ingestion.show(overview.ingestion, overview.system, overview.latency.eventLoopBlocked);
  routes.show(overview.latency);
  setText(byId("updated"), `Updated ${clock(new Date())}`);
}

let range = "5m";
async function loadHistory(signal) {
  graphs.show(await getData("/performance/history", { metric: METRICS.join(","), range }, signal));
}

async function loadServer(signal) {
  const [server, found] = await Promise.all([
    getData("/performance/database", {}, signal),
    getData("/performance/advice", {}, signal),
  ]);
  database.showServer(server);
  advice.show(found);
  verdict.showAdvice(found);
}

const pollers = new Set();
const connection = makeConnection(() => pollers.forEach(poller => poller.now()));
const start = (task, everyMs, name) => {
  const poller = poll(task, everyMs, error => {
    // A mistake of the page's own must not pass for a lost connection alone.
    if (error && !(error instanceof ApiError)) globalThis.reportError(error);
    connection.report(name, error);
  });
  pollers.add(poller);
  return poller;
};
const graphs = makeGraphs((chosen, everyMs) => {
  range = chosen;
  historyPoller.stop();
  pollers.delete(historyPoller);
  historyPoller = start(loadHistory, everyMs, "history");
});
let historyPoller = start(loadHistory, LIVE_MS, "history");
const overviewPoller = start(loadOverview, OVERVIEW_MS, "overview");
start(loadServer, SERVER_MS, "server");
makeReset(() => pollers.forEach(poller => poller.now()));
