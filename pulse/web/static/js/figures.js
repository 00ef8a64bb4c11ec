// The headline figures: what each is called, how it is written, and how it changed.
import { byId, make, setText } from "./dom.js";
import { brief, count, dayRange, duration, percentage } from "./format.js";

const FIGURES = [
  { id: "uniqueVisitors", label: "Visitors", write: brief, full: count },
  { id: "pageviews", label: "Pageviews", write: brief, full: count },
  { id: "sessions", label: "Sessions", write: brief, full: count },
  { id: "bounceRate", label: "Bounce rate", write: percentage, full: percentage, lowerIsBetter: true },
  { id: "avgSessionDurationSeconds", label: "Session length", write: duration, full: duration },
];

/** How `now` differs from `before`: {text, tone, spoken}. A change under half a percent is none. */
export function changeOf(now, before, lowerIsBetter = false) {
  if (!before) return now ? { text: "new", tone: "", spoken: "none before" } : { text: "–", tone: "", spoken: "unchanged" };
  const change = (now - before) / before * 100;
  if (Math.abs(change) < 0.5) return { text: "± 0%", tone: "", spoken: "unchanged" };
  const shown = percentage(Math.abs(change) < 10 ? change : Math.round(change)).replace("-", "");
  const up = change > 0;
  return {
    text: `${up ? "▲" : "▼"} ${shown}`,
    tone: up === lowerIsBetter ? "bad" : "good",
    spoken: `${up ? "up" : "down"} ${shown}`,
  };
}

/** Put the (still empty) figures beside the live one. Returns `show(overview, comparison)` and `clear()`; `comparison`
    is undefined where none was asked for, null where there is nothing to compare with. */
export function makeFigures() {
  const boxes = new Map(FIGURES.map(figure => {
    const value = make("span", { class: "value skeleton" }, "0");
    const change = make("span", { class: "change" }, "\u00a0");
    const box = make("div", { class: "card figure" }, make("dt", {}, figure.label), make("dd", {}, value, change));
    byId("figures").append(box);
    return [figure.id, { value, change }];
  }));
  return {
    show(overview, comparison) {
      for (const figure of FIGURES) {
        const { value, change } = boxes.get(figure.id);
        const now = overview[figure.id];
        value.classList.remove("skeleton");
        setText(value, figure.write(now));
        value.title = figure.full(now);
        if (!comparison) {
          change.className = "change";
          change.title = "";
          setText(change, comparison === null ? "no data before" : "\u00a0");
          continue;
        }
        const before = comparison.overview[figure.id];
        const found = changeOf(now, before, figure.lowerIsBetter);
        const range = dayRange(comparison.dateRange.start, comparison.dateRange.end);
        change.className = `change ${found.tone}`;
        change.title = `${figure.full(before)} in ${range}`;
        change.replaceChildren(
          make("span", { "aria-hidden": "true" }, found.text),
          make("span", { class: "visually-hidden" }, `${found.spoken} from ${figure.full(before)} in ${range}`),
        );
      }
    },
    clear() {
      for (const { value, change } of boxes.values()) {
        value.classList.add("skeleton");
        setText(change, "\u00a0");
      }
    },
  };
}

/** The live figure and its thirty small columns. */
export function makeLive() {
  const box = byId("live"), value = box.querySelector("[data-value]"), minutes = byId("minutes");
  minutes.append(...Array.from({ length: 30 }, () => make("i")));
  return {
    show(realtime) {
      box.classList.remove("stale");
      value.classList.remove("skeleton");
      setText(value, count(realtime.activeVisitors));
      const counts = realtime.pageviewsPerMinute, most = Math.max(...counts, 1);
      [...minutes.children].forEach((bar, index) => {
        const views = counts[index + counts.length - 30] || 0;
        bar.style.setProperty("--share", `${views / most * 100}%`);
      });
      minutes.title = `${count(realtime.recentPageviews)} pageviews in the last 30 minutes`;
      minutes.setAttribute("aria-label", minutes.title);
    },
    stale: () => box.classList.add("stale"),
    clear() {
      value.classList.add("skeleton");
      for (const bar of minutes.children) bar.style.removeProperty("--share");
    },
  };
}
