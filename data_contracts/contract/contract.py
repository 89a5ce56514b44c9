"""DataContract: what a data set promises, in one readable YAML per data set.

The fields of every contract stand in `data_contracts.contract.data_set`; what a row is, the
contract's kind says (`data_contracts.kinds`). A kind enters by being defined: a subclass with a
`kind` of its own is found by that name.

Pydantic only: what the rules look at is measured in `data_contracts.contract.frames`, and judged in
`data_contracts.contract.verdicts` (numpy, Arrow) or `.expectations` (Great Expectations).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from data_contracts.contract import notes as sentences
from data_contracts.contract import rules
from data_contracts.contract.counts import Counts, per_split
from data_contracts.contract.data_set import DataSet
from data_contracts.contract.rules import CorpusRule, Reason, Role, RowRule
from data_contracts.contract.sections import SPLITS, Split, TextLimits
from data_contracts.errors import RecipeError
from data_contracts.open_kinds import AnyKind
from data_contracts.section import text_fault
from data_contracts.yaml_text import read_yaml

if TYPE_CHECKING:
    import pyarrow as pa

    from data_contracts.contract.infer import Draft, UndescribedRows

__all__ = ["SPLITS", "AnyContract", "Contract", "DataContract", "Split", "load_contract"]


class DataContract(DataSet):
    """What the rows of one data set promise.

    Broken rows are quarantined; past the limits the run stops.
    """

    KINDS: ClassVar[dict[str, type[DataContract]]] = {}
    # These four are the same for all contracts of a kind, or a property of each of them, where its
    # rows come in several forms.
    roles: ClassVar[tuple[Role, ...]]
    # Roles whose text tells rows apart: by it repeats are found.
    identified_by: ClassVar[tuple[str, ...]]
    # Roles in which two rows of one identity may be at odds; none: they are never.
    answer: ClassVar[tuple[str, ...]] = ()
    # What a row at odds is called, and its words.
    conflict: ClassVar[tuple[str, str]] = ("contradicted", "rows that another one contradicts")
    # What is said of the kind's own sections, where a contract is written for a person.
    comments: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if isinstance(kind := cls.model_fields["kind"].default, str):
            DataContract.KINDS[kind] = cls

    # --- what a kind may say otherwise ------------------------------------------------------------

    @classmethod
    def possible_roles(cls) -> tuple[Role, ...]:
        """Every role that a contract of this kind may have."""
        return cls.roles

    @property
    def drawn_by(self) -> tuple[str, ...]:
        """Roles whose text draws the split of a row; one that leaves them blank is drawn by what
        tells it apart.
        """
        return self.identified_by

    @property
    def kept_apart(self) -> tuple[str, ...]:
        """Roles whose text may stand in one split alone: by it leaks are found, and test rows that
        a model has seen.
        """
        return self.identified_by

    @property
    def idle(self) -> tuple[str, ...]:
        """Own sections and columns that say nothing of the rows of this contract."""
        return ()

    def text_limits(self, role: str) -> TextLimits:
        """Of the texts of a role."""
        return TextLimits()

    def known(self, role: str) -> tuple[str, ...] | None:
        """Every value that a category may have; None: any."""
        return None

    def row_reasons(self) -> list[Reason]:
        """Why a row may be refused for what its cells hold, in the order of its first reason."""
        reasons = []
        for role in self.roles:
            if role.type == "text":
                reasons += rules.text_reasons(role, self._suffix(role))
            elif role.type == "category":
                section = f"{role.plural}.values"
                reasons += rules.category_reasons(role, self.known(role.name), section)
            else:
                reasons += rules.number_reasons(role)
        return reasons

    def row_rules(self) -> list[RowRule]:
        """What the cells of each row must hold; each rule's reason is one of `row_reasons`."""
        found = []
        for role in self.roles:
            if role.type == "text":
                found += rules.text_rules(role, self._suffix(role), self.text_limits(role.name))
            elif role.type == "category":
                found += rules.category_rules(role, self.known(role.name))
            else:
                found += rules.number_rules(role)
        return found

    def completed(self, rows: pa.Table) -> pa.Table:
        """Rows of the raw schema with cells that the kind works out of the others of their row, and
        a `fault` where it cannot.
        """
        return rows

    def measures(self, rows: pa.Table) -> dict[str, pa.Array | pa.ChunkedArray]:
        """Further columns of the row frame, for row rules of the kind's own."""
        return {}

    def corpus_rules(self) -> list[CorpusRule]:
        """What the rows must meet together; a kind adds its own, which `aggregates` fills in."""
        most = {
            self.conflict[0]: self.conflicts.max_share,
            "duplicate": self.duplicates.max_share,
            "leaked": self.leakage.max_share,
        }
        found = [
            CorpusRule("rows_kept", "rows kept", low=1),
            CorpusRule(
                "quarantine_share", "quarantined rows, all reasons", high=self.max_quarantine_share
            ),
        ]
        for name, reason in self.reasons.items():
            high = most.get(name, self.max_quarantine_share)
            found.append(CorpusRule(f"{name}_share", reason.words, high=high))
        for split in SPLITS:
            rows = self.splits.min_rows
            found.append(CorpusRule(f"{split}_not_empty", f"the {split} split holds rows", low=1))
            found.append(CorpusRule(f"{split}_rows", f"rows of the {split} split", low=rows))
        return found

    def aggregates(self, counts: Counts) -> dict[str, float]:
        """The values of the kind's own corpus rules."""
        return {}

    def count(self, rows: pa.Table) -> Counts:
        """Rows of each value of each category, by split: additive over the parts of a corpus."""
        counts: Counts = Counter()
        for role in self.categories:
            keys = [role.name, "split"]
            # One thread: so the groups come in the order of the rows.
            groups = rows.select(keys).group_by(keys, use_threads=False)
            table = groups.aggregate([([], "count_all")])
            for value, split, times in zip(*table.to_pydict().values(), strict=True):
                if value is not None:
                    counts[role.name, split, value] += times
        return counts

    @classmethod
    def claims(cls, undescribed: UndescribedRows) -> int:
        """How plainly rows are of this kind, which is asked before those that say less: 0, nothing
        speaks for it; 1, or True, the names of the columns do; 2, the cells do too.
        """
        return 0

    def why(self) -> str:
        """A sentence on what speaks for this kind, in a draft."""
        named = " and ".join(self.sources.values())
        return f"Kind {self.kind}: the columns {named} are what its rows have."

    @classmethod
    def infer(cls, undescribed: UndescribedRows) -> Draft | None:
        """A contract of this kind that the rows pass; None where nothing is known of drafting one,
        or they speak for another kind.

        Raises:
            SourceError: where the rows are not of this kind, and why.
        """
        return None

    def learn(self, counts: Counts) -> dict[str, Any]:
        """What the kept rows say that later stages have to know, as plain JSON.

        Its values are part of the corpus' digest, in order.
        """
        return {}

    def notes(self, counts: Counts, refused: Mapping[str, Counter[str]]) -> list[str]:
        """What a person should know of the rows, as sentences.

        Args:
            counts: of the kept rows.
            refused: cells of refused rows by the reasons that are `tallied`.
        """
        found = []
        for role in self.categories:
            rows = sum(per_split(counts, role.name).values(), Counter())
            unknown = refused.get(f"bad_{role.name}", Counter())
            found += sentences.of_category(role, rows, unknown, self.known(role.name))
        return found

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read; the limits that they are held to do not."""
        known = {role.name: self.known(role.name) or () for role in self.categories}
        return {
            "kind": self.kind,
            **self.model_dump(mode="json", include={"columns", "select"}),
            "splits": {"valid": self.splits.valid, "test": self.splits.test},
            # By these alone it is told whether class numbers or their names in a file's metadata
            # count.
            "class_numbers": {
                role: values
                for role, values in known.items()
                if values and all(one.isdecimal() for one in values)
            },
        }

    # --- what follows from it ---------------------------------------------------------------------

    @property
    def categories(self) -> tuple[Role, ...]:
        return tuple(role for role in self.roles if role.type == "category")

    @property
    def texts(self) -> tuple[Role, ...]:
        return tuple(role for role in self.roles if role.type == "text")

    @property
    def sources(self) -> dict[str, str]:
        """The source's column of each role that has one."""
        named = {role.name: getattr(self.columns, role.name) for role in self.roles}
        return {role: column for role, column in named.items() if column is not None}

    @property
    def cell_reasons(self) -> list[Reason]:
        """Reasons that are found as a cell is read."""
        found = [reason for role in self.roles for reason in rules.cell_reasons(role)]
        advice = "train, valid and test are known in their usual spellings; null: drawn"
        unknown = Reason("unknown_split", "rows whose split is none", "split", advice)
        return list({reason.name: reason for reason in (*found, unknown)}.values())

    @property
    def reasons(self) -> dict[str, Reason]:
        """Why a row may be refused, by name, in the order in which its first reason is chosen.

        The last ones are found against the other rows, the others are `cell_rules` and `row_rules`.
        """
        own = [*self.cell_reasons, *self.row_reasons()]
        return {reason.name: reason for reason in (*own, *self._reasons_by_others())}

    @property
    def own_reasons(self) -> tuple[str, ...]:
        """Those that a row has by itself."""
        return tuple(reason.name for reason in (*self.cell_reasons, *self.row_reasons()))

    @property
    def all_row_rules(self) -> list[RowRule]:
        return [*map(rules.cell_rule, self.cell_reasons), *self.row_rules()]

    def meant(self, reason: str, value: str | None) -> str:
        """` (did you mean 'x'?)` behind an unknown category, or nothing."""
        for role in self.categories:
            if reason == f"bad_{role.name}":
                return sentences.meant(value, self.known(role.name))
        return ""

    def _suffix(self, role: Role) -> str:
        """Of a reason's name: which of several texts is at fault."""
        return f"_{role.name}" if len(self.texts) > 1 else ""

    def _reasons_by_others(self) -> list[Reason]:
        subject, apart = map(self._plurals, (self.identified_by, self.kept_apart))
        first = self.identified_by[0]
        ids = "where the column does not name rows, set columns.id: null"
        found = [Reason("duplicate_id", "ids that stood before", "id", ids)]
        if self.answer:
            name, words = self.conflict
            advice = f"whose {' and '.join(self.answer)} counts is set by conflicts.keep"
            found.append(Reason(name, words, self.answer[0], advice))
        return [
            *found,
            Reason("duplicate", f"{subject} that stood before in their split", first),
            Reason("leaked", f"{apart} that also stand in a later split", self.kept_apart[0]),
        ]

    def _plurals(self, roles: tuple[str, ...]) -> str:
        return " and ".join(role.plural for role in self.roles if role.name in roles)


