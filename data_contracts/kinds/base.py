"""What every kind of task says of itself, without torch: its options, its figures, what it is asked
and answers.

A kind enters by being defined: a subclass of `TaskConfig` with a `kind` of its own is found by
that name in every recipe, and the JSON schema lists it. So a kind may live in a user's own
package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from data_contracts.errors import RecipeError
from data_contracts.open_kinds import AnyKind
from data_contracts.section import Section

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract
    from data_contracts.contract.rows import Rows
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.suggest import Choice


@dataclass(frozen=True)
class Metric:
    """One figure: its name everywhere, its words, its unit, and which way is better.

    The only place that knows. In MLflow it is `test/<name>`; with `per` there is one value for each
    of a kind's parts (`test/f1/<label>` of `Metric("f1", ..., per="class")`). Where else it stands
    is told by `shown`: a figure of the page alone, or of comparisons alone, is none of the model's
    own, so no bound may ask for it.
    """

    name: str
    words: str
    better: Literal["higher", "lower"]
    scale: float = 1.0  # 100: shown in points
    digits: int = 3  # behind the point, once scaled
    per: str | None = None
    unit: str | None = None  # once scaled: "points", "nats"
    column: str | None = None  # its heading in the table of a comparison; None: it has no column
    compared: bool = False  # that table also has its difference from the baseline
    note: str = ""  # a sentence below that table, in which {field} is an option of the kind
    shown: Literal["everywhere", "page", "comparison"] = "everywhere"
    headline: bool = False  # one of the few that people look for first, as the kind's first is

    @property
    def begins(self) -> str:
        """Its words where a sentence begins: Macro-F1. A name keeps its letters: chrF."""
        first = self.words.replace("-", " ").split()[0]
        return f"{self.words[0].upper()}{self.words[1:]}" if first.islower() else self.words

    def improves(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.better == "higher" else one < other


@dataclass(frozen=True)
class Column:
    """A column that a served model is asked, or that it answers: MLflow's ColSpec in words."""

    name: str
    type: Literal["string", "double", "long", "boolean"]
    required: bool = True


@dataclass(frozen=True)
class Param:
    """How a served model answers, where whoever asks says it: MLflow's ParamSpec in words."""

    name: str
    type: Literal["string", "double", "long"]
    words: str
    listed: bool = False  # several values


@dataclass(frozen=True)
class Card:
    """A kind's part of a model card, as plain text: it is escaped when it is written."""

    does: str  # "Sorts a text into one of 3 classes"
    parts: tuple[str, ...] = ()  # by name, after it
    how: str = ""  # a sentence on how its answers are made
    answers: str = ""  # what is answered, in the example of use
    windows: str = "their windows are answered together"  # of a document of several
    limits: tuple[str, ...] = ()  # sentences


