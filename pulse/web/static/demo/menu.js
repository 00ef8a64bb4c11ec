// A single-page application in miniature: pushState on a click, popstate on the way back.
const drinks = {
  espresso: ["Espresso", "€2.40", "Our house blend, 18 grams in, 36 out, 28 seconds."],
  cortado: ["Cortado", "€3.20", "As much milk as coffee, and not a drop more."],
  filter: ["Filter", "€3.60", "A single origin that changes with the moon. Ask what is on."],
  tonic: ["Espresso tonic", "€4.20", "Ice, tonic, a double shot, a slice of grapefruit. May to September."],
};
const nav = document.getElementById("drinks"), section = document.getElementById("drink");

function show() {
  const slug = location.pathname.split("/")[3] || "espresso";
  const [name, price, text] = drinks[slug] || ["Not on the menu", "", "But ask: we may know how to make it."];
  const title = document.createElement("h2"), cost = document.createElement("p"), about = document.createElement("p");
  [title.textContent, cost.textContent, about.textContent] = [name, price, text];
  section.replaceChildren(title, cost, about);
  for (const link of nav.children) {
    if (link.dataset.slug === slug) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

for (const [slug, [name]] of Object.entries(drinks)) {
  const link = document.createElement("a");
  link.href = `/demo/menu/${slug}`;
  link.dataset.slug = slug;
  link.textContent = name;
  link.addEventListener("click", event => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    show();
  });
  nav.append(link);
}
addEventListener("popstate", show);
show();
