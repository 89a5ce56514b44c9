"""retrieve, the contract's side: a question and the answer to it, where there are many answers to
choose from; and, where the source says so, the page that the answer belongs to and a link to it.

What is learnt is to find an answer among all of them, so no question is at fault that has several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from data_contracts.contract.contract import DataContract
from data_contracts.contract.counts import Counts
from data_contracts.contract.rules import CorpusRule, Reason, Role, RowRule
from data_contracts.contract.scripts import COMMON, script_of
from data_contracts.contract.sections import Columns, SeveralAnswersPolicy, TextLimits

if TYPE_CHECKING:
    import pyarrow as pa

    from data_contracts.contract.infer import Draft, UndescribedRows

QUESTION = Role("question")
ANSWER = Role("answer")
PAGE = Role("page", required=False)
LINK = Role("link", required=False)


class RetrieveColumns(Columns):
    """Which column of the source plays which role.

    A null id or split is filled in: id from file and row, split by hash of the page, or of the
    question where a row has no page.
    """

    may_share: ClassVar[frozenset[str]] = frozenset(("page", "link"))

    question: str = Field(default="question", description="Column of the questions.")
    answer: str = Field(default="answer", description="Column of their answers.")
    page: str | None = Field(
        default=None,
        description="Column of the page or topic that the answer belongs to: the page's other "
        "answers are the hard ones to tell it from, and the split is drawn by it; null: none.",
    )
    link: str | None = Field(
        default=None,
        description="Column of where the answer comes from, shown with it; null: none. It may be "
        "that of the page.",
    )


class QuestionLimits(TextLimits):
    """Limits in characters (Unicode code points) of a question."""

    max_characters: int = Field(default=2_000, ge=1, le=1 << 24, description="Most characters.")


class AnswerLimits(TextLimits):
    """Limits in characters (Unicode code points) of an answer, which may be a whole section."""

    max_characters: int = Field(default=1 << 20, ge=1, le=1 << 24, description="Most characters.")


class RetrieveContract(DataContract):
    """What the rows of one data set promise: questions, and the answer to each."""

    identified_by: ClassVar[tuple[str, ...]] = ("question",)
    answer: ClassVar[tuple[str, ...]] = ("answer",)
    conflict: ClassVar[tuple[str, str]] = (
        "answered_otherwise",
        "questions that stand in their split with another answer",
    )
    comments: ClassVar[Mapping[str, str]] = {
        "columns": "Which column plays which role; id null: <file>#<row>, split null: drawn by "
        "hash of the page, or of the question.",
        "questions": "In characters (code points). Longer ones go to quarantine.",
        "answers": "In characters (code points). Longer ones go to quarantine.",
        "identical": "An answer that is its question again: quarantine, or keep.",
        "duplicates": "A question with its answer that stood before in the same split.",
        "conflicts": "A question with several answers in one split: all are right; or whose "
        "counts (latest, earliest, none).",
        "leakage": "A question of train or valid that also stands in a later split; the "
        "earlier row goes, and its answer is none to find. keep: count only.",
    }

    # Frozen, so a narrower type is safe.
    kind: Literal["retrieve"] = "retrieve"  # pyright: ignore[reportIncompatibleVariableOverride]
    columns: RetrieveColumns = Field(default_factory=RetrieveColumns)  # pyright: ignore[reportIncompatibleVariableOverride]
    # Called by their plurals, since `answer` is what the base calls the roles that may be at odds.
    questions: QuestionLimits = Field(default_factory=QuestionLimits)
    answers: AnswerLimits = Field(default_factory=AnswerLimits)
    identical: Literal["quarantine", "keep"] = Field(
        default="quarantine",
        description="What becomes of a row whose answer is its question again (normalised), as "
        "where nobody has answered it.",
    )
    conflicts: SeveralAnswersPolicy = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default_factory=SeveralAnswersPolicy,
        description="A question that stands in the same split with another answer.",
    )

    @classmethod
    def possible_roles(cls) -> tuple[Role, ...]:
        return QUESTION, ANSWER, PAGE, LINK

    @property
    def roles(self) -> tuple[Role, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        beside = [role for role in (PAGE, LINK) if getattr(self.columns, role.name) is not None]
        return (QUESTION, ANSWER, *beside)

    @property
    def drawn_by(self) -> tuple[str, ...]:
        """By the page where it is named, so that all its answers are in one split. Where the source
        gives the splits, a page may stand in several, which is no leak: its questions are others.
        """
        return ("question",) if self.columns.page is None else ("page",)

    @classmethod
    def claims(cls, undescribed: UndescribedRows) -> int:
        from data_contracts.kinds.retrieve_draft import claims  # judges rows, so it loads Arrow

        return claims(undescribed)

    @classmethod
    def infer(cls, undescribed: UndescribedRows) -> Draft | None:
        from data_contracts.kinds.retrieve_draft import draft

        chosen = undescribed.kind == cls.model_fields["kind"].default
        return draft(undescribed) if chosen or cls.claims(undescribed) else None

    def why(self) -> str:
        columns = self.columns
        return (
            f"Kind retrieve: {columns.question} and {columns.answer} are called as questions and "
            "their answers are, and no column is a text that these are asked of."
        )

    def text_limits(self, role: str) -> TextLimits:
        limits = {"question": self.questions, "answer": self.answers}
        return limits.get(role, _UNLIMITED)

    # --- the rules of a question and its answer ---------------------------------------------------

    def row_reasons(self) -> list[Reason]:
        found = [one for one in super().row_reasons() if one.column in ("question", "answer")]
        if self.identical == "quarantine":
            advice = "identical: keep takes them as they are"
            words = "answers that are their question again"
            found.append(Reason("identical", words, "answer", advice))
        return found

    def row_rules(self) -> list[RowRule]:
        # Pages and links are names, of which nothing is asked.
        own = super().row_rules()
        found = [one for one in own if one.column.partition("_")[0] in ("question", "answer")]
        if self.identical == "quarantine":
            words = "no answer is its question again"
            found.append(RowRule("identical", "identical", words, "none", "identical", high=0))
        return found

    def measures(self, rows: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
        from data_contracts.kinds.retrieve_measures import identical

        if self.identical == "keep":
            return {}
        return {"identical": identical(rows["question"], rows["answer"])}

    def corpus_rules(self) -> list[CorpusRule]:
        words = "different answers, of which one is to be found"
        return [*super().corpus_rules(), CorpusRule("different_answers", words, low=2)]

    def aggregates(self, counts: Counts) -> dict[str, float]:
        return {"different_answers": float(len(_answers(counts)))}

    # --- what the rows say ------------------------------------------------------------------------

    def count(self, rows: pa.Table) -> Counts:
        """Rows by the script of the question, and two answers that differ, too."""
        from data_contracts.contract.text import text_hash

        counts = super().count(rows)
        pairs = zip(rows["question"].to_pylist(), rows["split"].to_pylist(), strict=True)
        for question, split in pairs:
            counts["script", split, script_of(question or "")] += 1
        # The least and the greatest tell whether there are two, whatever the parts are.
        hashes = [f"{text_hash(answer or ''):016x}" for answer in rows["answer"].to_pylist()]
        ends = dict.fromkeys((min(hashes), max(hashes))) if hashes else {}
        for end in ends:
            counts["an_answer", "", end] += 1
        return counts

    def learn(self, counts: Counts) -> dict[str, Any]:
        """The script of most questions, and what stands beside the answers."""
        scripts: Counter[str] = Counter()
        for (what, _, value), rows in counts.items():
            if what == "script":
                scripts[value] += rows
        usual = max(scripts, key=lambda script: (scripts[script], script), default=COMMON)
        return {
            "script": usual,
            "pages": self.columns.page is not None,
            "links": self.columns.link is not None,
        }


def _answers(counts: Counts) -> set[str]:
    return {value for what, _, value in counts if what == "an_answer"}


_UNLIMITED = TextLimits(max_characters=1 << 24, allow_replacement_character=True)