class TaskConfig(Section):
    """Recipe side of a kind: its options, under `task:`."""

    KINDS: ClassVar[dict[str, type[TaskConfig]]] = {}
    metrics: ClassVar[tuple[Metric, ...]]  # the first is the gate's, the monitor's and the tables'
    inputs: ClassVar[tuple[Column, ...]]  # what a served model is asked
    params: ClassVar[tuple[Param, ...]] = ()  # what may be asked beside, with every question
    # Dotted package of its head.py and objective.py; None: the house's own, `kinds.<kind>`.
    room: ClassVar[str | None] = None
    model_type: ClassVar[str] = "text"  # MLflow's word for such a model
    words: ClassVar[str] = "Text model"  # what one is called, at the beginning of a sentence
    # Fields that shape no weight, only how a model is judged or served.
    judged: ClassVar[tuple[str, ...]] = ()
    # Metrics known after each epoch; empty: all that have no `per`.
    validated: ClassVar[tuple[str, ...]] = ()
    # Columns of `Judge.answers` that a floor on slices looks at by default, before the common ones.
    slices: ClassVar[tuple[str, ...]] = ()
    # Sections of a recipe of this kind where it does not say otherwise, as a person would write
    # them: a causal model, say. They lie below what is written, key by key.
    defaults: ClassVar[Mapping[str, Any]] = {}
    # Every character counts, so that a tokenizer has to give each text back as it was.
    lossless: ClassVar[bool] = False
    # What a person types to ask a model of this kind, and no other: its options are `params`.
    command: ClassVar[str] = "predict"

    kind: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the network that are this kind's own, by name."""
        return ()

    def refusals(self, recipe: Recipe) -> Iterator[str]:
        """Why these options cannot be had beside the rest of the recipe, each with its remedy."""
        return iter(())

    @classmethod
    def suggest(
        cls, rows: Rows, contract: DataContract, backbone: str | None, folder: str | None
    ) -> tuple[str, list[Choice]]:
        """What rows a recipe is suggested for, in a sentence, and the sections that suit them.

        Args:
            backbone: a pretrained model as the recipe will name it, where one is at hand.
            folder: where it lies, with its tokenizer.json.
        Raises:
            RecipeError: where the kind suggests none, or these rows are none to learn from.
        """
        raise RecipeError(
            f"Contract {contract.name} is of kind {contract.kind}, which suggests no recipe.",
            f"Write one by hand, with task: {{kind: {contract.kind}}}.",
        )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        TaskConfig.KINDS[cls.model_fields["kind"].default] = cls

    @property
    def learnt(self) -> dict[str, Any]:
        """What of these options shapes the weights, for the key of a training."""
        told = self.identity()
        return {name: value for name, value in told.items() if name not in self.judged}

    @property
    def noted(self) -> dict[str, Any]:
        """The options that notes of the metrics name: how a comparison's figures are measured."""
        named = {name for one in self.metrics for _, name, _, _ in Formatter().parse(one.note)}
        told = self.model_dump(mode="json")
        return {name: value for name, value in told.items() if name in named}

    @classmethod
    def candidates(
        cls, rows: Rows, contract: DataContract, choices: list[Choice]
    ) -> dict[str, tuple[Choice, ...]]:
        """What is worth measuring beside a suggestion on these rows: by name, what each changes of
        it; the suggestion itself changes nothing, and is the first.

        Args:
            choices: what `suggest` gave for these rows.
        """
        from data_contracts.recipe.candidates import of_any_kind

        return of_any_kind(choices)

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        """What a served model answers. `facts`: what the data said, from the manifest."""
        raise NotImplementedError

    def served_facts(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Facts of the bundle that the evaluation decides; `measured`: its `Judge.facts`."""
        return {}

    def card(self, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> Card:
        """What a reader of the registry should know of a model of this kind.

        Args:
            facts: what the data said.
            measured: `Judge.facts` of the evaluation.
        """
        asked = ", ".join(one.name for one in self.inputs)
        told = ", ".join(one.name for one in self.outputs(dict(facts)))
        return Card(does=f"Answers {told} to {asked}", answers=told)

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> dict[str, Any]:
        """A row of `outputs` as JSON for a person; all are None where the row was refused."""
        return dict(answer)

    @classmethod
    def brief(cls, answer: Mapping[str, Any]) -> dict[str, str]:
        """The same as cells of a terminal's table, the most telling first."""
        return {
            name: f"{value:.6g}" if isinstance(value, float) else str(value)
            for name, value in answer.items()
        }

    @classmethod
    def read_out(cls, answer: Mapping[str, Any]) -> str:
        """The same as lines for a person who asked one question."""
        return "\n".join(f"{name}: {value}" for name, value in cls.brief(answer).items())

    # Columns of the answers, or of `certainty`, that a monitor watches; empty: of the texts alone.
    watched: ClassVar[tuple[str, ...]] = ()
    # Why draws of the noise on the weights say nothing of its answers; empty: they do.
    undrawn: ClassVar[str] = "this kind has no probabilities of several answers to compare"

    @classmethod
    def certainty(
        cls, answers: Mapping[str, Sequence[Any]], draws: Sequence[Mapping[str, Sequence[Any]]]
    ) -> dict[str, list[float]]:
        """Columns that say how sure each answer is, beside what it says of that itself.

        Args:
            answers: columns of `outputs`, of rows that have an answer.
            draws: the same rows' answers under draws of the noise; none where nobody asked.
        """
        return {}

    @classmethod
    def metric(cls, name: str) -> Metric:
        """The metric of a name; `f1/refund` is a value of `f1`."""
        return next(one for one in cls.metrics if one.name == name.partition("/")[0])

    @classmethod
    def monitored(cls) -> tuple[str, ...]:
        """The metrics that `training.monitor` may name, each as MLflow has it."""
        names = cls.validated or tuple(one.name for one in cls.metrics if one.per is None)
        return tuple(f"val/{name}" for name in names)


AnyTask = AnyKind(TaskConfig)
Task = Annotated[TaskConfig, AnyTask]  # a field that takes the options of any kind
