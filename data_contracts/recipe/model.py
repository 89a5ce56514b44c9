"""The model section of a recipe: embedding → encoder → decoder → softmax, and how its weights are reparameterized."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_contracts.kinds.classify import WideFeatures
from data_contracts.section import Section, kind_is

# --- encoders ---------------------------------------------------------------------------------------------------------


class TanhEncoder(Section):
    """The source's encoder: h = tanh(W e + b) per token, then mean and max over the document's tokens."""

    kind: Literal["tanh"] = "tanh"
    hidden_size: int = Field(128, ge=1, le=8192, description="Units per token.")


class LSTMEncoder(Section):
    """One LSTM from left to right (Hochreiter & Schmidhuber 1997); the state at the document's last token."""

    kind: Literal["lstm"] = "lstm"
    hidden_size: int = Field(128, ge=1, le=8192, description="Units.")
    num_layers: int = Field(1, ge=1, le=8, description="Stacked layers.")


class BiLSTMEncoder(Section):
    """Two LSTMs, one per direction, pooled by additive attention (Bahdanau 2015) with a learned query."""

    kind: Literal["bilstm_attention"] = "bilstm_attention"
    hidden_size: int = Field(128, ge=1, le=8192, description="Units per direction.")
    num_layers: int = Field(1, ge=1, le=8, description="Stacked bidirectional layers.")


class TransformerEncoder(Section):
    """Pre-norm Transformer (Xiong 2020), learned positions, mean pooling."""

    kind: Literal["transformer"] = "transformer"
    num_layers: int = Field(2, ge=1, le=48, description="Blocks.")
    num_heads: int = Field(4, ge=1, le=64, description="Attention heads; divides embedding_dim.")
    feedforward_size: int = Field(
        256, ge=1, le=32768, description="Units between the two feed-forward layers."
    )


class PretrainedEncoder(Section):
    """A Hugging Face backbone, encoder or causal decoder, with its own embedding (extra `pretrained`).

    Read from safetensors only, and its configuration runs no code of the model's own.
    """

    kind: Literal["pretrained"] = "pretrained"
    path: str = Field(
        description="Folder with config.json and *.safetensors, or a hub name in the local cache."
    )
    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        "auto",
        description="Which positions make the document's vector; auto: last for a causal decoder, else mean.",
    )


Encoder = Annotated[
    Annotated[
        TanhEncoder | LSTMEncoder | BiLSTMEncoder | TransformerEncoder | PretrainedEncoder,
        Field(discriminator="kind"),
    ],
    kind_is(lambda value: "pretrained" if "path" in value else "bilstm_attention"),
]


class NgramFeatures(Section):
    """Hashed n-grams of token ids beside the encoder (Joulin 2017, https://arxiv.org/abs/1607.01759): their mean vector
    joins the document's."""

    buckets: int = Field(100_000, ge=16, le=50_000_000, description="Rows of the n-gram table.")
    max_n: int = Field(
        2, ge=1, le=5, description="Longest n-gram, in tokens; all lengths from 1 are used."
    )
    size: int = Field(64, ge=1, le=8192, description="Size of an n-gram's vector.")


# --- reparameterizations ----------------------------------------------------------------------------------------------


class NoReparameterization(Section):
    """Plain weights: the deterministic baseline."""

    kind: Literal["none"] = "none"


class Dropout(Section):
    """Dropout on the input of each layer (Srivastava 2014): the baseline that noise has to meet."""

    kind: Literal["dropout"] = "dropout"
    p: float = Field(0.3, ge=0, lt=1, description="Share of inputs set to zero while training.")


class Method(Section):
    """What the methods below share."""

    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout on the input of each layer, beside the method."
    )


class Variational(Method):
    """A distribution over weights: loss = mean NLL + beta * KL / N, KL summed over layers in nats."""

    beta: float = Field(0.01, ge=0, le=10, description="Weight of the KL term after warm-up.")
    kl_warmup: float = Field(
        0.3, ge=0, le=1, description="Share of the steps over which beta rises from 0."
    )
    noise_lr_factor: float = Field(
        3.0,
        gt=0,
        le=100,
        description="Learning rate of the noise's own parameters over that of weights.",
    )


