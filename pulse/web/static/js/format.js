// How figures, days and names are written. The reader's own language where the browser knows it.
const language = navigator.language || "en";
const whole = new Intl.NumberFormat(language);
const compact = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });

const names = type => {
  try { return new Intl.DisplayNames([language], { type }); } catch { return null; }
};
const regionNames = names("region");
const languageNames = names("language");

export const count = value => whole.format(value);
/** 9,999 in full, from there on 10K, 1.2M. */
export const brief = value => (Math.abs(value) < 10000 ? whole : compact).format(value);
/** `value` is 0 to 100. */
export const percentage = value => percent.format(value / 100);

export function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`;
  return `${Math.floor(s / 3600)}h ${String(Math.floor(s / 60) % 60).padStart(2, "0")}m`;
}

/** Names in parentheses are the service's own: (unknown), (direct), (other). */
const ownName = value => /^\(.*\)$/.test(value);

export function countryName(code) {
  if (ownName(code) || !/^[A-Z]{2}$/i.test(code)) return code;
  try { return regionNames.of(code.toUpperCase()); } catch { return code; }
}

export function countryFlag(code) {
  if (!/^[A-Z]{2}$/i.test(code)) return "";
  return String.fromCodePoint(...[...code.toUpperCase()].map(letter => 0x1f1a5 + letter.charCodeAt(0)));
}

export function languageName(code) {
  if (ownName(code)) return code;
  try { return languageNames.of(code); } catch { return code; }
}

export const capitalised = value => value.charAt(0).toUpperCase() + value.slice(1);

const inUtc = (options) => new Intl.DateTimeFormat(language, { timeZone: "UTC", ...options });
const dayMonth = inUtc({ day: "numeric", month: "short" });
const dayMonthYear = inUtc({ day: "numeric", month: "short", year: "numeric" });
const weekdayDay = inUtc({ weekday: "short", day: "numeric", month: "short" });
const monthYear = inUtc({ month: "short", year: "numeric" });
const hourMinute = inUtc({ hour: "numeric", minute: "2-digit" });

const wallDate = wall => new Date(`${wall.length === 10 ? `${wall}T00:00` : wall}Z`);

/** "12 – 18 Nov 2026" of two days. */
export const dayRange = (start, end) =>
  start === end ? dayMonthYear.format(wallDate(start)) : dayMonthYear.formatRange(wallDate(start), wallDate(end));

/** Short name of a bucket for the axis; `wall` is local time, "2026-11-18T13:00". */
export function bucketTick(wall, granularity, manyDays) {
  if (granularity === "month") return monthYear.format(wallDate(wall));
  if (granularity !== "hour") return dayMonth.format(wallDate(wall));
  return manyDays && wall.endsWith("T00:00") ? dayMonth.format(wallDate(wall)) : hourMinute.format(wallDate(wall));
}

/** Full name of a bucket for the tooltip and the table. */
export function bucketName(wall, granularity) {
  if (granularity === "month") return monthYear.format(wallDate(wall));
  if (granularity === "week") return `Week of ${dayMonthYear.format(wallDate(wall))}`;
  if (granularity === "hour") return `${weekdayDay.format(wallDate(wall))}, ${hourMinute.format(wallDate(wall))}`;
  return weekdayDay.format(wallDate(wall));
}

export const clock = date => new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(date);
