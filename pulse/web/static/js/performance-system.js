// Database, cache, ingestion and the processes.
import { make, setText } from "./dom.js";
import { brief, count } from "./format.js";
import { cardOf, makeFacts, makeList, makeTable } from "./performance-table.js";
import { bytes, ms, numberOf, percent, rate, span, when, whenShort, whole } from "./performance-units.js";

const heading = text => make("h3", {}, text);

/** A list of named parts: each heading stands above its element. */
const listOf = (label, parts) => makeList(label, ...parts.flatMap(([title, part]) => (title ? [heading(title), part.element] : [part.element])));

function makeSmallTable(options) {
  const table = makeTable(options);
  table.small();
  return table;
}

const POOL_COLUMNS = [
  { label: "Process", of: pool => `${pool.role} ${pool.pid}`, note: pool => `${pool.name} pool, ${pool.node}` },
  { label: "In use", number: true, of: pool => `${count(pool.inUse)} of ${count(pool.max)}`, tone: pool => (pool.inUse >= pool.max ? "bad" : "") },
  { label: "Open", number: true, of: pool => count(pool.total) },
  { label: "Waiting", number: true, of: pool => count(pool.waiting), tone: pool => (pool.waiting ? "bad" : "none") },
  { label: "Gave up", number: true, of: pool => count(pool.timeouts), tone: pool => (pool.timeouts ? "bad" : "none") },
];
const RUNNING_COLUMNS = [
  { label: "Statement", of: row => row.query.slice(0, 160), note: row => [row.application, row.blockedBy ? `waits for process ${row.blockedBy.join(", ")}` : row.waitEvent].filter(Boolean).join(" · "), mono: true },
  { label: "For", number: true, of: row => ms(row.waitingMs ?? row.runningMs), tone: row => (row.blockedBy ? "bad" : "") },
];
// Of a table with few rows a part that is dead says nothing. PostgreSQL freezes by itself from 200 million transactions on.
const BLOATED_ROWS = 10000, BLOATED_SHARE = 0.3, AGED = 500e6;
const isBloated = row => row.deadRows > BLOATED_ROWS && row.deadRows > BLOATED_SHARE * (row.liveRows + row.deadRows);
const TABLE_COLUMNS = [
  { label: "Table", of: row => row.tableName, note: row => (row.partitionOf ? `partition of ${row.partitionOf}` : "") },
  { label: "Rows", number: true, of: row => brief(row.liveRows), title: row => `${count(row.liveRows)} rows, as PostgreSQL estimates` },
  { label: "Dead", number: true, of: row => brief(row.deadRows), tone: row => (isBloated(row) ? "bad" : "none"), title: row => `${count(row.deadRows)} dead rows` },
  { label: "Size", number: true, of: row => bytes(row.tableBytes + row.indexBytes), title: row => `${bytes(row.tableBytes)} and ${bytes(row.indexBytes)} of indexes` },
  { label: "Vacuum", number: true, of: row => (row.vacuumedAt ? whenShort(row.vacuumedAt) : "never"), tone: row => (row.transactionAge > AGED ? "bad" : "none"),
    title: row => `Vacuumed ${when(row.vacuumedAt)}, analyzed ${when(row.analyzedAt)}, ${count(row.transactionAge)} transactions since its freeze` },
];
const SHOWN_TABLES = 12;
const INDEX_COLUMNS = [
  { label: "Index", of: row => row.indexName, note: row => `of ${row.tableName}` },
  { label: "Size", number: true, of: row => bytes(row.sizeBytes) },
];
const SCAN_COLUMNS = [
  { label: "Table", of: row => row.tableName },
  { label: "Times", number: true, of: row => count(row.scans) },
  { label: "Rows each", number: true, of: row => brief(row.rowsRead / row.scans) },
  { label: "By index", number: true, of: row => brief(row.indexScans), tone: () => "none" },
];
const SERVER_STATEMENT_COLUMNS = [
  { label: "Statement", of: row => row.query.slice(0, 160), title: row => row.query.slice(0, 600), mono: true },
  { label: "Calls", number: true, of: row => brief(row.calls) },
  { label: "Mean", number: true, of: row => ms(row.meanMs) },
  { label: "Total", number: true, of: row => ms(row.totalMs) },
];
/** Statements that read alike, their values left out, as one: the first has most of the time. */
const distinct = rows => [...new Map([...rows].reverse().map(row => [row.query, row])).values()].reverse();
/** "12 held, 2 waited for", with the modes for who wants to know. */
function sumLocks(locks) {
  const sum = name => locks.reduce((total, row) => total + row[name], 0);
  return [sum("held"), sum("waiting")];
}

