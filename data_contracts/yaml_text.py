"""YAML from outside, read as plain data: no tags that build objects, no aliases that multiply, no key said twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
            raise RecipeError(f"{shown}: not UTF-8 (byte {error.start}).", "Save the file as UTF-8.") from None
        text = ""
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise RecipeError(
            f"{shown}: {getattr(error, 'strerror', None) or error}.", "Check the path and its permissions."
        ) from None
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{shown}: larger than {MAX_BYTES:,} bytes.", "Data do not belong into a YAML file.")
    return parse_yaml(text, shown)


def parse_yaml(text: str, origin: str) -> Any:
    """The value of a YAML text; what it says twice, nests without end or builds objects from is refused.

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


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds, and with every fault of a value as a YAML error that has its place."""

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
            name = (key.tag, key.value) if isinstance(key, ScalarNode) else id(key)
            if name in seen:
                raise _fault(f"the key {str(key.value)[:60]!r} stands twice in one mapping", key.start_mark)
            seen.add(name)
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)  # pyright: ignore[reportArgumentType]
        except yaml.YAMLError:
            raise
        # What PyYAML's converters raise at "!!timestamp x", 2026-13-45, 0x_ or an integer of 5,000 digits.
        except (ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
            raise _fault(f"not a value of its kind ({str(error)[:100]})", node.start_mark) from None
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _fault("a number of more than 64 bits", node.start_mark)
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
            raise _fault("a NUL, or half of a surrogate pair, in a text", node.start_mark)
        return value


def _expanded_size(root: Node) -> None:
    """Count the nodes with every alias (and merge) written out, which is what all later code would walk through."""
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
                raise _fault(f"more than {MAX_NODES:,} values, aliases written out", node.start_mark)
            open_nodes.discard(id(node))
            sizes[id(node)] = total
        return sizes[id(node)]

    size(root)


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
