// Realistic events for the k6 scripts: the same site, visitors and campaigns as pulse/load/traffic.py, from the same file.
const site = JSON.parse(open('../../pulse/load/site.json'));

export const BATCH_EVENTS = 100;
const KEPT_BATCHES = 2;
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

let random = seeded(1);
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

function* events() {
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
    while (active.length < 50) active.push(session(page, agent, country, channel, campaign, action));
    const index = Math.floor(random() * active.length);
    const step = active[index].next();
    if (step.done) active.splice(index, 1);
    else yield step.value;
  }
}

function* session(page, agent, country, channel, campaign, action) {
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

// Twelve hexadecimal digits that no other request of this run has.
const digits = (iteration) =>
  (Date.now() % 0xfffffff).toString(16).padStart(7, '0') + (iteration & 0xfffff).toString(16).padStart(5, '0');

const fill = (text, iteration) => text.split(TOKEN).join(digits(iteration));

// Each virtual user makes events of its own. A single one costs 0.1 ms; a batch costs several, so a few are kept and
// used again with other ids. (A SharedArray would be slower still: it copies what is read from it letter by letter.)
const own = { source: null, batches: [] };

function source() {
  if (!own.source) {
    random = seeded(__VU);
    own.source = events();
  }
  return own.source;
}

// Browsers give their events an id, so that a retry is stored once; servers that send batches seldom do.
export function single(iteration) {
  const event = source().next().value;
  return fill(JSON.stringify({ ...event, event_id: `${hex(8)}-0000-4000-8000-${TOKEN}` }), iteration);
}

export function batch(iteration) {
  const from = source();
  if (own.batches.length < KEPT_BATCHES) {
    own.batches.push(JSON.stringify({ events: Array.from({ length: BATCH_EVENTS }, () => from.next().value) }));
  }
  return fill(own.batches[iteration % own.batches.length], iteration);
}
