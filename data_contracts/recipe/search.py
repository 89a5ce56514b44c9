"""A search for a better recipe: what may vary, how it is judged, and how long it may take.

A search file (YAML) names one recipe and the space of what may be changed in it, by dotted fields
as with `--set`:

    name: mails-search
    recipe: mails.yaml                # a file (relative to this one), a deployment, or inline
    space:
      training.learning_rate: {low: 0.001, high: 0.02, log: true}
      model.dropout: {low: 0.0, high: 0.6, step: 0.1}
      model.reparameterization: [{kind: none}, {kind: multiplicative_noise}]
    candidates:                       # tried first, each as it stands
      as it is: {}
      n-grams beside: {task.wide: {max_n: 3}}
    budget: 30m                       # CPU time of the trainings

What is changed is judged on the valid split, by what training measures after each epoch; the test
split is never looked at. Relative paths, in the space too, start at the file's folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import date
from itertools import product
from typing import Any, Literal, TypeAlias

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from data_contracts.errors import RecipeError
from data_contracts.kinds.base import Metric
from data_contracts.recipe import faults
from data_contracts.recipe.dimensions import Dimension, Range, as_text, dimension_of
from data_contracts.recipe.overlay import (
    is_name,
    leans_on,
    measured_otherwise,
    misplaced,
    overlaid,
)
from data_contracts.recipe.recipe import Recipe
from data_contracts.section import Section
from data_contracts.yaml_text import plain

CANDIDATE = "candidate"
"""The name of the dimension that chooses among the candidates; no field is called so."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LEAST = 10.0  # seconds; the smallest training that is worth a comparison takes some
_SHAPES = {"space", "candidates", "sampler", "pruner", "startup"}
_GRID = 10_000  # points; more are no grid that anybody goes through
_CHECKED = 400  # combinations that are tried on the recipe before anything runs, at 4 ms each
_NOTHING: Any = object()
Overrides: TypeAlias = dict[str, Any]


