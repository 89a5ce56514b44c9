"""The one typed configuration of a run.

The same JSON is the YAML file a person writes, the Prefect parameter form, the MLflow params and (section by section)
the cache key of each stage. Reading it imports pydantic and nothing heavier. Environment variables carry addresses and
credentials only (`tasks.settings`). Where a default was measured, the field says where.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from data_contracts.contract.contract import (
    AnyContract,
    Contract,
    DataContract,
    Split,
    load_contract,
)
from data_contracts.errors import RecipeError
from data_contracts.recipe import faults as recipe_faults
from data_contracts.recipe.model import LowRank, ModelConfig, PretrainedEncoder
from data_contracts.section import UNKEYED, Section, kind_is, texts_in, unwritable
from data_contracts.urls import HOW, credential_in, misplaced_variable, redacted
from data_contracts.yaml_text import parse_yaml, read_yaml

# --- source: where the rows come from ---------------------------------------------------------------------------------


class SampleSource(Section):
    """The bundled synthetic sample: product reviews in English and Chinese, made by `data_contracts.sample`."""

    kind: Literal["sample"] = "sample"
    classes: Literal[2, 4] = Field(
        4, description="4: all; 2: only reviews that are plainly positive or negative."
    )
    rows: int = Field(
        20_000, ge=200, le=5_000_000, description="Rows to generate, dirty ones included."
    )
    seed: int = Field(
        20260101, ge=0, description="Seed of the generator; the same seed gives the same rows."
    )

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read, beside what the source holds."""
        return {"kind": self.kind}


class DataWindow(Section):
    """The days whose files are read, both inclusive; they also fill `{start}` and `{end}` in a source URL (ISO format).

    Days are told by the names of files and folders (`data_contracts.contract.days`); a name that does not tell one is
    refused.
    """

    start: date = Field(description="First day of the window.")
    end: date = Field(description="Last day of the window.")

    @model_validator(mode="after")
    def _ordered(self) -> DataWindow:
        if self.end < self.start:
            raise ValueError(f"the window ends ({self.end}) before it starts ({self.start})")
        return self


class RollingWindow(Section):
    """The last `days` days before the day on which the run was due, so a late or repeated run reads what it was due to.

    Which day that is, is told by the time zone of the schedule; in a terminal by the machine's.
    """

    days: int = Field(
        gt=0, le=36_600, description="Days in the window; the last one is the day before the run."
    )

    def at(self, day: date) -> DataWindow:
        return DataWindow(start=day - timedelta(days=self.days), end=day - timedelta(days=1))


