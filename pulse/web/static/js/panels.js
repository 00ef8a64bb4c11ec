// The lists under the graph: pages, sources, places, devices, events, and the pages being read now.
import { byId, make, moveWithArrows, setText } from "./dom.js";
import { canFilter } from "./filters.js";
import { brief, capitalised, count, countryFlag, countryName, languageName } from "./format.js";

const ROWS = 10;
const visitors = { label: "Visitors", of: row => row.uniqueVisitors };
const pageviews = { label: "Views", of: row => row.pageviews };
const sessions = { label: "Sessions", of: row => row.sessions };

const list = (label, key, more = {}) => ({
  label, rows: report => report.breakdowns[key] || [], value: row => row.name, name: value => value, columns: [visitors, pageviews], ...more,
});

/** Tabs: what they list from a report and as what it is filtered, a row's value and how that is named, and its columns;
    the first column draws the bar. */
const PANELS = [
  { id: "pages", title: "Pages", tabs: [
    list("Top", "", { filter: "page", rows: report => report.topPages, value: row => row.path, columns: [pageviews, visitors] }),
    list("Entry", "entryPages", { filter: "entry_page", columns: [sessions] }),
    list("Exit", "exitPages", { filter: "exit_page", columns: [sessions] }),
  ] },
  { id: "sources", title: "Sources", tabs: [
    list("Sources", "sources", { filter: "source" }),
    list("Referrers", "", { filter: "referrer", rows: report => report.topReferrers, value: row => row.referrer }),
    list("Channels", "channels", { filter: "channel" }),
    list("Campaigns", "utmCampaigns", { filter: "utm_campaign" }),
  ] },
  { id: "places", title: "Places", tabs: [
    list("Countries", "countries", { filter: "country", name: countryName, mark: value => countryFlag(value) || "–" }),
    list("Regions", "regions", { filter: "region" }),
    list("Cities", "cities", { filter: "city" }),
    list("Languages", "languages", { filter: "language", name: languageName }),
  ] },
  { id: "technology", title: "Technology", tabs: [
    list("Devices", "devices", { filter: "device", name: capitalised }),
    list("Browsers", "browsers", { filter: "browser" }),
    list("Systems", "operatingSystems", { filter: "os" }),
    list("Screens", "screens", { filter: "screen" }),
  ] },
  { id: "events", title: "Events", tabs: [
    list("", "", { filter: "event", rows: report => report.topEvents, columns: [{ label: "Events", of: row => row.events }, visitors] }),
  ] },
  { id: "now", title: "Being read now", live: true, tabs: [
    list("", "", { rows: realtime => realtime.currentPages, value: row => row.url,
      columns: [{ label: "Visitors", of: row => row.visitors }] }),
  ] },
];

function bars(tab, rows, choose) {
  const most = Math.max(1, ...rows.map(tab.columns[0].of));
  const head = make("tr", {}, make("th", { scope: "col" }, make("span", { class: "visually-hidden" }, "Name")),
    ...tab.columns.map(column => make("th", { scope: "col", class: "number" }, column.label)));
  const body = rows.map(row => {
    const value = tab.value(row), label = tab.name(value);
    const text = make("span", { title: label }, label);
    if (tab.mark) text.prepend(make("span", { class: "flag", "aria-hidden": "true" }, tab.mark(value)));
    const bar = tab.filter && canFilter(value)
      ? make("button", {
        class: "bar", type: "button", "data-value": value, title: `Filter by ${label}`, "aria-label": `Filter by ${label}`,
        onclick: () => choose(tab.filter, value),
      }, text)
      : make("span", { class: "bar" }, text);
    bar.style.setProperty("--share", `${tab.columns[0].of(row) / most * 100}%`);
    return make("tr", {}, make("td", { class: "name" }, bar),
      ...tab.columns.map(column => make("td", { class: "number", title: count(column.of(row)) }, brief(column.of(row)))));
  });
  return make("table", { class: "bars" }, make("thead", {}, head), make("tbody", {}, ...body));
}

