// Ingestion in an open loop: events come at their rate, whether the service keeps up or not.
//
//   k6 run tests/load/ingestion.js
//   k6 run --env BASE_URL=http://localhost:3001 --env API_KEY=… tests/load/ingestion.js
//   k6 run --vus 50 --duration 30s tests/load/ingestion.js      as fast as 50 clients can, instead
//
// RATE (events a second, 10000), SHARE (the part of them sent one by one, 0.1), BATCH (events a batch, 100), WARMUP_S, STEADY_S, SPIKE_S,
// SPIKE (times the rate), ONLY (single or batch: with --vus nothing else is sent), RESULTS (the file written).
//
// FAILING (a share of the single events, 0): they come with an unknown key and are refused; where BROKEN names a path, every
// second of them asks for that instead. For measuring what the service says of its errors, not the service.
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter } from 'k6/metrics';
import { BASE_URL, HEADERS, LEAN, TREND_STATS, count, duration, durationOfAll, inTime, number, openLoop, report, within } from './settings.js';
import { BATCH_EVENTS, batch, single } from './traffic.js';

const RATE = number('RATE', 10000), SPIKE = number('SPIKE', 1.5);
const WARMUP_S = number('WARMUP_S', 10), STEADY_S = number('STEADY_S', 40), SPIKE_S = number('SPIKE_S', 10);
const SHARE = number('SHARE', 0.1), FAILING = number('FAILING', 0);
// This much more is offered: with one request in a thousand not sent in time, and MAY_MISS of the events refused, the
// rate asked for is still stored.
const OFFERED_OVER = 1.005, MAY_MISS = 0.003;
const SINGLES = RATE * OFFERED_OVER * SHARE, BATCHES = (RATE * OFFERED_OVER * (1 - SHARE)) / BATCH_EVENTS;

const accepted = new Counter('events_accepted'), missing = new Counter('events_missing'), failed = new Counter('answers_5xx');

function stages() {
  const found = {};
  let startS = 0;
  [['warmup', WARMUP_S, 0.5], ['steady', STEADY_S, 1], ['spike', SPIKE_S, SPIKE]].forEach(([stage, durationS, times]) => {
    if (!durationS) return;
    if (SINGLES) found[`single_${stage}`] = openLoop('sendSingle', 'single', stage, startS, durationS, SINGLES * times, 50);
    if (BATCHES) found[`batch_${stage}`] = openLoop('sendBatch', 'batch', stage, startS, durationS, BATCHES * times, 20);
    startS += durationS;
  });
  return found;
}

export const options = {
  ...LEAN,
  scenarios: stages(),
  summaryTrendStats: TREND_STATS,
  thresholds: {
    ...within('single', { 50: 25, 95: 40, 99: 50 }),
    ...within('batch', { 99: 100 }),
    http_req_failed: ['rate<0.01'],
    ...(SINGLES ? inTime('single_steady', SINGLES * STEADY_S) : {}),
    ...(BATCHES ? inTime('batch_steady', BATCHES * STEADY_S) : {}),
    'events_missing{stage:steady}': [`count<=${RATE * MAY_MISS * STEADY_S}`],
    'events_accepted{stage:steady}': ['count>=0'], // always true: so that the summary holds this part of it
    'http_reqs{stage:steady}': ['count>=0'],
    'http_req_duration{stage:steady}': ['max>=0'],
  },
};

// One object for all requests of a kind: k6 reads it anew each time, but nobody has to build it. Scenarios name kind and
// stage; with --vus there are none, and all of it counts as steady.
const params = (kind, isStaged) => ({
  headers: HEADERS, responseType: kind === 'batch' ? 'text' : 'none', tags: isStaged ? { kind } : { kind, stage: 'steady' },
});
const PARAMS = { single: params('single', true), batch: params('batch', true) };
const UNSTAGED = { single: params('single', false), batch: params('batch', false) };
const STRANGER = { ...PARAMS.single, headers: { ...HEADERS, 'X-API-Key': 'unknown' } };
const READER = params('broken', true);
const EVENT_URL = `${BASE_URL}/api/v1/track/event`, BATCH_URL = `${BASE_URL}/api/v1/track/batch`;

