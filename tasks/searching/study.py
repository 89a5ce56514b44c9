"""A search as a study of Optuna's, in a database below the state folder, so that it can go on.

# Note [killed is uninterrupted]
What a trial draws is a function of (the search's seed, the trial's number, the field, the trials
told before it): each draw has a generator of its own. A trial that was running when its process was
killed is taken up under its number with what it had drawn, so that its training is found in the
store, or goes on from its checkpoint. With one training at a time the trials of a search that was
killed are those of one that was not.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from data_contracts.errors import NoisefoldError
from data_contracts.recipe.dimensions import Choices, Range, as_text
from data_contracts.recipe.search import CANDIDATE, Overrides, Search
from data_contracts.recipe.searched import TrialResult

FILE = "optuna.db"
_FEW = 10  # finished trials, below which importances say nothing
_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass
class Tried:
    """A trial that is under way: what it changes, and what its training has told so far."""

    trial: Trial
    overrides: Overrides
    epochs: int = 0
    cpu_seconds: float = 0.0
    seen: list[float] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def candidate(self) -> str | None:
        """Whose overrides it was drawn on."""
        return self.trial.params.get(CANDIDATE)

    def goes_on(self, figure: str, epoch: dict[str, Any]) -> bool:
        """Tell the pruner of an epoch; whether the trial is worth another one."""
        self.epochs, self.cpu_seconds = int(epoch["epoch"]), float(epoch["cpu_seconds"])
        self.seen.append(float(epoch[figure]))
        with _quiet():  # an epoch of an earlier attempt was told before
            self.trial.report(self.seen[-1], self.epochs)
            return not self.trial.should_prune()


class Study:
    """The trials of a search: those that are over, and the next one.

    Args:
        folder: of the state; the database is below it.
        key: of the search and its rows: another one has trials of its own.
    Raises:
        NoisefoldError: the database cannot be read, or its study is another search's.
    """

    def __init__(self, search: Search, folder: Path, key: str) -> None:
        self.search = search
        self.spaces = _distributions(search)
        name = f"{search.name} {key}"
        with _readable(folder / FILE), _quiet():
            self._study = optuna.create_study(
                study_name=name,
                storage=_storage(folder / FILE),
                sampler=PerTrial(search),
                pruner=_pruner(search),
                direction="maximize" if search.by.better == "higher" else "minimize",
                load_if_exists=True,
            )
            known = self._study.user_attrs.get("search")
            mine = json.loads(json.dumps(search.identity_of_search()))
            if known is not None and known != mine:
                raise NoisefoldError(
                    f"{folder / FILE} has a study {name} that is another search's.",
                    "Give this search another name.",
                )
            if known is None:
                self._study.set_user_attr("search", mine)
            for point in search.first():
                chosen = {name: self._told(name, value) for name, value in point.items()}
                self._study.enqueue_trial(chosen, skip_if_exists=True)
            self._left = self._study.get_trials(False, states=(TrialState.RUNNING,))

    def ask(self) -> Tried:
        """The next trial: one that a killed process left, or a new one."""
        with _quiet():
            if self._left:
                trial = Trial(self._study, self._left.pop(0)._trial_id)
                for name, space in self.spaces.items():
                    trial._suggest(name, space)
            else:
                trial = self._study.ask(self.spaces)
        chosen = {name: self._meant(name, value) for name, value in trial.params.items()}
        tried = Tried(trial, self.search.overrides_of(chosen))
        trial.set_user_attr("overrides", tried.overrides)
        return tried

    def finish(self, tried: Tried, value: float, epochs: Sequence[Mapping[str, Any]] = ()) -> None:
        """Args:
        epochs: what validation measured after each; a training that was found in the store has
            told none, and the pruner compares with them all the same.
        """
        with _quiet():
            for epoch in epochs:
                tried.trial.report(float(epoch[self.search.figure]), int(epoch["epoch"]))
        if math.isfinite(value):
            self._end(tried, TrialState.COMPLETE, value)
        else:
            self.fail(tried, f"{self.search.figure} is {value}.")

    def prune(self, tried: Tried) -> None:
        self._end(tried, TrialState.PRUNED)

    def fail(self, tried: Tried, cause: str) -> None:
        tried.trial.set_user_attr("cause", cause)
        self._end(tried, TrialState.FAIL)

    def again(self, tried: Tried) -> bool:
        """End a trial that has drawn what an earlier one had, as that one ended; False where there
        is none.
        """
        same = as_text(tried.overrides)
        known = next((one for one in self.results() if as_text(one.overrides) == same), None)
        if known is None:
            return False
        tried.epochs, tried.cpu_seconds = known.epochs, known.cpu_seconds
        if known.state == "finished":
            self.finish(tried, known.value or 0.0)
        elif known.state == "pruned":
            self.prune(tried)
        else:
            self.fail(tried, known.cause or "")
        return True

    def _end(self, tried: Tried, state: TrialState, value: float | None = None) -> None:
        tried.trial.set_user_attr("epochs", tried.epochs)
        tried.trial.set_user_attr("cpu_seconds", tried.cpu_seconds)
        with _quiet():
            self._study.tell(tried.trial, value, state)

    def results(self) -> list[TrialResult]:
        """The trials that are over, by number."""
        ended = self._study.get_trials(False, states=tuple(_STATES))
        return [self._result(one) for one in sorted(ended, key=lambda one: one.number)]

    def importance(self) -> dict[str, float]:
        """Share of each dimension in what tells the best trials from the rest; of few none."""
        done = self._study.get_trials(False, states=(TrialState.COMPLETE,))
        varied = [
            name
            for name, space in self.spaces.items()
            if not space.single() and len({as_text(one.params[name]) for one in done}) > 1
        ]
        if len(done) < _FEW or len(varied) < 2:
            return {}
        with _quiet():
            found = optuna.importance.get_param_importances(self._study, params=varied)
        return {name: float(share) for name, share in found.items()}

    def _result(self, one: FrozenTrial) -> TrialResult:
        better = max if self.search.by.better == "higher" else min
        values = list(one.intermediate_values.values())
        state = _STATES[one.state]
        value = one.value if state == "finished" else better(values, default=None)
        return TrialResult(
            number=one.number,
            candidate=one.params.get(CANDIDATE),
            overrides=one.user_attrs.get("overrides", {}),
            state=state,  # pyright: ignore[reportArgumentType] - of _STATES
            value=None if state == "failed" else value,
            epochs=one.user_attrs.get("epochs", 0),
            cpu_seconds=one.user_attrs.get("cpu_seconds", 0.0),
            cause=one.user_attrs.get("cause"),
        )

    def _told(self, name: str, value: Any) -> Any:
        """A value as Optuna knows it."""
        if name == CANDIDATE or isinstance(self.search.space[name], Range):
            return value
        return as_text(value)

    def _meant(self, name: str, value: Any) -> Any:
        """What a value of Optuna's stands for."""
        space = None if name == CANDIDATE else self.search.space[name]
        if isinstance(space, Range):
            # 0.3, not what three steps of 0.1 come to.
            return round(value, 12) if space.step and isinstance(value, float) else value
        if space is None:
            return value
        return next(one for one in space.choices if as_text(one) == value)


