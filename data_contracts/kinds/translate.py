"""translate: from a sentence to the same in another language."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from data_contracts.errors import RecipeError
from data_contracts.kinds.base import Card, Column, Metric, Param, TaskConfig
from data_contracts.section import Section, kind_is

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract
    from data_contracts.contract.rows import Rows
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.suggest import Choice

# Entries of the joint vocabulary, up to so many pairs.
_ENTRIES = ((100_000, 4_000), (1_000_000, 8_000), (math.inf, 16_000))
_FEW = 10_000
_SEEN = 300_000  # pairs, each as often as it is seen, that a training is suggested for


class LexicalConfig(Section):
    """Which target tokens stood in pairs with a source token, by IBM Model 1 (Brown 1993), beside
    the network: where to look, and how far to trust it, is learnt with it (docs/method.md)."""

    iterations: int = Field(default=5, ge=1, le=50, description="Rounds of EM.")
    max_entries: int = Field(
        default=20, ge=1, le=1000, description="Target tokens that are kept for a source token."
    )
    max_pairs: int = Field(
        default=50_000,
        ge=1,
        le=10_000_000,
        description="Pairs of the train split that are counted, evenly chosen; some 30 bytes are "
        "held for each pair of their tokens.",
    )


class LSTMDecoderConfig(Section):
    """An LSTM, attention to the source from its states (Luong 2015), and a second LSTM on both."""

    kind: Literal["lstm"] = "lstm"
    hidden_size: int = Field(default=128, ge=1, le=8192, description="Units of each LSTM.")


class TransformerDecoderConfig(Section):
    """Pre-norm Transformer blocks (Vaswani 2017, Xiong 2020) with attention to the source; as wide
    as `embedding.size`."""

    kind: Literal["transformer"] = "transformer"
    num_layers: int = Field(default=2, ge=1, le=48, description="Blocks.")
    num_heads: int = Field(
        default=4, ge=1, le=64, description="Attention heads; twice as many divide embedding.size."
    )
    feedforward_size: int = Field(
        default=512, ge=1, le=32768, description="Units between the two feed-forward layers."
    )


DecoderConfig = Annotated[
    Annotated[LSTMDecoderConfig | TransformerDecoderConfig, Field(discriminator="kind")],
    kind_is(lambda value: "lstm"),
]


class SearchConfig(Section):
    """How a served model looks for a translation where nobody says otherwise; no weight depends on
    it."""

    beam: int = Field(
        default=4, ge=1, le=64, description="Beginnings that are gone on with; 1: greedy."
    )
    length_penalty: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="A translation's log-probability is divided by its tokens to this power (Wu "
        "2016); 0: by nothing, which prefers short ones.",
    )
    max_tokens: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Tokens of a translation at most, and at most three times those of its source "
        "and 16.",
    )


class Translate(TaskConfig):
    """The same in another language, learnt from pairs of texts."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "chrf",
            "chrF",
            "higher",
            100,
            1,
            unit="points",
            column="chrF",
            compared=True,
            note="chrF and BLEU are sacrebleu's (chrF2; BLEU with its tokenizer of the target's "
            "script), of the whole split, upper and lower case told apart.",
        ),
        Metric(
            "bleu",
            "BLEU",
            "higher",
            100,
            1,
            unit="points",
            column="BLEU",
            compared=True,
            headline=True,
        ),
        Metric(
            "nll",
            "negative log-likelihood per target token",
            "lower",
            unit="nats",
            column="NLL",
            headline=True,
        ),
    )
    inputs: ClassVar[tuple[Column, ...]] = (Column("source", "string"),)
    params: ClassVar[tuple[Param, ...]] = (
        Param("beam", "long", "Beginnings that are gone on with; 1: greedy."),
        Param("length_penalty", "double", "0: short ones preferred; 1: by the mean of its tokens."),
        Param("max_tokens", "long", "Tokens at most."),
    )
    model_type: ClassVar[str] = "translation"
    words: ClassVar[str] = "Translator"
    lossless: ClassVar[bool] = True
    command: ClassVar[str] = "translate"
    judged: ClassVar[tuple[str, ...]] = ("search", "draws")
    defaults: ClassVar[Mapping[str, Any]] = {
        "tokenizer": {"kind": "bpe", "lossless": True, "vocab_size": 4000},
        "model": {
            "embedding": {"size": 128, "init_std": 0.3},
            "encoder": {"kind": "bilstm_attention", "hidden_size": 128},
            "dropout": 0.2,
            "reparameterization": {"kind": "multiplicative_noise"},
        },
        "window": {"max_length": 128, "overlap": 0},
        "training": {"batch_size": 32, "learning_rate": 0.006},
        "promotion": {"slices": None},
    }

    kind: Literal["translate"] = "translate"  # pyright: ignore[reportIncompatibleVariableOverride]
    decoder: DecoderConfig = Field(default_factory=LSTMDecoderConfig)
    lexical: LexicalConfig | None = Field(
        default_factory=LexicalConfig,
        description="A dictionary counted from the train split beside the network; null: none.",
    )
    tied: bool = Field(
        default=True,
        description="One table of token vectors for source, target and softmax (Press & Wolf "
        "2017); false: a table each.",
    )
    label_smoothing: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of each target that is spread over all tokens (Szegedy 2016), of the "
        "network's own loss.",
    )
    bpe_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of merges that a training step undoes in a token, and then in its "
        "parts (after Provilkov 2020).",
    )
    r_drop: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Weight of the divergence of two passes over a batch, each with noise and "
        "dropout of its own (Liang 2021); 0: one pass.",
    )
    draws: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="Draws of the weights' noise by which an evaluation asks how sure each "
        "translation is; 0: none. A method without noise has none to draw.",
    )
    search: SearchConfig = Field(default_factory=SearchConfig)

    @property
    def parts(self) -> tuple[str, ...]:
        return ("output", "align", "gate") if self.lexical else ("output",)

    def refusals(self, recipe: Recipe) -> Iterator[str]:
        from data_contracts.recipe.model import PretrainedConfig
        from data_contracts.recipe.tokenizer import ByteTokenizer, CharacterTokenizer

        model, size = recipe.model, recipe.model.embedding.size
        if isinstance(model.encoder, PretrainedConfig):
            yield ("task.kind translate is trained from scratch: choose an encoder without a path")
        if model.ngrams is not None:
            yield (
                "model.ngrams are one vector of a whole document, and a decoder looks at each "
                "token: leave them out"
            )
        if recipe.distillation is not None:
            yield "task.kind translate learns from no teacher: leave distillation out"
        if recipe.window.overlap:
            yield (
                f"window.overlap is {recipe.window.overlap}, and the windows of a long source are "
                "read side by side and share nothing: set it to 0"
            )
        if self.bpe_dropout and isinstance(recipe.tokenizer, CharacterTokenizer | ByteTokenizer):
            yield (
                f"task.bpe_dropout undoes merges, and tokenizer.kind {recipe.tokenizer.kind} has "
                "none: leave it out, or choose bpe with lossless: true"
            )
        decoder = self.decoder
        if isinstance(decoder, TransformerDecoderConfig) and size % (2 * decoder.num_heads):
            yield (
                f"task.decoder.num_heads ({decoder.num_heads}) does not divide embedding.size "
                f"({size}) into even sizes, which rotary positions need"
            )

    @classmethod
    def suggest(
        cls, rows: Rows, contract: DataContract, backbone: str | None, folder: str | None
    ) -> tuple[str, list[Choice]]:
        from data_contracts.recipe.suggest import Choice

        sides = [rows.columns.get(column, []) for column in contract.sources.values()]
        pairs = sum(all(cell and cell.strip() for cell in row) for row in zip(*sides, strict=True))
        if not pairs:
            raise RecipeError(
                f"The rows of contract {contract.name} have no pair to learn from.",
                "Check the columns that it names.",
            )
        entries = next(size for most, size in _ENTRIES if pairs <= most)
        epochs = min(30, max(2, round(_SEEN / pairs)))
        batch = 16 if pairs < _FEW else 32  # so that few pairs are steps enough
        unused = "" if backbone is None else " They are learnt from scratch, without the backbone."
        more = "" if rows.complete else " or more"
        return f"Suggested for {pairs:,} pairs{more}.{unused}", [
            Choice(
                "tokenizer",
                {"kind": "bpe", "lossless": True, "vocab_size": entries},
                f"One vocabulary of both languages: {entries:,} entries, so that each stands in "
                "enough pairs to be learnt.",
            ),
            Choice(
                "training",
                {"max_epochs": epochs, "batch_size": batch},
                f"{round(epochs * pairs, -3):,} pairs in all; the best epoch by validation is "
                "kept.",
            ),
        ]

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        return (
            Column("translation", "string", required=False),
            Column("log_probability", "double", required=False),
            Column("tokens", "long", required=False),
        )

    def served_facts(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        return {"search": self.search.model_dump(mode="json")}

    def card(self, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> Card:
        one, other = facts["source_script"], facts["target_script"]
        return Card(
            does="Translates a text"
            + (f" from {one} script into {other}" if one != other else f" of {one} script"),
            how="Each line is translated by itself, and line ends stay where they are.",
            answers="translation, log_probability (nats), tokens",
            windows="the windows of a long source are read side by side, and attended to together",
            limits=(
                *_floor(measured),
                "It translates texts like those that it was trained on; of others it makes up "
                "what is likely.",
                "The same model, text and parameters give the same translation on one machine.",
                "Nobody has read what it says: names, numbers and negations may be wrong in a "
                "sentence that reads well.",
            ),
        )

    @classmethod
    def brief(cls, answer: Mapping[str, Any]) -> dict[str, str]:
        if answer["translation"] is None:
            return {"translation": "", "log-probability": ""}
        return {
            "translation": answer["translation"],
            "log-probability": f"{answer['log_probability']:.2f}",
        }


def _floor(measured: Mapping[str, Any]) -> Iterator[str]:
    """What its figures are to be held against, and how others come to the same."""
    if "dictionary_chrf" not in measured:
        return
    yield (
        "A dictionary counted from the same train rows has, word by word, chrF "
        f"{measured['dictionary_chrf']:.3f} and BLEU {measured['dictionary_bleu']:.3f}: what is "
        "above is more than words."
    )
    signatures = measured["signatures"]
    yield f"chrF and BLEU are sacrebleu's: {signatures['chrf']} and {signatures['bleu']}."
