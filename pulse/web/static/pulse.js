// The tracker: pageviews, events and visible time; no cookie and no identifier that outlives the page.
// It is served without indentation and without the lines that hold only a comment.
//
// <script defer src="https://host/js/pulse.js" data-api-key="…"></script>
//   data-endpoint="https://host"     where events go; by default where the script came from
//   data-hash                        the part after # is a page of its own
//   data-exclude="/admin/*,/private" pages that are never counted
// pulse("signup", {plan: "pro"}) sends an event of your own. localStorage.pulse_ignore = 1 opts this browser out.
(() => {
  const script = document.currentScript, options = script.dataset;
  const key = options.apiKey || options.key, stored = "pulse:" + key;
  const early = window.pulse || {};
  if (early.loaded) return;
  if (!key) return console.warn("pulse: no data-api-key");
  const base = (options.endpoint || script.src.split("/js/")[0]).replace(/\/$/, "") + "/api/v1/track/";
  const excluded = (options.exclude || "").split(/[\s,]+/).map(pattern =>
    RegExp("^" + pattern.replace(/[^\w/*]/g, "\\$&").replace(/\*+/g, ".*") + "$"));
  const files = /\.(7z|apk|csv|dmg|docx?|exe|gz|mp[34]|pdf|pptx?|rar|xlsx?|zip)$/i;

  // `url` is the page counted last, seen since `since`, reached from `referrer`; `path` is where we are.
  let path, url, since, counted, waiting, referrer = document.referrer;
  let memory = "[]", wait = 2e3, busy, timer, wrongClock;

  const web = target => /^http/.test(target.protocol);
  const hash = () => "hash" in options ? location.hash : "";
  const where = () => location.pathname + hash();
  const muted = () => {
    try { if (localStorage.pulse_ignore) return 1; } catch (_) {}
    return navigator.doNotTrack === "1" || navigator.globalPrivacyControl || !web(location);
  };
  // Version 4, by hand: crypto.randomUUID is missing on pages without HTTPS.
  const uuid = () => "10000000-1000-4000-8000-100000000000".replace(/[018]/g,
    c => (c ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> c / 4).toString(16));

  // Events wait here until they are answered, on later pages of this tab too. They go again with the same id, so each
  // is stored once. A string body is text/plain, which needs no preflight; browsers refuse keepalive over 64 KiB.
  const kept = () => {
    try { memory = sessionStorage[stored] || memory; } catch (_) {}
    return JSON.parse(memory);
  };
  const keep = events => {
    memory = JSON.stringify(events.slice(-50));
    try { sessionStorage[stored] = memory; } catch (_) {}
  };
  const to = name => base + name + "?api_key=" + key;
  const flush = () => {
    const events = kept(), many = events[1], body = JSON.stringify(many ? {events} : events[0]);
    if (busy || !body) return;
    busy = 1;
    fetch(to(many ? "batch" : "event"), {
      method: "POST", body, keepalive: body.length < 2e4, credentials: "omit",
    }).then(answer => {
      if (answer.status > 499 || answer.status == 429) throw 0;
      busy = 0;
      wait = 2e3;
      if (answer.status == 422 && !wrongClock) {
        // This machine's clock may be off by more than the service accepts: let the service date the events.
        wrongClock = 1;
        keep(kept().map(event => Object.assign(event, {timestamp: undefined})));
      } else keep(kept().filter(event => !body.includes(event.event_id)));
      flush();
    }).catch(() => {
      clearTimeout(timer);
      busy = 0;
      timer = setTimeout(flush, wait);
      wait = Math.min(wait * 2, 3e5);
    });
  };

  const send = (event_type, more, leaving) => {
    if (muted() || !more.url && excluded.some(pattern => pattern.test(where()))) return;
    const event = Object.assign({
      event_id: uuid(),
      event_type,
      url: (location.origin + location.pathname + location.search + hash()).slice(0, 2048),
      referrer: referrer.slice(0, 2048),
      timestamp: wrongClock ? undefined : new Date(),
      screen_width: screen.width,
      screen_height: screen.height,
      viewport_width: innerWidth,
      viewport_height: innerHeight,
      language: navigator.language,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    }, more);
    if (!leaving || !navigator.sendBeacon || !navigator.sendBeacon(to("event"), JSON.stringify(event))) {
      keep(kept().concat(event));
      flush();
    }
    return event.url;
  };

  const leave = () => {
    const engagement_ms = performance.now() - since | 0;
    if (since && counted && engagement_ms > 99) send("engagement", {url, engagement_ms}, 1);
    since = 0;
  };
  const view = () => {
    leave();
    path = where();
    waiting = document.hidden || document.prerendering;
    if (waiting) return;
    since = performance.now();
    counted = send("pageview", {});
    url = counted || url;
  };
  const route = () => {
    if (where() == path) return;
    referrer = url || referrer;
    view();
  };
  const visibility = () => {
    if (document.hidden) leave();
    else if (waiting) view();
    else since = since || performance.now();
  };
  const click = event => {
    const link = event.composedPath().find(node => node.href && node.host);
    // Button 2 opens a menu. The query of a link can hold personal data: it is not sent.
    if (event.button > 1 || !link || !web(link)) return;
    const event_name = link.hasAttribute("download") || files.test(link.pathname) ? "download"
      : link.host != location.host && "outbound";
    if (event_name) send("click", {event_name, custom_data: {url: link.origin + link.pathname}}, 1);
  };

  const pulse = window.pulse = (event_name, custom_data) => {send("custom", {event_name, custom_data});};
  pulse.loaded = 1;

  ["pushState", "replaceState"].forEach(name => {
    const original = history[name];
    history[name] = (...all) => {
      original.apply(history, all);
      route();
    };
  });
  const listen = (name, action) => addEventListener(name, action, true);
  listen("popstate", route);
  listen("hashchange", route);
  listen("visibilitychange", visibility);
  listen("prerenderingchange", visibility);
  listen("click", click);
  listen("auxclick", click);
  listen("pagehide", leave);
  listen("pageshow", event => event.persisted && view());
  listen("online", flush);
  view();
  (early.q || []).forEach(call => pulse(...call));
  flush();
})();
