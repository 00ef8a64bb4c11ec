// Alerts and advice.
import { make, setText } from "./dom.js";
import { capitalised, count } from "./format.js";
import { cardOf, follow, makeList, makeTable } from "./performance-table.js";
import { percent, span, when } from "./performance-units.js";

const RULE_COLUMNS = [
  { label: "Rule", of: rule => capitalised(rule.title), note: rule => `over ${span(rule.windowSeconds)}` },
  { label: "Alert at", number: true, of: rule => rule.condition, tone: () => "none" },
  { label: "Now", number: true, of: rule => (rule.value === null ? "no data" : percent(rule.value)), tone: rule => (rule.firing ? "bad" : rule.value === null ? "none" : "good"),
    mark: rule => (rule.firing ? ["✕", " firing"] : rule.value === null ? ["", ""] : ["✓", " quiet"]) },
];

/** "cache hits < 70 %": what was broken; how far, is said beside it. */
export function nameAlert(alert, rules) {
  const rule = rules.find(one => one.name === alert.rule);
  return rule ? `${rule.title} ${rule.condition}` : alert.message;
}

/** "now 7.20 %": the last figure an alert saw may be of before a reset. */
export function nowOf(alert, rules) {
  const rule = rules.find(one => one.name === alert.rule);
  return rule && rule.value === null ? "no data now" : `now ${percent(alert.value)}`;
}

/** Who does not know of an alert, or of its end: sent again and again, or given up after some hours. */
const nameUndelivered = one => `${one.channel} ${one.givenUp ? "was never told" : "not told yet"}${one.error ? ` (${one.error})` : ""}`;

/** One alert; `acknowledge(alert)` is asked once its button is used. */
function makeAlert(acknowledge, rules) {
  return first => {
    let alert = first, refused = "";
    const message = make("span"), period = make("p", { class: "when" }), seen = make("p", { class: "when" });
    const button = make("button", { class: "button quiet", type: "button", onclick: async () => {
      button.disabled = true;
      refused = "";
      try {
        await acknowledge(alert);
      } catch (error) {
        refused = error.message;
        tell();
      } finally {
        button.disabled = false;
      }
    } }, "Acknowledge");
    const element = make("li", {}, make("div", { class: "head" }, message, button), period, seen);
    const tell = () => {
      const lines = [alert.acknowledgedAt ? `Acknowledged by ${alert.acknowledgedBy} at ${when(alert.acknowledgedAt)}` : refused,
        ...alert.undelivered.map(nameUndelivered)].filter(Boolean);
      setText(seen, lines.join("; "));
      seen.hidden = !lines.length;
    };
    return {
      element,
      update(now) {
        alert = now;
        element.className = `item${alert.endedAt ? "" : " active"}`;
        setText(message, capitalised(nameAlert(alert, rules())));
        button.hidden = Boolean(alert.endedAt || alert.acknowledgedAt);
        setText(period, alert.endedAt
          ? `${when(alert.startedAt)} to ${when(alert.endedAt)}, worst ${percent(alert.worst)}`
          : `Since ${when(alert.startedAt)}, ${nowOf(alert, rules())}, worst ${percent(alert.worst)}`);
        tell();
      },
    };
  };
}

/** The alerts card: `show(alerts)`. */
export function makeAlerts(acknowledge) {
  const card = cardOf("alerts");
  const rules = makeTable({ caption: "Alert rules", columns: RULE_COLUMNS, key: rule => rule.name, empty: "No rules" });
  const items = make("ul", { class: "items" }), nothing = make("p", { class: "empty small" }, "No alert has been raised");
  const show = follow(items, alert => alert.id, makeAlert(acknowledge, () => known));
  let known = [];
  card.body.append(makeList("Alerts", rules.element, make("h3", {}, "Raised"), nothing, items));
  return {
    show(alerts) {
      setText(card.aside, alerts.active.length ? `${count(alerts.active.length)} active` : "none active");
      card.aside.className = `aside${alerts.active.length ? " pill bad" : ""}`;
      known = alerts.rules;
      rules.show(known);
      const all = [...alerts.active, ...alerts.history];
      nothing.hidden = all.length > 0;
      show(all);
    },
  };
}

const URGENCY = { high: "Urgent", medium: "Soon", low: "Worth a look" };

function makeAdviceItem() {
  const urgency = make("span", { class: "visually-hidden" }), title = make("span"), figure = make("span", { class: "figure-behind" });
  const text = make("p"), action = make("code");
  const element = make("li", {}, make("div", { class: "head" }, urgency, title, figure), text, action);
  return {
    element,
    update(advice) {
      element.className = `item ${advice.severity}`;
      setText(urgency, `${URGENCY[advice.severity] || ""}: `);
      element.title = URGENCY[advice.severity] || "";
      setText(title, advice.title);
      setText(figure, advice.figure);
      setText(text, advice.advice);
      setText(action, advice.action || "");
      action.hidden = !advice.action;
    },
  };
}

/** The advice card: `show(advice)`. */
export function makeAdvice() {
  const card = cardOf("advice");
  const items = make("ul", { class: "items" }), nothing = make("p", { class: "empty" }, "Loading…");
  const show = follow(items, advice => advice.id, makeAdviceItem);
  card.body.append(makeList("Advice", nothing, items));
  return {
    show(advice) {
      const urgent = advice.filter(one => one.severity === "high").length;
      setText(card.aside, advice.length ? `${count(advice.length)} ${advice.length === 1 ? "piece" : "pieces"}, ${count(urgent)} urgent` : "");
      setText(nothing, "Nothing to improve at the moment");
      nothing.hidden = advice.length > 0;
      show(advice);
    },
  };
}
