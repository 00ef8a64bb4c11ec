"""Two commits in turn: the other one is checked out beside this, and what each service used of the processor."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pulse.load.alternation import checkout
from pulse.load.machine import ROOT, python_environment
from pulse.load.service import processor_s

_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")


@_git
def test_a_commit_is_checked_out_beside_this_one_and_removed() -> None:
    with checkout("HEAD") as (root, commit):
        assert root != ROOT
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
        assert head.startswith(commit)
        found = subprocess.run(
            [sys.executable, "-c", "import pulse; print(pulse.__file__)"],
            cwd="/", env=python_environment(root), capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert Path(found.strip()).is_relative_to(root)
    assert not root.exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert str(root) not in listed


@_git
def test_an_unknown_commit_is_named() -> None:
    with pytest.raises(click.ClickException, match="no-such-commit"), checkout("no-such-commit"):
        pass


def test_the_processor_time_of_a_service_is_that_of_its_processes(tmp_path: Path) -> None:
    work = "import hashlib\nfor _ in range(200_000): hashlib.sha256(b'x')\nprint('done', flush=True)\ninput()"
    environment = {**os.environ, "PULSE_DATA_DIR": str(tmp_path / "var")}
    command = [sys.executable, "-c", work]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processor_s(tmp_path / "var") > 0
        assert processor_s(tmp_path / "other") == 0
        process.communicate(b"\n")
