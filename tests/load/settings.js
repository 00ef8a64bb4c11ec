// What both k6 scripts share: where to send, thresholds, and the results file that `pulse load-test` writes too.
export const BASE_URL = (__ENV.BASE_URL || 'http://localhost:3001').replace(/\/$/, '');
export const PROJECT_ID = __ENV.PROJECT_ID || '1';
// Spelt as they are sent: k6 writes any other spelling anew for each request.
export const HEADERS = { 'X-Api-Key': __ENV.API_KEY || 'test_api_key', 'Content-Type': 'application/json' };
export const TREND_STATS = ['p(50)', 'p(95)', 'p(99)', 'max', 'count'];

// The targets, by the ids the service knows them by (GET /api/v1/performance/targets).
export const TARGETS = {
  'ingest.events': { name: 'events stored', above: 10000, unit: '/s' },
  'ingest.single.p50': { name: 'single event p50', below: 25, unit: 'ms' },
  'ingest.single.p95': { name: 'single event p95', below: 40, unit: 'ms' },
  'ingest.single.p99': { name: 'single event p99', below: 50, unit: 'ms' },
  'ingest.batch.p99': { name: 'batch of up to 100 p99', below: 100, unit: 'ms' },
  'ingest.errors': { name: 'errors', below: 1, unit: '%' },
  'reports.historical.p50': { name: 'historical p50', below: 100, unit: 'ms' },
  'reports.historical.p95': { name: 'historical p95', below: 150, unit: 'ms' },
  'reports.historical.p99': { name: 'historical p99', below: 200, unit: 'ms' },
  'reports.realtime.p99': { name: 'real-time p99', below: 100, unit: 'ms' },
  'reports.cache_hits': { name: 'cache hits', above: 80, unit: '%' },
  'reports.errors': { name: 'errors', below: 1, unit: '%' },
};

export function number(name, byDefault) {
  const value = __ENV[name] ? Number(__ENV[name]) : byDefault;
  if (!(value >= 0)) throw new Error(`${name} holds "${__ENV[name]}"; it may hold a number of 0 or more`);
  return value;
}

// A threshold for the durations of one kind of request in the steady stage.
export const within = (kind, limits) => ({
  [`http_req_duration{stage:steady,kind:${kind}}`]: Object.entries(limits).map(([part, ms]) => `p(${part})<${ms}`),
});

// At most one in a thousand requests of a scenario may not be sent because all virtual users still wait for answers.
export const inTime = (scenario, requests) => ({
  [`dropped_iterations{scenario:${scenario}}`]: [`count<${Math.max(requests * 0.001, 1)}`],
});

// What spares the generator work: no cookies, few labels on each of the nine samples a request leaves behind.
export const LEAN = { noCookiesReset: true, systemTags: ['scenario', 'status', 'name', 'method', 'error'], discardResponseBodies: true };

// Enough virtual users for answers that take an eighth of a second: making one more in the middle of the load takes a few
// milliseconds of a processor.
export const enough = (ratePerS, users) => Math.max(users, Math.ceil(ratePerS / 8));

// A scenario that keeps its rate however slow the answers are: k6 adds virtual users instead of asking less often. Answers
// may take `gracefulStop` after the end.
//
// The warm-up is over a little before the next stage begins, and holds as many virtual users (`users`), so that this one
// takes them over: with others of its own it would connect all of them first, in the very tail that is measured.
const PAUSE_MS = 250, SHORTEST_MS = 1000;

export function openLoop(exec, kind, stage, startS, durationS, ratePerS, users) {
  const pauses = stage === 'warmup' && durationS * 1000 >= SHORTEST_MS + PAUSE_MS;
  return {
    executor: 'constant-arrival-rate', exec, startTime: `${startS}s`, duration: `${durationS * 1000 - (pauses ? PAUSE_MS : 0)}ms`,
    rate: Math.max(Math.round(ratePerS * 10), 1), timeUnit: '10s', // tenths: a rate is a whole number for k6
    preAllocatedVUs: enough(ratePerS, users), maxVUs: enough(ratePerS, users) * 4,
    tags: { kind, stage }, gracefulStop: pauses ? `${PAUSE_MS}ms` : '10s',
  };
}

export const duration = (data, kind) => durations(data.metrics[`http_req_duration{stage:steady,kind:${kind}}`]);
export const durationOfAll = (data) => durations(data.metrics['http_req_duration{stage:steady}']);

function durations(found) {
  if (!found || !found.values.count) return undefined;
  const { values } = found;
  const round = (ms) => Math.round(ms * 1000) / 1000;
  return {
    requests: values.count, p50Ms: round(values['p(50)']), p95Ms: round(values['p(95)']),
    p99Ms: round(values['p(99)']), maxMs: round(values.max),
  };
}

export const count = (data, metric) => (data.metrics[metric] ? data.metrics[metric].values.count : 0);

const shown = (value, unit) =>
  value === null ? 'no data' : unit === '/s' ? `${value.toFixed(1)}/s` : `${value.toFixed(2)} ${unit}`;
const wanted = ({ above, below, unit }) => (below !== undefined ? `< ${below} ${unit}` : `> ${above} ${unit}`.replace(' /s', '/s'));

// Turn `actuals` (a value or null by target id) into verdicts, and everything into what handleSummary returns.
export function report(load, data, settings, figures, actuals, path) {
  const failed = figures.errorPercent >= TARGETS['ingest.errors'].below;
  const targets = Object.entries(actuals).map(([id, { value, judged: wished = true, note: known = '' }]) => {
    const { name, above, below, unit } = TARGETS[id];
    // A refusal comes quickly: its duration says nothing of the service.
    const judged = wished && !(failed && unit === 'ms'), note = judged || !wished ? known : 'not judged: too many errors';
    const met = value !== null && (below === undefined || value < below) && (above === undefined || value >= above);
    return { id, name, target: wanted(TARGETS[id]), unit, actual: value, passed: judged ? met : null, note };
  });
  const passed = targets.every((target) => target.passed !== false);
  const result = {
    load, tool: 'k6', startedAt: new Date(Date.now() - data.state.testRunDurationMs).toISOString(),
    commit: __ENV.COMMIT || 'unknown', passed, settings: { baseUrl: BASE_URL, projectId: PROJECT_ID, ...settings },
    machine: null, figures, targets,
  };
  const words = { true: 'PASS', false: 'FAIL', null: '-' };
  const lines = targets.map(({ name, target, unit, actual, passed: met, note }) =>
    `  ${words[met].padEnd(5)} ${name.padEnd(24)} ${target.padStart(12)} ${shown(actual, unit).padStart(14)}  ${note}`);
  const head = `\n${load}: ${figures.requests} requests, ${figures.errors} errors, ${figures.droppedIterations} not sent in time`;
  return {
    stdout: `${head}\n${lines.join('\n')}\n${passed ? 'PASS' : 'FAIL'}  → ${path}\n`,
    [path]: JSON.stringify(result, null, 2) + '\n',
  };
}
