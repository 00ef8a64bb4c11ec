// Signing up sends an event of the shop's own.
for (const button of document.querySelectorAll("[data-plan]")) {
  button.addEventListener("click", () => {
    window.pulse("signup", { plan: button.dataset.plan, price: Number(button.dataset.price) });
    document.getElementById("thanks").textContent = `Welcome aboard! Your first ${button.dataset.plan} box leaves on Thursday.`;
  });
}
