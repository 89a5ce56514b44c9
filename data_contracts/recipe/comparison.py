"""The grid of a comparison, and the table that comes out of it.

A grid file (YAML) names one recipe, seeds, and variants as dotted overrides that are laid over the
recipe as `--set` does it: a section given as a mapping replaces the recipe's own.

    name: trec-methods
    recipe: ../recipes/trec.yaml      # a recipe file (relative to this one), a deployment's name,
        or sections inline
    seeds: [0, 1, 2, 3, 4]
    variants:
      dropout: {}                     # the recipe itself
      deterministic: {model.reparameterization: {kind: none}}
      noise: {model.reparameterization: {kind: multiplicative_noise, initial_alpha: 0.2}}
    predictions:                      # other programs on the same test rows: a Parquet file per
        seed TF-IDF + LR: ../results/peers/trec/tfidf-*.parquet
    baseline: dropout                 # a variant, or a name under `predictions`

Relative paths, in overrides too, start at the file's folder.
`lightning_modules.kinds.classify.predictions.write_predictions` writes the Parquet files.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from data_contracts.errors import RecipeError
from data_contracts.recipe import faults
from data_contracts.recipe.overlay import (
    is_name,
    leans_on,
    measured_otherwise,
    misplaced,
    overlaid,
    overrides_from,
)
from data_contracts.recipe.reading import describe, merge, parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.section import Section
from data_contracts.yaml_text import read_yaml


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
    seeds: tuple[int, ...] = Field(
        default=(0, 1, 2), min_length=1, description="Values of training.seed."
    )
    variants: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="Name: overrides by dotted field, as with --set, of task, tokenizer, window, "
        "model, training or distillation, or of execution what changes bits (threads, "
        "accelerator, precision); {} is the recipe itself.",
    )
    predictions: dict[str, str] = Field(
        default_factory=dict,
        description="Name: glob of Parquet files with another program's predictions of the test "
        "rows, one per seed.",
    )
    baseline: str = Field(
        description="The variant, or the name under predictions, that all others are paired with."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _renamed_keys_say_so(
        cls, data: Any, handler: ModelWrapValidatorHandler[Comparison]
    ) -> Comparison:
        try:
            return handler(data)
        except ValidationError as error:
            raise faults.with_new_names(error, cls) from None

    @field_validator("recipe")
    @classmethod
    def _from_itself_alone(cls, recipe: Recipe) -> Recipe:
        if (fault := leans_on(recipe, "comparison", "cell")) is not None:
            raise ValueError(fault)
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
            if not is_name(name):
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
                if (fault := misplaced(dotted, value, "a variant", "the grid's")) is not None:
                    raise ValueError(f"{name}: {fault}")
            if "recipe" in info.data:  # else it has its own fault
                try:
                    variant = overlaid(info.data["recipe"], overrides, name)
                except RecipeError as error:
                    raise ValueError(error.cause) from None
                cls._from_itself_alone(variant)
                if (fault := measured_otherwise(variant, info.data["recipe"])) is not None:
                    raise ValueError(f"{name}: {fault}")
        return variants

    @field_validator("baseline")
    @classmethod
    def _baseline_is_there(cls, baseline: str, info: ValidationInfo) -> str:
        known = [*info.data.get("variants", ()), *info.data.get("predictions", ())]
        if known and baseline not in known:
            raise ValueError(f"there is no variant of this name (there are {', '.join(known)})")
        return baseline

    def cells(self, only: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> list[Cell]:
        """Seed by seed, so that an interrupted comparison has compared something; all, or those
        selected.

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
                    f"{option} {', '.join(unknown)}: not in {self.name} "
                    f"(it has {', '.join(map(str, known))}).",
                    "Select what the grid has, or add it there.",
                )
        return [
            Cell(variant, seed)
            for seed in self.seeds
            for variant in self.variants
            if (not only or variant in only) and (not seeds or seed in seeds)
        ]

    def recipe_of(self, cell: Cell) -> Recipe:
        return overlaid(
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
        ("variants", lambda value: overrides_from(base, value)),
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


def _from(base: Path, pattern: Any) -> Any:
    return str(base / pattern) if isinstance(pattern, str) else pattern
