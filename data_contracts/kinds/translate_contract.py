"""translate, the contract's side: a text, and the same in another language.

A language is told by its script alone, so two that share one (English and German) are not told
apart; what no letter speaks for, as a number, is in any.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from data_contracts.contract.contract import DataContract
from data_contracts.contract.counts import Counts
from data_contracts.contract.rules import Reason, Role, RowRule
from data_contracts.contract.scripts import COMMON, SCRIPTS, script_of, written_with
from data_contracts.contract.sections import Columns, ConflictPolicy, TextLimits

if TYPE_CHECKING:
    import pyarrow as pa

    from data_contracts.contract.infer import Draft, UndescribedRows

SOURCE = Role("source")
TARGET = Role("target")
# Of pairs whose longer side has so few characters no proportion is asked: "没问题" may be "That is
# quite all right with me".
SHORT = 40


class TranslateColumns(Columns):
    """Which column of the source plays which role.

    A null id or split is filled in: id from file and row, split by hash of the source.
    """

    source: str = Field(default="source", description="Column of the texts to translate.")
    target: str = Field(default="target", description="Column of their translations.")


class SideLimits(TextLimits):
    """Limits of one side of a pair, in characters (Unicode code points), and its script."""

    script: str | None = Field(
        default=None,
        description="Script of its letters by Unicode's name (Latin, Han, Cyrillic, Hiragana for "
        "Japanese, Hangul for Korean); null: any.",
    )

    @field_validator("script")
    @classmethod
    def _is_a_script(cls, value: str | None) -> str | None:
        if value is None:
            return None
        name = "_".join(word.capitalize() for word in re.findall(r"[^\W_]+", value))
        if name not in SCRIPTS:
            raise ValueError(
                f"{value[:40]} is no script by Unicode's names, as Latin, Cyrillic, Arabic, "
                "Devanagari, Han (Chinese), Hiragana (Japanese) and Hangul (Korean) are"
            )
        return name


class TranslationPolicy(ConflictPolicy):
    """The same source with different targets in one split: no fault, unless it is made one."""

    keep: Literal["latest", "earliest", "none", "all"] = Field(
        default="all",
        description="Whose target counts, in reading order (by split, then by file name): all; the "
        "latest row's, so that a later file corrects an earlier one; the earliest's; none: all of "
        "them are quarantined.",
    )
    max_share: float = Field(
        default=1.0, ge=0, le=1, description="Largest share of all rows; above it the stage fails."
    )


class TranslateContract(DataContract):
    """What the rows of one data set promise: pairs of a text and its translation."""

    roles: ClassVar[tuple[Role, ...]] = (SOURCE, TARGET)
    identified_by: ClassVar[tuple[str, ...]] = ("source",)
    answer: ClassVar[tuple[str, ...]] = ("target",)
    conflict: ClassVar[tuple[str, str]] = (
        "translated_otherwise",
        "sources that stand in their split with another target",
    )
    comments: ClassVar[Mapping[str, str]] = {
        "source": "In characters (code points); script null: any. Others go to quarantine.",
        "target": "In characters (code points); script null: any. Others go to quarantine.",
        "max_ratio": "Times that one side may be as long as the other; short pairs excepted.",
        "identical": "A target that is its source again: quarantine, or keep.",
        "duplicates": "A source with its target that stood before in the same split.",
        "conflicts": "A source with several targets in one split: all are learnt; or whose counts "
        "(latest, earliest, none).",
        "leakage": "A source of train or valid that also stands in a later split; the earlier row "
        "goes.",
    }

    # Frozen, so a narrower type is safe.
    kind: Literal["translate"] = "translate"  # pyright: ignore[reportIncompatibleVariableOverride]
    columns: TranslateColumns = Field(default_factory=TranslateColumns)  # pyright: ignore[reportIncompatibleVariableOverride]
    source: SideLimits = Field(default_factory=SideLimits)
    target: SideLimits = Field(default_factory=SideLimits)
    max_ratio: float | None = Field(
        default=9.0,
        gt=1,
        description="Characters of the longer side of a pair over those of the shorter one, at "
        "most; an English text has three to four times the characters of a Chinese one. Pairs "
        f"whose longer side has at most {SHORT} are excepted. null: any.",
    )
    identical: Literal["quarantine", "keep"] = Field(
        default="quarantine",
        description="What becomes of a pair whose target is its source again (normalised), as "
        "where nobody translated it.",
    )
    conflicts: TranslationPolicy = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default_factory=TranslationPolicy,
        description="A source that stands in the same split with another target.",
    )

    @classmethod
    def claims(cls, undescribed: UndescribedRows) -> bool:
        from data_contracts.kinds.translate_draft import claims  # judges rows, so it loads Arrow

        return claims(undescribed)

    @classmethod
    def infer(cls, undescribed: UndescribedRows) -> Draft | None:
        from data_contracts.kinds.translate_draft import draft

        chosen = undescribed.kind == cls.model_fields["kind"].default
        return draft(undescribed) if chosen or cls.claims(undescribed) else None

    def why(self) -> str:
        columns = self.columns
        return (
            f"Kind translate: {columns.source} and {columns.target} are called as a text and its "
            "translation are, or hold the same in two languages."
        )

    def text_limits(self, role: str) -> SideLimits:
        return {"source": self.source, "target": self.target}[role]

    # --- the rules of a pair ----------------------------------------------------------------------

    @property
    def _told_apart(self) -> bool:
        """Whether the scripts of the two sides tell which is which."""
        one, other = self.source.script, self.target.script
        return one is not None and other is not None and one != other

    @property
    def _in_a_script(self) -> list[Role]:
        """The sides whose script the contract names."""
        return [role for role in self.roles if self.text_limits(role.name).script is not None]

    def row_reasons(self) -> list[Reason]:
        wrong = tuple(f"wrong_script_{role.name}" for role in self._in_a_script)
        found = super().row_reasons()
        if self._told_apart:
            advice = "where most are, exchange columns.source and columns.target"
            words = "pairs whose sides are swapped"
            found.append(Reason("swapped", words, "source", advice, hides=wrong))
        if self.identical == "quarantine":
            advice = "identical: keep takes them as they are"
            words = "targets that are their source again"
            found.append(Reason("identical", words, "target", advice, hides=wrong))
        for role in self._in_a_script:
            advice = f"set by {role.name}.script; null: any"
            words = f"{role.plural} in another script than {self.text_limits(role.name).script}"
            found.append(Reason(f"wrong_script_{role.name}", words, role.name, advice))
        if self.max_ratio is not None:
            words = f"pairs of which one side is over {self.max_ratio:g} times as long as the other"
            found.append(Reason("length_ratio", words, "target", "set by max_ratio"))
        return found

    def row_rules(self) -> list[RowRule]:
        found = super().row_rules()
        if self._told_apart:
            words = "no pair has its sides swapped"
            found.append(RowRule("swapped", "swapped", words, "none", "swapped", high=0))
        if self.identical == "quarantine":
            words = "no target is its source again"
            found.append(RowRule("identical", "identical", words, "none", "identical", high=0))
        for role in self._in_a_script:
            script = self.text_limits(role.name).script or COMMON
            found.append(
                RowRule(
                    name=f"{role.name}_script",
                    reason=f"wrong_script_{role.name}",
                    words=f"every {role.name} is in its script",
                    limit=script,
                    column=f"{role.name}_script",
                    values=written_with(script),
                )
            )
        if self.max_ratio is not None:
            found.append(
                RowRule(
                    name="length_ratio",
                    reason="length_ratio",
                    words="the sides of each pair are in proportion",
                    limit=f"at most {self.max_ratio:g} times, over {SHORT} characters",
                    column="length_ratio",
                    high=self.max_ratio,
                )
            )
        return found

    def measures(self, rows: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
        from data_contracts.kinds.translate_measures import (
            identical,
            length_ratio,
            scripts,
            swapped,
        )

        sources, targets = rows["source"], rows["target"]
        found: dict[str, pa.Array | pa.ChunkedArray] = {}
        for role in self._in_a_script:
            found[f"{role.name}_script"] = scripts(rows[role.name])
        if self._told_apart:
            both = (self.source.script or COMMON, self.target.script or COMMON)
            found["swapped"] = swapped(found["source_script"], found["target_script"], both)
        if self.identical == "quarantine":
            found["identical"] = identical(sources, targets)
        if self.max_ratio is not None:
            found["length_ratio"] = length_ratio(sources, targets, SHORT)
        return found

    # --- what the rows say ------------------------------------------------------------------------

    def count(self, rows: pa.Table) -> Counts:
        """Rows by the script of each side, too."""
        counts = super().count(rows)
        splits = rows["split"].to_pylist()
        for role in self.roles:
            for text, split in zip(rows[role.name].to_pylist(), splits, strict=True):
                counts[f"{role.name}_script", split, script_of(text or "")] += 1
        return counts

    def learn(self, counts: Counts) -> dict[str, Any]:
        """The script of most rows, for each side."""
        return {f"{role.name}_script": _most(self._scripts(counts, role)) for role in self.roles}

    def notes(self, counts: Counts, refused: Mapping[str, Counter[str]]) -> list[str]:
        """Rows in another script than most, where the contract would take any."""
        told = super().notes(counts, refused)
        for role in self.roles:
            scripts = self._scripts(counts, role)
            usual = _most(scripts)
            others = {one: n for one, n in scripts.items() if one not in written_with(usual)}
            if self.text_limits(role.name).script is None and others and usual != COMMON:
                shown = ", ".join(f"{script} {n:,}" for script, n in sorted(others.items()))
                told.append(
                    f"{scripts[usual]:,} {role.plural} are in {usual} script, and others are not: "
                    f"{shown}. {role.name}.script: {usual} in the contract sends them to "
                    "quarantine."
                )
        return told

    @staticmethod
    def _scripts(counts: Counts, role: Role) -> Counter[str]:
        found: Counter[str] = Counter()
        for (what, _, script), rows in counts.items():
            if what == f"{role.name}_script":
                found[script] += rows
        return found


def _most(scripts: Counter[str]) -> str:
    return max(scripts, key=lambda script: (scripts[script], script), default=COMMON)
