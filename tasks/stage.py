"""One step of the pipeline: what it makes, what shapes it, how it is found again, and what it
tells.

    @stage(TokenDataset, version=2, shaped_by=("tokenizer",))
    def tokenize(here: Here, corpus: ValidatedCorpus) -> dict[str, Any]: ...

    tokens = tokenize(run, corpus)         # Prefect task, retries, cache, record; a wrong manifest
                                           # is an error of the type checker
    tokens = tokenize.find(run, corpus)    # looks, builds nothing: for plan, compare and gc

The function writes files into `here.out` and returns the manifest's own fields. What is written in
the parts of the recipe that shape a stage bears its identity, and so do its inputs; what is pulled
from the run (settings, tracker, lineage) never does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, cast

from prefect import Task
from prefect.client.schemas import State
from prefect.states import Completed
from typing_extensions import TypeVar

from data_contracts.artifacts import Artifact
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import ExecutionConfig
from data_contracts.section import Section
from tasks.artifacts.store import ArtifactStore, Outcome, Workspace, stage_key
from tasks.retries import STAGE, Stopped
from tasks.settings import Settings
from tasks.tracking.runs import Tracker

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", bound=Artifact)


class Described(Protocol):
    """What every flow is described by, a retrain's `Recipe` as any other's section."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> Any: ...
    @property
    def execution(self) -> ExecutionConfig: ...


# The description of the flow that a step is part of; a retrain's where nothing is said.
C = TypeVar("C", bound=Described, default=Recipe)


class Made:
    """The manifests that a run made or found, by their type."""

    def __init__(self) -> None:
        self._held: dict[type, Artifact] = {}

    def add(self, artifact: Artifact) -> None:
        for kind in type(artifact).__mro__:
            if issubclass(kind, Artifact):
                self._held[kind] = artifact

    def __getitem__(self, kind: type[A]) -> A:
        found = self.get(kind)
        if found is None:
            raise LookupError(f"this run has made no {kind.__name__} yet")
        return found

    def get(self, kind: type[A]) -> A | None:
        found = self._held.get(kind)
        return found if isinstance(found, kind) else None


@dataclass
class RunContext(Generic[C]):
    """What a step may pull from the run that it is part of. Flows carry a step out as a Prefect
    task; this one, for tests and notebooks, just does it.
    """

    recipe: C
    settings: Settings
    store: ArtifactStore
    tracker: Tracker
    lineage: dict[str, str] = field(default_factory=dict)
    made: Made = field(default_factory=Made)
    # What a training asks after each epoch: whether it goes on.
    goes_on: Callable[[dict[str, Any]], bool] | None = None
    # Of an old night that is made up for: its version is judged, and no alias moves.
    moves_aliases: bool = True

    def builds(self, name: str) -> None:
        """Told when a stage's result is not there, before it is made."""

    def carry_out(self, step: Step[..., R], *inputs: Any) -> R:
        result: Any = step.attempt(self, *inputs)
        found: Any = result.data if isinstance(result, State) else result
        if isinstance(found, Stopped):
            raise found
        if isinstance(found, Artifact):
            self.made.add(found)
        return found  # pyright: ignore[reportReturnType] - a State holds what the step makes


def looking(recipe: Recipe, settings: Settings, store: ArtifactStore) -> RunContext:
    """A run that finds and makes artifacts and tells nobody: no run of MLflow's is behind it."""
    return RunContext(recipe, settings, store, tracker=cast(Tracker, None))


class Step(Generic[P, R]):
    """A step that ends in a registry or a decision: Prefect retries, times and shows it, and the
    store holds nothing.
    """

    def __init__(self, work: Callable[Concatenate[RunContext[Any], P], R | State[R]]) -> None:
        self.name: str = work.__name__
        self.__doc__ = work.__doc__
        self.signature = _without_first(inspect.signature(work))
        self._work: Callable[..., R | State[R]] = work

    def __call__(self, run: RunContext[Any], *inputs: P.args, **named: P.kwargs) -> R:
        return run.carry_out(self, *self.bind(*inputs, **named))

    def bind(self, *inputs: Any, **named: Any) -> tuple[Any, ...]:
        """What goes in, in the order of the step's own function."""
        bound = self.signature.bind(*inputs, **named)
        bound.apply_defaults()
        return bound.args

    def attempt(self, run: RunContext[Any], *inputs: Any) -> R | State[R]:
        return self._work(run, *inputs)


step = Step


@dataclass(frozen=True)
class Here(Workspace, Generic[C]):
    """Where one attempt of a stage works: its folders, and the run that it is part of."""

    run: RunContext[C]

    @property
    def recipe(self) -> C:
        return self.run.recipe

    def open(self, artifact: Artifact) -> Path:
        """The artifact's files, in a local folder."""
        return self.run.store.open(artifact)


