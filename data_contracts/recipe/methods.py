"""The section `model.reparameterization` of a recipe: how a weight depends on parameters and
noise."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from data_contracts.section import Section, kind_is


class NoReparameterization(Section):
    """Plain weights: the deterministic baseline, and with model.dropout the one that noise has
    to meet."""

    kind: Literal["none"] = "none"


class Variational(Section):
    """A distribution over weights: loss = mean NLL + beta * KL / N, KL summed over layers in
    nats."""

    kind: Any  # first in what is printed; each names its own
    beta: float = Field(
        default=0.01, ge=0, le=10, description="Weight of the KL term after warm-up."
    )
    kl_warmup: float = Field(
        default=0.3, ge=0, le=1, description="Share of the steps over which beta rises from 0."
    )
    noise_lr_factor: float = Field(
        default=3.0,
        gt=0,
        le=100,
        description="Learning rate of the noise's own parameters over that of weights.",
    )


class MultiplicativeNoise(Variational):
    """W = theta * (1 + sqrt(alpha) * eps) (Kingma 2015, https://arxiv.org/abs/1506.02557).

    alpha is learned per output row, capped; KL = 1/2 log(1 + 1/alpha) per weight against a
    Gaussian prior at its empirical-Bayes optimum (Kharitonov 2018; Hron 2018 on why not the
    log-uniform prior).
    """

    kind: Literal["multiplicative_noise"] = "multiplicative_noise"
    initial_alpha: float = Field(
        default=0.1, gt=0, le=10, description="Noise variance over weight squared, at step 0."
    )
    max_alpha: float = Field(default=1.0, gt=0, le=10, description="Cap of alpha.")
    sampling: Literal["one_draw", "local", "rank_one"] = Field(
        default="one_draw",
        description="one_draw: one draw per optimizer step, shared by batch and positions. local: "
        "a Linear draws its outputs, each position its own (Kingma 2015); other "
        "layers one draw. rank_one: noise on the inputs of a layer, one draw per "
        "document.",
    )

    @model_validator(mode="after")
    def _below_cap(self) -> MultiplicativeNoise:
        if self.initial_alpha > self.max_alpha:
            raise ValueError(
                f"initial_alpha ({self.initial_alpha}) is above max_alpha ({self.max_alpha})"
            )
        return self


class GaussianPosterior(Variational):
    """W = mu + sigma * eps, sigma = softplus(rho) per weight, KL to N(0, s^2) (Blundell 2015,
    arXiv:1505.05424)."""

    kind: Literal["gaussian_posterior"] = "gaussian_posterior"
    initial_sigma: float = Field(
        default=0.02, gt=0, le=10, description="Posterior std at step 0, in weight units."
    )
    prior_sigma: float = Field(
        default=0.1, gt=0, le=10, description="Std s of the zero-mean Gaussian prior."
    )


class WeightNorm(Section):
    """W = g v / |v| per output row (Salimans & Kingma 2016, https://arxiv.org/abs/1602.07868)."""

    kind: Literal["weight_norm"] = "weight_norm"


class SigmaReparam(Section):
    """W = gamma W / sigma_1(W), sigma_1 the largest singular value (Zhai 2023,
    https://arxiv.org/abs/2303.06296)."""

    kind: Literal["sigma_reparam"] = "sigma_reparam"


Noise = Annotated[
    Annotated[MultiplicativeNoise | GaussianPosterior, Field(discriminator="kind")],
    kind_is(lambda _: "multiplicative_noise"),
]


class LowRank(Section):
    """W = W0 + (alpha / r) B A with W0 frozen (Hu 2021, https://arxiv.org/abs/2106.09685):
    fine-tuning.

    Needs weights worth keeping: a pretrained encoder, or training.warm_start. The decoder is
    trained whole.
    """

    kind: Literal["low_rank"] = "low_rank"
    rank: int = Field(default=8, ge=1, le=1024, description="Rank r of B A.")
    alpha: float = Field(
        default=16.0, gt=0, description="Scale of B A, before it is divided by the rank."
    )
    targets: Literal["attention", "all"] = Field(
        default="all",
        description="Which layers get factors: those of attention only, or every Linear and LSTM.",
    )
    noise: Noise | None = Field(default=None, description="Noise on the factors A and B.")


class Sparse(Variational):
    """Multiplicative noise without a cap; what drowns in it is removed at fold (Molchanov 2017,
    https://arxiv.org/abs/1701.05369). Every measured one had model.dropout beside it
    (docs/method.md).

    alpha is shared by an embedding row or column or by a hidden unit, so that the folded network
    is smaller and not merely full of zeros.
    """

    kind: Literal["sparse"] = "sparse"
    beta: float = Field(
        default=0.005,
        ge=0,
        le=10,
        description="Weight of the KL term after warm-up: more leaves fewer weights "
        "(docs/method.md).",
    )
    noise_lr_factor: float = Field(
        default=5.0,
        gt=0,
        le=100,
        description="Learning rate of log alpha over that of weights: a short training needs more "
        "for the same size (docs/method.md).",
    )
    initial_alpha: float = Field(
        default=0.05, gt=0, le=10, description="Noise variance over weight squared, at step 0."
    )
    threshold: float = Field(
        default=0.0,
        ge=-5,
        le=20,
        description="log alpha above which a group is removed; 0: noise as large as the weight "
        "(docs/method.md has Molchanov's 3 beside it).",
    )
    keep: float = Field(
        default=0.12,
        ge=0,
        le=1,
        description="Share of the weights at which removal ends, also before prune_until. What "
        "removed groups leave unread goes too, so that less than this share is left "
        "(docs/method.md).",
    )
    prune_until: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        description="Share of the steps after which removal ends; only epochs after the end are "
        "kept.",
    )


Reparameterization = Annotated[
    Annotated[
        NoReparameterization
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
