// Realistic events for the k6 scripts: the same site, visitors and campaigns as pulse/load/traffic.py, from the same file.
import { SharedArray } from 'k6/data';
import { number } from './settings.js';

export const BATCH_EVENTS = Math.min(number('BATCH', 100), 100);
const TOKEN = '5a17c0ffee00'; // in ids; twelve hexadecimal digits of the moment take its place

// mulberry32, a public-domain generator by Tommy Ettinger: the same seed gives the same events.
function seeded(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const random = seeded(1 + __VU);
const any = (items) => items[Math.floor(random() * items.length)];
const hex = (digits) => Math.floor(random() * 16 ** digits).toString(16).padStart(digits, '0');

function weighted(items, weights) {
  const totals = [];
  weights.reduce((sum, weight) => (totals.push(sum + weight), sum + weight), 0);
  return () => {
    const wanted = random() * totals[totals.length - 1];
    let low = 0, high = totals.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (totals[middle] > wanted) high = middle;
      else low = middle + 1;
    }
    return items[low];
  };
}

const byWeight = (items) => weighted(items, items.map((item) => item.weight));

function* events(site) {
  const pages = site.pages.slice();
  site.numberedPages.forEach(([form, count]) => {
    for (let number = 1; number <= count; number += 1) pages.push(form.replace('{}', number));
  });
  const page = weighted(pages, pages.map((_, index) => 1 / (index + 1) ** site.zipfExponent));
  const agent = byWeight(site.agents), country = byWeight(site.countries), channel = byWeight(site.channels);
  const campaign = byWeight(site.campaigns), action = byWeight(site.actions);
  const active = [];
  for (;;) {
    // Fifty people at once, one step of one of them at a time.
    while (active.length < 50) active.push(session(site, page, agent, country, channel, campaign, action));
    const index = Math.floor(random() * active.length);
    const step = active[index].next();
    if (step.done) active.splice(index, 1);
    else yield step.value;
  }
}

function* session(site, page, agent, country, channel, campaign, action) {
  const browser = agent(), home = country(), way = channel();
  const [width, height] = any(browser.screens), visitor = `v${hex(12)}-${TOKEN}`;
  const common = {
    session_id: `s${hex(8)}-${visitor}`, visitor_id: visitor, user_agent: browser.text,
    screen_width: width, screen_height: height, viewport_width: width, viewport_height: height - 120,
    language: any(home.languages), timezone: home.timezone,
  };
  let referrer = way.referrers.length ? any(way.referrers) : '', query = '';
  if (way.campaigns) {
    const found = campaign();
    referrer = found.referrer;
    query = '?' + Object.entries(found.utm).map(([name, value]) => `${name}=${value.replace(/ /g, '+')}`).join('&');
  }
  const further = random() < site.bounceShare ? 0 : 1 + Math.floor(-Math.log(1 - random()) * site.meanFurtherPages);
  for (let seen = 0; seen <= Math.min(further, 29); seen += 1) {
    const url = `https://${site.hostname}${page()}${query}`;
    yield { event_type: 'pageview', url, referrer, ...common };
    if (random() < site.actionShare) {
      const done = action();
      yield { event_type: done.type, event_name: done.name, custom_data: done.data, url, ...common };
    }
    yield { event_type: 'engagement', engagement_ms: 1500 + Math.floor(-Math.log(1 - random()) * 28000), url, ...common };
    referrer = url;
    query = '';
  }
}

// Events are made and encoded once, before the load begins, and shared by all virtual users: a generator that encodes
// while it measures would measure itself. Letters beyond ASCII are written as \u escapes: k6 keeps other text in two
// bytes a letter and turns all of it into UTF-8 again for each request. The site is read in here, or each virtual user
// would keep a copy of it.
const GROUPS = 41, GROUP = 100;
const escape = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;

const shared = new SharedArray('events', () => {
  const from = events(JSON.parse(open('../../pulse/load/site.json')));
  // At first everybody only arrives: left out, or there would be more first pages than a site sees.
  for (let left = 1000; left > 0; left -= 1) from.next();
  const text = () => JSON.stringify(from.next().value).replace(/[\u0080-\uffff]/g, escape);
  return Array.from({ length: GROUPS }, () => ({ texts: Array.from({ length: GROUP }, text) }));
});

// What a virtual user sends again and again, as text with the token in it: a few single events from the first, and a
// whole batch, cut where the ids go, from its first batch on. Few of them send batches, and all that lives costs k6 time.
const OWN = 20;
const group = () => shared[__VU % GROUPS].texts;
const start = (Math.floor(__VU / GROUPS) * OWN) % GROUP;
// Browsers give their events an id, so that a retry is stored once; servers that send batches seldom do.
const singles = group().slice(start, start + OWN)
  .map((text) => `{"event_id":"${hex(8)}-0000-4000-8000-${TOKEN}",${text.slice(1)}`);
let wholeBatch = null;

// k6 collects its garbage whenever its memory has doubled, and takes both of two cores for it. A script cannot tell it to
// wait, but something large that nobody touches makes the doubling larger: it takes no memory itself, and lets 256 MB more
// of garbage gather, so that five seconds and not two lie between. Twice as much cost 1.3 GB of resident memory.
globalThis.ballast = __VU === 1 ? new ArrayBuffer(256 * 1024 * 1024) : null;

// Twelve hexadecimal digits that no other request of this run has.
const digits = (iteration) =>
  (Date.now() % 0xfffffff).toString(16).padStart(7, '0') + (iteration & 0xfffff).toString(16).padStart(5, '0');

let sent = 0;
export const single = (iteration) => singles[sent++ % OWN].replaceAll(TOKEN, digits(iteration));

export function batch(iteration) {
  if (wholeBatch === null) wholeBatch = `{"events":[${group().slice(0, BATCH_EVENTS).join()}]}`.split(TOKEN);
  return wholeBatch.join(digits(iteration));
}
