// Doing something again and again while somebody looks.

const MAX_DELAY_MS = 60000;

/**
 * Run `task(signal)` now and every `everyMs`. Rests while the page is hidden and catches up when it is shown;
 * after a failure it waits twice as long each time. `onResult(error | null)` hears of every run.
 */
export function poll(task, everyMs, onResult) {
  let timer, running, failures = 0, doneAt = -Infinity, stopped = false;

  const delay = () => Math.min(everyMs * 2 ** Math.min(failures, 6), Math.max(MAX_DELAY_MS, everyMs));
  const schedule = () => {
    clearTimeout(timer);
    if (!stopped && !document.hidden) timer = setTimeout(run, Math.max(0, doneAt + delay() - performance.now()));
  };
  async function run() {
    clearTimeout(timer);
    if (running) running.abort();
    const mine = running = new AbortController();
    let failed = null;
    try {
      await task(mine.signal);
    } catch (error) {
      failed = error;
    }
    if (mine !== running || mine.signal.aborted) return;
    running = null;
    doneAt = performance.now();
    failures = failed ? failures + 1 : 0;
    onResult(failed);
    schedule();
  }
  const visibility = () => (document.hidden ? clearTimeout(timer) : running || schedule());
  document.addEventListener("visibilitychange", visibility);
  run();
  return {
    now: run,
    stop() {
      stopped = true;
      clearTimeout(timer);
      if (running) running.abort();
      document.removeEventListener("visibilitychange", visibility);
    },
  };
}
