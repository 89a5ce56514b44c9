"""What a contract expects, as data: each rule has a name, words and bounds, and is written once.

Great Expectations evaluates the rules in `validate` (`data_contracts.contract.expectations`), numpy
and Arrow do for drafts and checks (`data_contracts.contract.judge`). pydantic-light: no Arrow here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_contracts.contract.sections import TextLimits
from data_contracts.contract.shown import shortened, shown_cell, shown_count, shown_share
from data_contracts.tables.categories import NESTED_VALUE, NOT_TEXT, SEVERAL_VALUES, UNNAMED_CLASS

CellType = Literal["text", "category", "number"]


@dataclass(frozen=True)
class Role:
    """A cell that a kind gives a meaning: a field of `columns`, and a column of a corpus."""

    name: str
    type: CellType = "text"
    required: bool = True

    @property
    def plural(self) -> str:
        return f"{self.name[:-1]}ies" if self.name.endswith("y") else f"{self.name}s"


@dataclass(frozen=True)
class Reason:
    """Why a row may be refused."""

    name: str
    words: str  # as in "12 rows: empty texts"
    column: str  # of the corpus, whose cell shows the fault
    advice: str = ""  # half a sentence for whoever reads that too many rows have it
    remedy: str = ""  # what to do, where there is more to say than to mend the source
    fault: str = ""  # what a reader calls it that finds it in a cell
    hides: tuple[str, ...] = ()  # other reasons, of which this one is the better account
    tallied: bool = False  # its cells are counted one by one


@dataclass(frozen=True)
class RowRule:
    """What each row must meet: a column of the row frame has a value, in bounds, or among some.

    A null meets all but `given`, as it does for Great Expectations.
    """

    name: str
    reason: str  # of a row that breaks it
    words: str
    limit: str  # as a person reads it
    column: str
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] | None = None
    given: bool = False


@dataclass(frozen=True)
class CorpusRule:
    """What the rows must meet together: an aggregate of the same name within bounds.

    Names that end in `_share` are shares within [0, 1], the others counts.
    """

    name: str
    words: str
    low: float | None = None
    high: float | None = None

    @property
    def limit(self) -> str:
        """As a person reads it."""
        bounds = []
        if self.low is not None:
            bounds.append(f"at least {self.shown(self.low)}")
        if self.high is not None:
            bounds.append(f"at most {self.shown(self.high)}")
        return " and ".join(bounds)

    def shown(self, value: float | None) -> str:
        return shown_share(value) if self.name.endswith("_share") else shown_count(value)

    def holds(self, observed: float) -> bool:
        too_low = self.low is not None and observed < self.low
        too_high = self.high is not None and observed > self.high
        return not too_low and not too_high


# --- what a reader finds of a cell, by its type ---------------------------------------------------


def cell_reasons(role: Role) -> list[Reason]:
    """Reasons that ingest finds as it reads the cell, and gives in the column `fault`."""
    name, plural = role.name, role.plural
    if role.type == "text":
        return [Reason("not_text", "texts that are not text", name, fault=NOT_TEXT)]
    if role.type == "number":
        return []
    several, nested = f"rows with several {plural}", f"{plural} that are objects or marks of places"
    unnamed = "class numbers that have no name in the file's metadata"
    bad = (f"bad_{name}",)
    return [
        Reason(f"several_{plural}", several, name, fault=SEVERAL_VALUES, hides=bad),
        Reason(f"nested_{name}", f"{nested} in the text", name, fault=NESTED_VALUE, hides=bad),
        Reason("unnamed_class", unnamed, name, fault=UNNAMED_CLASS, hides=bad),
    ]


def cell_rule(reason: Reason) -> RowRule:
    name = f"cell_{reason.name}"
    return RowRule(name, reason.name, f"no {reason.words}", "none", reason.name, high=0)


# --- texts ----------------------------------------------------------------------------------------


def text_reasons(role: Role, suffix: str) -> list[Reason]:
    """
    Args:
        suffix: of the reasons' names, where a row has several texts.
    """
    found = {
        "empty": f"empty {role.plural}",
        "too_short": f"{role.plural} that are too short",
        "over_long": f"over-long {role.plural}",
        "broken_encoding": f"{role.plural} with broken encoding (U+FFFD)",
        "control_characters": f"{role.plural} with control characters",
    }
    if not role.required:
        del found["empty"]
    return [Reason(name + suffix, words, role.name) for name, words in found.items()]


def text_rules(role: Role, suffix: str, limits: TextLimits) -> list[RowRule]:
    """On the columns of the row frame that `data_contracts.contract.frames.row_frame` measures."""
    name = role.name
    rules = [
        RowRule(
            f"{name}_not_empty", f"empty{suffix}", f"every {name} holds something",
            "not null, not blank", f"{name}_visible", given=True,
        ),
        RowRule(
            f"{name}_min_characters", f"too_short{suffix}", f"no {name} is too short",
            f"at least {limits.min_characters} characters", f"{name}_visible",
            low=limits.min_characters,
        ),
        RowRule(
            f"{name}_max_characters", f"over_long{suffix}", f"no {name} is too long",
            f"at most {limits.max_characters:,} characters", f"{name}_characters",
            high=limits.max_characters,
        ),
        RowRule(
            f"{name}_encoding", f"broken_encoding{suffix}", f"no {name} has broken encoding",
            "no U+FFFD", f"{name}_broken", high=0,
        ),
        RowRule(
            f"{name}_controls", f"control_characters{suffix}",
            f"no {name} holds control characters", "no C0 or C1 control", f"{name}_controls",
            high=0,
        ),
    ]  # fmt: skip
    idle = {
        f"{name}_not_empty": not role.required,
        f"{name}_encoding": limits.allow_replacement_character,
        f"{name}_controls": limits.allow_control_characters,
    }
    return [rule for rule in rules if not idle.get(rule.name)]


# --- categories and numbers -----------------------------------------------------------------------


def category_reasons(role: Role, known: Sequence[str] | None, section: str) -> list[Reason]:
    """
    Args:
        known: every value that there is; None: any.
        section: of the contract, that names them.
    """
    advice, more = "", ""
    if known is not None:
        advice = f"the contract has {', '.join(map(shown_cell, known[:10]))}"
        more = ", …" if len(known) > 10 else ""
    remedy = f"Mend the {role.plural} in the source, or add them to {section} of the contract."
    words = f"missing or unknown {role.plural}"
    return [
        Reason(f"bad_{role.name}", words, role.name, advice + more, remedy=remedy, tallied=True)
    ]


def category_rules(role: Role, known: tuple[str, ...] | None) -> list[RowRule]:
    name, reason, rules = role.name, f"bad_{role.name}", []
    if role.required:
        words = f"every row has a {name}"
        rules.append(RowRule(f"{name}_not_null", reason, words, "not null", name, given=True))
    if known is not None:
        words, limit = f"every {name} is a known one", shortened(", ".join(known))
        rules.append(RowRule(f"{name}_known", reason, words, limit, name, values=known))
    return rules


def number_reasons(role: Role) -> list[Reason]:
    return [Reason(f"bad_{role.name}", f"{role.plural} that are missing or no number", role.name)]


def number_rules(role: Role) -> list[RowRule]:
    """`{name}_text` is 1 where the cell holds something that is no number."""
    name, reason, rules = role.name, f"bad_{role.name}", []
    if role.required:
        words = f"every row has a {name}"
        rules.append(RowRule(f"{name}_not_null", reason, words, "not null", name, given=True))
    words, column = f"every {name} is a number", f"{name}_text"
    return [*rules, RowRule(f"{name}_number", reason, words, "a number", column, high=0)]
