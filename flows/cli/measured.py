"""`recipe suggest --measure`: the candidates of a suggestion, tried on the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_contracts.errors import NoisefoldError, RecipeError
from data_contracts.recipe.candidates import SUGGESTED, overrides_of, settled, space_of
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.search_file import parse_search
from data_contracts.recipe.suggest import Choice
from data_contracts.yaml_text import parse_yaml

if TYPE_CHECKING:
    from data_contracts.recipe.searched import Searched, TrialResult

_NONE = object()


def measure_in_terminal(
    text: str,
    folder: Path,
    choices: Sequence[Choice],
    candidates: Mapping[str, tuple[Choice, ...]],
    budget: str,
) -> tuple[list[str], list[Choice]]:
    """Train the candidates within the budget and print what they came to; returns sentences of what
    was measured, and the choices of the one that did best.

    Args:
        text: the suggested recipe, as it would stand in `folder`.
        candidates: by name, what each changes of the choices.
    """
    from rich.console import Console

    from flows.cli.tune import print_search, run_search

    recipe = parse_recipe(parse_yaml(text, "the suggestion"), origin="the suggestion", base=folder)
    data = {
        "name": f"{recipe.name[:70]}-suggest",
        "recipe": recipe,
        "candidates": _possible(recipe, candidates, folder),
        "space": space_of(recipe.training.learning_rate, recipe.model.dropout),
        "budget": budget,
        # Few candidates, and each takes minutes.
        "startup": 2,
        "finalists": 2,
    }

    def find(name: str, base: Path) -> Recipe:
        raise AssertionError(f"{name}: the recipe is given")

    search = parse_search(data, "--measure", folder, {}, find)
    # Standard output is the recipe's.
    console = Console(stderr=True, highlight=False)
    found = run_search(search, "", console, verbose=False).found
    print_search(console, found)
    if found.winner is None:
        causes = [one.cause for one in found.trials if one.cause]
        raise NoisefoldError(
            f"No candidate could be measured: {causes[0] if causes else 'none has run'}",
            "Leave --measure out for the suggestion as it is.",
        )
    own = {"training.learning_rate": recipe.training.learning_rate}
    own |= {"model.dropout": recipe.model.dropout}
    won = found.trial(found.winner)
    changed = {name: one for name, one in won.overrides.items() if own.get(name, _NONE) != one}
    return [_told(found, budget)], settled(choices, changed, _why(found, won))


def _possible(
    recipe: Recipe, candidates: Mapping[str, tuple[Choice, ...]], folder: Path
) -> dict[str, dict]:
    """Those that the recipe takes: a backbone takes no n-grams as vectors, say."""
    from data_contracts.recipe.overlay import overlaid, overrides_from

    found: dict[str, dict] = {}
    for name, change in candidates.items():
        overrides = overrides_of(change)
        try:
            overlaid(recipe, overrides_from(folder, overrides), name)
        except RecipeError:
            continue
        if overrides not in found.values():
            found[name] = overrides
    return found


def _told(found: Searched, budget: str) -> str:
    """For the head of the recipe: what was measured, and how each candidate did at its best."""
    from tasks.searching.table import metric_of, ranked, shown

    metric, best = metric_of(found), dict[str, float | None]()
    for one in ranked(found):
        if one.state == "finished":
            best.setdefault(one.candidate or SUGGESTED, one.value)
    figures = (f"{name} {shown(metric, value)}" for name, value in best.items())
    return (
        f"Measured within {budget} on {found.valid_rows:,} valid rows, {metric.words} of each "
        f"candidate's best with one seed: {', '.join(figures)}. {len(found.trials)} trials. "
        f"{found.ended}"
    )


def _why(found: Searched, won: TrialResult) -> str:
    """The reason of what the winner changes."""
    from tasks.searching.table import metric_of, shown

    metric = metric_of(found)
    means = {one.number: one.mean for one in found.finalists}
    seeds = f"mean of {len(found.seeds)} seeds" if len(found.seeds) > 1 else "one seed"
    other = (
        f"{shown(metric, means[0])}"
        if 0 in means
        else f"{shown(metric, found.trial(0).value)} with one seed"
    )
    return (
        f"Measured, {won.candidate}: valid {metric.words} "
        f"{shown(metric, means.get(won.number, won.value))} ({seeds}); as suggested {other}."
    )
