"""generate: a language model, which goes on with a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from data_contracts.errors import RecipeError
from data_contracts.kinds.base import Card, Column, Metric, Param, TaskConfig
from data_contracts.recipe.model import CausalTransformerConfig, LSTMConfig, PretrainedConfig
from data_contracts.section import Section

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract
    from data_contracts.contract.rows import Rows
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.suggest import Choice


_SMALL = 2_000_000  # characters


class CountedConfig(Section):
    """What stood after the last tokens in the train split, as Kneser-Ney smooths it (Chen & Goodman
    1999), beside the network: how far each order is trusted is learnt with it (docs/method.md)."""

    order: int = Field(
        default=7,
        ge=1,
        le=12,
        description="Longest run of tokens that is counted, the one that follows included.",
    )


class WritingConfig(Section):
    """How a served model writes where nobody says otherwise; no weight depends on it."""

    temperature: float = Field(
        default=0.8,
        ge=0,
        le=1e9,
        description="0: the likeliest token always; 1: as the model has it; higher: more evenly.",
    )
    top_k: int = Field(
        default=0, ge=0, le=2**31 - 1, description="Among the k likeliest tokens; 0: among all."
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Among the likeliest tokens that together have this probability (Holtzman "
        "2020).",
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=1,
        le=1e6,
        description="What log-probabilities of tokens that stand there already are multiplied by "
        "(Keskar 2019); 1: nothing.",
    )
    no_repeat_ngram: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="No run of so many tokens is written twice; 0: any may be.",
    )
    max_tokens: int = Field(default=200, ge=1, le=1_000_000, description="Tokens at most.")
    stop: tuple[str, ...] = Field(
        default=(), max_length=16, description="Texts before which a completion ends."
    )
    seed: int = Field(
        default=0, ge=0, le=2**63 - 1, description="The same model, prompt and seed: the same text."
    )


class Generate(TaskConfig):
    """The next token of a text, learnt from documents or from pairs of prompt and completion."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "bits_per_byte",
            "bits per byte",
            "lower",
            unit="bits",
            column="bits/byte",
            compared=True,
            note="Bits per byte count what each document costs, its end included, over its bytes "
            "in UTF-8: so they compare whatever the tokens are.",
        ),
        Metric(
            "perplexity",
            "perplexity per token",
            "lower",
            digits=2,
            unit="",
            column="perplexity",
            headline=True,
        ),
        Metric(
            "accuracy",
            "next-token accuracy",
            "higher",
            100,
            1,
            unit="points",
            column="next",
            headline=True,
        ),
        Metric(
            "ece",
            "calibration error (ECE)",
            "lower",
            100,
            1,
            unit="points",
            column="ECE",
            headline=True,
        ),
    )
    inputs: ClassVar[tuple[Column, ...]] = (Column("prompt", "string", required=False),)
    params: ClassVar[tuple[Param, ...]] = (
        Param("temperature", "double", "0: the likeliest token; higher: more evenly."),
        Param("top_k", "long", "Among the k likeliest tokens; 0: among all."),
        Param("top_p", "double", "Among the likeliest that together have this probability."),
        Param("repetition_penalty", "double", "1: none; higher: what stands there comes less."),
        Param("no_repeat_ngram", "long", "No run of so many tokens twice; 0: any."),
        Param("max_tokens", "long", "Tokens at most."),
        Param("stop", "string", "A text before which it ends; may be given again.", listed=True),
        Param("seed", "long", "The same model, prompt and seed: the same text."),
    )
    model_type: ClassVar[str] = "text-generation"
    words: ClassVar[str] = "Language model"
    lossless: ClassVar[bool] = True
    command: ClassVar[str] = "write"
    judged: ClassVar[tuple[str, ...]] = ("adaptive", "ece_bins", "samples", "writing")
    validated: ClassVar[tuple[str, ...]] = ("bits_per_byte", "perplexity", "accuracy")
    defaults: ClassVar[Mapping[str, Any]] = {
        "tokenizer": {"kind": "bpe", "lossless": True},
        "model": {
            "embedding": {"size": 128, "init_std": 1.0},
            "encoder": {"kind": "lstm", "hidden_size": 256},
            "reparameterization": {"kind": "multiplicative_noise"},
        },
        "window": {"max_length": 128, "overlap": 16},
        # A row has a hundred answers to learn from, and not one.
        "training": {"batch_size": 16, "learning_rate": 0.004},
        "promotion": {"slices": None},
    }

    kind: Literal["generate"] = "generate"  # pyright: ignore[reportIncompatibleVariableOverride]
    counted: CountedConfig | None = Field(
        default_factory=CountedConfig,
        description="Counts of the train split beside the network; null: none.",
    )
    adaptive: bool = Field(
        default=False,
        description="Where it is served and judged, the counted table goes on counting through "
        "each text, by itself (Kuhn & De Mori 1990); no weight changes.",
    )
    ece_bins: int = Field(
        default=15,
        ge=2,
        le=1000,
        description="Equal-width confidence bins of the calibration error.",
    )
    samples: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Texts that the report shows, written after beginnings of the test split.",
    )
    writing: WritingConfig = Field(default_factory=WritingConfig)

    @property
    def parts(self) -> tuple[str, ...]:
        return ("gate",) if self.counted else ()

    def refusals(self, recipe: Recipe) -> Iterator[str]:
        encoder = recipe.model.encoder
        left_to_right = (LSTMConfig, CausalTransformerConfig, PretrainedConfig)
        if not isinstance(encoder, left_to_right):
            yield (
                f"task.kind generate writes from left to right, and model.encoder.kind "
                f"{encoder.kind} reads what stands behind a word too: choose lstm or "
                "causal_transformer, or the path of a causal decoder"
            )
        if recipe.model.ngrams is not None:
            yield (
                "model.ngrams are of whole documents, whose end a model that writes does not know: "
                "leave them out; task.counted counts what stands before a token"
            )
        if recipe.distillation is not None:
            yield "task.kind generate learns from no teacher: leave distillation out"
        if self.adaptive and self.counted is None:
            yield "task.adaptive goes on with the counts of task.counted, and there are none"
        longest = self.counted.order - 1 if self.counted else 0
        if longest > recipe.window.overlap + 1:
            yield (
                f"task.counted.order {longest + 1} looks back {longest} tokens, and a window "
                f"begins with {recipe.window.overlap + 1} that stood before: window.overlap has to "
                f"be {longest - 1} or more"
            )

    @classmethod
    def suggest(
        cls, rows: Rows, contract: DataContract, backbone: str | None, folder: str | None
    ) -> tuple[str, list[Choice]]:
        from data_contracts.recipe.suggest import Choice

        texts = [rows.columns.get(column, []) for column in contract.sources.values()]
        characters = sum(len(text) for column in texts for text in column if text)
        if not characters:
            raise RecipeError(
                f"The rows of contract {contract.name} have no text to learn from.",
                "Check the columns that it names.",
            )
        small = characters < _SMALL
        head = f"Suggested for {len(rows):,} rows of {characters:,} characters."
        choices = [
            Choice(
                "tokenizer",
                {"kind": "bpe", "lossless": True, "vocab_size": 2000 if small else 8000},
                "Few tokens for few texts: 2,000 took .018 bits per byte off 8,000 on the bundled "
                "stories, in a quarter of the time.",
            ),
            Choice(
                "training",
                {"max_epochs": 3 if characters > _SMALL // 4 else 8, "batch_size": 16},
                "The counted table knows by heart what a network would need more epochs for.",
            ),
        ]
        if backbone is None:
            return head, choices
        path = {"kind": "pretrained", "path": backbone}
        method = {"kind": "low_rank", "rank": 16, "noise": {"kind": "multiplicative_noise"}}
        model = {"encoder": path, "reparameterization": method}
        why = "Low rank with noise is what did best for classifiers; for texts it was not measured."
        return head, [Choice("model", model, why), choices[1]]

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        return (
            Column("completion", "string", required=False),
            Column("log_probability", "double", required=False),
            Column("tokens", "long", required=False),
            Column("finish_reason", "string", required=False),
        )

    def served_facts(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        return {"adaptive": self.adaptive, "writing": self.writing.model_dump(mode="json")}

    def card(self, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> Card:
        pairs = facts["form"] == "pairs"
        before = f", put as {facts['template']!r}," if facts["template"] != "{prompt}" else ""
        return Card(
            does="Completes a prompt" if pairs else "Goes on with a text",
            how=f"A prompt{before} is read whole, however long it is." if pairs else "",
            answers="completion, log_probability (nats), tokens, finish_reason",
            windows="training reads it in windows that share their borders, writing reads it whole",
            limits=(
                "It writes what is likely in texts like those that it was trained on, true or not.",
                "The same model, prompt, parameters and seed give the same text on one machine.",
                "What it has read often enough it may repeat word by word: see memorised in the "
                "report.",
            ),
        )

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> dict[str, Any]:
        return dict(answer)

    @classmethod
    def brief(cls, answer: Mapping[str, Any]) -> dict[str, str]:
        if answer["completion"] is None:
            return {"completion": "", "log-probability": "", "ended by": ""}
        return {
            "completion": answer["completion"],
            "log-probability": f"{answer['log_probability']:.2f}",
            "ended by": answer["finish_reason"],
        }
