// The same reports again and again, in a closed loop: what the cache answers.
//
//   k6 run --vus 8 --duration 10s --env PROJECT_ID=1 --env PATHS='["/analytics","/realtime"]' tests/load/warm.js
//
// PATHS (what follows /api/v1/projects/<id>, as JSON), RESULTS (the file written).
import exec from 'k6/execution';
import http from 'k6/http';
import { Rate } from 'k6/metrics';
import { BASE_URL, HEADERS, PROJECT_ID, TREND_STATS, count, duration } from './settings.js';

const PATHS = JSON.parse(__ENV.PATHS || '["/analytics"]');
const cacheHits = new Rate('cache_hits');
const TAGS = { stage: 'steady', kind: 'warm' };

export const options = {
  summaryTrendStats: TREND_STATS,
  thresholds: { 'http_req_duration{stage:steady,kind:warm}': ['p(99)<10'] },
};

const read = (path) => http.get(`${BASE_URL}/api/v1/projects/${PROJECT_ID}${path}`, { headers: HEADERS, tags: TAGS, responseType: 'none' });

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
    cacheHitPercent: hits ? hits.values.rate * 100 : null,
    errorPercent: data.metrics.http_req_failed ? data.metrics.http_req_failed.values.rate * 100 : null,
  };
  return { stdout: '', [__ENV.RESULTS || 'warm-results.json']: JSON.stringify({ load: 'warm', figures }, null, 2) + '\n' };
}
