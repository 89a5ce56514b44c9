"""Carry out the golden recipes and compare with the committed results.

    python -m benchmarks.golden [NAME ...] [--write] [--keep FOLDER]

Exits 1 where something differs. A change that means to alter results writes them anew (--write),
and its commit says which and why.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.golden.comparison import TOLERANCE, Comparison, compare
from benchmarks.golden.results import Results, isolate, machine, read_results, retrain
from benchmarks.golden.world import HERE, RECIPES, absent, make_world, with_teachers

GOLDEN = HERE / "golden.json"
SAID = {"same": "same", "rounding": "other last bits", "differs": "differs"}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.golden",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"Of {', '.join(RECIPES)}; none: all.")
    add("--write", action="store_true", help="Write golden.json instead of comparing with it.")
    add("--keep", type=Path, metavar="FOLDER", help="Leave all state in this new folder.")
    options = parser.parse_args()
    if unknown := sorted({*options.names} - {*RECIPES}):
        parser.error(f"there is no recipe {unknown[0]}; there are {', '.join(RECIPES)}")
    names = with_teachers(options.names or list(RECIPES))
    known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    golden = {"machine": {}, "recipes": {}, **known}
    with scratch_folder(options.keep) as scratch:
        isolate(scratch / "home")
        return (write if options.write else check)(golden, names, scratch)


def check(golden: dict[str, Any], names: list[str], scratch: Path) -> int:
    """Run, and print how each result stands to the committed one."""
    verdicts, here = [], machine()
    for name, found, seconds in run(names, scratch):
        compared = Comparison("differs", ("golden.json has no results of it",))
        if name in golden["recipes"]:
            compared = compare(golden["recipes"][name], found)
        verdicts.append(compared.verdict)
        print_row(name, SAID[compared.verdict], f"{seconds:.0f}", *compared.lines)
    print(f"\nThis machine: {told(here)}.")
    if here != golden["machine"]:
        print(f"golden.json:  {told(golden['machine'])}.")
    if "rounding" in verdicts:
        print(f"Other last bits: other bytes, but every figure is within {TOLERANCE}.")
        if here != golden["machine"]:
            print("Another processor or torch may well round otherwise: compare on one machine.")
        else:
            print("On this same machine it is the order or the kind of operations that changed.")
    return int(any(verdict != "same" for verdict in verdicts))


def write(golden: dict[str, Any], names: list[str], scratch: Path) -> int:
    """Run, and put the results into golden.json; those of recipes that do not run stay there."""
    results, here = dict(golden["recipes"]), machine()
    stale = [name for name in results if name not in names or absent(name)]
    if stale and here != golden["machine"]:
        print(f"golden.json is of another machine: {told(golden['machine'])}.")
        print(f"Results of two machines do not go together: write {', '.join(stale)} as well.")
        return 1
    for name, found, seconds in run(names, scratch):
        print_row(name, "done", f"{seconds:.0f}")
        results[name] = found
    kept = {name: results[name] for name in RECIPES if name in results}
    text = json.dumps({"machine": here, "recipes": kept}, indent=1, ensure_ascii=False)
    GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"\nWritten: {GOLDEN.name}.")
    return 0


def run(names: list[str], scratch: Path) -> Iterator[tuple[str, Results, float]]:
    """Each recipe's results and seconds; one whose data is absent is skipped, with the reason."""
    print_row("recipe", "result", "seconds")
    make_world(scratch, [name for name in names if absent(name) is None])
    for name in names:
        if reason := absent(name):
            print_row(name, "skipped", "", reason)
            continue
        started = time.monotonic()
        found = read_results(retrain(scratch / f"{name}.yaml"), scratch / f"results-{name}")
        yield name, found, time.monotonic() - started


@contextmanager
def scratch_folder(kept: Path | None) -> Iterator[Path]:
    """A folder that goes at the end; or a new one that stays.

    A second run in one folder would find all of it done, and compare what the first has left.
    """
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept.resolve()
        return
    # Prefect's temporary server ends with this process, and may write a last line meanwhile.
    with tempfile.TemporaryDirectory(prefix="golden-", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


def told(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) or "unknown"


def print_row(name: str, result: str, seconds: str, *lines: str) -> None:
    print(f"{name:12} {result:16} {seconds:>7}", flush=True)
    for line in lines:
        print(f"{'':12} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
