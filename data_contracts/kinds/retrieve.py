"""retrieve: from a question to the answer that somebody has written, among all that there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from data_contracts.errors import RecipeError
from data_contracts.kinds.base import Card, Column, Metric, Param, TaskConfig
from data_contracts.section import Section

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract
    from data_contracts.contract.rows import Rows
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.suggest import Choice

_SEEN = 40_000  # questions, each as often as it is seen, that a training is suggested for
_FEW = 2_000
_BEGINNING = 160  # characters of an answer that is not the first


class LexicalConfig(Section):
    """Words and pieces of words that a question shares with an answer, and with the page that it
    stands on, by BM25 (Robertson 1994): fixed functions whose weights in the score are learnt."""

    k1: float = Field(
        default=1.2, gt=0, le=10, description="How soon further occurrences stop counting."
    )
    b: float = Field(
        default=0.75, ge=0, le=1, description="How far the length of an answer is allowed for."
    )
    character_ngrams: int = Field(
        default=4,
        ge=2,
        le=8,
        description="Letters of a piece of a word; of scripts without spaces, pairs of characters "
        "are taken.",
    )
    pages: bool = Field(
        default=True,
        description="Also with the whole page of an answer, where the contract names one.",
    )


class AbstainConfig(Section):
    """When a served model says that nobody has answered a question; no weight depends on it."""

    precision: float | None = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="Share of its answers that are to be right, by the valid split; null: it "
        "always answers.",
    )
    unanswered: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of the questions that are asked to which there is no answer. "
        "Probability and precision hold for such questions.",
    )


class Retrieve(TaskConfig):
    """The right answer of many, learnt from pairs of a question and its answer."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "mrr",
            "mean reciprocal rank",
            "higher",
            100,
            1,
            unit="points",
            column="MRR",
            compared=True,
            note="MRR is the mean of 1/rank of the right answer, 0 beyond the tenth, among all "
            "answers of the corpus; of equal scores the wrong answer stands first.",
        ),
        Metric(
            "recall_at_1",
            "recall at 1",
            "higher",
            100,
            1,
            unit="points",
            column="recall@1",
            compared=True,
            headline=True,
        ),
        Metric("recall_at_5", "recall at 5", "higher", 100, 1, unit="points", column="recall@5"),
        Metric("recall_at_10", "recall at 10", "higher", 100, 1, unit="points", headline=True),
        Metric(
            "precision",
            "share of right answers among those given",
            "higher",
            100,
            1,
            unit="points",
            column="precision",
        ),
        Metric(
            "answered",
            "share of questions that are answered",
            "higher",
            100,
            1,
            unit="points",
            column="answered",
        ),
    )
    validated: ClassVar[tuple[str, ...]] = ("mrr", "recall_at_1", "recall_at_5", "recall_at_10")
    inputs: ClassVar[tuple[Column, ...]] = (Column("question", "string"),)
    params: ClassVar[tuple[Param, ...]] = (
        Param("top", "long", "Answers in the ranking."),
        Param("threshold", "double", "It answers from this probability on; 0: always."),
    )
    model_type: ClassVar[str] = "retrieval"
    watched: ClassVar[tuple[str, ...]] = ("probability",)
    words: ClassVar[str] = "Answer finder"
    command: ClassVar[str] = "ask"
    judged: ClassVar[tuple[str, ...]] = ("abstain", "top", "notice")
    defaults: ClassVar[Mapping[str, Any]] = {
        "tokenizer": {"kind": "bpe"},
        # Neither noise nor dropout: with them it takes long until sections are told apart at all
        # (docs/method.md).
        "model": {
            "embedding": {"size": 128},
            "encoder": {"kind": "tanh", "hidden_size": 128},
            "ngrams": {"buckets": 20_000, "max_n": 2, "size": 128},
            "reparameterization": {"kind": "none"},
        },
        "window": {"max_length": 128, "overlap": 0},
        "training": {"batch_size": 32, "learning_rate": 0.005},
        "promotion": {"slices": None},
    }

    kind: Literal["retrieve"] = "retrieve"  # pyright: ignore[reportIncompatibleVariableOverride]
    vector_size: int = Field(
        default=128, ge=1, le=8192, description="Size of a question's and an answer's vector."
    )
    answer_windows: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Windows of an answer, from its beginning, whose mean is its vector; words "
        "count wherever they stand.",
    )
    hard_negatives: int = Field(
        default=3,
        ge=0,
        le=100,
        description="Other answers of the same page that a question is held against in training, "
        "beside those of the batch.",
    )
    lexical: LexicalConfig | None = Field(
        default_factory=LexicalConfig,
        description="Shared words beside the network; null: none.",
    )
    abstain: AbstainConfig = Field(default_factory=AbstainConfig)
    top: int = Field(default=5, ge=1, le=1000, description="Answers in a served ranking.")
    notice: str | None = Field(
        default=None,
        max_length=500,
        description='What is said beside every answer, as "This is not medical advice."',
    )

    @property
    def parts(self) -> tuple[str, ...]:
        return ("question_tower", "answer_tower")

    def refusals(self, recipe: Recipe) -> Iterator[str]:
        if recipe.distillation is not None:
            yield "task.kind retrieve learns from no teacher: leave distillation out"

    @classmethod
    def suggest(
        cls, rows: Rows, contract: DataContract, backbone: str | None, folder: str | None
    ) -> tuple[str, list[Choice]]:
        from data_contracts.recipe.suggest import Choice

        columns = contract.sources
        sides = [rows.columns.get(columns[role], []) for role in ("question", "answer")]
        pairs = sum(all(cell and cell.strip() for cell in row) for row in zip(*sides, strict=True))
        if not pairs:
            raise RecipeError(
                f"The rows of contract {contract.name} have no question with its answer.",
                "Check the columns that it names.",
            )
        more = "" if rows.complete else " or more"
        epochs = min(20, max(3, round(_SEEN / pairs)))
        batch = 16 if pairs < _FEW else 32
        choices = [
            Choice(
                "training",
                {"max_epochs": epochs, "batch_size": batch, "patience": epochs},
                f"{round(epochs * pairs, -3):,} questions in all; the best epoch by validation is "
                "kept.",
            )
        ]
        if "page" not in columns:
            choices.append(
                Choice(
                    "task",
                    {"kind": "retrieve", "hard_negatives": 0},
                    "The contract names no page, so that no answer is known to be near another.",
                )
            )
        unused = "" if backbone is None else " They are learnt from scratch, without the backbone."
        return f"Suggested for {pairs:,} questions{more}.{unused}", choices

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        return (
            Column("answer", "string", required=False),
            Column("link", "string", required=False),
            Column("probability", "double", required=False),
            Column("ranking", "string", required=False),
            *((Column("notice", "string", required=False),) if self.notice else ()),
        )

    def served_facts(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """The probability of an answer and from where on it is given, as the valid split has it."""
        decided = measured.get("abstention", {"weights": [], "threshold": 0.0})
        return {"abstention": decided, "top": self.top, "notice": self.notice or ""}

    def card(self, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> Card:
        return Card(
            does=f"Finds the answer to a question among {measured.get('answers', 0):,} that were "
            "written",
            how="A question's vector is held against those of all answers, and its words against "
            "theirs.",
            answers="answer (null where nobody has answered), link, probability, ranking (JSON)",
            windows="the first ones make up its vector, and words count wherever they stand",
            limits=(
                *((self.notice,) if self.notice else ()),
                "It knows the answers of the corpus that it was made with, as they stood there.",
                f"Probabilities hold where {self.abstain.unanswered:.0%} of the questions have no "
                "answer (task.abstain.unanswered).",
            ),
        )

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The ranking as a list and not as text."""
        ranking = answer.get("ranking")
        return {**answer, "ranking": None if ranking is None else json.loads(ranking)}

    @classmethod
    def brief(cls, answer: Mapping[str, Any]) -> dict[str, str]:
        if answer["probability"] is None:
            return {"answer": "", "probability": "", "link": ""}
        return {
            "answer": answer["answer"] or "(nobody has answered this)",
            "probability": f"{answer['probability']:.2f}",
            "link": answer["link"] or "",
        }

    @classmethod
    def read_out(cls, answer: Mapping[str, Any]) -> str:
        ranking = json.loads(answer["ranking"])
        sure = f"probability {answer['probability']:.2f}"
        if answer["answer"] is None:
            lines = [f"Nobody has answered this, as far as is known ({sure}). What comes nearest:"]
            others = ranking
        else:
            source = f"{answer['link']}, " if answer["link"] else ""
            lines = [answer["answer"], f"({source}{sure})"]
            others = ranking[1:]
            lines += ["", "Also found:"] if others else []
        for one in others:
            source = f" ({one['link']})" if one["link"] else ""
            lines.append(f"- {_beginning(one['answer'])}{source}")
        if answer.get("notice"):
            lines += ["", answer["notice"]]
        return "\n".join(lines)


def _beginning(text: str) -> str:
    """Of an answer, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _BEGINNING else f"{line[: _BEGINNING - 1].rstrip()}…"