AnyContract = AnyKind(DataContract)
Contract = Annotated[DataContract, AnyContract]  # a field that takes a contract of any kind


def load_contract(name_or_path: str, base: Path | None = None) -> DataContract:
    """A bundled contract by name ("sample"), or a YAML file; a relative path starts at `base`.

    Raises:
        RecipeError: naming file and field.
    """
    bundled = Path(__file__).parent / f"{name_or_path}.yaml"
    looks_like_path = name_or_path.endswith((".yaml", ".yml", ".json")) or "/" in name_or_path
    path = (base or Path()) / name_or_path if looks_like_path else bundled
    names = sorted(p.stem for p in Path(__file__).parent.glob("*.yaml"))
    if not looks_like_path and name_or_path not in names:
        raise RecipeError(
            f"contract {name_or_path[:200]}: no such file and no bundled contract of that name.",
            f"Bundled: {', '.join(names)}. `noisefold contract infer FILE` drafts one from data.",
        )
    return parse_contract(read_yaml(path, "contract"), origin=str(path))


def parse_contract(data: Any, *, origin: str) -> DataContract:
    """
    Raises:
        RecipeError: naming origin and field.
    """
    try:
        return TypeAdapter(Contract).validate_python(data)
    except ValidationError as error:
        faults = "; ".join(map(_said, error.errors(include_url=False)))
        raise RecipeError(
            f"contract {origin}: {faults}.", "`noisefold recipe schema` lists every field."
        ) from None


def _said(fault: Any) -> str:
    where = ".".join(map(str, fault["loc"])) or "contract"
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    return f"{where}: {text_fault(fault) or fault['msg'].removeprefix('Value error, ')}"
