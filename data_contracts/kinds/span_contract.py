"""span, the contract's side: a question, the context that it is asked of, and the piece of the
context that answers it.

An offset counts characters (Unicode code points) of the context as it is written. Of rows that are
kept it is right: where the source counts otherwise or not at all, rows are completed as they are
read (`span_measures`), and what cannot be is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from data_contracts.contract.contract import DataContract
from data_contracts.contract.counts import Counts
from data_contracts.contract.rules import Reason, Role, RowRule
from data_contracts.contract.scripts import COMMON, script_of
from data_contracts.contract.sections import Columns, SeveralAnswersPolicy, TextLimits
from data_contracts.kinds.span_places import NO_ANSWER, Offsets, reasons_of_places

if TYPE_CHECKING:
    import pyarrow as pa

    from data_contracts.contract.infer import Draft, UndescribedRows

QUESTION = Role("question")
CONTEXT = Role("context")
ANSWER = Role("answer", required=False)
ANSWER_START = Role("answer_start", "number")
ANSWERS = Role("answers", required=False)


class SpanColumns(Columns):
    """Which column of the source plays which role.

    A null id or split is filled in: id from file and row, split by hash of the context.
    """

    question: str = Field(default="question", description="Column of the questions.")
    context: str = Field(
        default="context", description="Column of the texts that the questions are asked of."
    )
    answer: str = Field(
        default="answer", description="Column of the answers, each a piece of its context."
    )
    answer_start: str | None = Field(
        default="answer_start",
        description="Column of the answers' offsets in their contexts; null: they are looked for.",
    )
    answers: str | None = Field(
        default=None,
        description="Column of every right answer, as a JSON list of texts, by which figures are "
        "counted; null: of a row its own alone.",
    )


class QuestionLimits(TextLimits):
    """Limits in characters (Unicode code points) of a question."""

    max_characters: int = Field(default=2_000, ge=1, le=1 << 24, description="Most characters.")


class ContextLimits(TextLimits):
    """Limits in characters (Unicode code points) of a context, which may be longer than any
    window."""

    max_characters: int = Field(default=1 << 20, ge=1, le=1 << 24, description="Most characters.")


class SpanContract(DataContract):
    """What the rows of one data set promise: questions, and where in its context each is
    answered."""

    roles: ClassVar[tuple[Role, ...]] = (QUESTION, CONTEXT, ANSWER, ANSWER_START, ANSWERS)
    identified_by: ClassVar[tuple[str, ...]] = ("question", "context")
    answer: ClassVar[tuple[str, ...]] = ("answer", "answer_start")
    conflict: ClassVar[tuple[str, str]] = (
        "answered_otherwise",
        "questions of a context that stand in their split with another answer",
    )
    comments: ClassVar[Mapping[str, str]] = {
        "columns": "Which column plays which role; id null: <file>#<row>, split null: drawn by "
        "hash of the context, answer_start null: the answer is looked for.",
        "questions": "In characters (code points). Longer ones go to quarantine.",
        "contexts": "In characters (code points); one that is longer than a window is read in "
        "several.",
        "answers": "In characters (code points). Longer ones go to quarantine.",
        "offsets": "What answer_start counts: characters (code points), utf8 (bytes) or utf16 "
        "(code units). Kept rows have characters.",
        "repeated": "An answer without an offset that stands in its context several times: "
        "quarantine, or first.",
        "unanswerable": "A row without an answer: quarantine, or keep it as a question that its "
        "context does not answer.",
        "duplicates": "A question and its context with an answer that stood before in the same "
        "split.",
        "conflicts": "A question of a context with several answers in one split: all are learnt; "
        "or whose counts (latest, earliest, none).",
        "leakage": "A context of train or valid that also stands in a later split; the earlier "
        "row goes.",
    }

    # Frozen, so a narrower type is safe.
    kind: Literal["span"] = "span"  # pyright: ignore[reportIncompatibleVariableOverride]
    columns: SpanColumns = Field(default_factory=SpanColumns)  # pyright: ignore[reportIncompatibleVariableOverride]
    # Called by their plurals, since `answer` is what the base calls the roles that may be at odds.
    questions: QuestionLimits = Field(default_factory=QuestionLimits)
    contexts: ContextLimits = Field(default_factory=ContextLimits)
    answers: TextLimits = Field(default_factory=TextLimits)
    offsets: Offsets = Field(
        default="characters",
        description="What answer_start counts in the source: characters (Unicode code points), "
        "utf8 (bytes) or utf16 (code units, as JavaScript and Java do). Kept rows have characters.",
    )
    repeated: Literal["quarantine", "first"] = Field(
        default="quarantine",
        description="What becomes of an answer without an offset that stands in its context "
        "several times, so that nobody knows which place is meant: quarantine, or the first.",
    )
    unanswerable: Literal["quarantine", "keep"] = Field(
        default="quarantine",
        description="What becomes of a row without an answer (blank, its offset blank or -1): "
        "quarantine, since an answer may only be missing; or keep, as a question that its context "
        "does not answer.",
    )
    conflicts: SeveralAnswersPolicy = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default_factory=SeveralAnswersPolicy,
        description="A question of a context that stands in the same split with another answer.",
    )

    @property
    def drawn_by(self) -> tuple[str, ...]:
        """By the context alone, so that all its questions are in one split."""
        return ("context",)

    @property
    def kept_apart(self) -> tuple[str, ...]:
        return ("context",)

    @classmethod
    def claims(cls, undescribed: UndescribedRows) -> int:
        from data_contracts.kinds.span_draft import claims  # judges rows, so it loads Arrow

        return claims(undescribed)

    @classmethod
    def infer(cls, undescribed: UndescribedRows) -> Draft | None:
        from data_contracts.kinds.span_draft import draft

        chosen = undescribed.kind == cls.model_fields["kind"].default
        return draft(undescribed) if chosen or cls.claims(undescribed) else None

    def why(self) -> str:
        columns = self.columns
        return (
            f"Kind span: {columns.question} is asked of {columns.context}, and what stands in "
            f"{columns.answer} is a piece of it."
        )

    def text_limits(self, role: str) -> TextLimits:
        limits = {"question": self.questions, "context": self.contexts, "answer": self.answers}
        return limits.get(role, _UNLIMITED)

    @property
    def reading(self) -> dict[str, Any]:
        return {**super().reading, "offsets": self.offsets, "repeated": self.repeated}

    # --- the rules of an answer -------------------------------------------------------------------

    @property
    def cell_reasons(self) -> list[Reason]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """With what is found as an answer is looked for in its context."""
        return [*super().cell_reasons, *reasons_of_places(self.offsets)]

    def row_reasons(self) -> list[Reason]:
        found = [_of_offsets(one) for one in super().row_reasons() if one.column != "answers"]
        found.append(
            Reason(
                "bad_answers",
                "lists of answers that are no JSON list of texts",
                "answers",
                'as ["one", "another"]; columns.answers: null reads none',
            )
        )
        if self.unanswerable == "quarantine":
            advice = "unanswerable: keep takes them as questions that the context does not answer"
            found.append(Reason("unanswerable", "questions without an answer", "answer", advice))
        return found

    def row_rules(self) -> list[RowRule]:
        own = super().row_rules()
        found = [one for one in own if one.column.partition("_")[0] != "answers"]
        words = "every list of answers is one"
        limit = "a JSON list of texts"
        found.append(RowRule("answers_listed", "bad_answers", words, limit, "answers_bad", high=0))
        if self.unanswerable == "quarantine":
            words = "every question has an answer"
            found.append(
                RowRule("answered", "unanswerable", words, "none without", "no_answer", high=0)
            )
        return found

    def completed(self, rows: pa.Table) -> pa.Table:
        from data_contracts.kinds.span_measures import placed

        looked_for = self.columns.answer_start is None
        return placed(rows, self.offsets, looked_for, self.repeated == "first")

    def measures(self, rows: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
        from data_contracts.kinds.span_measures import unlisted, without_answer

        return {
            "answers_bad": unlisted(rows["answers"]),
            "no_answer": without_answer(rows["answer"], rows["answer_start"]),
        }

    # --- what the rows say ------------------------------------------------------------------------

    def count(self, rows: pa.Table) -> Counts:
        """Rows by the script of the context, and those without an answer, too."""
        counts = super().count(rows)
        columns = [rows[name].to_pylist() for name in ("context", "answer_start", "split")]
        for context, start, split in zip(*columns, strict=True):
            counts["script", split, script_of(context or "")] += 1
            if start == NO_ANSWER:
                counts["unanswerable", split, "yes"] += 1
        return counts

    def learn(self, counts: Counts) -> dict[str, Any]:
        """The script of most contexts, and whether any question is without an answer."""
        scripts: Counter[str] = Counter()
        without = 0
        for (what, _, value), rows in counts.items():
            if what == "script":
                scripts[value] += rows
            without += rows if what == "unanswerable" else 0
        usual = max(scripts, key=lambda script: (scripts[script], script), default=COMMON)
        return {"script": usual, "unanswerable": without > 0}


def _of_offsets(reason: Reason) -> Reason:
    """A missing offset in the words of this kind, with the way to do without it."""
    if reason.name != "bad_answer_start":
        return reason
    advice = "columns.answer_start: null looks for the answers instead"
    return replace(reason, words="offsets that are missing or no number", advice=advice)


_UNLIMITED = TextLimits(max_characters=1 << 24, allow_replacement_character=True)