/** The database card: `show(database)` every time, `showServer(database)` with PostgreSQL's own view. */
export function makeDatabase() {
  const card = cardOf("database");
  const pools = makeSmallTable({ caption: "Connection pools", columns: POOL_COLUMNS, key: pool => `${pool.node} ${pool.pid} ${pool.name}`, empty: "No process has a pool" });
  const facts = makeFacts();
  const running = makeSmallTable({ caption: "Running and waiting statements", columns: RUNNING_COLUMNS, key: row => `${row.pid} ${row.blockedBy ? "waits" : "runs"}`, empty: "Nothing runs for longer" });
  let missing = "";
  const list = (caption, columns, key, empty) => makeSmallTable({ caption, columns, key, empty: () => missing || empty });
  const tables = list("Largest tables", TABLE_COLUMNS, row => row.tableName, "No tables");
  const indexes = list("Indexes without use", INDEX_COLUMNS, row => row.indexName, "Every index over 1 MB is used");
  const scans = list("Tables read from end to end", SCAN_COLUMNS, row => row.tableName, "No table over 10 MB was read from end to end");
  const statements = list("Statements by PostgreSQL's own count", SERVER_STATEMENT_COLUMNS, row => row.query, "pg_stat_statements is not installed; the advice says how");
  card.body.append(listOf("Database", [
    ["Pool of each process", pools], ["PostgreSQL", facts], ["Running longest, and waiting for locks", running],
    ["Largest tables and partitions", tables], ["Indexes without use", indexes], ["Large tables read from end to end", scans],
    ["Most time by PostgreSQL's own count, all clients", statements],
  ]));
  facts.show([["State", "Asking…"]]);
  return {
    show(database) {
      setText(card.aside, `${count(database.activeConnections)} in use, ${count(database.idleConnections)} idle, ${count(database.waitingRequests)} waiting`);
      pools.show(database.pools);
    },
    showServer({ server, serverError }) {
      if (!server) {
        facts.show([["State", `PostgreSQL can't be asked: ${serverError}`, "bad"]]);
        missing = "PostgreSQL can't be asked";
        for (const table of [running, tables, indexes, scans, statements]) table.show([]);
        return;
      }
      // PostgreSQL tells no sizes of what somebody has locked; the other figures are there.
      missing = server.relationsLocked ? "Not known: a table is locked at the moment" : "";
      const [held, waited] = sumLocks(server.locks);
      const open = server.connections.reduce((sum, row) => sum + row.connections, 0);
      facts.show([
        ["Version", server.version], ["Up since", when(server.startedAt)],
        ["Connections", `${count(open)} of ${count(server.maxConnections)}`, open > 0.8 * server.maxConnections ? "bad" : ""],
        ["Size", bytes(server.sizeBytes)], ["Found in memory", percent(server.cacheHitPercent)],
        ["Commits", count(server.commits)], ["Rollbacks", count(server.rollbacks)],
        ["Deadlocks", count(server.deadlocks), server.deadlocks ? "bad" : ""],
        ["Spilled to disk", bytes(server.tempBytes)], ["Log written", server.wal ? bytes(server.wal.bytes) : "–"],
        ["Replicas", server.replication.length ? server.replication.map(replica => `${replica.name}, ${span(replica.lagS)} behind`).join("; ") : "none"],
        ["Locks", `${count(held)} held, ${count(waited)} waited for`, waited ? "bad" : ""],
        ["Unused indexes", server.relationsLocked ? "–" : count(server.unusedIndexes.length)],
      ]);
      running.show([...server.blocked, ...server.longestRunning]);
      tables.show([...server.tables].sort((one, other) => other.tableBytes + other.indexBytes - one.tableBytes - one.indexBytes).slice(0, SHOWN_TABLES));
      indexes.show(server.unusedIndexes);
      scans.show(server.sequentialScans);
      statements.show(distinct(server.statements || []));
    },
  };
}

const NAMESPACE_COLUMNS = [
  { label: "Namespace", of: row => row.name },
  { label: "Hit rate", number: true, of: row => percent(row.hitRate) },
  { label: "Hits", number: true, of: row => count(row.hits) },
  { label: "Stale", number: true, of: row => count(row.stale), tone: () => "none" },
  { label: "Misses", number: true, of: row => count(row.misses) },
  { label: "Failed", number: true, of: row => count(row.failures), tone: row => (row.failures ? "bad" : "none") },
];
const FAILOVER_COLUMNS = [
  { label: "Side", of: row => (row.state === "redis" ? "Redis" : "Memory"), note: row => [row.reason, row.pid && `${row.node}, process ${row.pid}`].filter(Boolean).join(" · ") },
  { label: "Since", number: true, of: row => when(row.at) },
];

const awayText = cache => (cache.processesOnRedis
  ? `Redis does not answer ${count(cache.processes - cache.processesOnRedis)} of ${count(cache.processes)} processes`
  : "Redis does not answer, memory serves");