class FileSource(Section):
    """CSV, JSON (lines or an array) or Parquet, plain or compressed: a file, a folder or a glob at an fsspec URL."""

    kind: Literal["files"] = "files"
    url: str | dict[Split, str] = Field(
        description="One URL, or one per split ({train: …, test: …}). A relative path starts at the recipe's folder. "
        "With a window, dated files (2026-01-31.csv) and folders (date=2026-01-31) are read for its days; "
        "`{start}` and `{end}` are replaced by its dates."
    )
    format: Literal["auto", "csv", "jsonl", "json", "parquet"] = Field(
        "auto", description="Read from the name when auto."
    )
    encoding: str = Field(
        "utf-8",
        description="Text encoding of CSV and JSON files; a byte order mark, where there is one, decides.",
    )
    separator: str | None = Field(
        None,
        description='What stands between the cells of a CSV file ("tab" for a tab); null: the comma, in .tsv and .tab '
        "the tab, or, where that header lacks the contract's columns, the one of ; tab | whose header has them all.",
    )
    window: DataWindow | RollingWindow | None = Field(
        None,
        description="Days to read: {start, end}, or {days: 28} before the run is due; null: every file.",
    )

    @field_validator("separator")
    @classmethod
    def one_character(cls, value: str | None) -> str | None:
        value = {"tab": "\t", "\\t": "\t"}.get(value or "", value)
        if value is not None and (len(value) != 1 or value in '"\r\n\0'):
            raise ValueError(
                "one character is needed, other than a quote or a line end, or the word tab"
            )
        return value

    @model_validator(mode="after")
    def _window_where_named(self) -> FileSource:
        urls = [self.url] if isinstance(self.url, str) else list(self.url.values())
        if not urls or not all(url.strip() for url in urls):
            raise ValueError("no URL is given")
        if self.window is None and any("{start}" in url or "{end}" in url for url in urls):
            raise ValueError("the URL holds {start} or {end}, so `window` must give both dates")
        return self

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read, beside what the files hold."""
        return self.model_dump(mode="json", include={"kind", "format", "encoding", "separator"})


SOURCES = "Write source: {url: mails.csv} for rows of your own, or source: {kind: sample} for the bundled sample."


def _kind_of_source(value: dict[str, Any]) -> str:
    """The sample where a field of it is named; nothing, or what is unknown to both, is never taken for the sample."""
    return "sample" if value and set(value) <= SampleSource.model_fields.keys() else "files"


Source = Annotated[
    Annotated[SampleSource | FileSource, Field(discriminator="kind")],
    kind_is(_kind_of_source),
]


# --- tokenizer --------------------------------------------------------------------------------------------------------


class TokenizerBase(Section):
    """Fields that every tokenizer has."""

    max_length: int = Field(
        256, ge=4, le=8192, description="Tokens per window; a longer document becomes several."
    )
    overlap: int = Field(
        32, ge=0, description="Tokens that two neighbouring windows of one document share."
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> TokenizerBase:
        if self.overlap * 2 > self.max_length:
            raise ValueError(
                f"overlap ({self.overlap}) is more than half of max_length ({self.max_length})"
            )
        return self


class TrainedTokenizer(TokenizerBase):
    vocab_size: int = Field(
        8_000, ge=16, le=500_000, description="Largest vocabulary, special tokens included."
    )
    min_frequency: int = Field(
        2, ge=1, description="A token seen less often in the train split is unknown."
    )
    lowercase: bool = Field(True, description="Lower-case the text first (no effect on Chinese).")


class WordTokenizer(TrainedTokenizer):
    """Words and punctuation; by character or cluster where a script has no spaces (Chinese, Japanese, Thai, Khmer, Lao,
    Burmese and others). The readable choice for short texts."""

    kind: Literal["word"] = "word"


class BpeTokenizer(TrainedTokenizer):
    """Byte-level BPE (Radford 2019): no unknown tokens in any language. Needs a vocabulary above the 256 bytes."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(
        8_000, ge=260, le=500_000, description="Largest vocabulary, special tokens included."
    )


class WordPieceTokenizer(TrainedTokenizer):
    """WordPiece with BERT's pre-tokenizer, which splits Chinese by character; Thai, Khmer, Lao, Burmese by cluster."""

    kind: Literal["wordpiece"] = "wordpiece"


class FileTokenizer(TokenizerBase):
    """A given `tokenizer.json` of Hugging Face tokenizers."""

    kind: Literal["file"] = "file"
    path: str = Field(
        description="Path or fsspec URL of a tokenizer.json, its folder, or a hub name in the cache."
    )
    special_tokens: bool = Field(
        True,
        description="Put the tokenizer's own special tokens ([CLS] … [SEP]) round each window.",
    )


Tokenizer = Annotated[
    Annotated[
        WordTokenizer | BpeTokenizer | WordPieceTokenizer | FileTokenizer,
        Field(discriminator="kind"),
    ],
    kind_is(lambda value: "file" if "path" in value else "word"),
]


# --- training, evaluation, registry, promotion ------------------------------------------------------------------------