class MultiplicativeNoise(Variational):
    """W = theta * (1 + sqrt(alpha) * eps) (Kingma 2015, https://arxiv.org/abs/1506.02557).

    alpha is learned per output row, capped; KL = 1/2 log(1 + 1/alpha) per weight against a Gaussian prior at its
    empirical-Bayes optimum (Kharitonov 2018; Hron 2018 on why not the log-uniform prior).
    """

    kind: Literal["multiplicative_noise"] = "multiplicative_noise"
    initial_alpha: float = Field(
        0.1, gt=0, le=10, description="Noise variance over weight squared, at step 0."
    )
    max_alpha: float = Field(1.0, gt=0, le=10, description="Cap of alpha.")
    sampling: Literal["one_draw", "local", "rank_one"] = Field(
        "one_draw",
        description="one_draw: one draw per optimizer step, shared by batch and positions. local: a Linear draws its "
        "outputs, each position its own (Kingma 2015); other layers one draw. rank_one: noise on the inputs of a "
        "layer, one draw per document.",
    )

    @model_validator(mode="after")
    def _below_cap(self) -> MultiplicativeNoise:
        if self.initial_alpha > self.max_alpha:
            raise ValueError(
                f"initial_alpha ({self.initial_alpha}) is above max_alpha ({self.max_alpha})"
            )
        return self


class GaussianPosterior(Variational):
    """W = mu + sigma * eps, sigma = softplus(rho) per weight, KL to N(0, s^2) (Blundell 2015, arXiv:1505.05424)."""

    kind: Literal["gaussian_posterior"] = "gaussian_posterior"
    initial_sigma: float = Field(
        0.02, gt=0, le=10, description="Posterior std at step 0, in weight units."
    )
    prior_sigma: float = Field(
        0.1, gt=0, le=10, description="Std s of the zero-mean Gaussian prior."
    )


class WeightNorm(Method):
    """W = g v / |v| per output row (Salimans & Kingma 2016, https://arxiv.org/abs/1602.07868)."""

    kind: Literal["weight_norm"] = "weight_norm"


class SigmaReparam(Method):
    """W = gamma W / sigma_1(W), sigma_1 the largest singular value (Zhai 2023, https://arxiv.org/abs/2303.06296)."""

    kind: Literal["sigma_reparam"] = "sigma_reparam"


Noise = Annotated[
    Annotated[MultiplicativeNoise | GaussianPosterior, Field(discriminator="kind")],
    kind_is(lambda _: "multiplicative_noise"),
]


class LowRank(Method):
    """W = W0 + (alpha / r) B A with W0 frozen (Hu 2021, https://arxiv.org/abs/2106.09685): fine-tuning.

    Needs weights worth keeping: a pretrained encoder, or training.warm_start. The decoder is trained whole.
    """

    kind: Literal["low_rank"] = "low_rank"
    rank: int = Field(8, ge=1, le=1024, description="Rank r of B A.")
    alpha: float = Field(16.0, gt=0, description="Scale of B A, before it is divided by the rank.")
    targets: Literal["attention", "all"] = Field(
        "all",
        description="Which layers get factors: those of attention only, or every Linear and LSTM.",
    )
    noise: Noise | None = Field(None, description="Noise on the factors A and B.")


