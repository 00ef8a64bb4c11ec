"""What was changed while Redis was away, so that its old copies don't come back with it."""


class Journal:
    """Keys and patterns to forget in Redis before it is used again; not thread-safe by itself.

    Keys that were written are in it as well as deleted ones: Redis still holds what they were before. They are
    forgotten, not written back: another process may have deleted them meanwhile. Bounded: past `max_keys` a key is
    remembered by its namespace, which forgets more than was changed and never less.
    """

    def __init__(self, max_keys: int) -> None:
        self._max_keys = max_keys
        self._keys: set[str] = set()
        self._patterns: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys) + len(self._patterns)

    def note_key(self, key: str) -> None:
        """Remember one key."""
        if len(self._keys) < self._max_keys or key in self._keys:
            self._keys.add(key)
        else:
            namespace, colon, _ = key.partition(":")
            self.note_pattern(_quote(namespace) + "*" if colon else "*")

    def note_pattern(self, pattern: str) -> None:
        """Remember a pattern."""
        if len(self._patterns) < self._max_keys:
            self._patterns.add(pattern)
        else:
            self._patterns = {"*"}

    def take(self) -> tuple[set[str], set[str]]:
        """All keys and patterns so far, which the journal then has no more."""
        taken = self._keys, self._patterns
        self._keys, self._patterns = set(), set()
        return taken

    def put_back(self, keys: set[str], patterns: set[str]) -> None:
        """Return what was taken and could not be done."""
        for key in keys:
            self.note_key(key)
        for pattern in patterns:
            self.note_pattern(pattern)


def _quote(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in text)
