"""Several services on one database, each on a data folder of its own, are one service with their nodes named."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from pulse.config import Config
from pulse.monitor import alerts, files, nodes, peers, recorder, shared
nodes.TOGETHER_EVERY_S = nodes.ALONE_EVERY_S = 0.05
peers.SILENT_S = 2.0
data_dir, url, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = replace(Config(), data_dir=data_dir, port=port)
folder = files.folder_of(data_dir)
shared.clear(data_dir)
shared.start_publishing(config, role="web")
nodes.start(config, url)
print("ready", flush=True)
for line in sys.stdin:
    word, *rest = json.loads(line)
    answer = None
    if word == "record":
        for _ in range(rest[0]):
            recorder.recorder.record_query("/* a.b */ SELECT 1", 5.0, 1)
            recorder.record_request("/x", "GET", rest[1] if len(rest) > 1 else 200, 5.0)
    elif word == "show":
        stats = shared.collect()
        state = alerts.check(folder, stats)
        answer = {
            "calls": sum(found.times.count for found in stats.statements),
            "nodes": [process.node.partition(":")[2] for process in stats.processes],
            "alerts": [[alert.rule, alert.acknowledged_by] for alert in state.active()],
        }
    elif word == "lead":
        alerts.note_leading(folder)
    elif word == "reset":
        shared.reset()
    elif word == "acknowledge":
        alerts.acknowledge(folder, alerts.load(folder).active()[0].id, "ada")
    print(json.dumps(answer), flush=True)
"""


class Node:
    def __init__(self, data_dir: Path, url: str, port: int) -> None:
        command = [sys.executable, "-c", CHILD, str(data_dir), url, str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def wait(self) -> "Node":
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        return self

    def ask(self, *words: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def await_shown(self, name: str, expected: Any) -> None:
        deadline = time.monotonic() + 15
        while (shown := self.ask("show"))[name] != expected:
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Callable[[str, int], Node]]:
    started: list[Node] = []

    def begin(name: str, port: int) -> Node:
        started.append(Node(tmp_path / name, database_url, port))
        return started[-1]

    yield begin
    for node in started:
        node.kill()


def test_nodes_add_up_reset_together_and_survive_each_other(start: Callable[[str, int], Node], engine: Engine) -> None:
    one, two = start("one", 3001), start("two", 3002)
    one.wait().ask("record", 3)
    two.wait().ask("record", 4)
    for node in (one, two):
        node.await_shown("calls", 7)
        node.await_shown("nodes", ["3001", "3002"])
    two.ask("reset")
    one.await_shown("calls", 0)
    two.ask("record", 1)
    one.await_shown("calls", 1)
    one.ask("reset")
    two.await_shown("calls", 0)
    one.ask("record", 5)
    two.await_shown("calls", 5)
    # One is killed and started again: the other keeps its figures, and the new one joins them.
    two.ask("record", 2)
    one.await_shown("calls", 7)
    one.kill()
    two.await_shown("nodes", ["3002"])
    two.await_shown("calls", 2)
    again = start("one", 3001).wait()
    again.await_shown("calls", 2)
    again.ask("record", 1)
    two.await_shown("calls", 3)
    with engine.begin() as connection:
        starts = connection.execute(text("SELECT node, version FROM performance_starts ORDER BY started_at")).all()
    assert [row.node.partition(":")[2] for row in starts].count("3001") == 2


@pytest.mark.parametrize("who", ["the leader", "another"])
def test_the_leaders_alerts_are_everybodys(start: Callable[[str, int], Node], who: str) -> None:
    one, two = start("one", 3001), start("two", 3002)
    one.wait().ask("lead")
    two.wait()
    for node in (one, two):
        node.await_shown("nodes", ["3001", "3002"])
    two.ask("record", 50, 500)
    one.ask("lead")
    one.await_shown("alerts", [["errors", None]])
    one.ask("lead")
    two.await_shown("alerts", [["errors", None]])
    first, second = (one, two) if who == "the leader" else (two, one)
    first.ask("acknowledge")
    one.ask("lead")
    second.await_shown("alerts", [["errors", "ada"]])
    first.await_shown("alerts", [["errors", "ada"]])


def test_without_postgresql_each_node_shows_itself(tmp_path: Path) -> None:
    node = Node(tmp_path / "one", "postgresql+psycopg2://pulse@127.0.0.1:1/none", 3001).wait()
    node.ask("record", 3)
    node.await_shown("calls", 3)
    node.kill()
