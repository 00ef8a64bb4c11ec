// What to do when nothing has been counted: the snippet and a request to paste.
import { byId, make } from "./dom.js";

function snippet(label, text) {
  const button = make("button", { class: "button", type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without HTTPS there is no clipboard: select the text instead.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } }, "Copy");
  const code = make("code", {}, text);
  return [make("h3", {}, label), make("div", { class: "snippet" }, make("pre", { tabindex: 0, "aria-label": label }, code), button)];
}

/** Show or hide the panel; `key` is an ingest key, or empty where only its owner knows it. */
export function showInstall(visible, project, key, demo) {
  const box = byId("install");
  const wanted = visible ? `${project.id} ${key}` : "";
  if ((box.dataset.shown || "") === wanted) return;
  box.dataset.shown = wanted;
  box.hidden = !visible;
  if (!visible) return box.replaceChildren();
  const shown = key || "YOUR_INGEST_KEY", origin = location.origin;
  box.replaceChildren(
    make("h2", { id: "install-title" }, "No visits yet"),
    make("p", {}, `Put the snippet into the pages of ${project.name}, or send an event of your own. This page notices by itself.`),
    ...snippet("Into the <head> of every page", `<script defer src="${origin}/js/pulse.js" data-api-key="${shown}"></script>`),
    ...snippet("From a shell", `curl -X POST ${origin}/api/v1/track/event -H 'X-API-Key: ${shown}' -H 'Content-Type: application/json' `
      + `-d '{"event_type": "pageview", "url": "https://${project.domain || "example.com"}/"}'`),
  );
  if (demo) box.append(make("p", {}, "Or click through the ", make("a", { href: "/demo" }, "demo shop"), ", which is counted already."));
  return undefined;
}
