"""Whether the replica may answer reports: it is up, and not too far behind the primary."""

import logging
import threading
import time
from collections import deque

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

log = logging.getLogger("pulse.storage")

MAX_LAG_S = 10.0
CHECK_EVERY_S = 2.0
# An answer this old is asked for anew before it counts; a check that takes this long has failed.
STALE_AFTER_S = 3 * CHECK_EVERY_S
HUNG_AFTER_S = 3.0
_SAMPLES = 64

_WRITTEN = text(
    "/* replica.written */ SELECT CASE WHEN NOT pg_is_in_recovery()"
    " THEN CAST(pg_current_wal_lsn() - '0/0' AS bigint) END"
)
# Null where it is no standby (it then is a primary itself, or fed in another way), or does not say.
_REPLAYED = text(
    "/* replica.replayed */ SELECT CASE WHEN pg_is_in_recovery()"
    " THEN CAST(pg_last_wal_replay_lsn() - '0/0' AS bigint) END"
)


def read_written(primary: Engine) -> int | None:
    """Return how many bytes of log the primary has written, None while it is away or does not say."""
    try:
        with primary.connect() as connection:
            return connection.execute(_WRITTEN).scalar()
    except (DBAPIError, PoolTimeoutError):
        return None


def read_replayed(connection: Connection) -> int | None:
    """Return how many of them the replica has replayed, None where it is no standby or does not say."""
    return connection.execute(_REPLAYED).scalar()


class ReplicaWatch:
    """Compares what the replica has replayed with what the primary had written some seconds ago.

    The age of the last transaction replayed would not do: it grows on an idle primary, whose replica misses nothing;
    nor would what the replica has received: cut off from the primary, it has replayed all of that. Two statements in
    CHECK_EVERY_S while reports are asked for, in the background; a request waits for a check only after a pause.
    """

    def __init__(self, primary: Engine, replica: Engine) -> None:
        self._primary = primary
        self._replica = replica
        self._lock = threading.Lock()
        # When the primary had written how many bytes of its log: what the replica has not replayed, oldest first.
        self._missing: deque[tuple[float, int]] = deque()
        self._caught_up = False
        self._ok = False
        self._known = False
        self._checked_at = float("-inf")
        self._asked_at: float | None = None
        self._checking = False

    def is_fit(self) -> bool:
        """Tell whether reports may go to the replica now, by the last check."""
        age_s = time.monotonic() - self._checked_at
        if age_s >= STALE_AFTER_S:
            self._caught_up = False
        if age_s >= CHECK_EVERY_S and self._begin_check():
            if age_s >= STALE_AFTER_S:
                self._check()
            else:
                threading.Thread(target=self._check, name="replica-check", daemon=True).start()
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > HUNG_AFTER_S:
            self._settle(False, "it does not answer")
        return self._ok

    def mark_down(self, reason: str) -> None:
        """Take the replica out of use until the next check finds it fit again."""
        self._checked_at = time.monotonic()
        self._settle(False, reason)

    def _begin_check(self) -> bool:
        with self._lock:
            if self._checking:
                return False
            self._checking = True
            return True

    def _check(self) -> None:
        try:
            written = read_written(self._primary)
            self._asked_at = time.monotonic()
            with self._replica.connect() as connection:
                replayed = read_replayed(connection)
            self._judge(written, replayed)
        except (DBAPIError, PoolTimeoutError) as error:
            self._settle(False, str(getattr(error, "orig", error)).strip().splitlines()[0])
        finally:
            self._asked_at = None
            self._checked_at = time.monotonic()
            self._checking = False

    def _judge(self, written: int | None, replayed: int | None) -> None:
        if written is None or replayed is None:
            # Nothing to compare with. While the primary is away, an old answer is better than none.
            self._missing.clear()
            self._settle(True, "")
            return
        if len(self._missing) == _SAMPLES:
            self._missing.pop()
        self._missing.append((time.monotonic(), written))
        while self._missing and self._missing[0][1] <= replayed:
            self._missing.popleft()
            self._caught_up = True
        # Until it has caught up once, nobody knows for how long it has been behind.
        lag_s = time.monotonic() - self._missing[0][0] if self._missing else 0.0
        self._settle(self._caught_up and lag_s <= MAX_LAG_S, f"it is {lag_s:.0f} s behind")

    def _settle(self, ok: bool, reason: str) -> None:
        if ok != self._ok or not self._known:
            if not ok:
                log.warning("reports go to the primary: the replica can't be used, %s", reason)
            elif self._known:
                log.warning("reports go to the replica again")
        self._ok, self._known = ok, True
