"""The bounded cache."""

from pulse.ingest.memo import Memo


def test_computes_once_a_key() -> None:
    seen: list[str] = []

    def measure(text: str) -> int:
        seen.append(text)
        return len(text)

    memo = Memo(measure, size=10)
    assert [memo["ab"], memo["ab"], memo["abc"]] == [2, 2, 3]
    assert seen == ["ab", "abc"]


def test_a_flood_of_keys_stays_bounded_and_right() -> None:
    memo: Memo[int, int] = Memo(lambda number: number * 2, size=64)
    assert all(memo[number] == number * 2 for number in range(10_000))
    assert len(memo) <= 64
    assert 9_999 in memo and 0 not in memo


def test_what_is_asked_for_again_and_again_outlives_a_flood() -> None:
    computed: list[int] = []

    def note(number: int) -> int:
        computed.append(number)
        return number

    memo = Memo(note, size=64)
    for number in range(1, 1_000):
        assert memo[number] == number and memo[0] == 0
    assert computed.count(0) == 1


def test_the_smallest_size_works() -> None:
    memo: Memo[int, int] = Memo(lambda number: number, size=1)
    assert [memo[1], memo[2], memo[1]] == [1, 2, 1]
    assert len(memo) == 1
