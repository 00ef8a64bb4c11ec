// Reports in an open loop: dashboards ask at their rate, however slow the answers are.
//
//   k6 run tests/load/queries.js
//   k6 run --env BASE_URL=… --env API_KEY=… --env PROJECT_ID=1 tests/load/queries.js
//   k6 run --vus 20 --duration 30s tests/load/queries.js      as fast as 20 clients can, instead
//
// RATE (reports a second, 100), WARMUP_S, STEADY_S, FEED (batches of a hundred events sent meanwhile a second, 2),
// RESULTS (the file written).
import exec from 'k6/execution';
import http from 'k6/http';
import { Rate } from 'k6/metrics';
import { BASE_URL, HEADERS, LEAN, PROJECT_ID, TREND_STATS, count, duration, inTime, number, openLoop, report, within } from './settings.js';
import { batch } from './traffic.js';

const RATE = number('RATE', 100), FEED = number('FEED', 2);
const WARMUP_S = number('WARMUP_S', 5), STEADY_S = number('STEADY_S', 40);
const PROJECT = `${BASE_URL}/api/v1/projects/${PROJECT_ID}`;
// Days back from today and how often they are looked at; 0 is the default range, -1 days of one's own choice.
const RANGES = [[0, 36], [7, 22], [1, 11], [30, 7], [90, 9], [365, 5], [-1, 10]];

const cacheHits = new Rate('cache_hits');

function stages() {
  const found = {};
  if (FEED) found.feed = openLoop('feed', 'feed', 'feed', 0, WARMUP_S + STEADY_S, FEED, 2);
  let startS = 0;
  [['warmup', WARMUP_S], ['steady', STEADY_S]].forEach(([stage, durationS]) => {
    if (!durationS) return;
    found[`historical_${stage}`] = openLoop('readReport', 'historical', stage, startS, durationS, RATE * 0.6, 20);
    found[`realtime_${stage}`] = openLoop('readLive', 'realtime', stage, startS, durationS, RATE * 0.4, 10);
    startS += durationS;
  });
  return found;
}

export const options = {
  ...LEAN,
  scenarios: stages(),
  summaryTrendStats: TREND_STATS,
  thresholds: {
    ...within('historical', { 50: 100, 95: 150, 99: 200 }),
    ...within('realtime', { 99: 100 }),
    http_req_failed: ['rate<0.01'],
    'cache_hits{stage:steady}': ['rate>0.8'],
    ...inTime('historical_steady', RATE * 0.6 * STEADY_S),
    ...inTime('realtime_steady', RATE * 0.4 * STEADY_S),
    'http_reqs{stage:steady}': ['count>=0'], // always true: so that the summary holds this part of it
  },
};

const day = (ago) => new Date(Date.now() - ago * 86400000).toISOString().slice(0, 10);

function chooseRange() {
  let wanted = Math.random() * 100;
  const [days] = RANGES.find(([, weight]) => (wanted -= weight) < 0) || RANGES[0];
  if (days === 0) return '';
  const end = days < 0 ? Math.floor(Math.random() * 30) : 0;
  return `?startDate=${day(end + (days < 0 ? 1 + Math.floor(Math.random() * 59) : days - 1))}&endDate=${day(end)}`;
}

function read(path, name, kind, extra) {
  const answer = http.get(`${PROJECT}${path}`, { headers: HEADERS, tags: { name, kind, ...extra }, responseType: 'none' });
  const state = answer.headers['X-Cache'];
  if (state) cacheHits.add(state !== 'MISS', extra);
}

function readHistory(extra) {
  if (Math.random() < 1 / 6) read('/events?limit=50', '/events', 'historical', extra);
  else read(`/analytics${chooseRange()}`, '/analytics', 'historical', extra);
}

export function readReport() {
  readHistory({});
}

export function readLive() {
  read('/realtime', '/realtime', 'realtime', {});
}

export function feed() {
  http.post(`${BASE_URL}/api/v1/track/batch`, batch(), { headers: HEADERS, responseType: 'none' });
}

// With --vus and --duration there are no stages: all of it counts as steady, in the same mixture.
export default function () {
  if (Math.random() < 0.4) read('/realtime', '/realtime', 'realtime', { stage: 'steady' });
  else readHistory({ stage: 'steady' });
}

export function handleSummary(data) {
  const historical = duration(data, 'historical') || null, realtime = duration(data, 'realtime') || null;
  const staged = Boolean(exec.test.options.scenarios.historical_steady);
  const steadyS = staged ? STEADY_S : data.state.testRunDurationMs / 1000;
  const failed = data.metrics.http_req_failed;
  const errorPercent = failed ? failed.values.rate * 100 : null;
  const hits = data.metrics['cache_hits{stage:steady}'];
  const cacheHitPercent = hits ? Math.round(hits.values.rate * 10000) / 100 : null;
  const figures = {
    requests: count(data, 'http_reqs'), errors: failed ? failed.values.passes : 0, errorPercent,
    steadySeconds: steadyS, historical, realtime, cacheHitPercent,
    requestsPerSecond: Math.round((count(data, 'http_reqs{stage:steady}') / steadyS) * 10) / 10,
    droppedIterations: count(data, 'dropped_iterations'),
  };
  const actuals = {
    'reports.historical.p50': { value: historical && historical.p50Ms },
    'reports.historical.p95': { value: historical && historical.p95Ms },
    'reports.historical.p99': { value: historical && historical.p99Ms },
    'reports.realtime.p99': { value: realtime && realtime.p99Ms },
    'reports.cache_hits': { value: cacheHitPercent },
    'reports.errors': { value: errorPercent },
  };
  const settings = { reportsPerSecond: staged ? RATE : null, warmupSeconds: WARMUP_S, steadySeconds: steadyS, feed: FEED };
  return report('queries', data, settings, figures, actuals, __ENV.RESULTS || 'query-load-test-results.json');
}
