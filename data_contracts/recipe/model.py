"""The section `model` of a recipe: embedding → encoder → head, and how its weights are
reparameterized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_contracts.recipe.files import digest, vectors_digest
from data_contracts.recipe.methods import MultiplicativeNoise, Reparameterization, Sparse
from data_contracts.section import ByContent, Section, kind_is


class TanhConfig(Section):
    """The source's encoder: h = tanh(W e + b) per token, then mean and max over the document's
    tokens."""

    kind: Literal["tanh"] = "tanh"
    hidden_size: int = Field(default=128, ge=1, le=8192, description="Units per token.")


class LSTMConfig(Section):
    """One LSTM from left to right (Hochreiter & Schmidhuber 1997); the state at the document's
    last token."""

    kind: Literal["lstm"] = "lstm"
    hidden_size: int = Field(default=128, ge=1, le=8192, description="Units.")
    num_layers: int = Field(default=1, ge=1, le=8, description="Stacked layers.")


class BiLSTMConfig(Section):
    """Two LSTMs, one per direction, pooled by additive attention (Bahdanau 2015) with a learned
    query."""

    kind: Literal["bilstm_attention"] = "bilstm_attention"
    hidden_size: int = Field(default=128, ge=1, le=8192, description="Units per direction.")
    num_layers: int = Field(default=1, ge=1, le=8, description="Stacked bidirectional layers.")


class TransformerConfig(Section):
    """Pre-norm Transformer (Xiong 2020), learned positions, mean pooling."""

    kind: Literal["transformer"] = "transformer"
    num_layers: int = Field(default=2, ge=1, le=48, description="Blocks.")
    num_heads: int = Field(
        default=4, ge=1, le=64, description="Attention heads; divides embedding.size."
    )
    feedforward_size: int = Field(
        default=256, ge=1, le=32768, description="Units between the two feed-forward layers."
    )


class CausalTransformerConfig(Section):
    """Pre-norm Transformer (Xiong 2020) from left to right, rotary positions (Su 2021); each token
    attends to the last `window.max_length` tokens."""

    kind: Literal["causal_transformer"] = "causal_transformer"
    num_layers: int = Field(default=4, ge=1, le=48, description="Blocks.")
    num_heads: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Attention heads; divides embedding.size into even sizes.",
    )
    feedforward_size: int = Field(
        default=512, ge=1, le=32768, description="Units between the two feed-forward layers."
    )


class PretrainedConfig(Section):
    """A Hugging Face backbone, encoder or causal decoder, with its own embedding (extra
    `pretrained`).

    Read from safetensors only, and its configuration runs no code of the model's own.
    """

    kind: Literal["pretrained"] = "pretrained"
    path: Annotated[str, ByContent(digest)] = Field(
        description="Folder with config.json and *.safetensors, or a hub name in the local cache."
    )
    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        default="auto",
        description="Which positions make the document's vector; auto: last for a causal decoder, "
        "else mean.",
    )


EncoderConfig = Annotated[
    Annotated[
        TanhConfig
        | LSTMConfig
        | BiLSTMConfig
        | TransformerConfig
        | CausalTransformerConfig
        | PretrainedConfig,
        Field(discriminator="kind"),
    ],
    kind_is(lambda value: "pretrained" if "path" in value else "bilstm_attention"),
]


class NgramConfig(Section):
    """Hashed n-grams of token ids beside the encoder (Joulin 2017,
    https://arxiv.org/abs/1607.01759):
    their mean vector joins the document's."""

    buckets: int = Field(
        default=100_000, ge=16, le=50_000_000, description="Rows of the n-gram table."
    )
    max_n: int = Field(
        default=2, ge=1, le=5, description="Longest n-gram, in tokens; all lengths from 1 are used."
    )
    size: int = Field(default=64, ge=1, le=8192, description="Size of an n-gram's vector.")


class EmbeddingConfig(Section):
    """A table of token vectors, learned from scratch or started from given ones."""

    size: int = Field(default=64, ge=1, le=8192, description="Size of a token's vector.")
    init_std: float = Field(
        default=0.1,
        gt=0,
        le=10,
        description="Std of its first values (docs/method.md has torch's 1.0).",
    )
    bias: bool = Field(
        default=False, description="E = W x + b as the source has it; b joins the table at fold."
    )
    vectors: Annotated[str | None, ByContent(vectors_digest)] = Field(
        default=None,
        description="What known tokens start from: a GloVe or word2vec text file (or .gz), or a "
        "Hugging Face model (folder, or hub name in the local cache), whose input "
        "embeddings are projected to size.",
    )


# Fields that are refused beside a pretrained encoder.
FROM_SCRATCH = ("embedding", "ngrams")


class ModelConfig(Section):
    """Embedding → encoder → head, and how its weights are reparameterized."""

    embedding: EmbeddingConfig = Field(
        default_factory=EmbeddingConfig, description="Of a model from scratch."
    )
    encoder: EncoderConfig = Field(default_factory=BiLSTMConfig)
    ngrams: NgramConfig | None = Field(
        default=None, description="Hashed n-grams beside the encoder; null: none."
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the inputs of each layer set to zero while training (Srivastava "
        "2014), beside any method.",
    )
    reparameterization: Reparameterization = Field(default_factory=MultiplicativeNoise)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the network whose weights are trained, by name."""
        given = isinstance(self.encoder, PretrainedConfig)
        own = ("encoder", "decoder") if given else ("embedding", "encoder", "decoder")
        return (*own, "ngrams") if self.ngrams else own

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        encoder, size = self.encoder, self.embedding.size
        if isinstance(encoder, TransformerConfig) and size % encoder.num_heads:
            raise ValueError(
                f"num_heads ({encoder.num_heads}) does not divide embedding.size ({size})"
            )
        if isinstance(encoder, CausalTransformerConfig) and size % (2 * encoder.num_heads):
            raise ValueError(
                f"num_heads ({encoder.num_heads}) does not divide embedding.size ({size}) into "
                "even sizes, which rotary positions need"
            )
        if isinstance(encoder, PretrainedConfig) and (fault := next(self._idle(), None)):
            raise ValueError(fault)
        return self

    def _idle(self) -> Iterator[str]:
        """What is no use beside a pretrained encoder."""
        if isinstance(self.reparameterization, Sparse):
            yield "sparse is for models from scratch: a pretrained encoder keeps the sizes it has"
        if "embedding" in self.stated() and (idle := sorted(self.embedding.stated())):
            which = ", ".join(f"embedding.{name}" for name in idle)
            yield (
                f"{which} {'is' if len(idle) == 1 else 'are'} for models from scratch: "
                "a pretrained encoder has its own embedding. Leave out what is named "
                "here, or choose an encoder without a path"
            )
        if self.ngrams:
            yield (
                "ngrams is for models from scratch: beside a pretrained encoder, n-grams go "
                "in task.wide"
            )
