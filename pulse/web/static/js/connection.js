// Whether what the page shows is live: the pill at the top, and a banner when it is not.
import { byId, setText } from "./dom.js";
import { clock } from "./format.js";

/** Several sources (the report, the live figures) report here; the worst of them counts. */
export function makeConnection(retry) {
  const errors = new Map();
  let freshAt = null;
  const pill = byId("connection"), banner = byId("lost");
  banner.querySelector("[data-retry]").addEventListener("click", retry);

  const show = () => {
    const error = [...errors.values()].find(Boolean);
    pill.className = `pill ${error ? "bad" : "good"}`;
    setText(pill.querySelector(".pill-text"), error ? "Not live" : "Live");
    pill.setAttribute("aria-label", error ? "Connection: not live" : "Connection: live");
    banner.hidden = !error;
    if (!error) return;
    const lost = error.status ? error.message : "Connection lost.";
    const since = freshAt ? ` The figures are from ${clock(freshAt)}.` : "";
    setText(banner.querySelector("p"), `${lost}${since} Trying again by itself.`);
  };
  return {
    report(source, error) {
      errors.set(source, error);
      if (!error) freshAt = new Date();
      show();
    },
    lost: () => [...errors.values()].some(Boolean),
  };
}
