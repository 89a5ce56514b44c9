"""The sections of a recipe that say how a model is found, measured, released, and how a run is
carried out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from data_contracts.section import Section


class GroupConfig(Section):
    """How an optimizer's group, a part of the network, is trained otherwise than the rest."""

    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="Peak learning rate. null: that of the other weights.",
    )
    epsilon: float = Field(
        default=1e-8,
        gt=0,
        le=1,
        description="AdamW's epsilon. About the size of the gradients, it lets a weight that has "
        "few of them move less, and wants a larger learning_rate (docs/method.md).",
    )


REGISTERED = r"^[\w.\- ]{1,200}$"
"""What a registered model may be called."""


class WarmStartConfig(Section):
    """A registered model of another recipe to start from, of whatever kind of task: its tokenizer,
    its embedding and its encoder, which has to be of the same sizes. An `lstm` also starts the
    forward direction of a `bilstm_attention` of one layer. So a classifier starts from a language
    model of its field (Dai & Le 2015, https://arxiv.org/abs/1511.01432)."""

    model: str = Field(pattern=REGISTERED, description="Registered model.")
    version: int | None = Field(
        default=None, ge=1, description="Its version; null: its champion when the run begins."
    )


# Told apart by how it is written, so that a fault is told of what was meant.
WarmStart = Annotated[
    Annotated[Literal["never", "champion"], Tag("word")]
    | Annotated[WarmStartConfig, Tag("section")],
    Discriminator(lambda value: "section" if isinstance(value, dict | BaseModel) else "word"),
]


class TrainingConfig(Section):
    """How the weights are found. Starting values: AdamW, 5 % warm-up, linear decay, clip 1.0."""

    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="Seed of initial weights, batch order and noise."
    )
    max_epochs: int = Field(
        default=8,
        ge=0,
        le=10_000,
        description="Passes over the train split (docs/method.md: why eight). 0, with warm_start: "
        "champion: its weights and tokens as they are, and anew what stands beside them, as the "
        "answers to find.",
    )
    batch_size: int = Field(default=64, ge=1, le=65_536, description="Windows per batch.")
    accumulate_grad_batches: int = Field(
        default=1, ge=1, le=4096, description="Batches per optimizer step."
    )
    learning_rate: float = Field(
        default=5e-3, gt=0, le=10, description="Peak learning rate of AdamW."
    )
    weight_decay: float = Field(
        default=0.01, ge=0, le=10, description="AdamW's decay of weight matrices (never of alpha)."
    )
    groups: dict[str, GroupConfig] = Field(
        default_factory=dict,
        description="Parts of the network that are trained otherwise, by name: embedding, encoder, "
        "decoder, ngrams, wide.",
    )
    warmup: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of the steps over which the learning rate rises.",
    )
    schedule: Literal["linear", "constant"] = Field(
        default="linear", description="After the warm-up: down to 0, or level."
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Validate and keep an exponential moving average of the weights; null: the "
        "last.",
    )
    gradient_clip: float = Field(
        default=1.0, gt=0, description="Largest gradient norm; larger ones are scaled down."
    )
    monitor: str | None = Field(
        default=None,
        description="The metric whose best epoch is kept, by its name in MLflow (val/nll, say); "
        "null: the first of the kind of task.",
    )
    patience: int = Field(
        default=3,
        ge=1,
        description="Epochs in which the monitored metric gets no better before it stops.",
    )
    warm_start: WarmStart = Field(
        default="never",
        description="champion: start from its weights. {model, version}: from the body of another "
        "registered model, a language model say, whose tokenizer is then the recipe's.",
    )


class DistillationConfig(Section):
    """A registered model to learn from: its probabilities are soft targets beside those of the
    train rows, and alone on augmented texts. It helps to train, and nothing of it ships."""

    teacher: str = Field(
        pattern=REGISTERED,
        description="Registered model that knows the contract's labels.",
    )
    version: int | None = Field(
        default=None, ge=1, description="Its version; null: its champion when the run begins."
    )
    augmentations: int = Field(
        default=10, ge=0, le=1000, description="Texts made up from each train text for it to label."
    )
    weight: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Weight of its probabilities on the train rows; the labels have the rest.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Of the texts that are made up; training.seed leaves them.",
    )

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> DistillationConfig:
        if not self.augmentations and "seed" in self.stated():
            raise ValueError(
                "seed is of the texts that are made up, and augmentations is 0: leave one of "
                "the two out"
            )
        return self


