"""Which release runs here: the version, and the commit where a git checkout is started."""

import subprocess
from functools import cache
from pathlib import Path

from pulse import __version__

ROOT = Path(__file__).resolve().parents[2]
VERSION = __version__


@cache
def read_commit() -> str | None:
    """The short id of the commit checked out, with `+` when files differ from it; None without git."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
