"""generate, the contract's side: plain texts, or prompts with a completion each.

Which of the two forms the rows have is told by the columns that are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from data_contracts.contract.contract import DataContract
from data_contracts.contract.counts import Counts
from data_contracts.contract.rules import Role
from data_contracts.contract.sections import Columns, ConflictPolicy, TextLimits

if TYPE_CHECKING:
    from data_contracts.contract.infer import Draft, UndescribedRows

SLOT = "{prompt}"
TEXT = Role("text")
PROMPT = Role("prompt")
COMPLETION = Role("completion")


class GenerateColumns(Columns):
    """Which column of the source plays which role: text, or prompt and completion.

    Where none of them is named, the texts stand in the column text. A null id or split is filled
    in: id from file and row, split by hash.
    """

    text: str | None = Field(
        default=None, description="Column of plain texts; null: rows are prompts with completions."
    )
    prompt: str | None = Field(
        default=None, description="Column of the prompts; null: rows are plain texts."
    )
    completion: str | None = Field(
        default=None, description="Column of what is to be written after each prompt."
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_texts_where_nothing_is_named(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        named = [data.get(name) for name in ("text", "prompt", "completion")]
        return {**data, "text": "text"} if named == [None, None, None] else data

    @model_validator(mode="after")
    def _one_form(self) -> GenerateColumns:
        if self.text is not None and (self.prompt is not None or self.completion is not None):
            raise ValueError(
                "rows are plain texts (name the column text) or pairs (name the columns prompt and "
                "completion), and both are named: leave one of them out"
            )
        if self.text is None and (self.prompt is None or self.completion is None):
            there = "prompt" if self.completion is None else "completion"
            missing = "completion" if self.completion is None else "prompt"
            raise ValueError(
                f"{there} is named without {missing}, and a pair has both: name the column of "
                f"each, or the column text where rows are plain texts"
            )
        return self


class DocumentLimits(TextLimits):
    """Limits in characters (Unicode code points) of texts that may be whole books."""

    max_characters: int = Field(default=1 << 24, ge=1, le=1 << 24, description="Most characters.")


class CompletionPolicy(ConflictPolicy):
    """The same prompt with different completions in one split: no fault, unless it is made one."""

    keep: Literal["latest", "earliest", "none", "all"] = Field(
        default="all",
        description="Whose completion counts, in reading order (by split, then by file name): all; "
        "the latest row's, so that a later file corrects an earlier one; the earliest's; none: all "
        "of them are quarantined.",
    )
    max_share: float = Field(
        default=1.0, ge=0, le=1, description="Largest share of all rows; above it the stage fails."
    )


class GenerateContract(DataContract):
    """What the rows of one data set promise: texts to learn to write, or prompts and what is to be
    written after each.
    """

    conflict: ClassVar[tuple[str, str]] = (
        "completed_otherwise",
        "prompts that stand in their split with another completion",
    )
    comments: ClassVar[Mapping[str, str]] = {
        "text": "In characters (code points). Longer texts go to quarantine.",
        "prompt": "In characters (code points). Longer ones go to quarantine.",
        "template": "How a prompt becomes what stands before its completion.",
        "duplicates": "A text, or a prompt with its completion, that stood before in the same "
        "split. keep: count only, so that it is learnt as often as it stands there.",
        "conflicts": "A prompt with several completions in one split: all are learnt; or whose "
        "counts (latest, earliest, none).",
        "leakage": "A text, or a prompt, of train or valid that also stands in a later split; the "
        "earlier row goes.",
    }

    # Frozen, so a narrower type is safe.
    kind: Literal["generate"] = "generate"  # pyright: ignore[reportIncompatibleVariableOverride]
    columns: GenerateColumns = Field(default_factory=GenerateColumns)  # pyright: ignore[reportIncompatibleVariableOverride]
    template: str = Field(
        default=SLOT,
        max_length=10_000,
        description='How a prompt becomes what stands before its completion, as "Q: '
        f'{SLOT}\\nA: "; {SLOT} stands in it once.',
    )
    text: DocumentLimits = Field(default_factory=DocumentLimits)
    prompt: DocumentLimits = Field(default_factory=DocumentLimits)
    completion: DocumentLimits = Field(default_factory=DocumentLimits)
    conflicts: CompletionPolicy = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default_factory=CompletionPolicy,
        description="A prompt that stands in the same split with another completion.",
    )

    @field_validator("template")
    @classmethod
    def _has_the_prompt_once(cls, value: str) -> str:
        times = value.count(SLOT)
        if times != 1:
            raise ValueError(
                f"{SLOT} stands for the prompt and has to stand in it once, as in "
                f'"Q: {SLOT}\\nA: ", and it does {times} times'
            )
        return value

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> GenerateContract:
        if idle := sorted(self.stated().intersection(self.idle)):
            form = "plain texts (columns.text)" if self.of_texts else "pairs (columns.prompt)"
            raise ValueError(
                f"{' and '.join(idle)} would say nothing of {form}, which are the rows of this "
                "contract: leave it out"
            )
        return self

    # --- the two forms ----------------------------------------------------------------------------

    @property
    def of_texts(self) -> bool:
        """Whether the rows are plain texts; otherwise they are pairs."""
        return self.columns.text is not None

    @classmethod
    def possible_roles(cls) -> tuple[Role, ...]:
        return TEXT, PROMPT, COMPLETION

    @property
    def roles(self) -> tuple[Role, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (TEXT,) if self.of_texts else (PROMPT, COMPLETION)

    @property
    def identified_by(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ("text",) if self.of_texts else ("prompt",)

    @property
    def answer(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return () if self.of_texts else ("completion",)

    @property
    def idle(self) -> tuple[str, ...]:
        return ("prompt", "completion", "template", "conflicts") if self.of_texts else ("text",)

    def filled(self, prompt: str) -> str:
        """What stands before the completion of a prompt."""
        return self.template.replace(SLOT, prompt)

    # --- what the base asks -----------------------------------------------------------------------

    @classmethod
    def claims(cls, undescribed: UndescribedRows) -> bool:
        from data_contracts.kinds.generate_draft import claims  # judges rows, so it loads Arrow

        return claims(undescribed)

    @classmethod
    def infer(cls, undescribed: UndescribedRows) -> Draft | None:
        from data_contracts.kinds.generate_draft import draft

        chosen = undescribed.kind == cls.model_fields["kind"].default
        return draft(undescribed) if chosen or cls.claims(undescribed) else None

    def why(self) -> str:
        columns = self.columns
        if self.of_texts:
            return f"Kind generate: {columns.text} holds texts, and no column a label of them."
        return (
            f"Kind generate: {columns.prompt} and {columns.completion} are called as prompts and "
            "what is to be written after them are."
        )

    def text_limits(self, role: str) -> TextLimits:
        return {"text": self.text, "prompt": self.prompt, "completion": self.completion}[role]

    def learn(self, counts: Counts) -> dict[str, Any]:
        """The form of the rows, and how a prompt becomes what stands before its completion."""
        return {"form": "text" if self.of_texts else "pairs", "template": self.template}

    def notes(self, counts: Counts, refused: Mapping[str, Counter[str]]) -> list[str]:
        escapes = [one for one in (r"\n", r"\t") if one in self.template]
        if not escapes:
            return super().notes(counts, refused)
        return [
            *super().notes(counts, refused),
            f"The template holds {' and '.join(escapes)} as a backslash and a letter: YAML reads "
            "them as a line end and a tab in double quotes alone.",
        ]
