"""Every benchmark, one after the other, and docs/PERFORMANCE.md made of their results: `make benchmarks`.

Each result goes to docs/benchmarks/<name>.json with the command that repeats it; the page is written from the template
docs/performance.template.md. What fails or is missing is named at the end, and keeps the result it had. A result of the
same command on the same code is not measured again, so that what was broken off goes on where it was.
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
from pulse.load.machine import PYTHON, ROOT, python_environment, read_commit
from pulse.load.summary import RESULTS as LOAD_RESULTS

FOLDER = ROOT / document.RESULTS
console = Console(highlight=False)


# What decides about figures; words may change without a new measurement.
MEASURED = (
    "pulse", "sql", "locustfiles", "tests/load/*.py", "tests/load/*.js", "gunicorn.conf.py", "wsgi.py",
    "constraints.txt", "setup.cfg",
)  # fmt: skip
SHORT, USUAL, FULL = "short", "usual", "full"


class Bench(NamedTuple):
    """A module under tests/load, and what it is asked for in the usual, the full and the short form."""

    module: str
    usual: str = ""
    full: str = ""
    short: str = ""

    def options(self, form: str) -> list[str]:
        """Return the options of the form."""
        return shlex.split({SHORT: self.short, USUAL: self.usual, FULL: self.full}[form])


_RATES = "--rate 10000 --rate 20000 --rate 25000"
BENCHES = {
    "ingest": Bench(
        "bench_ingest", f"--runs 3 --warmup 5 --steady 20 --closed 5 --soak 600 {_RATES}", f"--soak 600 {_RATES}",
        f"--runs 1 --warmup 3 --steady 15 --closed 4 {_RATES}",
    ),  # fmt: skip
    "reports": Bench(
        "bench_reports", "--runs 1 --events 1m --events 10m --limit 20", "", "--runs 1 --events 1m --no-rivals"
    ),
    "monitor": Bench("bench_monitor"),
    "tuning": Bench("bench_tuning", "--runs 1 --steady 10", "", "--runs 1 --steady 6 --warmup 2"),
}
LOAD_TEST = "load-test"
LOAD_SHORT = "--ramp 3 --steady 15 --spike 3 --queries 12"


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice([*BENCHES, LOAD_TEST]), help="One of them; may be repeated.")
@click.option("--short", "form", flag_value=SHORT, help="The same loads for a moment each.")
@click.option("--full", "form", flag_value=FULL, help="Several runs of everything, and rivals: hours.")
@click.option("--again", is_flag=True, help="Measure also what was measured on the same code.")
@click.option("--render", is_flag=True, help="Measure nothing, only write the page from the results there are.")
def main(only: tuple[str, ...], form: str | None, again: bool, render: bool) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in () if render else only or (*BENCHES, LOAD_TEST):
        console.rule(name)
        if not again and is_measured(name, form or USUAL):
            console.print("Measured already on the same code; --again measures it anew.", style="dim")
            continue
        done = run_load_test(form or USUAL) if name == LOAD_TEST else run_bench(name, form or USUAL)
        failed += [] if done else [name]
    page = ROOT / document.PAGE
    page.write_text(render_page())
    console.print(f"→ {page.relative_to(ROOT)}")
    if failed:
        raise click.ClickException(f"No result from: {', '.join(failed)}. The page shows what was measured before.")


def render_page() -> str:
    """Return the page from the results in docs/benchmarks."""
    return document.render((ROOT / document.TEMPLATE).read_text(), document.read_results(FOLDER))


def is_measured(name: str, form: str) -> bool:
    """Tell whether the results there are come from the same command on the code as it stands now."""
    names = [f"load-{load}" for load in LOAD_RESULTS] if name == LOAD_TEST else [name]
    wanted = show_command(name, form)
    for path in (FOLDER / f"{name}.json" for name in names):
        if not path.exists():
            return False
        result = json.loads(path.read_bytes())
        if result.get("command") != wanted or not is_same_code(result["commit"]):
            return False
    return True


def is_same_code(commit: str) -> bool:
    """Tell whether what decides about figures is as it was in that commit; `+` and unknown commits never are."""
    done = subprocess.run(
        ["git", "diff", "--quiet", commit, "--", *MEASURED], cwd=ROOT, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def name_commit() -> str:
    """Return the commit, with `+` when what decides about figures differs from it: results and words do not."""
    commit = read_commit().rstrip("+")
    return commit if is_same_code(commit) else f"{commit}+"


def show_command(name: str, form: str) -> str:
    """Return the command that repeats a measurement."""
    if name == LOAD_TEST:
        return " ".join([".venv/bin/pulse load-test --start", *([LOAD_SHORT] if form == SHORT else [])])
    return shlex.join([".venv/bin/python", "-m", f"tests.load.{BENCHES[name].module}", *BENCHES[name].options(form)])


def run_bench(name: str, form: str) -> bool:
    """Run one benchmark and keep its result; return whether there is one, met or missed."""
    bench = BENCHES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [PYTHON, "-m", f"tests.load.{bench.module}", *bench.options(form), "--output", str(path)]
        subprocess.run(command, cwd=ROOT, env=python_environment(), check=False)
        return _keep(path, name, show_command(name, form))


def run_load_test(form: str) -> bool:
    """Run the load tests against a service of their own and keep both results; return whether both are there."""
    options = shlex.split(LOAD_SHORT if form == SHORT else "")
    with tempfile.TemporaryDirectory() as folder:
        command = [PYTHON, "-m", "pulse.cli", "load-test", "--start", *options, "--output", folder]
        subprocess.run(command, cwd=ROOT, env=python_environment(), check=False)
        text = show_command(LOAD_TEST, form)
        kept = [_keep(Path(folder) / file, f"load-{load}", text) for load, file in LOAD_RESULTS.items()]
    return all(kept)


def _keep(path: Path, name: str, command: str) -> bool:
    if not path.exists():
        return False
    result: dict[str, Any] = json.loads(path.read_bytes())
    if not result.get("isComplete", True):
        return False
    kept = {**result, "commit": name_commit(), "command": command}
    (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    return True


if __name__ == "__main__":
    main()
