"""span: from a question and a text to the piece of the text that answers it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from data_contracts.contract.scripts import script_of
from data_contracts.errors import RecipeError
from data_contracts.kinds.base import Card, Column, Metric, TaskConfig
from data_contracts.section import Section

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract
    from data_contracts.contract.rows import Rows
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.suggest import Choice

_SEEN = 20_000  # questions, each as often as it is seen, that a training is suggested for
_MANY = 20_000  # questions, from which on words are seen often enough for a large vocabulary
_WINDOWS = (128, 256, 384, 512, 768)  # tokens
_ASKED = 40  # of them, for the question
_SPELLED = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
_POINTS = {"scale": 100, "digits": 1, "unit": "points"}


class ReaderConfig(Section):
    """What reads the context once more, beside what each of its tokens sees of the question."""

    attention_size: int = Field(
        default=64, ge=1, le=4096, description="Units by which context and question are compared."
    )
    mixed_size: int = Field(
        default=128, ge=1, le=8192, description="Units of a token beside its question."
    )
    hidden_size: int = Field(
        default=64, ge=1, le=8192, description="Units of the second LSTM, in each direction."
    )
    rank: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Units by which the first and the last token of a span are compared.",
    )


class Span(TaskConfig):
    """The piece of a text that answers a question, or that none does."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "f1",
            "F1",
            "higher",
            column="F1",
            compared=True,
            note="F1 and exact match count as SQuAD's program does, and as CMRC's where a script "
            "has no spaces. Intervals resample contexts, each with all of its questions.",
            **_POINTS,
        ),
        Metric(
            "exact_match",
            "exact match",
            "higher",
            column="exact match",
            compared=True,
            headline=True,
            **_POINTS,
        ),
        Metric("answered", "share of questions answered", "higher", shown="page"),
        Metric("right_of_answered", "share of the answers that are right", "higher", shown="page"),
        Metric("f1_at_80", "F1 of the surest 80 %", "higher", shown="page", **_POINTS),
    )
    inputs: ClassVar[tuple[Column, ...]] = (
        Column("question", "string"),
        Column("context", "string"),
    )
    model_type: ClassVar[str] = "question-answering"
    watched: ClassVar[tuple[str, ...]] = ("probability", "outcome")
    words: ClassVar[str] = "Reader"
    judged: ClassVar[tuple[str, ...]] = ("choose", "precision")
    validated: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {
            "embedding": {"size": 128},
            "encoder": {"kind": "bilstm_attention", "hidden_size": 96},
            "dropout": 0.2,
            "reparameterization": {"kind": "multiplicative_noise"},
        },
        "window": {"max_length": 384, "overlap": 96},
        "training": {"batch_size": 16, "learning_rate": 0.003},
        "promotion": {"slices": None},
    }

    kind: Literal["span"] = "span"  # pyright: ignore[reportIncompatibleVariableOverride]
    reader: ReaderConfig = Field(default_factory=ReaderConfig)
    max_answer: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Tokens of an answer at most; null: what 99 % of the train answers have room "
        "in.",
    )
    recurring: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="Made-up rows beside each row that is learnt: a span that stands twice in a "
        "context, asked for by what stands round one of the two (after Splinter, Ram 2021); 0: "
        "none.",
    )
    choose: Literal["likeliest", "expected_f1"] = Field(
        default="expected_f1",
        description="Which span is answered: the likeliest, or that which overlaps most, by F1, "
        "with the forty likeliest (expected_f1).",
    )
    precision: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the answers that are to be right (exact match): a question whose "
        "answer is less sure than that asks for, by the valid split, gets none; null: each is "
        "answered.",
    )

    @property
    def parts(self) -> tuple[str, ...]:
        return ("mix", "reader", "points", "pairs", "prior", "nothing")

    def refusals(self, recipe: Recipe) -> Iterator[str]:
        if recipe.model.ngrams is not None:
            yield (
                "model.ngrams are one vector of a whole document, and an answer is looked for at "
                "each token: leave them out"
            )
        if recipe.distillation is not None:
            yield "task.kind span learns from no teacher: leave distillation out"
        if recipe.window.max_length < 16:
            yield (
                f"window.max_length is {recipe.window.max_length}, which a question and a piece of "
                "its context share: set it to 16 or more"
            )

    @classmethod
    def suggest(
        cls, rows: Rows, contract: DataContract, backbone: str | None, folder: str | None
    ) -> tuple[str, list[Choice]]:
        cells = {role: rows.columns.get(name, []) for role, name in contract.sources.items()}
        contexts = [context for context in cells["context"] if context and context.strip()]
        if not contexts:
            raise RecipeError(
                f"The rows of contract {contract.name} have no context to look for answers in.",
                "Check the columns that it names.",
            )
        more = "" if rows.complete else " or more"
        head = f"Suggested for {len(contexts):,} questions{more}."
        if backbone is not None:
            return head, _fine_tuned(len(contexts), backbone)
        return head, _from_scratch(contexts)

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        """No answer is null; `outcome` says whether there is none, or none that is sure enough."""
        return (
            Column("answer", "string", required=False),
            Column("answer_start", "long", required=False),
            Column("probability", "double", required=False),
            Column("outcome", "string", required=False),
        )

    def served_facts(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        return {"decision": measured["decision"], "choose": self.choose}

    def card(self, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> Card:
        return Card(
            does=f"Finds in a text (most were of {facts['script']} script) what answers a question",
            how="The answer is a piece of the text, letter by letter; answer_start counts "
            "characters (Unicode code points) from 0.",
            answers="answer, answer_start, probability (that it is right), outcome",
            windows="their spans are compared, and the best of all is answered",
            limits=(
                *_bounds(facts, measured),
                "Nobody has checked that the text itself is right.",
                "A question is read up to half of a window; the first part of a longer one is.",
            ),
        )

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(answer)
        if found.get("probability") is not None:
            found["probability"] = round(float(found["probability"]), 6)
        return found

    @classmethod
    def brief(cls, answer: Mapping[str, Any]) -> dict[str, str]:
        if answer["outcome"] is None:
            return {"answer": "", "probability": "", "outcome": ""}
        return {
            "answer": answer["answer"] or "",
            "probability": f"{answer['probability']:.3f}",
            "outcome": answer["outcome"],
        }


def _bounds(facts: Mapping[str, Any], measured: Mapping[str, Any]) -> Iterator[str]:
    """What its answers are to be held against."""
    if "sentence_f1" in measured:
        yield (
            "The sentence that has most of the question's words, as a whole, has F1 "
            f"{measured['sentence_f1']:.3f} on the same rows: what is above is more than words."
        )
    if not facts["unanswerable"]:
        yield (
            "It was trained on questions that their text answers; of others it answers what is "
            "likeliest, with a probability that no such question was measured for."
        )
    if not measured.get("promised", True):
        yield "No answer was sure enough on the valid split for the precision that was asked for."


def _from_scratch(contexts: list[str]) -> list[Choice]:
    from data_contracts.recipe.suggest import Choice

    scripts = [script_of(context) for context in contexts]
    script = max(sorted(set(scripts)), key=scripts.count)
    if script in _SPELLED:
        tokenizer: dict[str, Any] = {"kind": "character"}
        why = f"{script} has no spaces: an answer may begin at any character."
    elif len(contexts) < _MANY:
        tokenizer = {"kind": "bpe", "vocab_size": 4000}
        why = "Pieces of words: of few questions, most words are seen too rarely to be learnt."
    else:
        tokenizer = {"kind": "word", "vocab_size": 30000}
        why = "Words: of so many questions, most are seen often enough to be learnt."
    length = sorted(map(len, contexts))[len(contexts) * 9 // 10]
    tokens = length if script in _SPELLED else length // 4
    window = next((size for size in _WINDOWS if tokens + _ASKED <= size), _WINDOWS[-1])
    fit = "Nine contexts in ten fit" if tokens + _ASKED <= window else "Many contexts do not fit"
    epochs = min(12, max(3, round(_SEEN / len(contexts))))
    return [
        Choice("tokenizer", tokenizer, why),
        Choice(
            "window",
            {"max_length": window, "overlap": window // 4},
            f"{fit} beside their question; longer ones are read in several windows.",
        ),
        Choice(
            "training",
            {"max_epochs": epochs, "patience": epochs},
            f"{epochs * len(contexts):,} questions in all; the best epoch by validation is kept.",
        ),
    ]


def _fine_tuned(questions: int, backbone: str) -> list[Choice]:
    from data_contracts.recipe.suggest import Choice

    epochs = 6 if questions < _MANY else 3
    method = {"kind": "low_rank", "rank": 16, "noise": {"kind": "multiplicative_noise"}}
    return [
        Choice("window", {"max_length": 256, "overlap": 64}, "What a small backbone reads well."),
        Choice(
            "model",
            {
                "encoder": {"kind": "pretrained", "path": backbone},
                "reparameterization": method,
            },
            "Factors of low rank beside the backbone's weights; the reader is trained whole.",
        ),
        Choice(
            "training",
            {"max_epochs": epochs, "patience": epochs, "learning_rate": 0.002},
            "Few epochs: each costs minutes of CPU.",
        ),
    ]
