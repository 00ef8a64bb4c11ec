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
import { BASE_URL, HEADERS, LEAN, TREND_STATS, count, duration, durationOfAll, enough, inTime, number, openLoop, report, within } from './settings.js';
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
    if (SINGLES) found[`single_${stage}`] = openLoop('sendSingle', 'single', stage, startS, durationS, SINGLES * times, enough(SINGLES, 50));
    if (BATCHES) found[`batch_${stage}`] = openLoop('sendBatch', 'batch', stage, startS, durationS, BATCHES * times, enough(BATCHES, 20));
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

// Taken apart once, and not for each request.
const EVENT_URL = http.url([`${BASE_URL}/api/v1/track/event`]), BATCH_URL = http.url([`${BASE_URL}/api/v1/track/batch`]);

// Scenarios name kind and stage; with --vus there are none, and all of it counts as steady.
const tagged = (tags) => (tags ? { headers: HEADERS, tags } : { headers: HEADERS });

// What is used for each request is in variables of the function that sends: k6 finds them sooner than those of a module.
function singleSender(tags) {
  const { post } = http, url = EVENT_URL, body = single, params = tagged(tags), good = accepted, bad = missing;
  return () => {
    (post(url, body(), params).status === 200 ? good : bad).add(1, tags);
  };
}

function batchSender(tags) {
  const { post } = http, url = BATCH_URL, body = batch, params = { ...tagged(tags), responseType: 'text' };
  const good = accepted, bad = missing, size = BATCH_EVENTS, pattern = /"accepted":\s*(\d+)/;
  return () => {
    const answer = post(url, body(), params);
    // A 200 that does not say how many is somebody else's, such as the login page of a proxy.
    const found = answer.status === 200 && pattern.exec(answer.body), events = found ? Number(found[1]) : 0;
    if (events) good.add(events, tags);
    if (events < size) bad.add(size - events, tags);
  };
}

// Sends a share of the single events so that they fail, the others with `send`.
function failingSender(send) {
  const stranger = { headers: { ...HEADERS, 'X-Api-Key': 'unknown' }, tags: { kind: 'single' } };
  const reader = { headers: HEADERS, tags: { kind: 'broken' } }, path = __ENV.BROKEN;
  let sent = __VU; // so that not all virtual users fail at the same time
  return () => {
    const before = Math.floor(sent * FAILING), failures = Math.floor((sent += 1) * FAILING);
    if (failures === before) return send();
    const answer = path && failures % 2 === 0 ? http.get(`${BASE_URL}${path}`, reader) : http.post(EVENT_URL, single(), stranger);
    if (answer.status >= 500) failed.add(1);
    return undefined;
  };
}

const singles = (tags) => (FAILING ? failingSender(singleSender(tags)) : singleSender(tags));

function mixedSender() {
  const one = singles({ kind: 'single', stage: 'steady' }), many = batchSender({ kind: 'batch', stage: 'steady' });
  if (__ENV.ONLY) return __ENV.ONLY === 'batch' ? many : one;
  const requestsPerBatch = 1 + SINGLES / BATCHES;
  let sent = __VU;
  return () => ((sent += 1) % requestsPerBatch < 1 ? many() : one());
}

export const sendSingle = singles(), sendBatch = batchSender();
export default mixedSender();

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
