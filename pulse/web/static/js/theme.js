// Light or dark. Loaded before the page is painted, so that a chosen theme does not flash.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const read = () => {
    try { return localStorage.getItem("pulse-theme"); } catch { return null; }
  };
  const chosen = read();
  if (chosen) root.dataset.theme = chosen;

  const announce = () => document.dispatchEvent(new CustomEvent("themechange"));
  system.addEventListener("change", announce);
  document.addEventListener("click", event => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("pulse-theme", root.dataset.theme); } catch { /* the choice lasts for this page */ }
    announce();
  });
})();
