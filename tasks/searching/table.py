"""What a search has come to, as blocks, Markdown and JSON."""

from __future__ import annotations

import json
from typing import Any

from data_contracts.kinds.base import Metric, TaskConfig
from data_contracts.recipe.searched import Finalist, Searched, TrialResult
from data_contracts.results import Block, Table, Text
from tasks.reports.html import render
from tasks.reports.readable import code, markdown, markdown_table

_SHOWN = 20  # of the trials, the best
_LONGEST = 2000  # characters of a sentence


def metric_of(found: Searched) -> Metric:
    return TaskConfig.KINDS[found.kind].metric(found.figure.removeprefix("val/"))


def shown(metric: Metric, value: float | None) -> str:
    return "–" if value is None else f"{metric.scale * value:.{metric.digits}f}"


def changes(overrides: dict[str, Any]) -> str:
    """What a trial changes, as `--set` takes it."""
    told = (f"{name}={_written(value)}" for name, value in overrides.items())
    return ", ".join(told) or "the recipe as it is"


def called(one: TrialResult) -> str:
    return f"{one.number} · {one.candidate}" if one.candidate else str(one.number)


def ranked(found: Searched) -> list[TrialResult]:
    """The trials that finished, the best first, then those that were pruned, then the failed."""
    sign = -1 if found.better == "higher" else 1
    order = ("finished", "pruned", "failed")
    return sorted(
        found.trials,
        key=lambda one: (
            order.index(one.state),
            sign * one.value if one.value is not None else 0.0,
            one.number,
        ),
    )


def trials_table(found: Searched, most: int | None = None) -> Table:
    metric = metric_of(found)
    rows = [
        (
            called(one),
            one.state,
            shown(metric, one.value),
            one.epochs,
            f"{one.cpu_seconds:,.1f}",
            changes(one.overrides) if one.cause is None else one.cause,
        )
        for one in ranked(found)[:most]
    ]
    header = ("trial", "state", f"valid {metric.words}", "epochs", "CPU s", "changes")
    return Table(header, tuple(rows), name="trials")


def finalists_table(found: Searched) -> Table | None:
    """The best few by their means; None where no seed but the first has run."""
    if len(found.seeds) < 2:
        return None
    metric = metric_of(found)
    seeds = tuple(dict.fromkeys(seed for one in found.finalists for seed in one.values))
    rows = [
        (
            called(found.trial(one.number)),
            _mean(metric, one),
            *(shown(metric, one.values.get(seed)) for seed in seeds),
        )
        for one in found.finalists
    ]
    header = ("trial", f"mean of {len(found.seeds)} seeds", *(f"seed {one}" for one in seeds))
    return Table(header, tuple(rows), name="finalists")


def sentences(found: Searched) -> list[str]:
    """What it came to, for a person; the first one says who won."""
    metric = metric_of(found)
    told = [_winner(found, metric)]
    states = [one.state for one in found.trials]
    counts = ", ".join(
        f"{states.count(state)} {state}"
        for state in ("finished", "pruned", "failed")
        if state in states
    )
    told.append(
        f"{len(states)} trials ({counts or 'none is over'}), {found.cpu_seconds:,.0f} of "
        f"{found.budget_seconds:,.0f} CPU seconds of training. {found.ended}".strip()
    )
    if found.importance:
        parts = (f"{name} {share:.0%}" for name, share in found.importance.items())
        told.append(f"What told the best trials from the rest: {', '.join(parts)}.")
    if len(found.seeds) > 1:
        told.append(
            "The finalists were chosen by the first seed, which flatters that value: look at the "
            "means."
        )
    return told


def blocks(found: Searched) -> list[Block]:
    """The page of a search."""
    finalists = finalists_table(found)
    importance = Table(("field", "share"), tuple(found.importance.items()), name="importance")
    return [
        *(Text(line) for line in sentences(found)),
        *([Text("Trained with all seeds", "heading"), finalists] if finalists else []),
        *([Text("Importance", "heading"), importance] if found.importance else []),
        Text("Trials", "heading"),
        trials_table(found),
    ]


def as_page(found: Searched) -> str:
    return render("evaluation.html.j2", title=f"Search {found.name}", content=blocks(found))


def as_markdown(found: Searched) -> str:
    first, *rest = sentences(found)
    finalists = finalists_table(found)
    trials = trials_table(found, _SHOWN)
    left = len(found.trials) - _SHOWN
    return "\n\n".join(
        [
            f"# {found.name}",
            *([code(found.command)] if found.command else []),
            f"**{markdown(first, _LONGEST)}**",
            *(markdown(line, _LONGEST) for line in rest),
            *([markdown_table(finalists.columns, finalists.rows)] if finalists else []),
            markdown_table(trials.columns, trials.rows),
            *([f"And {left:,} more."] if left > 0 else []),
            "",
        ]
    )


def as_json(found: Searched) -> str:
    return json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def history_of(found: Searched) -> list[tuple[int, float, float]]:
    """(number, value, the best so far) of each trial that finished."""
    better = max if found.better == "higher" else min
    done = [(one.number, one.value) for one in found.trials if one.state == "finished"]
    told: list[tuple[int, float, float]] = []
    for number, value in done:
        assert value is not None
        told.append((number, value, better(value, told[-1][2]) if told else value))
    return told


def _winner(found: Searched, metric: Metric) -> str:
    if found.winner is None:
        return "No trial has finished, so there is no winner."
    one = found.trial(found.winner)
    mine = next((best for best in found.finalists if best.number == one.number), None)
    how = (
        f"{_mean(metric, mine)} over {len(found.seeds)} seeds"
        if mine is not None and len(found.seeds) > 1
        else f"{shown(metric, one.value)} with one seed"
    )
    return f"Trial {called(one)} is best: valid {metric.words} {how}; {changes(one.overrides)}."


def _mean(metric: Metric, one: Finalist) -> str:
    spread = "" if one.sd is None else f" ± {metric.scale * one.sd:.{metric.digits}f}"
    return f"{shown(metric, one.mean)}{spread}"


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