class StatisticsConfig(Section):
    """How sure a figure is: bootstrap over the test rows (Efron 1979)."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of every interval.")
    samples: int | None = Field(
        default=None,
        ge=50,
        le=100_000,
        description="Resamples of the test rows. null: 1,000 for the interval of a figure, and "
        "2,000 for the difference of two models, whose bound decides.",
    )

    @property
    def figure_samples(self) -> int:
        return self.samples or 1000

    @property
    def paired_samples(self) -> int:
        return self.samples or 2000


class RegistryConfig(Section):
    """Where the model stands in MLflow; both names default to `noisefold-<recipe name>`."""

    model_name: str | None = Field(
        default=None, pattern=r"^[\w.\- ]{1,200}$", description="Registered model."
    )
    experiment: str | None = Field(
        default=None, pattern=r"^[\w.\- ]{1,200}$", description="MLflow experiment."
    )


class Bound(Section):
    """What a figure has to reach, or not to exceed."""

    min: float | None = Field(
        default=None, ge=0, description="Floor of a figure that is better higher."
    )
    max: float | None = Field(
        default=None, ge=0, description="Ceiling of one that is better lower."
    )

    @model_validator(mode="after")
    def _one_side(self) -> Bound:
        if (self.min is None) == (self.max is None):
            raise ValueError("a bound is either a min or a max: {min: 0.9}")
        return self

    @property
    def value(self) -> float:
        return next(side for side in (self.min, self.max) if side is not None)


COMMON_SLICES = ("language", "length")
"""What the rows of every kind of task can be told apart by."""


class SlicesConfig(Section):
    """A floor on every slice of the test rows that is large enough to say something."""

    by: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Columns whose values are the slices: those of the kind of task (classify has "
        "label), language (the script of most letters, unless the contract carries a "
        "column of that name), length (a band of characters), any column in the "
        "contract's slices. null: those of the kind, language and length.",
    )
    min: float = Field(gt=0, le=1, description="Floor of the share of right rows in every slice.")
    min_rows: int = Field(
        default=50, ge=1, description="Test rows below which a slice decides nothing."
    )


class PromotionConfig(Section):
    """When a challenger becomes champion: the lower bound of (its figure - the champion's) is above
    -margin, for the first metric of the kind of task, and every bound holds.

    A first champion is compared with a constant answer, see beat_constant.
    """

    beat_constant: bool = Field(
        default=True,
        description="A first champion has to do better than the best answer that is always the "
        "same (of classes the commonest of the train split): the lower bound of the "
        "difference is above 0. false: the bounds alone decide.",
    )
    margin: float = Field(
        default=0.01, ge=0, le=1, description="Loss of the first metric that is still accepted."
    )
    bounds: dict[str, Bound] = Field(
        default_factory=dict,
        description="What every champion keeps to, by a metric of the kind of task (macro_f1: "
        "{min: 0.9}, nll: {max: 0.4}, 'f1/*': {min: 0.5} for each class), or by what "
        "serving costs: megabytes (10^6 bytes), milliseconds_per_text (CPU time in "
        "the process that serves).",
    )
    slices: SlicesConfig | None = Field(default=None, description="A floor on slices; null: none.")


class Limits(Section):
    """Seconds of wall-clock time after which an attempt is ended, which is a fault that can
    heal."""

    train: float = Field(
        default=6 * 3600, gt=0, description="Seconds of a training, which then leaves a checkpoint."
    )
    stage: float = Field(
        default=4 * 3600,
        gt=0,
        description="Seconds of any other stage; train has them beside its own.",
    )


BITS = ("threads", "accelerator", "precision")
"""The fields of `execution` that change the last bits of a training, and so are in its key."""


class ExecutionConfig(Section):
    """How the run is carried out; but for `BITS` no part of any key, since it changes nothing that
    comes out."""

    engine: Literal["local"] = Field(
        default="local", description="Where the work is done. local: this machine."
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="CPU threads of torch; part of a result's last bits (docs/method.md has the "
        "time).",
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: CUDA where it is present."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        default="32-true", description="Lightning's names; mixed precision pays on a GPU only."
    )
    checkpoint_every_steps: int = Field(
        default=100,
        ge=1,
        description="Steps between two resume checkpoints; more for one over 16 MiB, so that "
        "saving within an epoch takes a fiftieth of the time at most.",
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Further attempts of a stage after a fault that can heal.",
    )
    retry_delay_seconds: float = Field(
        default=10.0, ge=0, le=3600, description="Wait before the first further attempt; doubles."
    )
    wait_seconds: float = Field(
        default=0.0,
        ge=0,
        le=604_800,
        description="Wait this long for another retrain of this recipe or model; 0: refuse.",
    )
    limits: Limits = Field(default_factory=Limits)
    batch_rows: int = Field(
        default=50_000,
        ge=100,
        le=10_000_000,
        description="Rows per Arrow batch: bounds the memory.",
    )
