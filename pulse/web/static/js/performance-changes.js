// What the page changes: the reset, which asks first, and the acknowledging of alerts.
import { ApiError } from "./api.js";
import { byId, setText } from "./dom.js";

const TIMEOUT_MS = 20000;

/** POST without a body, with the token a login needs. Throws ApiError. */
export async function post(path) {
  const token = byId("performance").dataset.csrfToken;
  let answer, body;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method: "POST",
      headers: { Accept: "application/json", ...(token ? { "X-CSRF-Token": token } : {}) },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    body = await answer.json();
  } catch {
    throw new ApiError(answer ? answer.status : 0, answer ? "The service gave an answer that can't be read." : "The service can't be reached.");
  }
  if (!answer.ok || !body.success) throw new ApiError(answer.status, body.message || `Status ${answer.status}`);
  return body.data;
}

/** The reset button and its question; `done()` hears of a reset. */
export function makeReset(done) {
  const dialog = byId("confirm"), error = dialog.querySelector(".error"), confirm = dialog.querySelector("[data-confirm]");
  byId("reset").addEventListener("click", () => {
    error.hidden = true;
    dialog.showModal();
  });
  dialog.addEventListener("click", event => event.target === dialog && dialog.close());
  dialog.querySelector("[data-cancel]").addEventListener("click", () => dialog.close());
  confirm.addEventListener("click", async () => {
    confirm.disabled = true;
    error.hidden = true;
    try {
      await post("/performance/reset");
      dialog.close();
      done();
    } catch (problem) {
      setText(error, problem.message);
      error.hidden = false;
    } finally {
      confirm.disabled = false;
    }
  });
}
