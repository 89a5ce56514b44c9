"""The grid of a comparison, and the table that comes out of it.

A grid file (YAML) names one recipe, seeds, and variants as dotted overrides that are laid over the recipe as `--set`
does it: a section given as a mapping replaces the recipe's own.

    name: trec-methods
    recipe: ../recipes/trec.yaml      # a recipe file (relative to this one), a deployment's name, or sections inline
    seeds: [0, 1, 2, 3, 4]
    variants:
      dropout: {}                     # the recipe itself
      deterministic: {model.reparameterization: {kind: none}}
      noise: {model.reparameterization: {kind: multiplicative_noise, initial_alpha: 0.2}}
    predictions:                      # other programs on the same test rows: a Parquet file per seed
      TF-IDF + LR: ../results/peers/trec/tfidf-*.parquet
    baseline: dropout                 # a variant, or a name under `predictions`

Relative paths, in overrides too, start at the file's folder. `tasks.comparing.board.write_predictions` writes the
Parquet files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from data_contracts.errors import RecipeError
from data_contracts.kinds.base import DEFAULT_KIND
from data_contracts.recipe.recipe import Recipe, describe, merge, parse_recipe, read_yaml, rebase
from data_contracts.results import Interval
from data_contracts.section import Section

_VARIED = ("tokenizer", "model", "training", "teacher", "evaluation")
_NAME = re.compile(r"[^\x00-\x1f\ud800-\udfff{}|`]{1,60}")


class Cell(NamedTuple):
    """One training: a variant at a seed."""

    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant} · seed {self.seed}"


class Comparison(Section):
    """A grid of variants and seeds on the same rows."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$", description="Lower-case name of the comparison."
    )
    recipe: Recipe = Field(
        description="What all variants share: source, contract, and every field left alone."
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="Values of training.seed.")
    variants: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="Name: overrides by dotted field, as with --set, of tokenizer, model, training, teacher "
        "or evaluation.temperature; {} is the recipe itself.",
    )
    predictions: dict[str, str] = Field(
        default_factory=dict,
        description="Name: glob of Parquet files with another program's predictions of the test rows, one per seed.",
    )
    baseline: str = Field(
        description="The variant, or the name under predictions, that all others are paired with."
    )
    bootstrap_samples: int = Field(
        2000, ge=50, le=100_000, description="Paired resamples of the test rows."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Coverage of the paired intervals.")

    @field_validator("recipe")
    @classmethod
    def _from_itself_alone(cls, recipe: Recipe) -> Recipe:
        if recipe.training.warm_start != "never":
            raise ValueError(
                "training.warm_start must be never: what a champion knew is no part of the comparison"
            )
        if recipe.teacher is not None and recipe.teacher.version is None:
            raise ValueError(
                "teacher.version must be a number: every cell learns from the same version"
            )
        return recipe

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed stands twice in {list(seeds)}")
        if not all(0 <= seed < 2**31 for seed in seeds):  # what training.seed takes
            raise ValueError(f"a seed is a whole number from 0 to {2**31 - 1:,}")
        return seeds

    @field_validator("variants", "predictions")
    @classmethod
    def _names(cls, named: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        for name in named:
            if not _NAME.fullmatch(name) or name != name.strip():
                raise ValueError(
                    f"{name!r}: 1 to 60 characters, none of {{ }} | ` and no space at its ends"
                )
        both = (
            named.keys() & info.data.get("variants", {}).keys()
            if info.field_name == "predictions"
            else ()
        )
        if both:
            raise ValueError(f"{', '.join(both)}: this name is taken by a variant")
        return named

    @field_validator("variants")
    @classmethod
    def _variants_are_recipes(
        cls, variants: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, Any]:
        for name, overrides in variants.items():
            for dotted, value in overrides.items():
                _check_override(name, dotted, value)
            if "recipe" in info.data:  # else it has its own fault
                try:
                    cls._from_itself_alone(_overlaid(info.data["recipe"], overrides, name))
                except RecipeError as error:
                    raise ValueError(error.cause) from None
        return variants

    @field_validator("baseline")
    @classmethod
    def _baseline_is_there(cls, baseline: str, info: ValidationInfo) -> str:
        known = [*info.data.get("variants", ()), *info.data.get("predictions", ())]
        if known and baseline not in known:
            raise ValueError(f"there is no variant of this name (there are {', '.join(known)})")
        return baseline

    def cells(self, only: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> list[Cell]:
        """Seed by seed, so that an interrupted comparison has compared something; all, or those selected.

        Raises:
            RecipeError: where a variant or a seed is not in the grid.
        """
        for option, wanted, known in (
            ("--only", only, tuple(self.variants)),
            ("--seeds", seeds, self.seeds),
        ):
            unknown = [str(value) for value in wanted if value not in known]
            if unknown:
                raise RecipeError(
                    f"{option} {', '.join(unknown)}: not in {self.name} (it has {', '.join(map(str, known))}).",
                    "Select what the grid has, or add it there.",
                )
        return [
            Cell(variant, seed)
            for seed in self.seeds
            for variant in self.variants
            if (not only or variant in only) and (not seeds or seed in seeds)
        ]

    def recipe_of(self, cell: Cell) -> Recipe:
        return _overlaid(
            self.recipe, {**self.variants[cell.variant], "training.seed": cell.seed}, cell.variant
        )

    def on(self, day: date) -> Comparison:
        """With a rolling data window fixed, see `Recipe.on`."""
        return self.model_copy(update={"recipe": self.recipe.on(day)})


def load_comparison(
    path: str | Path, overrides: dict[str, Any], find: Callable[[str, Path], Recipe]
) -> Comparison:
    """Read a grid file.

    Args:
        overrides: of the recipe that the variants share.
        find: a recipe by the name or the path that the file gives, and the file's folder.
    Raises:
        RecipeError: with one line per fault, each naming its field.
    """
    data, base = read_yaml(path), Path(path).resolve().parent
    if not isinstance(data, dict):
        raise RecipeError(
            f"{path}: expected a mapping, found {type(data).__name__}.",
            "See data_contracts/recipe/comparison.py.",
        )
    data, recipe = dict(data), data.get("recipe")
    if isinstance(recipe, str):
        data["recipe"] = find(recipe, base)
    elif isinstance(recipe, dict):
        data["recipe"] = parse_recipe(merge(recipe, overrides), origin=f"{path}, recipe", base=base)
    for section, moved in (
        ("variants", lambda value: _variant_from(base, value)),
        ("predictions", lambda value: _from(base, value)),
    ):
        if isinstance(data.get(section), dict):
            data[section] = {name: moved(value) for name, value in data[section].items()}
    try:
        return Comparison.model_validate(data)
    except ValidationError as error:
        raise RecipeError(
            f"{path}: {describe(error, Comparison)}",
            "data_contracts/recipe/comparison.py describes the file.",
        ) from None


def _overlaid(recipe: Recipe, overrides: dict[str, Any], origin: str) -> Recipe:
    # What the recipe leaves open stays open, so that an override which changes a section's kind meets no stale field.
    told = {
        "source": recipe.source.model_dump(mode="json"),
        **recipe.model_dump(mode="json", exclude_unset=True),
    }
    return parse_recipe(merge(told, overrides), origin=origin)


def _check_override(name: str, dotted: str, value: Any) -> None:
    section, _, field = dotted.partition(".")
    if section not in _VARIED:
        raise ValueError(
            f"{name}: {dotted}: a variant may change {', '.join(_VARIED)}; the rows and the rest are the same for all"
        )
    if section == "training" and (
        field == "seed" or (not field and isinstance(value, dict) and "seed" in value)
    ):
        raise ValueError(f"{name}: {dotted}: the grid's seeds set training.seed")
    others = (
        set(value) - {"temperature"}
        if not field and isinstance(value, dict)
        else {field} - {"temperature"}
    )
    if section == "evaluation" and others:
        raise ValueError(
            f"{name}: evaluation.{min(others) or '…'}: all variants are measured alike; only temperature may differ"
        )


def _variant_from(base: Path, overrides: Any) -> Any:
    return (
        {k: _rebased(k, v, base) for k, v in overrides.items()}
        if isinstance(overrides, dict)
        else overrides
    )


def _rebased(dotted: str, value: Any, base: Path) -> Any:
    node = rebase(merge({}, {dotted: value}), base)
    for key in dotted.split("."):
        node = node[key]
    return node


def _from(base: Path, pattern: Any) -> Any:
    return str(base / pattern) if isinstance(pattern, str) else pattern


# --- what comes out ---------------------------------------------------------------------------------------------------


class Facts(Section):
    """What a program says of itself beside its predictions; each may be absent."""

    parameters: int | None = Field(
        None, description="Numbers that were learned and that predicting needs."
    )
    bytes: int | None = Field(None, description="Size on disk of all that predicting needs.")
    cpu_seconds_train: float | None = Field(
        None, description="CPU time of the process that trained, all its threads."
    )
    texts_per_second: float | None = Field(
        None, description="From text to label, per second of one CPU thread."
    )
    chosen: str | None = Field(None, description="Settings that were chosen on validation data.")


class CellResult(Section):
    """One cell of the grid, or one file of another program's predictions (`seed` null)."""

    variant: str
    seed: int | None = None
    file: str | None = Field(None, description="Name of the predictions file.")
    state: Literal["finished", "failed", "not run"]
    cause: str | None = None
    config: str | None = Field(
        None, description="Digest of the cell's tokenizer, model, training and evaluation."
    )
    figures: dict[str, float] = Field(
        default_factory=dict,
        description="Of the test rows: accuracy, macro_f1, nll, brier, ece, ece_floor. Of the valid rows, a variant's "
        "alone: valid_macro_f1 of the epoch kept.",
    )
    facts: Facts = Facts()


class Spread(Section):
    mean: float
    sd: float | None = Field(
        None, description="Standard deviation over seeds (n - 1); null with one seed."
    )


class Row(Section):
    """One line of the table."""

    variant: str
    finished: int = Field(description="Seeds.")
    failed: int
    planned: int
    figures: dict[str, Spread]
    differences: dict[str, Interval] = Field(
        description="From the baseline: accuracy, macro_f1, nll, brier, ece."
    )
    facts: Facts = Field(description="Means over the finished seeds.")


class Compared(Section):
    """A comparison as far as it has come."""

    name: str
    command: str
    kind: str = Field(DEFAULT_KIND, description="Of task: its metrics are the table's columns.")
    corpus: str | None = Field(
        None, description="Content digest of the validated rows; null before they are read."
    )
    test_rows: int
    unmeasured: tuple[str, ...] | None = Field(
        None, description="Labels without a test row, of which no figure says anything; null: none."
    )
    baseline: str
    confidence: float
    bootstrap_samples: int
    ece_bins: int
    rows: tuple[Row, ...]
    cells: tuple[CellResult, ...]

    def with_rows_of(self, before: Compared) -> Compared:
        """This table, and in it the rows of an earlier one that have more finished cells than they have here, or the
        same figures and differences besides, for which the baseline's cells are missing here.

        So a table outlives the state folder that it was made in. A row is kept where it is of the same test rows and
        its cells have the settings that the grid asks for now; its differences, where the baseline's are the same too.
        """
        if self.corpus not in (None, before.corpus) or (self.name, self.baseline) != (
            before.name,
            before.baseline,
        ):
            return self
        settings = ("confidence", "bootstrap_samples", "ece_bins")
        comparable = all(getattr(self, name) == getattr(before, name) for name in settings)
        wanted = {
            (cell.variant, cell.seed): cell.config for cell in self.cells if cell.file is None
        }
        variants = {variant for variant, _ in wanted}

        def holds(variant: str) -> bool:
            then = [
                cell
                for cell in before.cells
                if cell.variant == variant and cell.state == "finished"
            ]
            return variant not in variants or all(
                wanted.get((variant, cell.seed)) == cell.config for cell in then
            )

        comparable &= holds(self.baseline)
        here = {row.variant: row for row in self.rows}

        def tells_more(row: Row) -> bool:
            now = here[row.variant]
            paired_there = (
                bool(row.differences) and not now.differences and row.figures == now.figures
            )
            return row.finished > now.finished or paired_there

        kept = {
            row.variant: row.model_copy(
                update={
                    "planned": here[row.variant].planned
                    if row.variant in variants
                    else row.planned,
                    "differences": row.differences if comparable else {},
                }
            )
            for row in before.rows
            if row.variant in here and tells_more(row) and holds(row.variant)
        }
        if not kept:
            return self
        then = {(cell.variant, cell.seed): cell for cell in before.cells if cell.file is None}
        return self.model_copy(
            update={
                "corpus": before.corpus,
                "test_rows": before.test_rows,
                "unmeasured": before.unmeasured,
                "rows": tuple(kept.get(row.variant, row) for row in self.rows),
                "cells": (
                    *(
                        then.get((cell.variant, cell.seed), cell) if cell.variant in kept else cell
                        for cell in self.cells
                        if cell.variant in variants or cell.variant not in kept
                    ),
                    *(
                        cell
                        for cell in before.cells
                        if cell.variant in kept and cell.variant not in variants
                    ),
                ),
            }
        )