class Stage(Step[P, A]):
    """A step whose result is an artifact of the store, found again by its key."""

    def __init__(
        self,
        build: Callable[Concatenate[Here[Any], P], dict[str, Any]],
        makes: type[A],
        version: int,
        shaped_by: tuple[str, ...],
        tell: Callable[[A, RunContext[Any]], None] | None = None,
        tell_fault: Callable[[BaseException, RunContext[Any]], None] | None = None,
    ) -> None:
        self.name, self.__doc__ = makes.stage, build.__doc__
        self.signature = _without_first(inspect.signature(build))
        self.makes, self.version, self.shaped_by = makes, version, shaped_by
        self._build: Callable[..., dict[str, Any]] = build
        self._tell, self._tell_fault = tell, tell_fault

    def key(self, recipe: Described, *inputs: Any) -> str:
        """Of what is made, the stage's version, the recipe's parts that shape it and its inputs."""
        return stage_key(self.makes, identities(inputs), self._shape(recipe), self.version)

    def find(self, run: RunContext[Any], *inputs: P.args, **named: P.kwargs) -> A | None:
        """The finished artifact of this run's recipe and these inputs; None where there is none.
        Nothing is built.
        """
        given = self.bind(*inputs, **named)
        return run.store.find(self.makes, self.key(run.recipe, *given))

    def make(self, run: RunContext[Any], *inputs: P.args, **named: P.kwargs) -> Outcome[A]:
        """Find it, or build it; no orchestrator and no tracking server is asked."""
        given = self.bind(*inputs, **named)

        def build(workspace: Workspace) -> dict[str, Any]:
            run.builds(self.name)
            here: Here[Any] = Here(workspace.out, workspace.keep, workspace.key, run)
            made_from = {one.stage: one.key for one in given if isinstance(one, Artifact)}
            return {**self._build(here, *given), "made_from": made_from}

        return run.store.once(
            self.makes,
            inputs=identities(given),
            config=self._shape(run.recipe),
            version=self.version,
            build=build,
        )

    def attempt(self, run: RunContext[Any], *inputs: Any) -> A | State[A]:
        try:
            make: Callable[..., Outcome[A]] = self.make
            outcome = make(run, *inputs)
        except Stopped as stopped:
            # Prefect calls a task that raises failed, which this one has not.
            return Completed(name="Stopped", message=str(stopped), data=cast(Any, stopped))
        except BaseException as fault:
            if self._tell_fault is not None:
                self._tell_fault(fault, run)
            raise
        if self._tell is not None:
            self._tell(outcome.manifest, run)
        return settle(outcome)

    def _shape(self, recipe: Described) -> dict[str, Any]:
        return {part: part_of(recipe, part) for part in self.shaped_by}


def stage(
    makes: type[A],
    *,
    version: int,
    shaped_by: tuple[str, ...] = (),
    tell: Callable[[A, RunContext[Any]], None] | None = None,
    tell_fault: Callable[[BaseException, RunContext[Any]], None] | None = None,
) -> Callable[[Callable[Concatenate[Here[Any], P], dict[str, Any]]], Stage[P, A]]:
    """The decorator of a stage's function.

    Args:
        makes: the manifest; its `stage` is the stage's name.
        version: of the code; raised when the output changes meaning, since no cache sees a helper's
            code.
        shaped_by: dotted parts of the recipe that shape what comes out (`tokenizer`,
            `contract.reading`).
        tell: shows the manifest in the run (MLflow, Prefect, sentences). Called in every run, also
            where the artifact was there already, and again by another attempt: it has to be safe to
            repeat.
        tell_fault: shows in the run why there is no manifest, before the fault goes on.
    """

    def wrap(build: Callable[Concatenate[Here[Any], P], dict[str, Any]]) -> Stage[P, A]:
        return Stage(build, makes, version, shaped_by, tell, tell_fault)

    return wrap


def as_task(step: Step[..., Any], run: RunContext[Any]) -> Task[..., Any]:
    """The step as a Prefect task of this run. Its parameters are the manifests, so that Prefect
    shows what went in.
    """

    def attempt(*inputs: Any, **named: Any) -> Any:
        return step.attempt(run, *step.bind(*inputs, **named))

    attempt.__name__ = attempt.__qualname__ = step.name
    attempt.__doc__ = step.__doc__
    attempt.__signature__ = step.signature
    return Task(attempt, name=step.name, **STAGE)


def settle(outcome: Outcome[A]) -> A | State[A]:
    """The manifest, or a state named `Cached` around it, which both Prefect's UI and the summary
    show as such.
    """
    if not outcome.cached:
        return outcome.manifest
    text = f"Found in the store as {outcome.manifest.key}"
    return Completed(name="Cached", message=text, data=outcome.manifest)


def part_of(recipe: Described, part: str) -> Any:
    """A dotted part of the recipe as JSON for a key: files count by what is in them, wherever they
    lie.
    """
    value: Any = recipe
    for name in part.split("."):
        value = None if value is None else getattr(value, name)
    return value.identity() if isinstance(value, Section) else value


def identities(inputs: tuple[Any, ...]) -> list[Any]:
    """What a stage's key has of its inputs."""
    return ["" if one is None else one.identity for one in inputs]


def _without_first(signature: inspect.Signature) -> inspect.Signature:
    return signature.replace(parameters=list(signature.parameters.values())[1:])
