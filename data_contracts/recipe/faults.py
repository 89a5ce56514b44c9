"""What is wrong with a recipe, in a person's words: the field, what is expected there, and what
was probably meant."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Union

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from data_contracts.section import text_fault
from data_contracts.urls import redacted

# What other programs call our fields, by the last word of what was written.
_MEANT = {
    "source.url": (
        "path", "paths", "file", "files", "filename", "folder", "directory", "dir", "glob", "uri",
        "location", "data", "dataset", "data_path", "input", "url", "data_files", "csv", "parquet",
    ),
    "source.url.train": ("train", "train_file", "train_path", "training_data", "train_data"),
    "source.url.valid": ("valid", "validation", "val", "dev", "valid_file",
        "validation_file", "eval_file"),
    "source.url.test": ("test", "test_file", "test_path", "test_data"),
    "source.separator": ("delimiter", "sep"),
    "source.encoding": ("charset", "codec"),
    "source.format": ("type", "file_type", "file_format"),
    "contract.columns.text": ("text", "text_column", "text_field", "text_col"),
    "contract.columns.label": ("label", "label_column", "label_field", "target", "label_col"),
    "contract.columns.id": ("id", "id_column"),
    "contract.labels.values": ("labels", "classes", "categories"),
    "contract.splits": ("split", "splits"),
    "training.max_epochs": ("epochs", "num_epochs", "n_epochs", "num_train_epochs"),
    "training.learning_rate": ("lr",),
    "training.batch_size": ("batch", "bs", "per_device_train_batch_size"),
    "execution.accelerator": ("device", "gpu", "cuda"),
    "training.seed": ("seed", "random_state"),
    "training.patience": ("early_stopping", "early_stopping_patience"),
    "model.encoder.path": ("backbone", "pretrained", "model_name_or_path", "checkpoint"),
    "registry.model_name": ("model_name", "registered_model"),
    "registry.experiment": ("experiment", "experiment_name"),
}  # fmt: skip
# What a key was called, and what it is called now: a field, or a section with all that is in it.
RENAMED = {
    "training.class_weights": "task.class_weights",
    "evaluation.temperature": "task.calibrate",
    "model.wide": "task.wide, and its learning_rate and epsilon are training.groups.wide",
    "task.wide.learning_rate": "training.groups.wide.learning_rate",
    "task.wide.epsilon": "training.groups.wide.epsilon",
    "tokenizer.max_length": "window.max_length",
    "tokenizer.overlap": "window.overlap",
    "tokenizer.special_tokens": "window.special_tokens",
    "model.embedding_dim": "model.embedding.size",
    "model.embedding_std": "model.embedding.init_std",
    "model.embedding_bias": "model.embedding.bias",
    "model.embedding_vectors": "model.embedding.vectors",
    "model.reparameterization.dropout": "model.dropout",
    "model.reparameterization.noise.dropout": "model.dropout",
    "promotion.beat_majority": "promotion.beat_constant",
    "promotion.min_accuracy": "promotion.bounds.accuracy.min",
    "promotion.min_macro_f1": "promotion.bounds.macro_f1.min",
    "promotion.min_class_f1": "promotion.bounds.f1/*.min",
    "promotion.max_nll": "promotion.bounds.nll.max",
    "promotion.max_ece": "promotion.bounds.ece.max",
    "promotion.max_megabytes": "promotion.bounds.megabytes.max",
    "promotion.max_milliseconds_per_text": "promotion.bounds.milliseconds_per_text.max",
    "promotion.min_slice_accuracy": "promotion.slices.min",
    "promotion.min_slice_rows": "promotion.slices.min_rows",
    "promotion.confidence": "statistics.confidence",
    "promotion.bootstrap_samples": "statistics.samples",
    "evaluation.confidence": "statistics.confidence",
    "evaluation.bootstrap_samples": "statistics.samples",
    "evaluation.ece_bins": "task.ece_bins",
    "evaluation.worst_errors": "task.worst_errors",
    "comparison.confidence": "recipe.statistics.confidence",
    "comparison.bootstrap_samples": "recipe.statistics.samples",
    "training.threads": "execution.threads",
    "training.accelerator": "execution.accelerator",
    "training.precision": "execution.precision",
    "training.checkpoint_every_steps": "execution.checkpoint_every_steps",
    "execution.train_timeout_seconds": "execution.limits.train",
    "execution.stage_timeout_seconds": "execution.limits.stage",
    "teacher": "distillation, its model is teacher, and its variants are augmentations",
    "distillation.model": "distillation.teacher",
    "distillation.variants": "distillation.augmentations",
}  # fmt: skip
_BY_NAME = {name: field for field, names in _MEANT.items() for name in names}


def describe(
    error: ValidationError, root: type[BaseModel], line: Callable[[tuple[Any, ...]], int | None]
) -> str:
    """pydantic's faults as `field: what is wrong (got …)`, one after the other.

    Args:
        root: the model that was validated.
        line: of a file, in which the field at such a place stands; null where that is not known.
    """
    kinds = _kinds(root)
    faults = []
    for fault in error.errors(include_url=False):
        loc = _place(fault["loc"], kinds)
        where = ".".join(map(str, loc)) or root.__name__.lower()
        got = fault.get("input")
        short = isinstance(got, (str, int, float, bool)) and len(repr(got)) < 80
        shown = f" (got {redacted(repr(got))})" if short else ""
        if (message := text_fault(fault)) is not None:
            shown = ""
        elif fault["type"] == _RENAMED:
            message, shown = fault["msg"], ""
        elif fault["type"] == "extra_forbidden":
            message, shown = f"unknown key{meant(loc, root)}", ""
        else:
            message = _said(fault, where)
        at = line(loc)
        faults.append(f"{where}{f' (line {at})' if at else ''}: {message}{shown}")
    told = redacted("; ".join(faults))
    return told if told.endswith("?") else f"{told}."


def _said(fault: Any, where: str) -> str:
    """pydantic's message in our words."""
    context, kind = fault.get("ctx") or {}, fault["type"]
    if where == "source" and isinstance(fault.get("input"), str):
        return "a source is a section, and a path stands in its url: source: {url: …}"
    if where == "training.warm_start" and kind == "literal_error":
        return "is never, champion or, for another model, a section: {model: …, version: …}"
    said = {
        "missing": "is missing",
        "int_parsing": "a whole number is expected",
        "int_type": "a whole number is expected",
        "int_from_float": "a whole number is expected",
        "float_parsing": "a number is expected",
        "float_type": "a number is expected",
        "finite_number": "a finite number is expected",
        "bool_parsing": "true or false is expected",
        "bool_type": "true or false is expected",
        "string_type": "a text is expected",
        "dict_type": "a mapping of fields is expected",
        "model_type": "a section, that is a mapping of fields, is expected",
        "model_attributes_type": "a section, that is a mapping of fields, is expected",
        "tuple_type": "a list is expected",
        "list_type": "a list is expected",
        "date_from_datetime_parsing": "a date is expected, as 2026-01-31",
        "date_parsing": "a date is expected, as 2026-01-31",
        "date_type": "a date is expected, as 2026-01-31",
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "greater_than": f"must be above {context.get('gt')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "less_than": f"must be below {context.get('lt')}",
        "literal_error": f"is none of {context.get('expected')}",
        "union_tag_invalid": f"there is no kind {context.get('tag')!r}; there are "
        f"{context.get('expected_tags')}",
        "union_tag_not_found": "which kind is meant? Say so with kind",
    }.get(kind)
    if kind == "string_pattern_mismatch":
        lower = str(context.get("pattern", "")).startswith("^[a-z0-9]")
        allowed = (
            "lower-case letters, digits, . _ and -"
            if lower
            else "letters, digits, spaces, . _ and -"
        )
        return f"a name is made of {allowed}"
    return said or fault["msg"].removeprefix("Value error, ")