class TrainingConfig(Section):
    """How the weights are found. Starting values: AdamW, 5 % warm-up, linear decay, clip 1.0."""

    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of initial weights, batch order and noise."
    )
    max_epochs: int = Field(
        8,
        ge=1,
        le=10_000,
        description="Passes over the train split. Six ended before some seeds had learnt the bundled sample (93.7 to "
        "95.0 points of accuracy over seeds and last bits); eight have 94.7 to 94.9.",
    )
    batch_size: int = Field(64, ge=1, le=65_536, description="Windows per batch.")
    accumulate_grad_batches: int = Field(
        1, ge=1, le=4096, description="Batches per optimizer step."
    )
    learning_rate: float = Field(5e-3, gt=0, le=10, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(
        0.01, ge=0, le=10, description="AdamW's decay of weight matrices (never of alpha)."
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="Share of the steps over which the learning rate rises."
    )
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="After the warm-up: down to 0, or level."
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Validate and keep an exponential moving average of the weights; null: the last.",
    )
    gradient_clip: float = Field(
        1.0, gt=0, description="Largest gradient norm; larger ones are scaled down."
    )
    monitor: Literal["val/macro_f1", "val/accuracy", "val/nll"] | None = Field(
        None,
        description="The metric whose best epoch is kept, by its name in MLflow; null: val/macro_f1. val/nll often "
        "keeps another epoch, with better probabilities and fewer right labels.",
    )
    patience: int = Field(
        3, ge=1, description="Epochs in which the monitored metric gets no better before it stops."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: n / (classes * n_class), counted in windows, of which the loss is a mean.",
    )
    warm_start: Literal["never", "champion"] = Field(
        "never", description="champion: start from its weights."
    )
    checkpoint_every_steps: Annotated[int, UNKEYED] = Field(
        100,
        ge=1,
        description="Steps between two resume checkpoints; more for one over 16 MiB, so that saving within an epoch "
        "takes a fiftieth of the time at most.",
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA where it is present."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Lightning's names; mixed precision pays on a GPU only."
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="CPU threads of torch; part of the result's last bits. Two make the default model's epoch 1.3 "
        "times faster on two idle cores, and several times slower where other work holds them.",
    )


class TeacherConfig(Section):
    """A registered model to learn from: its probabilities stand beside the labels of the train rows, and alone on texts
    made up from them. It helps to train, and nothing of it ships."""

    model: str = Field(
        pattern=r"^[\w.\- ]{1,200}$",
        description="Registered model that knows the contract's labels.",
    )
    version: int | None = Field(
        None, ge=1, description="Its version; null: its champion when the run begins."
    )
    variants: int = Field(
        10, ge=0, le=1000, description="Texts made up from each train text for it to label."
    )
    weight: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Weight of its probabilities on the train rows; the labels have the rest.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="Of the texts that are made up; training.seed leaves them.",
    )

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> TeacherConfig:
        if not self.variants and "seed" in self.stated():
            raise ValueError(
                "seed is of the texts that are made up, and variants is 0: leave one of the two out"
            )
        return self