class PerTrial(BaseSampler):
    """A sampler whose draws are a function of the trial and the trials before it. See Note [killed
    is uninterrupted].
    """

    def __init__(self, search: Search) -> None:
        self._seed, self._random = search.seed, search.sampler != "tpe"

    def _of(self, *place: Any) -> BaseSampler:
        text = json.dumps([self._seed, *place], ensure_ascii=False).encode()
        seed = int.from_bytes(blake2b(text, digest_size=4).digest(), "little") >> 1
        return RandomSampler(seed) if self._random else TPESampler(seed=seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        sampler = self._of(trial.number, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def _distributions(search: Search) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    if search.alternatives:
        found[CANDIDATE] = CategoricalDistribution(tuple(search.alternatives))
    for name, space in search.space.items():
        if isinstance(space, Choices):
            found[name] = CategoricalDistribution(tuple(map(as_text, space.choices)))
        elif search.is_float(name):
            found[name] = FloatDistribution(space.low, space.high, log=space.log, step=space.step)
        else:
            low, high = int(space.low), int(space.high)
            found[name] = IntDistribution(low, high, log=space.log, step=int(space.step or 1))
    return found


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    epochs = search.recipe.training.max_epochs
    match search.pruner:
        case "median":
            # In its first quarter a slow learner is not told from a bad one.
            return optuna.pruners.MedianPruner(search.startup, n_warmup_steps=epochs // 4)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(max_resource=max(2, epochs))
        case _:
            return optuna.pruners.NopPruner()


def _storage(path: Path) -> RDBStorage:
    """The database, which appears under its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        new.unlink(missing_ok=True)
        made = RDBStorage(f"sqlite:///{new}")
        made.engine.dispose()
        os.replace(new, path)
    return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import sqlalchemy.exc

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
        raise NoisefoldError(
            f"The trials in {path} cannot be read ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}).",
            "Move the file away, and the search begins anew; trainings that are finished are found "
            "in the store.",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of what is meant: Optuna's experimental parts, and epochs told again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def spent(results: Sequence[TrialResult]) -> float:
    """CPU seconds of the trainings; one that several trials had is counted once."""
    by_recipe: dict[str, float] = {}
    for one in results:
        key = as_text(one.overrides)
        by_recipe[key] = max(by_recipe.get(key, 0.0), one.cpu_seconds)
    return sum(by_recipe.values())
