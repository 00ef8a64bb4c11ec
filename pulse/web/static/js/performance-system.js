// Database, cache, ingestion and the processes.
import { make, setText } from "./dom.js";
import { count } from "./format.js";
import { cardOf, makeFacts, makeList, makeTable } from "./performance-table.js";
import { bytes, ms, numberOf, percent, rate, span, when, whole } from "./performance-units.js";

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
const TABLE_COLUMNS = [
  { label: "Table", of: row => row.tableName },
  { label: "Rows", number: true, of: row => count(row.liveRows) },
  { label: "Dead", number: true, of: row => count(row.deadRows), tone: () => "none" },
  { label: "Size", number: true, of: row => bytes(row.tableBytes + row.indexBytes) },
];
const SHOWN_TABLES = 12;

/** The database card: `show(database)` every time, `showServer(database)` with PostgreSQL's own view. */
export function makeDatabase() {
  const card = cardOf("database");
  const pools = makeSmallTable({ caption: "Connection pools", columns: POOL_COLUMNS, key: pool => `${pool.node} ${pool.pid} ${pool.name}`, empty: "No process has a pool" });
  const facts = makeFacts();
  const running = makeSmallTable({ caption: "Running and waiting statements", columns: RUNNING_COLUMNS, key: row => `${row.pid} ${row.blockedBy ? "waits" : "runs"}`, empty: "Nothing runs for longer" });
  const tables = makeSmallTable({ caption: "Largest tables", columns: TABLE_COLUMNS, key: row => row.tableName, empty: "No tables" });
  card.body.append(listOf("Database", [["Pool of each process", pools], ["PostgreSQL", facts], ["Running longest, and waiting for locks", running], ["Largest tables and partitions", tables]]));
  facts.show([["State", "Asking…"]]);
  return {
    show(database) {
      setText(card.aside, `${count(database.activeConnections)} in use, ${count(database.idleConnections)} idle, ${count(database.waitingRequests)} waiting`);
      pools.show(database.pools);
    },
    showServer({ server, serverError }) {
      if (!server) {
        facts.show([["State", `PostgreSQL can't be asked: ${serverError}`, "bad"]]);
        running.show([]);
        tables.show([]);
        return;
      }
      const open = server.connections.reduce((sum, row) => sum + row.connections, 0);
      facts.show([
        ["Version", server.version], ["Up since", when(server.startedAt)],
        ["Connections", `${count(open)} of ${count(server.maxConnections)}`, open > 0.8 * server.maxConnections ? "bad" : ""],
        ["Size", bytes(server.sizeBytes)], ["Found in memory", percent(server.cacheHitPercent)],
        ["Commits", count(server.commits)], ["Rollbacks", count(server.rollbacks)],
        ["Deadlocks", count(server.deadlocks), server.deadlocks ? "bad" : ""],
        ["Spilled to disk", bytes(server.tempBytes)], ["Log written", server.wal ? bytes(server.wal.bytes) : "–"],
        ["Replicas", server.replication.length ? server.replication.map(replica => `${replica.name}, ${span(replica.lagS)} behind`).join("; ") : "none"],
        ["Unused indexes", count(server.unusedIndexes.length)],
      ]);
      running.show([...server.blocked, ...server.longestRunning]);
      tables.show([...server.tables].sort((one, other) => other.tableBytes + other.indexBytes - one.tableBytes - one.indexBytes).slice(0, SHOWN_TABLES));
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

/** The card of ingestion and processes: `show(ingestion, system)`. */
export function makeIngestion() {
  const card = cardOf("ingestion");
  const facts = makeFacts();
  const processes = makeSmallTable({ caption: "Processes", columns: PROCESS_COLUMNS, key: row => `${row.node} ${row.pid}`, empty: "No process has reported" });
  card.body.append(listOf("Ingestion and processes", [["", facts], ["Processes", processes]]));
  return {
    show(ingestion, system) {
      processes.show(system.workers);
      setText(card.aside, `${count(ingestion.events)} events stored since the reset`);
      const dropped = Object.entries(ingestion.dropped);
      const idle = !ingestion.groupCommits;
      const { gauges } = ingestion;
      facts.show([
        ["Events a second", rate(ingestion.eventsPerSecond)], ["Group commits, 5 min", count(ingestion.groupCommits)],
        ["Events a commit", idle ? "–" : `${whole(ingestion.eventsPerGroup.average)}, at most ${count(ingestion.eventsPerGroup.max)}`],
        ["Commit p50", idle ? "–" : ms(ingestion.groupCommitDuration.p50)], ["Commit p99", idle ? "–" : ms(ingestion.groupCommitDuration.p99)],
        ["Fold p99", numberOf(ingestion.foldDuration.p99) ? ms(ingestion.foldDuration.p99) : "–"],
        ["Fold lag", span(gauges.foldLagS)], ["Rows waiting", whole(gauges.ingestWaitingRows)],
        ["Spool", gauges.spoolBytes === undefined ? "–" : bytes(gauges.spoolBytes)],
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
  { label: "p99", number: true, of: row => ms(row.p99) },
  { label: "Failed", number: true, of: row => count(row.errors), tone: row => (row.errors ? "bad" : "none") },
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