class EvaluationConfig(Section):
    """What is measured on the test split."""

    bootstrap_samples: int = Field(
        1000, ge=50, le=100_000, description="Resamples of the test rows per interval."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Coverage of the intervals.")
    ece_bins: int = Field(
        15, ge=2, le=1000, description="Equal-width confidence bins of the calibration error."
    )
    temperature: bool = Field(
        False, description="Scale the logits of the registered model by a fitted temperature."
    )
    worst_errors: int = Field(
        20, ge=0, le=1000, description="Most confident errors listed in the report."
    )


class RegistryConfig(Section):
    """Where the model stands in MLflow; both names default to `noisefold-<recipe name>`."""

    model_name: str | None = Field(
        None, pattern=r"^[\w.\- ]{1,200}$", description="Registered model."
    )
    experiment: str | None = Field(
        None, pattern=r"^[\w.\- ]{1,200}$", description="MLflow experiment."
    )


class PromotionConfig(Section):
    """When a challenger becomes champion: the lower bound of (its macro-F1 - the champion's) is above -margin.

    A first champion is compared with a constant answer, see beat_majority.
    """

    beat_majority: bool = Field(
        True,
        description="A first champion has to do better than always answering the commonest label of the train split: "
        "the lower bound of (its macro-F1 - that of the constant answer) is above 0. false: the floors alone decide.",
    )
    margin: float = Field(0.01, ge=0, le=1, description="Loss of macro-F1 that is still accepted.")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Confidence of the paired interval (two-sided)."
    )
    bootstrap_samples: int = Field(
        2000, ge=50, le=100_000, description="Paired resamples of the test rows."
    )
    min_accuracy: float = Field(0.0, ge=0, le=1, description="Floor; also for a first champion.")
    min_macro_f1: float = Field(0.0, ge=0, le=1, description="Floor; also for a first champion.")
    min_class_f1: float = Field(0.0, ge=0, le=1, description="Floor of the F1 of every class.")
    min_slice_accuracy: float = Field(
        0.0, ge=0, le=1, description="Floor of the accuracy on every slice."
    )
    slices: tuple[str, ...] = Field(
        ("label", "language", "length"),
        description="What min_slice_accuracy looks at: label, language (the script of most letters, unless the "
        "contract carries a column of that name), length (a band of characters), any column in the contract's slices.",
    )
    min_slice_rows: int = Field(
        50, ge=1, description="Test rows below which a slice decides nothing."
    )
    max_nll: float | None = Field(
        None, gt=0, description="Ceiling of the mean -log p(label), in nats."
    )
    max_ece: float | None = Field(
        None, gt=0, le=1, description="Ceiling of the expected calibration error."
    )
    max_megabytes: float | None = Field(
        None, gt=0, description="Ceiling of the size of what is served, in 10^6 bytes."
    )
    max_milliseconds_per_text: float | None = Field(
        None,
        gt=0,
        description="Ceiling of the CPU time per text in the process that serves test rows.",
    )

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> PromotionConfig:
        idle = sorted(self.stated() & {"slices", "min_slice_rows"})
        if idle and not self.min_slice_accuracy:
            raise ValueError(
                f"{' and '.join(idle)}: for min_slice_accuracy to look at, and there is no such floor. "
                "Set it, or leave out what is named here"
            )
        if self.min_slice_accuracy and not self.slices:
            raise ValueError(
                "min_slice_accuracy is a floor on slices, and slices is empty: name some, or leave it out"
            )
        return self

    def bounds(self) -> dict[str, float]:
        """The floors and ceilings that are set, by field."""
        names = [name for name in type(self).model_fields if name.startswith(("min_", "max_"))]
        return {
            name: value
            for name in names
            if name != "min_slice_rows" and (value := getattr(self, name))
        }


class ExecutionConfig(Section):
    """How the run is carried out; no part of any cache key, since it does not change what comes out."""

    retries: int = Field(
        2, ge=0, le=20, description="Further attempts of a stage after a fault that can heal."
    )
    retry_delay_seconds: float = Field(
        10.0, ge=0, le=3600, description="Wait before the first further attempt; doubles."
    )
    wait_seconds: float = Field(
        0.0,
        ge=0,
        le=604_800,
        description="Wait this long for another retrain of this recipe or model; 0: refuse.",
    )
    train_timeout_seconds: float = Field(
        6 * 3600, gt=0, description="Wall-clock limit of one training attempt."
    )
    stage_timeout_seconds: float = Field(
        4 * 3600,
        gt=0,
        description="Wall-clock limit of one attempt of any stage; train has its own beside it.",
    )
    batch_rows: int = Field(
        50_000, ge=100, le=10_000_000, description="Rows per Arrow batch: bounds the memory."
    )


def _resolve_contract(value: Any, info: ValidationInfo) -> Any:
    """A contract may be given as a bundled name or a YAML path; it is stored whole, so the recipe is its own key."""
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


