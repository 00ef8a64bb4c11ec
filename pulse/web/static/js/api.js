// Questions to the JSON API of this service, with the login's cookie.

const TIMEOUT_MS = 20000;

/** `status` is 0 when no answer came at all. */
export class ApiError extends Error {
  constructor(status, message, retryAfterS = 0) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** The `data` of an answer. Throws ApiError; a lost login leads to the login page. */
export async function getData(path, params = {}, signal) {
  const url = new URL(`/api/v1${path}`, location.origin);
  for (const [key, value] of Object.entries(params)) url.searchParams.set(key, value);
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  let answer, body;
  try {
    answer = await fetch(url, {
      headers: { Accept: "application/json" },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    body = await answer.json();
  } catch (error) {
    if (signal && signal.aborted) throw error;
    if (!answer) throw new ApiError(0, limit.aborted ? "The service does not answer." : "The service can't be reached.");
    throw new ApiError(answer.status, "The service gave an answer that can't be read.");
  }
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Promise(() => {});
  }
  if (!answer.ok || !body.success) {
    throw new ApiError(answer.status, body.message || `Status ${answer.status}`, Number(answer.headers.get("Retry-After")) || 0);
  }
  return body.data;
}