function placeholder() {
  const row = () => make("tr", {}, make("td", { class: "name" }, make("span", { class: "bar skeleton" })), make("td", { class: "number" }));
  return make("table", { class: "bars", "aria-hidden": "true" },
    make("thead", {}, make("tr", {}, make("th", {}, "\u00a0"))), make("tbody", {}, ...Array.from({ length: ROWS }, row)));
}

/** One panel. `all(title, tab)` opens the long list, `choose(dimension, value)` filters by a row. */
function makePanel(panel, all, choose) {
  const rows = make("div", { class: "rows", role: "tabpanel", id: `${panel.id}-rows`, "aria-label": panel.title }, placeholder());
  const more = make("button", { class: "button quiet", type: "button", hidden: true,
    onclick: () => all(tabTitle(), chosen) }, "Show all");
  const head = make("div", { class: "card-head" }, make("h2", {}, panel.title));
  let chosen = panel.tabs[0], last = null;

  const tabTitle = () => (chosen.label ? `${panel.title}: ${chosen.label.toLowerCase()}` : panel.title);
  const show = () => {
    if (!last) return;
    const found = chosen.rows(last);
    const focused = rows.contains(document.activeElement) ? document.activeElement.dataset.value : null;
    rows.classList.toggle("empty", !found.length);
    rows.replaceChildren(found.length ? bars(chosen, found.slice(0, ROWS), choose) : panel.live ? "Nobody is reading at the moment" : "Nothing in this period");
    if (focused != null) {
      const same = [...rows.querySelectorAll("button")].find(button => button.dataset.value === focused);
      if (same) same.focus({ preventScroll: true });
    }
    more.hidden = panel.live || found.length < ROWS;
  };
  if (panel.tabs.length > 1) {
    const buttons = panel.tabs.map((tab, index) => make("button", {
      type: "button", role: "tab", "aria-selected": String(index === 0), "aria-controls": rows.id, tabindex: index ? -1 : 0,
      onclick: event => {
        chosen = tab;
        for (const button of buttons) {
          button.setAttribute("aria-selected", String(button === event.currentTarget));
          button.tabIndex = button === event.currentTarget ? 0 : -1;
        }
        rows.setAttribute("aria-label", tabTitle());
        show();
      },
    }, tab.label));
    const tabs = make("div", { class: "tabs", role: "tablist", "aria-label": panel.title }, ...buttons);
    moveWithArrows(tabs);
    head.append(tabs);
  } else rows.setAttribute("role", "group");
  head.append(more);
  byId("panels").append(make("section", { class: `card panel${panel.tabs.length > 1 ? "" : " short"}${panel.live ? " live" : ""}`, "aria-label": panel.title }, head, make("div", { class: "card-body" }, rows)));
  return {
    live: Boolean(panel.live),
    show(data) {
      last = data;
      show();
    },
    clear() {
      last = null;
      rows.classList.remove("empty");
      rows.replaceChildren(placeholder());
    },
  };
}

/** All panels. `loadAll(limit)` fetches the report again with longer lists; `choose(dimension, value)` filters. */
export function makePanels(loadAll, choose) {
  const dialog = byId("all");
  const chooseAndClose = (dimension, value) => {
    dialog.close();
    choose(dimension, value);
  };
  async function all(title, tab) {
    const body = make("div", { class: "card-body" }, make("p", { class: "empty" }, "Loading…"));
    const close = make("button", { class: "button quiet", type: "button", onclick: () => dialog.close() }, "Close");
    dialog.replaceChildren(make("div", { class: "card-head" }, make("h2", { id: "all-title" }, title), close), body);
    dialog.showModal();
    try {
      body.replaceChildren(bars(tab, tab.rows(await loadAll(100)), chooseAndClose));
    } catch (error) {
      setText(body.firstElementChild, error.message);
    }
  }
  dialog.addEventListener("click", event => event.target === dialog && dialog.close());
  const panels = PANELS.map(panel => makePanel(panel, all, choose));
  return {
    show(report) {
      byId("panels").classList.toggle("nothing", report.overview.events === 0);
      panels.filter(panel => !panel.live).forEach(panel => panel.show(report));
    },
    showLive: realtime => panels.filter(panel => panel.live).forEach(panel => panel.show(realtime)),
    clear: () => panels.forEach(panel => panel.clear()),
  };
}
