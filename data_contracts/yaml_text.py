"""YAML from outside, read as plain data: no tags that build objects, no aliases that multiply, no
key said twice.

What a person wrote stays what it is. PyYAML reads by YAML 1.1, where `yes` is true, `010` is 8,
`1_0` is 10, `12:30` is 750 and `2026-01-31` a date; here only what YAML 1.2 and everybody calls one
is a boolean (`true`, `false`) or a number (decimal, without leading zeros), and both remember how
they were written (`Written`), for where a text is meant: the label `1.10` is no 1.1. Keys are
texts. Everything else is a text, which a field of numbers or booleans still reads.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from data_contracts.errors import RecipeError

MAX_BYTES = 1 << 19  # a contract of a thousand long labels has a fifth of it
MAX_DEPTH = 40
MAX_NODES = 100_000  # with every alias written out


def read_yaml(path: str | Path, what: str = "") -> Any:
    """Read a YAML or JSON file.

    Args:
        what: what the file is, for messages ("contract").
    Raises:
        RecipeError: naming file, line and column.
    """
    path, shown, data = Path(path), f"{what} {path}".strip(), b""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise RecipeError(
            f"{shown}: no such file.", "Give the path of a YAML file, or the name of a deployment."
        ) from None
    except UnicodeDecodeError as error:
        if len(data) <= MAX_BYTES:
            raise RecipeError(
                f"{shown}: not UTF-8 (byte {error.start}).", "Save the file as UTF-8."
            ) from None
        text = ""
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise RecipeError(
            f"{shown}: {getattr(error, 'strerror', None) or error}.",
            "Check the path and its permissions.",
        ) from None
    if len(data) > MAX_BYTES:
        raise RecipeError(
            f"{shown}: larger than {MAX_BYTES:,} bytes.", "Data do not belong into a YAML file."
        )
    return parse_yaml(text, shown)


def parse_yaml(text: str, origin: str) -> Any:
    """The value of a YAML text; what it says twice, nests without end or builds objects from is
    refused.

    Raises:
        RecipeError: naming line and column where there are any.
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{origin}:{where} {problem}.", "Mend the YAML there.") from None
    finally:
        if loader is not None:
            loader.dispose()


class Written:
    """A number or boolean of a YAML text that remembers how it was written."""

    written: str


class WrittenInt(int, Written): ...


class WrittenFloat(float, Written): ...


class WrittenBool(int, Written):
    """0 or 1, which every field of booleans takes: Python's own bool has no subclasses."""


def as_written(value: Any) -> Any:
    """Numbers and booleans of a YAML text as the texts that they were written as, in lists too; all
    else as it is.
    """
    if isinstance(value, Written):
        return value.written
    return [as_written(one) for one in value] if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    """Python's own numbers and booleans in place of those that remember, however deep."""
    match value:
        case WrittenBool():
            return bool(value)
        case WrittenInt():
            return int(value)
        case WrittenFloat():
            return float(value)
        case list() | tuple():
            return [plain(one) for one in value]
        case dict():
            return {key: plain(one) for key, one in value.items()}
    return value


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds, and with every fault of a value as a YAML error that has
    its place.
    """

    # PyYAML's own are those of YAML 1.1.
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def get_single_node(self) -> Node | None:
        node = super().get_single_node()
        if node is not None:
            _expanded_size(node)
        return node

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _fault(f"nested more than {MAX_DEPTH} deep", self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            name = key.value if isinstance(key, ScalarNode) else id(key)
            if name in seen:
                raise _fault(
                    f"the key {str(key.value)[:60]!r} stands twice in one mapping", key.start_mark
                )
            seen.add(name)
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # What PyYAML's converters raise at "!!timestamp x", 2026-13-45, 0x_ or an integer of 5,000
        # digits.
        except (ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
            raise _fault(f"not a value of its kind ({str(error)[:100]})", node.start_mark) from None
        if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
            raise _fault("a number of more than 64 bits", node.start_mark)
        if isinstance(node, ScalarNode) and isinstance(value, bool | int | float):
            value = _remembering(value, node.value)
        if isinstance(value, str) and (
            "\0" in value or any("\ud800" <= c <= "\udfff" for c in value)
        ):
            raise _fault("a NUL, or half of a surrogate pair, in a text", node.start_mark)
        return value

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML's, with the keys as they are written: `{1: …}` and `{yes: …}` name "1" and
        "yes".
        """
        if isinstance(node, MappingNode):
            self.flatten_mapping(node)  # what is merged into it has keys, too
            for key, _ in node.value:
                if isinstance(key, ScalarNode) and key.tag.startswith("tag:yaml.org,2002:"):
                    key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def _remembering(value: bool | int | float, written: str) -> Any:
    kind = (
        WrittenBool
        if isinstance(value, bool)
        else WrittenInt
        if isinstance(value, int)
        else WrittenFloat
    )
    kept = kind(value)
    kept.written = written
    return kept


# YAML 1.2's core schema, without its octal and hexadecimal numbers; and a number with leading zeros
# is a code.
_KINDS = {
    "bool": (r"true|false", "tf"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.[0-9]+([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))"
        r"|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}
for _kind, (_pattern, _first) in _KINDS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), list(_first)
    )


def _expanded_size(root: Node) -> None:
    """Count the nodes with every alias (and merge) written out, which is what all later code would
    walk through.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Node) -> int:
        if id(node) in open_nodes:
            raise _fault("an alias stands within what it names", node.start_mark)
        if id(node) not in sizes:
            open_nodes.add(id(node))
            children: list[Node] = []
            if isinstance(node, SequenceNode):
                children = node.value
            elif isinstance(node, MappingNode):
                children = [part for pair in node.value for part in pair]
            total = 1 + sum(map(size, children))
            if total > MAX_NODES:
                raise _fault(
                    f"more than {MAX_NODES:,} values, aliases written out", node.start_mark
                )
            open_nodes.discard(id(node))
            sizes[id(node)] = total
        return sizes[id(node)]

    size(root)


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
