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


FORMS = (
    Form(
        "Label Studio",
        frozenset({"annotation_id", "annotator", "created_at", "updated_at", "lead_time", "completed_by"}),
        3,
        frozenset({"annotation_id", "annotator", "created_at", "updated_at", "lead_time", "completed_by", "id"}),
        "a task that several people annotated stands there once for each of them",
    ),
    Form(
        "Label Studio's full JSON",
        frozenset({"annotations", "data", "predictions", "total_annotations", "file_upload", "inner_id"}),
        3,
        said="texts and labels are nested there: export as CSV or JSON-MIN in its place",
    ),
    Form(
        "Prodigy",
        frozenset({"_input_hash", "_task_hash", "_session_id", "_view_id", "answer", "_timestamp", "_annotator_id"}),
        2,
        frozenset({"_input_hash", "_task_hash", "_session_id", "_view_id", "answer", "_timestamp", "_annotator_id",
                   "meta", "options", "spans", "tokens", "score", "priority"}),
    ),
    Form("doccano", frozenset({"Comments", "id", "text", "label"}), 4, frozenset({"Comments", "meta"})),
    Form("doccano", frozenset({"id", "data", "label", "text", "annotation_approver"}), 4,
         frozenset({"annotation_approver", "meta"})),
)  # fmt: skip


def form_of(names: Sequence[str]) -> Form | None:
    return next((form for form in FORMS if len(form.marks & set(names)) >= form.needed), None)
