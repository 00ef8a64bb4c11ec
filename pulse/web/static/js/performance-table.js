// Tables that follow their figures: rows keep their elements, so that focus, scrolling and selections stay.
import { make, setText } from "./dom.js";

/** Bring the children of `parent` into the order of `elements` with as few moves as possible; others are removed. */
function arrange(parent, elements) {
  const focused = document.activeElement;
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  // Moving an element takes the focus from it.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

/**
 * Keep `parent` showing `items`: `create(item)` makes {element, update}, once for each `key(item)`.
 * Returns `show(items)`.
 */
export function follow(parent, key, create) {
  let rows = new Map();
  return items => {
    const present = new Map();
    for (const item of items) {
      const id = key(item);
      const row = rows.get(id) || create(item);
      row.update(item);
      present.set(id, row);
    }
    rows = present;
    arrange(parent, [...present.values()].map(row => row.element));
  };
}

/** `columns[0]` names the row. A column: label, of(item) → text, and number, tone, title, note, mono, open, mark, sort. */
function makeCell(column, first) {
  const element = make(first ? "th" : "td", first ? { scope: "row" } : {});
  let item = null;
  const text = column.open
    ? make("button", { class: `open${column.mono ? " mono" : ""}`, type: "button", "aria-haspopup": "dialog", onclick: () => column.open(item) })
    : make("span", column.mono ? { class: "mono" } : {});
  const mark = column.mark && make("span", { class: "mark", "aria-hidden": "true" });
  const spoken = column.mark && make("span", { class: "visually-hidden" });
  const note = column.note && make("span", { class: "note" });
  element.append(...[mark, text, spoken, note].filter(Boolean));
  return {
    element,
    update(now) {
      item = now;
      setText(text, column.of(item));
      const tone = [column.number ? "number" : "", column.tone ? column.tone(item) : ""].join(" ").trim();
      if (element.className !== tone) element.className = tone;
      if (column.title) element.title = column.title(item) || "";
      if (note) setText(note, column.note(item) || "");
      if (mark) {
        const [sign, words] = column.mark(item);
        setText(mark, sign);
        setText(spoken, words);
      }
    },
  };
}

/**
 * One Tab stop for all the buttons of a table's body: up and down arrows, Home and End move between the rows. Returns
 * a function to call when rows have come or gone.
 */
function rove(body) {
  const buttonsOf = () => [...body.querySelectorAll("button.open")];
  let chosen = null;
  const stop = () => {
    const buttons = buttonsOf();
    const current = buttons.includes(chosen) ? chosen : buttons[0];
    for (const button of buttons) button.tabIndex = button === current ? 0 : -1;
  };
  body.addEventListener("focusin", ({ target }) => {
    chosen = target;
    stop();
  });
  body.addEventListener("keydown", event => {
    const buttons = buttonsOf(), index = buttons.indexOf(document.activeElement);
    const wanted = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (index < 0 || wanted === undefined) return;
    event.preventDefault();
    buttons[Math.min(Math.max(wanted, 0), buttons.length - 1)].focus();
  });
  return stop;
}

function makeRow(columns) {
  const cells = columns.map((column, index) => makeCell(column, index === 0));
  return {
    element: make("tr", {}, ...cells.map(cell => cell.element)),
    update: item => cells.forEach(cell => cell.update(item)),
  };
}

const MOVES = "Up and down arrow keys move between the rows, Enter opens one.";

/** A table with `element` and `show(items)`. Columns with `sort` (item → number) get a button in their head. */
export function makeTable({ caption, columns, key, empty, sortBy }) {
  const body = make("tbody"), opens = columns.some(column => column.open);
  const order = { column: columns.find(column => sortBy && column.id === sortBy) || null, falling: true };
  let last = [];

  const headOf = (column, index) => {
    const head = make("th", { scope: "col", class: column.number ? "number" : null });
    if (!column.sort) {
      head.append(column.label);
      // For who comes by keyboard; others hear it of the table.
      if (opens && !index) head.append(make("span", { class: "keys", "aria-hidden": "true" }, "↑ ↓ move, Enter opens"));
      return head;
    }
    head.append(make("button", { class: "sort", type: "button", onclick: () => {
      order.falling = order.column === column ? !order.falling : true;
      order.column = column;
      show(last);
    } }, column.label));
    return head;
  };
  const heads = columns.map(headOf);
  const table = make("table", { class: "table", hidden: true, "aria-description": opens ? MOVES : null },
    make("caption", { class: "visually-hidden" }, caption),
    make("thead", {}, make("tr", {}, ...heads)), body);
  const nothing = make("p", { class: "empty" }, "Loading…");
  const fill = follow(body, key, () => makeRow(columns));
  const settle = opens ? rove(body) : () => {};

  function show(items) {
    last = items;
    let shown = items;
    if (order.column) {
      const sign = order.falling ? -1 : 1;
      shown = [...items].sort((one, other) => sign * (order.column.sort(one) - order.column.sort(other)));
    }
    columns.forEach((column, index) => {
      if (column === order.column) heads[index].setAttribute("aria-sort", order.falling ? "descending" : "ascending");
      else heads[index].removeAttribute("aria-sort");
    });
    fill(shown);
    settle();
    setText(nothing, typeof empty === "function" ? empty() : empty);
    table.hidden = !items.length;
    nothing.hidden = Boolean(items.length);
  }
  return { element: make("div", { class: opens ? "list-part openable" : "list-part" }, table, nothing), show, small: () => nothing.classList.add("small") };
}

/**
 * Put parts into a box of fixed height that scrolls, also by keyboard: by the box itself, or by the rows of its tables
 * where those can be opened.
 */
export function makeList(label, ...parts) {
  const tabindex = parts.every(part => part.matches(".openable")) ? null : 0;
  return make("div", { class: "list", role: "group", "aria-label": label, tabindex }, ...parts);
}

/** A list of named facts: `show([[name, text, tone?], …])`. */
export function makeFacts() {
  const element = make("dl", { class: "facts" });
  const show = follow(element, fact => fact[0], ([name]) => {
    const value = make("dd");
    return { element: make("div", {}, make("dt", {}, name), value), update([, text, tone]) {
      setText(value, text);
      value.className = tone || "";
    } };
  });
  return { element, show };
}

/** The parts of a card of the page: its body and the small text beside its title. */
export function cardOf(id) {
  const card = document.getElementById(id);
  return { head: card.querySelector(".card-head"), body: card.querySelector("[data-body]"), aside: card.querySelector("[data-aside]") };
}
