// Building elements without markup strings: what comes from visitors can only ever become text.

/** An element with attributes (`class`, `aria-…`, `on…` handlers, `data-…`) and children (nodes or text). */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child != null));
  return element;
}

export const byId = id => document.getElementById(id);

/** Change the text only if it differs, so that selections and screen readers are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** What a theme colour such as `--accent` is at the moment, as rgb(). */
export function colour(name) {
  const probe = make("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Arrow keys, Home and End move between the buttons of a tab list. */
export function moveWithArrows(list) {
  list.addEventListener("keydown", event => {
    const buttons = [...list.querySelectorAll("button")];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    let index = buttons.indexOf(document.activeElement);
    if (index < 0) return;
    if (step) index = (index + step + buttons.length) % buttons.length;
    else if (event.key === "Home") index = 0;
    else if (event.key === "End") index = buttons.length - 1;
    else return;
    event.preventDefault();
    buttons[index].focus();
    buttons[index].click();
  });
}