class Search(Section):
    """What of a recipe may vary, by what it is judged, and what the search may cost."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$", description="Lower-case name of the search."
    )
    recipe: Recipe = Field(
        description="What all trials share: source, contract, and every field left alone."
    )
    space: dict[str, Dimension] = Field(
        default_factory=dict,
        description="Dotted field of task, tokenizer, window, model, training or distillation: a "
        "list of choices (values or whole sections), {low, high} with step, or with log: true.",
    )
    candidates: dict[str, Overrides] = Field(
        default_factory=dict,
        description="Name: overrides by dotted field, tried before anything is drawn; {} is the "
        "recipe itself. What they set outside the space is drawn as a whole afterwards.",
    )
    metric: str | None = Field(
        default=None,
        description="The figure of the valid split to search by, by its name in MLflow (val/nll, "
        "say); null: what training.monitor names, otherwise the kind's first.",
    )
    budget: str = Field(
        default="30m",
        description="CPU time of the trainings, those that were pruned or had been done before "
        "among them: a number and s, m or h. No training begins past it.",
    )
    trials: int = Field(default=100, ge=1, le=100_000, description="Most trials.")
    sampler: Literal["tpe", "random", "grid"] = Field(
        default="tpe",
        description="tpe: Tree-structured Parzen Estimator (Bergstra 2011). grid: each point of a "
        "finite space, in its order.",
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        default="median",
        description="Ends a trial early. median: whose best so far is worse than the median of the "
        "others after as many epochs, from a quarter of the recipe's max_epochs on. hyperband: Li "
        "2018.",
    )
    startup: int = Field(
        default=5, ge=0, description="Trials that have to be over before a pruner ends one."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the sampler.")
    seeds: tuple[int, ...] = Field(
        default=(0, 1, 2),
        min_length=1,
        description="Values of training.seed: the first for every trial, all of them for the best "
        "few, which are judged by their mean.",
    )
    finalists: int = Field(
        default=3, ge=1, le=100, description="How many of the best are trained with all seeds."
    )
    parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Trainings at once. With more than one, what is drawn depends on which ends "
        "first.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _renamed_keys_say_so(cls, data: Any, handler: ModelWrapValidatorHandler[Search]) -> Search:
        try:
            return handler(data)
        except ValidationError as error:
            raise faults.with_new_names(error, cls) from None

    @field_validator("recipe")
    @classmethod
    def _from_itself_alone(cls, recipe: Recipe) -> Recipe:
        if (fault := leans_on(recipe, "search", "trial")) is not None:
            raise ValueError(fault)
        return recipe

    @field_validator("space", mode="before")
    @classmethod
    def _dimensions(cls, space: Any) -> Any:
        if not isinstance(space, dict):
            return space
        return {dotted: dimension_of(str(dotted), plain(one)) for dotted, one in space.items()}

    @field_validator("space")
    @classmethod
    def _each_field_once(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        for dotted, one in space.items():
            value = one.ends[0]
            if (fault := misplaced(dotted, value, "a search", "the search's")) is not None:
                raise ValueError(fault)
            for other in space:
                if other.startswith(f"{dotted}."):
                    raise ValueError(
                        f"{dotted} is searched, and {other} within it: give {dotted} whole "
                        "sections as its choices"
                    )
        return space

    @field_validator("candidates", mode="before")
    @classmethod
    def _plain_values(cls, candidates: Any) -> Any:
        return plain(candidates)

    @field_validator("candidates")
    @classmethod
    def _candidates_are_named(cls, candidates: dict[str, Overrides]) -> dict[str, Overrides]:
        for name, overrides in candidates.items():
            if not is_name(name):
                raise ValueError(
                    f"{name!r}: 1 to 60 characters, none of {{ }} | ` and no space at its ends"
                )
            for dotted, value in overrides.items():
                if (fault := misplaced(dotted, value, "a candidate", "the search's")) is not None:
                    raise ValueError(f"{name}: {fault}")
        return candidates

    @field_validator("budget")
    @classmethod
    def _budget_is_a_time(cls, budget: str) -> str:
        seconds = _seconds(budget)
        if seconds is None:
            raise ValueError(f"{budget} is no time: give a number and s, m or h, as 10m")
        if seconds < _LEAST:
            raise ValueError(
                f"{budget} is too short for a training: give {_LEAST:.0f}s at least, and minutes "
                "for a search"
            )
        return budget

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed stands twice in {list(seeds)}")
        if not all(0 <= seed < 2**31 for seed in seeds):  # what training.seed takes
            raise ValueError(f"a seed is a whole number from 0 to {2**31 - 1:,}")
        return seeds

    @field_validator("metric")
    @classmethod
    def _metric_is_measured(cls, metric: str | None, info: ValidationInfo) -> str | None:
        recipe = info.data.get("recipe")
        if metric is not None and recipe is not None:
            known = recipe.task.monitored()
            if metric not in known:
                raise ValueError(
                    f"{metric} is none of {', '.join(known)}, which training measures for "
                    f"{recipe.task.kind} on the valid split"
                )
        return metric

    @model_validator(mode="after")
    def _something_varies(self) -> Search:
        if self.points == 1:
            raise ValueError(
                "space and candidates leave nothing to choose: give a field of the space two "
                "values at least, or name two candidates"
            )
        if self.sampler == "grid" and self.points > _GRID:
            many = "no end" if math.isinf(self.points) else f"{self.points:,.0f} of them"
            raise ValueError(
                f"sampler grid goes through every point of the space, and there is {many} (at most "
                f"{_GRID:,}): give lists of choices or steps, or take tpe"
            )
        for name, overrides in self.candidates.items():
            self._check_candidate(name, overrides)
        self._check_corners()
        return self

    def _check_candidate(self, name: str, overrides: Overrides) -> None:
        for dotted, value in overrides.items():
            if dotted in self.space and not self.space[dotted].holds(value):
                raise ValueError(
                    f"candidates: {name}: {dotted} is {value}, which is not in its space"
                )
            for field in self.space:
                if field != dotted and (
                    field.startswith(f"{dotted}.") or dotted.startswith(f"{field}.")
                ):
                    raise ValueError(
                        f"candidates: {name}: {dotted} and {field} of the space are one within "
                        "the other: leave one of them out"
                    )
        self._check(overrides, f"candidates: {name}")

    def _check_corners(self) -> None:
        """Each choice and each bound alone, laid over the recipe, or over each candidate's."""
        bases = self.alternatives or {"": {}}
        ends = [(dotted, end) for dotted, one in self.space.items() for end in one.ends]
        for base, (dotted, value) in list(product(bases.values(), ends))[:_CHECKED]:
            self._check({**base, dotted: value}, f"space: {dotted}: {_shown(value)}")

    def _check(self, overrides: Overrides, where: str) -> None:
        try:
            found = overlaid(self.recipe, overrides, where)
        except RecipeError as error:
            raise ValueError(error.cause.rstrip(".")) from None
        fault = leans_on(found, "search", "trial") or measured_otherwise(found, self.recipe)
        if fault is not None:
            raise ValueError(f"{where}: {fault}")

    # --- what is asked of it ----------------------------------------------------------------------

    @property
    def by(self) -> Metric:
        """The figure that is searched by."""
        return self.recipe.task.metric(self.figure.removeprefix("val/"))

    @property
    def figure(self) -> str:
        """Its name in MLflow, and in what a training tells."""
        return self.metric or self.recipe.training.monitor or self.recipe.task.monitored()[0]

    @property
    def budget_seconds(self) -> float:
        return _seconds(self.budget) or 0.0

    @property
    def alternatives(self) -> dict[str, Overrides]:
        """What candidates set outside the space, by the name of the first that sets it; empty where
        none sets any.
        """
        beside: dict[str, tuple[str, Overrides]] = {}
        for name in self.candidates:
            found = self._beside(name)
            beside.setdefault(as_text(found), (name, found))
        named = dict(beside.values())
        return named if any(named.values()) else {}

    def _beside(self, name: str) -> Overrides:
        """What a candidate sets outside the space."""
        overrides = self.candidates[name]
        return {key: value for key, value in overrides.items() if key not in self.space}

    @property
    def points(self) -> float:
        """How many recipes there are to try; infinite where a field is not of steps."""
        drawn = math.prod((one.points for one in self.space.values()), start=1)
        return drawn * max(1, len(self.alternatives))

    def first(self) -> Iterator[dict[str, Any]]:
        """What is tried before anything is drawn, by dimension; a field that is not named is drawn.

        The candidates, each with the recipe's own values of the space where they lie in it, or the
        recipe itself; of a grid every point.
        """
        if self.sampler == "grid":
            fields = [list(one.values()) for one in self.space.values()]
            for name, values in product(self.alternatives or [""], product(*fields)):
                chosen = {CANDIDATE: name} if self.alternatives else {}
                yield {**chosen, **dict(zip(self.space, values, strict=True))}
            return
        own = {dotted: self._own(dotted) for dotted in self.space}
        names = {as_text(one): name for name, one in self.alternatives.items()}
        for name, overrides in (self.candidates or {"": {}}).items():
            chosen: dict[str, Any] = {}
            if names:
                chosen[CANDIDATE] = names[as_text(self._beside(name))]
            for dotted, value in own.items():
                value = overrides.get(dotted, value)
                if value is not _NOTHING and self.space[dotted].holds(value):
                    chosen[dotted] = value
            yield chosen

    def _own(self, dotted: str) -> Any:
        """The recipe's own value of a field, as its space has it; None where it has none."""
        own, space = _value(self.recipe, dotted), self.space[dotted]
        if isinstance(space, Range):
            return own
        trials = ((one, overlaid(self.recipe, {dotted: one}, self.name)) for one in space.choices)
        return next((one for one, found in trials if _value(found, dotted) == own), _NOTHING)

    def is_float(self, dotted: str) -> bool:
        """Whether a range is of fractions, though its bounds may be written as whole numbers."""
        one = self.space[dotted]
        return isinstance(one, Range) and (
            one.fractional or isinstance(_value(self.recipe, dotted), float)
        )

    def overrides_of(self, chosen: dict[str, Any]) -> Overrides:
        """What a trial changes of the recipe, where `chosen` has a value for each dimension."""
        beside = self.alternatives.get(chosen.get(CANDIDATE, ""), {})
        return {**beside, **{key: value for key, value in chosen.items() if key != CANDIDATE}}

    def recipe_of(self, overrides: Overrides, seed: int) -> Recipe:
        """The recipe of a trial.

        Raises:
            RecipeError: where values that are each fine make no recipe together.
        """
        return overlaid(self.recipe, {**overrides, "training.seed": seed}, self.name)

    def identity_of_search(self) -> dict[str, Any]:
        """What makes it another search: its trials would not be the same. Its budget, the most
        trials and what follows them may change, and it goes on.
        """
        told = self.model_dump(mode="json", include=_SHAPES)
        return {**told, "seeds": [self.seed, self.seeds[0]], "figure": self.figure}

    def on(self, day: date) -> Search:
        """With a rolling data window fixed, see `Recipe.on`."""
        return self.model_copy(update={"recipe": self.recipe.on(day)})


def _seconds(budget: str) -> float | None:
    number, unit = budget.strip()[:-1], budget.strip()[-1:]
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _value(recipe: Recipe, dotted: str) -> Any:
    """Of a field, as the recipe holds it; None where a section on the way is not there."""
    node: Any = recipe
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, dict) else getattr(node, key, None)
    return node


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