# --- what was renamed -----------------------------------------------------------------------------

_RENAMED = "renamed"


def with_new_names(error: ValidationError, root: type[BaseModel]) -> ValidationError:
    """The same faults, in which an unknown key that was known once says what it is called now."""
    kinds = _kinds(root)
    lines: list[InitErrorDetails] = []
    for fault in _by_key(error.errors(include_url=False)):
        told = _told_of_change(fault, _place(fault["loc"], kinds), root)
        kind = PydanticCustomError(_RENAMED, "{told}", {"told": told}) if told else None
        lines.append({"type": kind or _same(fault), "loc": fault["loc"], "input": fault["input"]})
    return ValidationError.from_exception_data(error.title, lines, hide_input=True)


def new_name(dotted: str) -> str | None:
    """What a key, or the section that it stands in, is called now; None where it was not
    renamed."""
    names = [dotted, *(dotted[:at] for at, letter in enumerate(dotted) if letter == ".")]
    return next((RENAMED[name] for name in names if name in RENAMED), None)


def _by_key(found: Sequence[Any]) -> Iterator[Any]:
    """Of a section that is gone, a fault for each key in it: each has gone its own way."""
    sections = {name.partition(".")[0] for name in RENAMED if "." in name}
    for fault in found:
        loc, value = fault["loc"], fault["input"]
        gone = fault["type"] == "extra_forbidden" and len(loc) == 1 and loc[0] in sections
        if gone and isinstance(value, dict) and value:
            yield from ({**fault, "loc": (*loc, key), "input": value[key]} for key in value)
        else:
            yield fault


