// Realistic events for the k6 scripts: the same site, visitors and campaigns as pulse/load/traffic.py, from the same file.
import { SharedArray } from 'k6/data';
import encoding from 'k6/encoding';
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
const GROUPS = 41, PIECES = 5, OWN = 20;
const escape = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;

// A group is what one batch holds, in pieces of OWN events, a line each. k6 reads an item anew each time, and freezes all
// that is in it: an object with one text is quickest; a text itself would be frozen letter by letter.
const shared = new SharedArray('events', () => {
  const from = events(JSON.parse(open('../../pulse/load/site.json')));
  // At first everybody only arrives: left out, or there would be more first pages than a site sees.
  for (let left = 1000; left > 0; left -= 1) from.next();
  const text = () => JSON.stringify(from.next().value).replace(/[\u0080-\uffff]/g, escape);
  return Array.from({ length: GROUPS * PIECES }, () => ({ lines: Array.from({ length: OWN }, text).join('\n') }));
});

const own = (piece) => shared[(__VU % GROUPS) * PIECES + (piece % PIECES)].lines.split('\n');

// k6 collects its garbage whenever its memory has doubled, and takes both of two cores for it. A script cannot tell it to
// wait, but something large that nobody touches makes the doubling larger: it takes no memory itself, and lets 256 MB more
// of garbage gather. Twice as much cost 1.3 GB of resident memory.
globalThis.ballast = __VU === 1 ? new ArrayBuffer(256 * 1024 * 1024) : null;

// Twelve hexadecimal digits that no other request of this or another run has: each virtual user counts up from somewhere.
// The number of the iteration, which k6 knows, costs as much as all the rest of the script.
const somewhere = () => Math.floor((1 + 15 * Math.random()) * 16 ** 11);

// The functions below keep what they use in variables of their own, which k6 finds sooner than those of a module.

// A single event: one of a few, as text, cut where the digits go. Browsers give their events an id, so that a retry is
// stored once; servers that send batches seldom do.
export const single = (() => {
  const count = OWN, cut = own(Math.floor(__VU / GROUPS))
    .map((text) => `{"event_id":"${hex(8)}-0000-4000-8000-${TOKEN}",${text.slice(1)}`.split(TOKEN));
  let used = 0, number = somewhere();
  return () => {
    const parts = cut[used], digits = (number += 1).toString(16);
    used = (used + 1) % count;
    return `${parts[0]}${digits}${parts[1]}${digits}${parts[2]}${digits}${parts[3]}`;
  };
})();

const FOLLOWING = new Uint8Array(128); // the next hexadecimal digit by the letter of one; after f comes 0
[...'0123456789abcdef'].forEach((digit, value) => {
  FOLLOWING[digit.charCodeAt(0)] = ((value + 1) % 16).toString(16).charCodeAt(0);
});

// A whole batch, as bytes in which only digits change: joined anew for each request it was half of all garbage. Few virtual
// users send batches, so it is made when the first is sent.
export const batch = (() => {
  const following = FOLLOWING;
  let body = null, bytes, lasts, count;
  function make() {
    const digits = somewhere().toString(16), texts = Array.from({ length: PIECES }, (_, piece) => own(piece)).flat();
    const text = `{"events":[${texts.slice(0, BATCH_EVENTS).join().replaceAll(TOKEN, digits)}]}`;
    body = encoding.b64decode(encoding.b64encode(text)); // k6 has no other quick way from text to bytes
    bytes = new Uint8Array(body);
    lasts = [];
    for (let at = text.indexOf(digits); at >= 0; at = text.indexOf(digits, at + 1)) lasts.push(at + digits.length - 1);
    count = lasts.length;
  }
  return () => {
    if (body === null) make();
    // One more, as a milometer counts: the last digit, and the one before where it turns to 0.
    let back = 0, digit;
    do {
      digit = following[bytes[lasts[0] - back]];
      for (let place = 0; place < count; place += 1) bytes[lasts[place] - back] = digit;
      back += 1;
    } while (digit === 48);
    return body;
  };
})();
