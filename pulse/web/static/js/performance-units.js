// How the performance figures are written. The API gives some as text with a unit ("45.23ms", "1.84%").
import { count } from "./format.js";

/** The number at the start of a text; numbers stay what they are, nothing is null. */
export function numberOf(value) {
  const found = typeof value === "string" ? Number.parseFloat(value) : value;
  return Number.isFinite(found) ? found : null;
}

const digits = value => (Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
const spell = (value, places) => value.toLocaleString(navigator.language || "en", { minimumFractionDigits: places, maximumFractionDigits: places });
const known = write => value => {
  const found = numberOf(value);
  return found === null ? "–" : write(found);
};

/** "3.38 ms", "45.2 ms", "1.20 s", "2m 05s". */
export const ms = known(value => {
  if (value < 1000) return `${spell(value, digits(value))} ms`;
  return value < 120000 ? `${spell(value / 1000, digits(value / 1000))} s` : span(value / 1000);
});

export const percent = known(value => `${spell(value, value === 0 || value >= 100 ? 0 : value < 10 ? 2 : 1)} %`);

/** "45.23ms" as "45.23 ms". */
export const spaced = text => text.replace(/(\d)(ms|%)$/, "$1 $2");

/** Things a second: "0.12", "12.3", "1,204". */
export const rate = known(value => (value >= 100 ? count(Math.round(value)) : spell(value, value === 0 ? 0 : value < 10 ? 2 : 1)));

export const bytes = known(value => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value, unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${spell(size, unit === 0 ? 0 : size < 10 ? 1 : 0)} ${units[unit]}`;
});

export const whole = known(value => count(Math.round(value)));

/** A span of time given in seconds. */
export const span = known(seconds => {
  if (seconds > 0 && seconds < 10) return `${spell(seconds, 1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min` : `${Math.floor(seconds / 86400)} days`;
});

const timeOfDay = new Intl.DateTimeFormat(navigator.language || "en", { timeStyle: "medium" });
const dayAndTime = new Intl.DateTimeFormat(navigator.language || "en", { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" });

const minuteOfDay = new Intl.DateTimeFormat(navigator.language || "en", { timeStyle: "short" });
const dayOfMonth = new Intl.DateTimeFormat(navigator.language || "en", { day: "numeric", month: "short" });

/** When something was, where there is little room: the minute of today, or the day. */
export function whenShort(text) {
  const at = new Date(text);
  return (at.toDateString() === new Date().toDateString() ? minuteOfDay : dayOfMonth).format(at);
}

/** When something was: the time alone if it was today. */
export function when(text) {
  if (!text) return "–";
  const at = new Date(text);
  return (at.toDateString() === new Date().toDateString() ? timeOfDay : dayAndTime).format(at);
}
