// The same reports again and again: what the cache answers.
//
//   k6 run --vus 8 --duration 10s --env PROJECT_ID=1 --env PATHS='["/analytics","/realtime"]' tests/load/warm.js
//   k6 run --env RATE=400 --env STEADY_S=10 …                at a rate of their own, however slow the answers are
//
// The first is a closed loop without a pause between answer and question: it takes all of the machine, and its times
// are those of a queue. PATHS (what follows /api/v1/projects/<id>, as JSON), RESULTS (the file written).
import exec from 'k6/execution';
import http from 'k6/http';
import { Rate } from 'k6/metrics';
import { BASE_URL, HEADERS, LEAN, PROJECT_ID, TREND_STATS, count, duration, number, openLoop } from './settings.js';

const PATHS = JSON.parse(__ENV.PATHS || '["/analytics"]');
const cacheHits = new Rate('cache_hits');
const TAGS = { stage: 'steady', kind: 'warm' };

const RATE = number('RATE', 0), STEADY_S = number('STEADY_S', 10);

export const options = {
  ...LEAN,
  ...(RATE ? { scenarios: { warm: openLoop('default', 'warm', 'steady', 0, STEADY_S, RATE, 8) } } : {}),
  summaryTrendStats: TREND_STATS,
  thresholds: { 'http_req_duration{stage:steady,kind:warm}': ['p(99)<10'] },
};

const ACCEPT = { ...HEADERS, 'Accept-Encoding': 'gzip' }; // as every browser does
const read = (path) => http.get(`${BASE_URL}/api/v1/projects/${PROJECT_ID}${path}`, { headers: ACCEPT, tags: TAGS, responseType: 'none' });

export function setup() {
  PATHS.forEach(read); // so that the cache holds them; not counted below
}

export default function () {
  const answer = read(PATHS[exec.scenario.iterationInTest % PATHS.length]);
  cacheHits.add(answer.headers['X-Cache'] === 'HIT');
}

export function handleSummary(data) {
  const hits = data.metrics.cache_hits;
  const figures = {
    warm: duration(data, 'warm') || null, requests: count(data, 'http_reqs'),
    droppedIterations: count(data, 'dropped_iterations'),
    cacheHitPercent: hits ? hits.values.rate * 100 : null,
    errorPercent: data.metrics.http_req_failed ? data.metrics.http_req_failed.values.rate * 100 : null,
  };
  return { stdout: '', [__ENV.RESULTS || 'warm-results.json']: JSON.stringify({ load: 'warm', figures }, null, 2) + '\n' };
}
