"""Every benchmark, one after the other, and docs/PERFORMANCE.md made of their results: `make benchmarks`.

Each result goes to docs/benchmarks/<name>.json with the command that repeats it; the page is written from the template
docs/performance.template.md. What fails or is missing is named at the end, and keeps the result it had.
"""

import json
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from pulse.load import document
from pulse.load.machine import PYTHON, ROOT, python_environment
from pulse.load.summary import RESULTS as LOAD_RESULTS

FOLDER = ROOT / document.RESULTS
console = Console(highlight=False)


class Bench(NamedTuple):
    """A module under tests/load, what it is asked for, and what the short form asks for instead."""

    module: str
    options: str = ""
    short: str = ""


BENCHES = {
    "ingest": Bench(
        "bench_ingest", "--rate 5000 --rate 10000",
        "--runs 1 --warmup 3 --steady 15 --closed 4 --rate 5000 --rate 10000",
    ),  # fmt: skip
    "reports": Bench("bench_reports", "", "--runs 1 --events 1m"),
    "monitor": Bench("bench_monitor"),
    "tuning": Bench("bench_tuning", "", "--runs 1 --steady 6 --warmup 2"),
}
LOAD_TEST = "load-test"
LOAD_SHORT = "--ramp 3 --steady 15 --spike 3 --queries 12"


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice([*BENCHES, LOAD_TEST]), help="One of them; may be repeated.")
@click.option("--short", is_flag=True, help="Minutes instead of hours: the same loads for a moment each.")
@click.option("--render", is_flag=True, help="Measure nothing, only write the page from the results there are.")
def main(only: tuple[str, ...], short: bool, render: bool) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in () if render else only or (*BENCHES, LOAD_TEST):
        console.rule(name)
        done = run_load_test(short) if name == LOAD_TEST else run_bench(name, short)
        failed += [] if done else [name]
    page = ROOT / document.PAGE
    page.write_text(render_page())
    console.print(f"→ {page.relative_to(ROOT)}")
    if failed:
        raise click.ClickException(f"No result from: {', '.join(failed)}. The page shows what was measured before.")


def render_page() -> str:
    """Return the page from the results in docs/benchmarks."""
    return document.render((ROOT / document.TEMPLATE).read_text(), document.read_results(FOLDER))


def run_bench(name: str, short: bool) -> bool:
    """Run one benchmark and keep its result; return whether there is one, met or missed."""
    bench = BENCHES[name]
    if not (ROOT / "tests" / "load" / f"{bench.module}.py").exists():
        console.print(f"There is no tests/load/{bench.module}.py.", style="bold red")
        return False
    options = shlex.split(bench.short if short else bench.options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = ["-m", f"tests.load.{bench.module}", *options]
        subprocess.run([PYTHON, *command, "--output", str(path)], cwd=ROOT, env=python_environment(), check=False)
        return _keep(path, name, " ".join([".venv/bin/python", *command]))


def run_load_test(short: bool) -> bool:
    """Run the load tests against a service of their own and keep both results; return whether both are there."""
    options = shlex.split(LOAD_SHORT if short else "")
    with tempfile.TemporaryDirectory() as folder:
        command = ["load-test", "--start", *options]
        subprocess.run(
            [PYTHON, "-m", "pulse.cli", *command, "--output", folder], cwd=ROOT, env=python_environment(), check=False
        )
        text = " ".join([".venv/bin/pulse", *command])
        kept = [_keep(Path(folder) / file, f"load-{load}", text) for load, file in LOAD_RESULTS.items()]
    return all(kept)


def _keep(path: Path, name: str, command: str) -> bool:
    if not path.exists():
        return False
    result: dict[str, Any] = json.loads(path.read_bytes())
    (FOLDER / f"{name}.json").write_text(json.dumps({**result, "command": command}, indent=1) + "\n")
    return True


if __name__ == "__main__":
    main()
