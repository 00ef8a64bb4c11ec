"""Event ids."""

import os
import time
from itertools import islice
from uuid import RFC_4122, UUID

from pulse.ingest.uuid7 import new_event_id, new_event_ids


def test_is_a_version_7_uuid_in_canonical_spelling() -> None:
    for _ in range(2_000):
        text = new_event_id()
        parsed = UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, RFC_4122)


def test_holds_the_time_in_its_first_48_bits() -> None:
    before = time.time_ns() // 1_000_000
    stamp = UUID(new_event_id()).int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000


def test_ids_of_one_request_are_in_order_and_as_good_as_others() -> None:
    several = [list(islice(new_event_ids(), 600)) for _ in range(2)]
    assert len({*several[0], *several[1]}) == 1_200 and several[0][:256] == sorted(several[0][:256])
    for text in several[0]:
        parsed = UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, RFC_4122)


def test_ids_never_repeat() -> None:
    assert len({new_event_id() for _ in range(50_000)}) == 50_000


def test_a_forked_worker_does_not_repeat_its_parents_ids() -> None:
    new_event_id()  # so that there is a stock to inherit
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "".join(new_event_id()[14:] for _ in range(300)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        theirs = pipe.read()
    ours = {new_event_id()[14:] for _ in range(600)}
    assert ours.isdisjoint(theirs[start : start + 22] for start in range(0, len(theirs), 22))
    assert len(theirs) == 300 * 22