class Sparse(Variational):
    """Multiplicative noise without a cap; what drowns in it is removed at fold (Molchanov 2017, arXiv:1701.05369).

    alpha is shared by an embedding row or column or by a hidden unit, so that the folded network is smaller and not
    merely full of zeros.
    """

    kind: Literal["sparse"] = "sparse"
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Dropout on the input of each layer; every run below had it."
    )
    beta: float = Field(
        0.005,
        ge=0,
        le=10,
        description="Weight of the KL term after warm-up. On TREC (seed 0, noise_lr_factor 3, no `keep`) .004 left "
        "1/11 and .005 1/15 of the parameters.",
    )
    noise_lr_factor: float = Field(
        5.0,
        gt=0,
        le=100,
        description="Learning rate of log alpha over that of weights: a short training needs more for the same size. "
        "Not tuned by itself; 10, with other settings changed too, gave TREC .80 validation macro-F1 for .82.",
    )
    initial_alpha: float = Field(
        0.05, gt=0, le=10, description="Noise variance over weight squared, at step 0."
    )
    threshold: float = Field(
        0.0,
        ge=-5,
        le=20,
        description="log alpha above which a group is removed; 0: noise as large as the weight. At Molchanov's 3 and "
        "beta .03 no unit went and noise took validation macro-F1 from .82 to .62 (TREC, seed 0).",
    )
    keep: float = Field(
        0.12,
        ge=0,
        le=1,
        description="Share of the weights at which removal ends, also before prune_until. What removed groups leave "
        "unread goes too: .12 left 1/12.5 of TREC's parameters and 1/11.8 of SST-2's.",
    )
    prune_until: float = Field(
        0.6,
        gt=0,
        lt=1,
        description="Share of the steps after which removal ends; only epochs after the end are kept.",
    )


Reparameterization = Annotated[
    Annotated[
        NoReparameterization
        | Dropout
        | MultiplicativeNoise
        | GaussianPosterior
        | WeightNorm
        | SigmaReparam
        | LowRank
        | Sparse,
        Field(discriminator="kind"),
    ],
    kind_is(lambda _: "multiplicative_noise"),
]


def variational(config: Reparameterization) -> Variational | None:
    """The part of a method that has a KL term, or None."""
    if isinstance(config, LowRank):
        return config.noise
    return config if isinstance(config, Variational) else None


class ModelConfig(Section):
    """Embedding → encoder → decoder → softmax, and how its weights are reparameterized."""

    embedding_dim: int = Field(64, ge=1, le=8192, description="Size of a token's vector.")
    embedding_std: float = Field(
        0.1,
        gt=0,
        le=10,
        description="Std of its first values; torch's 1.0 cost 8 points on SST-2 (tanh, seed 0).",
    )
    embedding_bias: bool = Field(
        False, description="E = W x + b as the source has it; b joins the table at fold."
    )
    embedding_vectors: str | None = Field(
        None,
        description="What known tokens start from: a GloVe or word2vec text file (or .gz), or a Hugging Face model "
        "(folder, or hub name in the local cache), whose input embeddings are projected to embedding_dim.",
    )
    encoder: Encoder = Field(default_factory=lambda: BiLSTMEncoder())
    ngrams: NgramFeatures | None = Field(
        None, description="Hashed n-grams beside the encoder; null: none."
    )
    wide: WideFeatures | None = Field(
        None, description="Hashed n-grams straight to the logits; null: none."
    )
    reparameterization: Reparameterization = Field(default_factory=lambda: MultiplicativeNoise())

    @model_validator(mode="after")
    def _fits_together(self) -> ModelConfig:
        encoder = self.encoder
        if isinstance(encoder, TransformerEncoder) and self.embedding_dim % encoder.num_heads:
            raise ValueError(
                f"num_heads ({encoder.num_heads}) does not divide embedding_dim ({self.embedding_dim})"
            )
        if isinstance(encoder, PretrainedEncoder):
            if isinstance(self.reparameterization, Sparse):
                raise ValueError(
                    "sparse is for models from scratch: a pretrained encoder keeps the sizes it has"
                )
            idle = {name for name in ("embedding_bias", "embedding_vectors") if getattr(self, name)}
            idle |= self.stated() & {"embedding_dim", "embedding_std"}
            if idle:
                which = f"{', '.join(sorted(idle))} {'is' if len(idle) == 1 else 'are'}"
                raise ValueError(
                    f"{which} for models from scratch: a pretrained encoder has its own embedding. "
                    "Leave out what is named here, or choose an encoder without a path"
                )
            if self.ngrams:
                raise ValueError(
                    "ngrams is for models from scratch: beside a pretrained encoder, n-grams go in wide"
                )
        return self