// Which of the failing ones an iteration is: 1, 2, 3, …; 0 for a good one.
const failure = (iteration) => {
  const before = Math.floor(iteration * FAILING), now = Math.floor((iteration + 1) * FAILING);
  return now > before ? now : 0;
};

function fail(iteration, number) {
  const broken = __ENV.BROKEN && number % 2 === 0;
  const answer = broken ? http.get(`${BASE_URL}${__ENV.BROKEN}`, READER) : http.post(EVENT_URL, single(iteration), STRANGER);
  if (answer.status >= 500) failed.add(1);
}

function one(iteration, { single: chosen }) {
  const number = failure(iteration);
  if (number) return fail(iteration, number);
  const answer = http.post(EVENT_URL, single(iteration), chosen);
  (answer.status === 200 ? accepted : missing).add(1, chosen.tags);
  return undefined;
}

function hundred(iteration, { batch: chosen }) {
  const answer = http.post(BATCH_URL, batch(iteration), chosen);
  // A 200 that does not say how many is somebody else's, such as the login page of a proxy.
  const found = answer.status === 200 && /"accepted":\s*(\d+)/.exec(answer.body), events = found ? Number(found[1]) : 0;
  if (events) accepted.add(events, chosen.tags);
  if (events < BATCH_EVENTS) missing.add(BATCH_EVENTS - events, chosen.tags);
}

export function sendSingle() {
  one(exec.scenario.iterationInTest, PARAMS);
}

export function sendBatch() {
  hundred(exec.scenario.iterationInTest, PARAMS);
}

export default function () {
  const iteration = exec.scenario.iterationInTest;
  const isBatch = __ENV.ONLY ? __ENV.ONLY === 'batch' : iteration % (1 + SINGLES / BATCHES) < 1;
  if (isBatch) hundred(iteration, UNSTAGED);
  else one(iteration, UNSTAGED);
}

export function handleSummary(data) {
  const singles = duration(data, 'single') || null, batches = duration(data, 'batch') || null;
  const staged = Boolean(exec.test.options.scenarios.single_steady || exec.test.options.scenarios.batch_steady);
  const steadyS = staged ? STEADY_S : data.state.testRunDurationMs / 1000;
  const errorPercent = data.metrics.http_req_failed ? data.metrics.http_req_failed.values.rate * 100 : null;
  const eventsPerSecond = Math.round((count(data, 'events_accepted{stage:steady}') / steadyS) * 10) / 10;
  const requests = count(data, 'http_reqs');
  const figures = {
    requests, errors: data.metrics.http_req_failed ? data.metrics.http_req_failed.values.passes : 0, errorPercent,
    eventsAccepted: count(data, 'events_accepted'), steadySeconds: steadyS, single: singles, batch: batches,
    requestsPerSecond: Math.round((count(data, 'http_reqs{stage:steady}') / steadyS) * 10) / 10, eventsPerSecond,
    droppedIterations: count(data, 'dropped_iterations'), answers5xx: count(data, 'answers_5xx'), all: durationOfAll(data),
  };
  const isOffered = !staged || RATE >= 10000;
  const note = !staged ? 'closed loop' : isOffered ? '' : `only ${RATE}/s were offered`;
  // What was not asked for is not missed.
  const ofSingles = { judged: __ENV.ONLY !== 'batch' && SINGLES > 0 }, ofBatches = { judged: __ENV.ONLY !== 'single' && BATCHES > 0 };
  const actuals = {
    'ingest.events': { value: eventsPerSecond, judged: staged && isOffered, note },
    'ingest.single.p50': { value: singles && singles.p50Ms, ...ofSingles },
    'ingest.single.p95': { value: singles && singles.p95Ms, ...ofSingles },
    'ingest.single.p99': { value: singles && singles.p99Ms, ...ofSingles },
    'ingest.batch.p99': { value: batches && batches.p99Ms, ...ofBatches },
    'ingest.errors': { value: errorPercent },
  };
  const settings = { eventsPerSecond: staged ? RATE : null, warmupSeconds: WARMUP_S, steadySeconds: steadyS, spikeSeconds: SPIKE_S, spike: SPIKE };
  return report('ingestion', data, settings, figures, actuals, __ENV.RESULTS || 'load-test-results.json');
}