def _told_of_change(fault: Any, loc: tuple[Any, ...], root: type[BaseModel]) -> str | None:
    """What to say of a key, or of a kind, that there was once."""
    where, value = ".".join(map(str, loc)), fault["input"]
    if fault["type"] == "extra_forbidden":
        name = new_name(where) or new_name(f"{root.__name__.lower()}.{where}")
        return name and f"is {name} now"
    if where == "model.reparameterization" and fault.get("ctx", {}).get("tag") == "dropout":
        return "kind: dropout with its p is the field model.dropout now, beside kind: none"
    if where == "promotion.slices" and isinstance(value, list | tuple):
        return "a list of columns is promotion.slices.by now"
    return None


def _same(fault: Any) -> PydanticCustomError:
    """A fault's type as `from_exception_data` takes it; its message stays."""
    context = {key: value for key, value in fault.get("ctx", {}).items() if key != "error"}
    return PydanticCustomError(fault["type"], "{told}", {**context, "told": fault["msg"]})


def _place(loc: tuple[Any, ...], kinds: dict[str, set[Any]]) -> tuple[Any, ...]:
    """Where a fault lies as a person wrote it, without the kinds that pydantic puts between."""
    return tuple(part for at, part in enumerate(loc) if not _is_kind(at, loc, kinds))


# --- what was meant -------------------------------------------------------------------------------


def meant(loc: tuple[Any, ...], root: type[BaseModel]) -> str:
    """`; did you mean training.max_epochs?` for a key that there is not, or nothing."""
    name = str(loc[-1]).casefold()
    section = str(loc[0]) if len(loc) > 1 else ""
    fields = dict.fromkeys(fields_of(root))
    own = [field for field in fields if field.rpartition(".")[0] == ".".join(map(str, loc[:-1]))]
    near = difflib.get_close_matches(
        name, [field.rpartition(".")[2] for field in own], n=1, cutoff=0.75
    )
    if near and name not in _BY_NAME:
        return (
            f"; did you mean {next(field for field in own if field.rpartition('.')[2] == near[0])}?"
        )
    if (known := _BY_NAME.get(name)) is not None and (
        section in ("", known.partition(".")[0]) or known in fields
    ):
        return f"; did you mean {known}?"
    by_name: dict[str, list[str]] = {}
    for field in fields:
        by_name.setdefault(field.rpartition(".")[2], []).append(field)
    near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.75)
    return f"; did you mean {' or '.join(by_name[near[0]][:3])}?" if near else ""


def fields_of(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """The dotted names of all fields, those of every kind of a section too."""
    for name, field in model.model_fields.items():
        if name != "kind":
            yield before + name
        for part in models_in(field.annotation):
            yield from fields_of(part, f"{before}{name}.")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # Of an open set of kinds, every one that is there.
        yield from annotation.__dict__.get("KINDS", {}).values() or (annotation,)
    elif typing.get_origin(annotation) in (Union, types.UnionType, typing.Annotated):
        for part in typing.get_args(annotation):
            yield from models_in(part)


def _kinds(root: type[BaseModel]) -> dict[str, set[Any]]:
    """The kinds of each union, by the name of its field."""
    found: dict[str, set[Any]] = {}
    for name, field in root.model_fields.items():
        for part in models_in(field.annotation):
            if "kind" in part.model_fields:
                found.setdefault(name, set()).add(part.model_fields["kind"].default)
            for inner, kinds in _kinds(part).items():
                found.setdefault(inner, set()).update(kinds)
        for tag in _tags(field.annotation):
            found.setdefault(name, set()).add(tag)
    return found


def _tags(annotation: Any) -> Iterator[str]:
    """The names of a union's parts that are told apart by how they are written."""
    for part in typing.get_args(annotation):
        yield from (mark.tag for mark in typing.get_args(part)[1:] if isinstance(mark, Tag))


def _is_kind(at: int, loc: tuple[Any, ...], kinds: dict[str, set[Any]]) -> bool:
    """pydantic puts the chosen kind of a union into the path, where a reader expects a field."""
    return at > 0 and loc[at] in kinds.get(loc[at - 1], ())
