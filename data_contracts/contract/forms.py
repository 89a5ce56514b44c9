"""Known tools' exports, by the columns that they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A known tool's export, by columns that no other file has."""

    name: str
    marks: frozenset[str]
    needed: int  # of the marks
    beside: frozenset[str] = frozenset()  # columns that are never text or label
    said: str = ""


def _columns(names: str) -> frozenset[str]:
    return frozenset(names.split())


_LABEL_STUDIO = "annotation_id annotator created_at updated_at lead_time completed_by"
_PRODIGY = "_input_hash _task_hash _session_id _view_id answer _timestamp _annotator_id"
FORMS = (
    Form(
        "Label Studio",
        _columns(_LABEL_STUDIO),
        3,
        _columns(f"{_LABEL_STUDIO} id"),
        "a task that several people annotated stands there once for each of them",
    ),
    Form(
        "Label Studio's full JSON",
        _columns("annotations data predictions total_annotations file_upload inner_id"),
        3,
        said="texts and labels are nested there: export as CSV or JSON-MIN in its place",
    ),
    Form(
        "Prodigy",
        _columns(_PRODIGY),
        2,
        _columns(f"{_PRODIGY} meta options spans tokens score priority"),
    ),
    Form("doccano", _columns("Comments id text label"), 4, _columns("Comments meta")),
    Form(
        "doccano",
        _columns("id data label text annotation_approver"),
        4,
        _columns("annotation_approver meta"),
    ),
)


def form_of(names: Sequence[str]) -> Form | None:
    return next((form for form in FORMS if len(form.marks & set(names)) >= form.needed), None)
