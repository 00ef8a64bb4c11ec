// Filters as the API writes them: "country==DE|AT;page=^/blog". What they are called, and the bar that shows them.
import { byId, make, setText } from "./dom.js";
import { capitalised, countryName, languageName } from "./format.js";

const MAX_FILTERS = 10, MAX_VALUES = 20, MAX_CHARACTERS = 500;
const OPERATORS = { "==": "is", "!=": "is not", "=@": "contains", "=^": "begins with" };
const DIMENSIONS = {
  page: { label: "Page" }, entry_page: { label: "Entry page" }, exit_page: { label: "Exit page" },
  source: { label: "Source" }, referrer: { label: "Referrer" }, channel: { label: "Channel" }, hostname: { label: "Host" },
  country: { label: "Country", name: countryName }, region: { label: "Region" }, city: { label: "City" },
  language: { label: "Language", name: languageName }, device: { label: "Device", name: capitalised },
  browser: { label: "Browser" }, os: { label: "System" }, screen: { label: "Screen" },
  utm_source: { label: "Campaign source" }, utm_medium: { label: "Campaign medium" }, utm_campaign: { label: "Campaign" },
  utm_term: { label: "Campaign term" }, utm_content: { label: "Campaign content" },
  event: { label: "Event" }, event_type: { label: "Event type" }, event_name: { label: "Event name" },
};

/** Text cut at a separator that no backslash precedes; the backslashes stay. */
const cut = (text, separator) => text.match(new RegExp(`(?:\\\\.|[^\\\\${separator}])+`, "gs")) || [];

/** [{dimension, operator, values}] of a text; what can't be understood is left out. */
export function parseFilters(text) {
  return cut(text || "", ";").map(part => {
    const match = /^\s*(\w+?)\s*(==|!=|=@|=\^)(.+)$/s.exec(part);
    if (!match || !Object.hasOwn(DIMENSIONS, match[1])) return null;
    const values = cut(match[3], "|").map(value => value.replace(/\\(.)/gs, "$1"));
    const fits = values.length && values.length <= MAX_VALUES && values.every(value => value.length <= MAX_CHARACTERS);
    return fits ? { dimension: match[1], operator: match[2], values } : null;
  }).filter(Boolean).slice(0, MAX_FILTERS);
}

export const writeFilters = filters => filters.map(({ dimension, operator, values }) =>
  dimension + operator + values.map(value => value.replace(/[\\;|]/g, "\\$&")).join("|")).join(";");

const isOnly = (filter, dimension, value) =>
  filter.dimension === dimension && filter.operator === "==" && filter.values.length === 1 && filter.values[0] === value;

/** The filters with one value more, or without it where it is there alone. */
export function toggleFilter(filters, dimension, value) {
  const others = filters.filter(filter => !isOnly(filter, dimension, value));
  if (others.length < filters.length || others.length === MAX_FILTERS) return others;
  return [...others, { dimension, operator: "==", values: [value] }];
}

/** Whether a list's value can be asked for: "(other)" is many. */
export const canFilter = value => value !== "(other)" && value.length <= MAX_CHARACTERS;

/** A filter in words, as parts of a chip: {label, operator, values}. */
function inWords({ dimension, operator, values }) {
  const { label, name = value => value } = DIMENSIONS[dimension];
  return { label, operator: OPERATORS[operator], values: values.map(name).join(" or ") };
}

/** The row of chips. `change(filters)` is called with what remains. Returns `show(filters)`. */
export function makeFilterBar(change) {
  const list = byId("chips"), clear = byId("clear-filters"), hint = byId("filter-hint"), said = byId("filter-said");
  let shown = [];
  clear.addEventListener("click", () => change([]));

  const remove = index => {
    change(shown.filter((_, place) => place !== index));
    // The button that was pressed is gone: its neighbour takes the focus, or the lists that make filters.
    const buttons = list.querySelectorAll("button");
    (buttons[Math.min(index, buttons.length - 1)] || byId("panels").querySelector("button")).focus();
  };
  return {
    show(filters) {
      const before = writeFilters(shown), first = list.dataset.shown === undefined;
      shown = filters;
      list.dataset.shown = "";
      if (!first && before === writeFilters(filters)) return;
      list.replaceChildren(...filters.map((filter, index) => {
        const { label, operator, values } = inWords(filter), all = `${label} ${operator} ${values}`;
        return make("li", { class: "chip", title: all },
          make("span", { class: "chip-label" }, `${label} ${operator} `), make("span", { class: "chip-value" }, values),
          make("button", { type: "button", "aria-label": `Remove filter: ${all}`, onclick: () => remove(index) }, "×"));
      }));
      list.hidden = !filters.length;
      clear.hidden = filters.length < 2;
      hint.hidden = filters.length > 0;
      if (!first) setText(said, filters.length ? `Filtered: ${filters.map(filter => Object.values(inWords(filter)).join(" ")).join(" and ")}` : "No filters");
    },
  };
}
