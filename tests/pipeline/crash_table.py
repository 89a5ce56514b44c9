"""The crash matrix as a page."""

from __future__ import annotations

from typing import Any

from tests.pipeline.crash_points import Struck

PAGE = """# Crash matrix

`make crash` (seed {seed}), commit {commit}: {healed} of {count} points end as if nothing
had happened{left}.

Each point: `noisefold retrain` on the debug recipe of the tests, SIGKILL, and the same command again. A share is of the
stage's time in the undisturbed run; a call is the n-th of its kind in the process, struck before it, after it or half
way through. Victim *training*: the training process alone is killed, and the flow heals it before the rerun. Store
*server*: a real `mlflow server`; otherwise SQLite in the state folder.

Checked at each point against the undisturbed run, bit for bit: test metrics with their intervals; every file of every
artifact (but the clock's, `metrics.jsonl`); the registered bundle; every metric curve in MLflow, each point once and in
order (but `train/tokens_per_second`); the names of the MLflow run's files. Then: one MLflow run, FINISHED; one logged
model; one version, champion; no flow run and no task run that Prefect shows as under way; no stage repeated whose
manifest was there; no lease, and no temporary file in the state folder or in `TMPDIR`; no process left. Seconds are
those of both runs, on a machine that was busy with other work.

| # | victim | store | struck at | in stage | finished before | the rerun ran | as if undisturbed | s |
|--:|---|---|---|---|---|---|---|--:|
"""


def table(seed: int, results: list[Struck], undisturbed: dict[str, Any], drawn: int) -> str:
    healed = sum(one.healed for one in results)
    commit = ", ".join(
        f"`{name[:10]}`"
        for name in dict.fromkeys([undisturbed["commit"], *(r.commit for r in results)])
    )
    rows = [row(one) for one in sorted(results, key=lambda one: one.point.number)]
    left = (
        f"; {drawn - len(results)} more are drawn and have not run yet"
        if len(results) < drawn
        else ""
    )
    facts = {"seed": seed, "commit": commit, "healed": healed, "count": len(results), "left": left}
    return PAGE.format(**facts) + "\n".join(rows) + "\n"


def row(one: Struck) -> str:
    ran = ", ".join(stage for stage, state in one.rerun.items() if state != "cached") or "nothing"
    last = f"up to {one.finished[-1]}" if one.finished else "nothing"
    said = (
        "yes"
        if one.healed
        else "**NO**: " + "; ".join(one.faults).replace("|", "/").replace("\n", " ")
    )
    point = one.point
    cells = [
        point.number,
        point.victim,
        point.store,
        point,
        one.stage,
        last,
        ran,
        said,
        f"{one.seconds:.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"
