// Periods of days in the project's time zone: "2026-11-18" strings, both ends included.

export const PRESETS = [
  { id: "today", label: "Today" },
  { id: "7d", label: "7 days", days: 7 },
  { id: "30d", label: "30 days", days: 30 },
  { id: "90d", label: "90 days", days: 90 },
  { id: "12mo", label: "12 months" },
  { id: "custom", label: "Custom" },
];
// The API takes five years at most, none of it before 2000; the period before must fit too.
const MAX_DAYS = 5 * 366, FIRST_DAY = "2005-01-01", LAST_DAY = "2099-12-31";

/** Local date and time of an instant in a zone: "2026-11-18T13:05". */
export function wallTime(instant, zone) {
  const parts = Object.fromEntries(new Intl.DateTimeFormat("en-CA", {
    timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
  }).formatToParts(instant).map(part => [part.type, part.value]));
  return `${parts.year}-${parts.month}-${parts.day}T${parts.hour}:${parts.minute}`;
}

/** The local time at which a bucket of a report starts; the report gives an instant or a plain day. */
export function bucketWall(period, zone) {
  return /(Z|[+-]\d\d:?\d\d)$/.test(period) && period.includes("T")
    ? wallTime(new Date(period), zone)
    : period.padEnd(16, "T00:00").slice(0, 16);
}

export const today = zone => wallTime(new Date(), zone).slice(0, 10);

export function addDays(day, days) {
  const date = new Date(`${day}T00:00Z`);
  date.setUTCDate(date.getUTCDate() + days);
  return date.toISOString().slice(0, 10);
}

export const daysBetween = (start, end) => Math.round((Date.parse(`${end}T00:00Z`) - Date.parse(`${start}T00:00Z`)) / 864e5) + 1;

/** The first day of the month `months` before the month of `day`. */
function monthsBefore(day, months) {
  const [year, month] = day.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 - months, 1)).toISOString().slice(0, 10);
}

export function granularityFor(days) {
  if (days <= 2) return "hour";
  if (days <= 92) return "day";
  return days <= 200 ? "week" : "month";
}

/** {start, end, days, granularity, running} of a choice {id, start?, end?}; the end of a preset is today. */
export function resolve(choice, zone) {
  const now = today(zone);
  const preset = PRESETS.find(one => one.id === choice.id) || PRESETS[2];
  let start = now, end = now;
  if (choice.id === "custom") ({ start, end } = choice);
  else if (choice.id === "12mo") start = monthsBefore(now, 11);
  else if (preset.days) start = addDays(now, 1 - preset.days);
  const days = daysBetween(start, end);
  return {
    start, end, days,
    granularity: choice.id === "12mo" ? "month" : granularityFor(days),
    running: end >= now,
  };
}

/** What is wrong with two typed days, or null. */
export function rangeProblem(start, end) {
  const day = /^\d{4}-\d{2}-\d{2}$/;
  if (!day.test(start) || !day.test(end)) return "Both days are needed.";
  if (start < FIRST_DAY || end > LAST_DAY) return "Days from 2005 to 2099 can be shown.";
  if (start > end) return "The first day must not be after the last.";
  if (daysBetween(start, end) > MAX_DAYS) return "A period can be five years at most.";
  return null;
}
