"""The one typed configuration of a run.

The same JSON is the YAML file a person writes, the Prefect parameter form, the MLflow params and
(section by section) the cache key of each stage. Reading it imports pydantic and nothing
heavier. Environment variables carry addresses and credentials only (`tasks.settings`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from data_contracts.contract.contract import DataContract, load_contract
from data_contracts.kinds.base import AnyTask, Metric, TaskConfig
from data_contracts.kinds.classify import Classify
from data_contracts.open_kinds import AnyKind
from data_contracts.recipe import faults
from data_contracts.recipe.defaults import with_defaults
from data_contracts.recipe.methods import LowRank
from data_contracts.recipe.model import ModelConfig, PretrainedConfig
from data_contracts.recipe.parallel import misfits_of_roles
from data_contracts.recipe.sections import (
    BITS,
    COMMON_SLICES,
    Bound,
    DistillationConfig,
    ExecutionConfig,
    PromotionConfig,
    RegistryConfig,
    StatisticsConfig,
    TrainingConfig,
    WarmStartConfig,
)
from data_contracts.recipe.source import (
    OF_REVIEWS,
    SAMPLES,
    SOURCES,
    FileSource,
    RollingWindow,
    SampleSource,
    Source,
    on_day,
    secret_in,
    window_of,
)
from data_contracts.recipe.tokenizer import (
    FileTokenizer,
    ModelTokenizer,
    Tokenizer,
    WindowConfig,
    WordTokenizer,
)
from data_contracts.section import Section

# What serving costs, bounded beside the figures of the kind of task.
COSTS = (
    Metric("megabytes", "Size in MB", "lower", digits=1),
    Metric("milliseconds_per_text", "CPU milliseconds per text", "lower"),
)


def _resolve_contract(value: Any, info: ValidationInfo) -> Any:
    """A contract may be given as a bundled name or a YAML path; it is stored whole, so the
    recipe is its own key."""
    if not isinstance(value, str):
        return value
    return load_contract(value, base=(info.context or {}).get("base"))


def _default_contract() -> DataContract:
    return load_contract("sample")


def _tokenizer_of_backbone(data: Any) -> Any:
    """A pretrained encoder brings its tokenizer: what it was trained with, no other."""
    model = data.get("model") if isinstance(data, dict) else None
    encoder = model.get("encoder") if isinstance(model, dict) else None
    tokenizer = data.get("tokenizer") or {} if isinstance(data, dict) else {}
    if not isinstance(encoder, dict) or "path" not in encoder or not isinstance(tokenizer, dict):
        return data
    if tokenizer.get("kind", "file") != "file":
        raise ValueError(
            f"a pretrained encoder needs its own tokenizer, not one of kind {tokenizer['kind']!r}"
        )
    return {**data, "tokenizer": {"kind": "file", "path": encoder["path"], **tokenizer}}


def _tokenizer_of_start(data: Any) -> Any:
    """A model to start from brings its tokenizer, as a pretrained encoder does."""
    training = data.get("training") if isinstance(data, dict) else None
    named = training.get("warm_start") if isinstance(training, dict) else None
    if not isinstance(named, dict | WarmStartConfig) or data.get("tokenizer"):
        return data
    return {**data, "tokenizer": {"kind": "model"}}


def _contract_of_sample(data: Any) -> Any:
    """A bundled sample brings its contract, where none is named."""
    source = data.get("source") if isinstance(data, dict) else None
    sample = source.get("data") if isinstance(source, dict) else getattr(source, "data", None)
    if sample not in SAMPLES or sample == OF_REVIEWS or "contract" in data:
        return data
    return {**data, "contract": sample}


class Recipe(Section):
    """One retrain, completely described."""

    name: str = Field(
        default="sample",
        pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$",
        description="Lower-case name of the recipe.",
    )
    task: Annotated[TaskConfig, AnyTask] = Field(
        default_factory=Classify, description="The kind of task, and its options."
    )
    source: Source = Field(default_factory=SampleSource)
    contract: Annotated[
        DataContract, AnyKind(DataContract, by_name=True), BeforeValidator(_resolve_contract)
    ] = Field(default_factory=_default_contract)
    tokenizer: Tokenizer = Field(default_factory=WordTokenizer)
    window: WindowConfig = Field(default_factory=WindowConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    distillation: DistillationConfig | None = Field(
        default=None, description="A registered model to learn from, beside the labels; null: none."
    )
    statistics: StatisticsConfig = Field(default_factory=StatisticsConfig)
    registry: RegistryConfig = Field(default_factory=RegistryConfig)
    promotion: PromotionConfig = Field(default_factory=PromotionConfig)
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)

    @model_validator(mode="wrap")
    @classmethod
    def _filled_in(cls, data: Any, handler: ModelWrapValidatorHandler[Recipe]) -> Recipe:
        try:
            given = _tokenizer_of_start(_tokenizer_of_backbone(data))
            return handler(with_defaults(_contract_of_sample(given), cls))
        except ValidationError as error:
            raise faults.with_new_names(error, cls) from None

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if (fault := next(self._misfits(), None)) is not None:
            raise ValueError(fault)
        return self

    def _misfits(self) -> Iterator[str]:
        """What of one section cannot stand beside another."""
        if self.task.kind != self.contract.kind:
            yield (
                f"task.kind is {self.task.kind}, and contract {self.contract.name} has rows for "
                f"{self.contract.kind}: they have to be the same"
            )
        if isinstance(self.source, FileSource):
            yield from misfits_of_roles(self.source.roles, self.contract)
        pretrained = isinstance(self.model.encoder, PretrainedConfig)
        if pretrained and not isinstance(self.tokenizer, FileTokenizer):
            yield "a pretrained encoder needs its own tokenizer (tokenizer.kind: file)"
        frozen = isinstance(self.model.reparameterization, LowRank)
        if frozen and not pretrained and self.training.warm_start == "never":
            yield (
                "low_rank freezes the weights it finds, which from scratch are random: "
                "give model.encoder a pretrained path, or set training.warm_start: champion"
            )
        yield from self._misfits_of_start()
        given = isinstance(self.tokenizer, FileTokenizer | ModelTokenizer)
        if not given and "window" in self.stated() and "special_tokens" in self.window.stated():
            yield (
                f"window.special_tokens: a tokenizer of kind {self.tokenizer.kind} is trained "
                "without special tokens, so there are none to leave out; they are of a given one "
                "(tokenizer.path). Leave it out"
            )
        if self.task.lossless and self.tokenizer.lossless is False:
            yield (
                f"tokenizer.kind is {self.tokenizer.kind}, which changes texts, and bits per byte "
                "count every character: choose tokenizer.kind character, byte, or bpe with "
                "lossless: true"
            )
        yield from self.task.refusals(self)
        yield from self._unknown_names()

    def _misfits_of_start(self) -> Iterator[str]:
        """What cannot stand beside a registered model to start from, or without one."""
        start = self.training.warm_start
        own = isinstance(self.tokenizer, ModelTokenizer)
        if self.training.max_epochs == 0 and start != "champion":
            yield (
                "training.max_epochs is 0, so that the weights are those of a model that is there: "
                "set training.warm_start: champion, or train an epoch at least"
            )
        if not isinstance(start, WarmStartConfig):
            if own:
                yield (
                    "tokenizer.kind model is that of the model which training.warm_start names, "
                    "and it names none: choose another kind, or give training.warm_start {model, "
                    "version}"
                )
            return
        if isinstance(self.model.encoder, PretrainedConfig):
            yield (
                f"model.encoder.path and training.warm_start both say what the encoder starts "
                f"from ({start.model}): leave one of them out"
            )
        if not own:
            yield (
                f"training.warm_start: what {start.model} knows is of its own tokens, and "
                f"tokenizer.kind is {self.tokenizer.kind}: leave tokenizer out, or say "
                "{kind: model}"
            )
        if self.model.embedding.vectors is not None:
            yield (
                "model.embedding.vectors and training.warm_start both say what the token vectors "
                "start from: leave one of them out"
            )
        if start.model == self.model_name:
            yield (
                f"training.warm_start: {start.model} is this recipe's own model: champion starts "
                "from the version that serves, and keeps the tokenizer that the recipe says"
            )

    def _unknown_names(self) -> Iterator[str]:
        """Names of metrics, parts and columns that this recipe does not have."""
        monitor, monitored = self.training.monitor, self.task.monitored()
        if monitor is not None and monitor not in monitored:
            yield (
                f"training.monitor: {monitor} is none of {', '.join(monitored)}, which training "
                f"measures for {self.task.kind} after each epoch"
            )
        parts = (*self.model.parts, *self.task.parts)
        for name in self.training.groups:
            if name not in parts:
                yield f"training.groups: this model has no part {name} (it has {', '.join(parts)})"
        for name, bound in self.promotion.bounds.items():
            if (fault := _misplaced(name, bound, self.task)) is not None:
                yield f"promotion.bounds: {fault}"
        by = (self.promotion.slices and self.promotion.slices.by) or ()
        own = (*self.task.slices, *COMMON_SLICES, *self.contract.columns.slices)
        known = tuple(dict.fromkeys(own))
        if unknown := [name for name in by if name not in known]:
            yield f"promotion.slices.by: {', '.join(unknown)} is none of {', '.join(known)}"

    @model_validator(mode="after")
    def _says_what_it_reads(self) -> Recipe:
        """`Recipe()` is the sample, whole; one that says something says where its rows come
        from, and what they are."""
        if self.model_fields_set and "source" not in self.model_fields_set:
            raise ValueError(f"source is missing, which says where the rows come from. {SOURCES}")
        own = not isinstance(self.source, SampleSource)
        if own and "contract" not in self.model_fields_set:
            raise ValueError(
                "contract is missing, which says what the source's rows are: `noisefold "
                "contract infer FILE -o contract.yaml` drafts one, and `contract: "
                "contract.yaml` names it"
            )
        return self

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Recipe:
        if (fault := secret_in(self)) is not None:
            raise ValueError(fault)
        return self

    def on(self, day: date) -> Recipe:
        """This recipe with a rolling data window fixed for a run that is due on `day`."""
        if self.rolling_window is None:
            return self
        return self.model_copy(update={"source": on_day(self.source, day)})

    @property
    def rolling_window(self) -> RollingWindow | None:
        """By which each run reads other days; None where every run reads the same rows."""
        window = window_of(self.source)
        return window if isinstance(window, RollingWindow) else None

    def identity_of_run(self) -> dict[str, Any]:
        """What makes a run another one, beside the rows: all but where they lie, and how it is
        carried out."""
        sections = set(type(self).model_fields) - {"source", "execution"}
        return self.identity([*sections, *(f"execution.{name}" for name in BITS)])

    @property
    def model_name(self) -> str:
        return self.registry.model_name or f"noisefold-{self.name}"

    @property
    def experiment(self) -> str:
        return self.registry.experiment or f"noisefold-{self.name}"


def _misplaced(name: str, bound: Bound, task: TaskConfig) -> str | None:
    """Why a bound of that name says nothing; None where it does."""
    metrics = {metric.name: metric for metric in (*task.metrics, *COSTS)}
    whole, slash, part = name.partition("/")
    metric = metrics.get(whole)
    if metric is None or (slash and metric.per is None):
        known = [f"{one.name}/*" if one.per else one.name for one in metrics.values()]
        return f"{name} is none of {', '.join(known)}"
    if metric.per is not None and not part:
        return f"{name} has a value for each {metric.per}: {name}/* bounds them all"
    if metric.better == "higher" and bound.min is None:
        return (
            f"{name} is better the higher it is, so that its bound is a min: {{min: {bound.max:g}}}"
        )
    if metric.better == "lower" and bound.max is None:
        return (
            f"{name} is better the lower it is, so that its bound is a max: {{max: {bound.min:g}}}"
        )
    if metric.scale == 100 and bound.value > 1:
        return f"{name} is a share, from 0 to 1, and never {bound.value:g}"
    return None