/** The cache card: `show(cache, system)`. */
export function makeCache() {
  const card = cardOf("cache");
  const facts = makeFacts();
  const namespaces = makeSmallTable({ caption: "Cache by namespace", columns: NAMESPACE_COLUMNS, key: row => row.name, empty: "Nothing has been looked up yet" });
  const failovers = makeSmallTable({ caption: "Changes of side", columns: FAILOVER_COLUMNS, key: row => `${row.node} ${row.pid} ${row.at}`, empty: "Redis is not configured: the cache lives in the processes" });
  card.body.append(listOf("Cache", [["", facts], ["By namespace", namespaces], ["Redis and memory", failovers]]));
  return {
    show(cache, system) {
      const away = system.redisEnabled && !cache.isRedisAvailable;
      setText(card.aside, system.redisEnabled ? (away ? awayText(cache) : "Redis serves") : "in process memory");
      card.aside.className = `aside${away ? " pill bad" : ""}`;
      const info = cache.redisInfo;
      const asked = cache.hits + cache.stale + cache.misses;
      facts.show([
        ["Hit rate", asked ? percent(cache.hitRate) : "–"], ["Looked up", count(asked)],
        ["In memory", `${count(cache.memoryCacheSize)} keys`], ["Memory used", bytes(cache.memoryCacheBytes)],
        ["Evicted", count(cache.evictions)], ["Failed", count(cache.failures), cache.failures ? "bad" : ""],
        ...(info ? [["Redis keys", count(info.keys)], ["Redis evicted", count(info.evictedKeys)], ["Redis memory", info.usedMemory], ["Redis clients", count(info.connectedClients)], ["Redis hit rate", percent(info.hitRate)]] : []),
      ]);
      namespaces.show(Object.entries(cache.byNamespace).map(([name, row]) => ({ name, ...row })));
      failovers.show([...cache.failover.history].reverse());
    },
  };
}

const PROCESS_COLUMNS = [
  { label: "Process", of: row => `${row.role} ${row.pid}`, note: row => row.node },
  { label: "Up", number: true, of: row => row.uptime },
  { label: "Memory", number: true, of: row => row.memory },
];

/** The card of ingestion and processes: `show(ingestion, system, held)`; `held`: how long event loops were blocked. */
export function makeIngestion() {
  const card = cardOf("ingestion");
  const facts = makeFacts();
  const processes = makeSmallTable({ caption: "Processes", columns: PROCESS_COLUMNS, key: row => `${row.node} ${row.pid}`, empty: "No process has reported" });
  card.body.append(listOf("Ingestion and processes", [["", facts], ["Processes", processes]]));
  return {
    show(ingestion, system, held) {
      processes.show(system.workers);
      setText(card.aside, `${count(ingestion.events)} events stored since the reset`);
      const dropped = Object.entries(ingestion.dropped);
      const idle = !ingestion.groupCommits;
      const { gauges } = ingestion;
      facts.show([
        ["Events a second", rate(ingestion.eventsPerSecond)], ["Commits, 5 min", count(ingestion.groupCommits)],
        ["Events a commit", idle ? "–" : `${whole(ingestion.eventsPerGroup.average)}, at most ${count(ingestion.eventsPerGroup.max)}`],
        ["Commit p50", idle ? "–" : ms(ingestion.groupCommitDuration.p50)], ["Commit p99", idle ? "–" : ms(ingestion.groupCommitDuration.p99)],
        ["Fold p99", numberOf(ingestion.foldDuration.p99) ? ms(ingestion.foldDuration.p99) : "–"],
        ["Fold lag", span(gauges.foldLagS)], ["Rows waiting", whole(gauges.ingestWaitingRows)],
        ["Spool", gauges.spoolBytes === undefined ? "–" : bytes(gauges.spoolBytes)],
        ["Held up, 5 min", held.times ? `${count(held.times)} times, at most ${ms(held.max)}` : "never"],
        ["Refused", count(ingestion.refused), ingestion.refused ? "bad" : ""],
        ...dropped.map(([reason, number]) => [`Dropped: ${reason}`, count(number)]),
      ]);
    },
  };
}

const ROUTE_COLUMNS = [
  { label: "Route", of: row => row.route, note: row => row.method },
  { label: "A second", number: true, of: row => rate(row.requestsPerSecond) },
  { label: "p50", number: true, of: row => ms(row.p50) },
  { label: "p95", number: true, of: row => ms(row.p95) },
  { label: "p99", number: true, of: row => ms(row.p99) },
  { label: "Failed", number: true, of: row => count(row.errors), tone: row => (row.errors ? "bad" : "none"),
    title: row => `${percent(row.errorRate)} failed here (5xx), ${count(row.clientErrors)} refused (4xx)` },
];

/** The card of requests: `show(latency)`. */
export function makeRoutes() {
  const card = cardOf("routes");
  const routes = makeTable({ caption: "Requests of the last 5 minutes by route", columns: ROUTE_COLUMNS, key: row => `${row.method} ${row.route}`, empty: "No requests in the last 5 minutes" });
  card.body.append(makeList("Requests by route", routes.element));
  return {
    show(latency) {
      setText(card.aside, `last ${span(latency.windowSeconds)}`);
      routes.show(latency.routes);
    },
  };
}