class Recipe(Section):
    """One retrain, completely described."""

    name: str = Field(
        "sample",
        pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$",
        description="Lower-case name of the recipe.",
    )
    source: Source = Field(default_factory=lambda: SampleSource())
    contract: Annotated[
        DataContract,
        AnyContract,
        BeforeValidator(_resolve_contract, json_schema_input_type=Contract | str),
    ] = Field(default_factory=_default_contract)
    tokenizer: Tokenizer = Field(default_factory=lambda: WordTokenizer())
    model: ModelConfig = Field(default_factory=lambda: ModelConfig())
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig())
    teacher: TeacherConfig | None = Field(
        None, description="A registered model to learn from, beside the labels."
    )
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig())
    registry: RegistryConfig = Field(default_factory=lambda: RegistryConfig())
    promotion: PromotionConfig = Field(default_factory=lambda: PromotionConfig())
    execution: Annotated[ExecutionConfig, UNKEYED] = Field(
        default_factory=lambda: ExecutionConfig()
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        return _tokenizer_of_backbone(data)

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        pretrained = isinstance(self.model.encoder, PretrainedEncoder)
        if pretrained and not isinstance(self.tokenizer, FileTokenizer):
            raise ValueError("a pretrained encoder needs its own tokenizer (tokenizer.kind: file)")
        if (
            isinstance(self.model.reparameterization, LowRank)
            and not pretrained
            and self.training.warm_start == "never"
        ):
            raise ValueError(
                "low_rank freezes the weights it finds, which from scratch are random: "
                "give model.encoder a pretrained path, or set training.warm_start: champion"
            )
        if self.teacher is not None and self.training.class_weights != "none":
            raise ValueError(
                "training.class_weights weigh labels; beside a teacher's probabilities they must be none"
            )
        known = tuple(dict.fromkeys(("label", "language", "length", *self.contract.columns.slices)))
        unknown = [name for name in self.promotion.slices if name not in known]
        if unknown:
            raise ValueError(
                f"promotion.slices: {', '.join(unknown)} is none of {', '.join(known)}"
            )
        return self

    @model_validator(mode="after")
    def _says_what_it_reads(self) -> Recipe:
        """`Recipe()` is the sample, whole; one that says something says where its rows come from, and what they are."""
        if self.model_fields_set and "source" not in self.model_fields_set:
            raise ValueError(f"source is missing, which says where the rows come from. {SOURCES}")
        if isinstance(self.source, FileSource) and "contract" not in self.model_fields_set:
            raise ValueError(
                "contract is missing, which says what the source's rows are: `noisefold contract infer FILE -o "
                "contract.yaml` drafts one, and `contract: contract.yaml` names it"
            )
        return self

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Recipe:
        for field, text in texts_in(self.model_dump()):
            if (what := unwritable(text)) is not None:
                raise ValueError(f"{field} holds {what}")
            if (what := credential_in(text)) is not None:
                raise ValueError(
                    f"{field} holds {what}, which would be stored with the recipe. {HOW}"
                )
            if field.startswith(("source.url", "tokenizer.path")) and misplaced_variable(text):
                raise ValueError(
                    f"{field} may name a variable before the @ or in the query alone: all else is shown"
                )
        return self

    def on(self, day: date) -> Recipe:
        """This recipe with a rolling data window fixed for a run that is due on `day`."""
        if not isinstance(self.source, FileSource) or not isinstance(
            self.source.window, RollingWindow
        ):
            return self
        source = self.source.model_copy(update={"window": self.source.window.at(day)})
        return self.model_copy(update={"source": source})

    @property
    def model_name(self) -> str:
        return self.registry.model_name or f"noisefold-{self.name}"

    @property
    def experiment(self) -> str:
        return self.registry.experiment or f"noisefold-{self.name}"


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_recipe(
    data: Any,
    *,
    origin: str,
    base: Path | None = None,
    line: Callable[[tuple[Any, ...]], int | None] = lambda loc: None,
) -> Recipe:
    """Validate a mapping as a recipe; every fault is named by its field.

    Args:
        data: the parsed YAML or JSON.
        origin: what to call it in an error ("nightly.yaml", "deployment sample").
        base: folder from which relative paths in it start.
        line: in which a field stands, where that is known.
    Raises:
        RecipeError: with one line per fault.
    """
    if not isinstance(data, dict):
        raise RecipeError(
            f"{origin}: expected a mapping of sections, found {type(data).__name__}.",
            "See `noisefold recipe show`.",
        )
    if "source" not in data:
        told = _no_source(data)
        raise RecipeError(f"{origin}: {told}{'' if told.endswith('?') else '.'}", SOURCES)
    try:
        data = rebase(data, base) if base else data
        return Recipe.model_validate(data, context={"base": base})
    except ValidationError as error:
        faults = recipe_faults.describe(error, Recipe, line)
        raise RecipeError(
            f"{origin}: {faults}", "`noisefold recipe schema` lists every field."
        ) from None


def _no_source(data: dict[str, Any]) -> str:
    """A recipe that does not say what it reads, and which of its keys seem to."""
    unknown = [key for key in data if key not in Recipe.model_fields]
    hints = "".join(
        f"; {key}{recipe_faults.meant((key,), Recipe).replace(';', ':')}" for key in unknown[:5]
    )
    return f"source is missing, which says where the rows come from{hints}"


def load_recipe(path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML or JSON (safe loader: tags that would build objects are refused)."""
    data = merge(read_yaml(path), overrides or {})
    line = recipe_faults.line_in(path)
    return parse_recipe(data, origin=str(path), base=Path(path).resolve().parent, line=line)


def merge(data: Any, overrides: dict[str, Any]) -> Any:
    """Lay dotted overrides (`training.max_epochs`) over nested sections; `data` stays as it was."""
    if not overrides:
        return data
    result: dict[str, Any] = dict(data) if isinstance(data, dict) else {}
    for dotted, value in overrides.items():
        keys, node = dotted.split("."), result
        for key in keys[:-1]:
            child = node.get(key)
            node[key] = dict(child) if isinstance(child, dict) else {}
            node = node[key]
        node[keys[-1]] = value
    return result


def parse_set(text: str) -> tuple[str, Any]:
    """`training.max_epochs=3` → ("training.max_epochs", 3); the value is read as YAML."""
    key, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[a-z_][\w]*(\.[\w]+)*", key.strip()):
        raise RecipeError(
            f"--set {redacted(text)}: expected section.field=value.",
            "For example --set training.max_epochs=3.",
        )
    try:
        return key.strip(), parse_yaml(value, f"--set {key.strip()}")
    except RecipeError:
        return key.strip(), value


def describe(error: ValidationError, root: type[BaseModel] | None = None) -> str:
    """pydantic's faults as `field: what is wrong (got …)`, one after the other."""
    return recipe_faults.describe(error, root or Recipe, lambda loc: None)


def rebase(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Relative paths start at the recipe's own folder, wherever the command runs."""
    data = dict(data)
    model = data.get("model")
    if isinstance(model, dict):
        data["model"] = model = dict(model)
        if model.get("embedding_vectors"):
            one = _absolute if is_vector_file(model["embedding_vectors"]) else _folder_or_name
            model["embedding_vectors"] = one(model["embedding_vectors"], base)
        if isinstance(encoder := model.get("encoder"), dict) and "path" in encoder:
            model["encoder"] = {**encoder, "path": _folder_or_name(encoder["path"], base)}
    for section, field in (("source", "url"), ("tokenizer", "path")):
        node = data.get(section)
        if isinstance(node, dict) and node.get(field):
            value = node[field]
            one = _folder_or_name if section == "tokenizer" else _absolute
            moved = (
                {k: one(v, base) for k, v in value.items()}
                if isinstance(value, dict)
                else one(value, base)
            )
            data[section] = {**node, field: moved}
    return data


def is_vector_file(value: Any) -> bool:
    """Whether `model.embedding_vectors` is spelled as a file, so that a missing one is looked for in no hub's cache."""
    return isinstance(value, str) and value.endswith((".txt", ".vec", ".gz"))


def _folder_or_name(value: Any, base: Path) -> Any:
    """A hub name (`owner/model`) looks like a relative path; it is one where such a folder exists."""
    moved = _absolute(value, base)
    try:
        return (
            moved
            if isinstance(moved, str) and (moved.startswith("file") or Path(moved).exists())
            else value
        )
    except OSError:  # a name that no file can have
        return value


def _absolute(value: Any, base: Path) -> Any:
    if (
        not isinstance(value, str)
        or "://" in value
        or "::" in value
        or not value.strip()
        or Path(value).is_absolute()
    ):
        return value
    return str(base / value)
