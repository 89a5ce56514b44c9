"""What people and other programs write: contracts, recipes, `--set`, grids, YAML of any kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

from data_contracts.contract.contract import parse_contract
from data_contracts.errors import RecipeError
from data_contracts.kinds.classify_contract import ClassifyContract
from data_contracts.recipe.comparison import load_comparison
from data_contracts.recipe.reading import merge, parse_recipe, parse_set
from data_contracts.recipe.recipe import Recipe
from data_contracts.yaml_text import WrittenBool, WrittenFloat, WrittenInt, parse_yaml
from tests.fuzz.tables import Written
from tests.fuzz.target import Target, joined, refused

BASE = Path("/nowhere")
WORDS = [
    "", " ", "\0", "a\0b", "\ud800", "..", "../../etc/passwd", "~", "${HOME}", "http://h/${X}", "https://u:p@h/x?token=1",
    "{start}", "x" * 5000, "\x1b[31m", "<script>alert(1)</script>", "2026-13-45", "sample", "train", "auto", "kind",
    "noise", "file", "=1+1", "\u202e", "1e9", "null", "a/b", "tanh", "low_rank", "a.csv", "|", "`", "\n",
]  # fmt: skip
NUMBERS = [None, True, False, 0, -1, 1, 2, 0.5, 1e-9, -0.0, 2**31, 2**63 - 1, 2**64, 10**30, 1e308, float("nan"),
           float("inf"), date(2026, 1, 1)]  # fmt: skip
PIECES = [
    {"kind": "word"}, {"path": "x"}, {"url": "a.csv"}, {"train": "a.csv", "test": "b.csv"}, {"kind": "none"}, {}, [],
    {"kind": "low_rank", "rank": 4}, {"days": 28}, {"start": "2026-01-01", "end": "2026-02-01"}, ["a", "b"], [["a"]],
    {"kind": "transformer", "num_heads": 3}, {"kind": ["a"]}, {"kind": {}}, {1: 2}, {None: None}, {"": {"": {}}},
    [None], ["a", "a"], {"kind": "sparse"}, {"values": ["a", 1, 1.0, True]}, {"name": "x"}, "sample", {"path": 5},
]  # fmt: skip

texts = st.sampled_from(WORDS) | st.text(st.characters(), max_size=8)
scalars = st.sampled_from(NUMBERS) | texts | st.integers() | st.floats()
values = (
    st.sampled_from(PIECES)
    | scalars
    | st.lists(scalars, max_size=3)
    | st.dictionaries(texts, scalars, max_size=2)
)


def fields_of(model: type[BaseModel], before: str = "") -> list[str]:
    """Every dotted field of a section and of the sections in it, of each kind where there are
    several.
    """
    found = []
    for name, field in model.model_fields.items():
        found.append(before + name)
        for part in _sections(field.annotation):
            found += fields_of(part, f"{before}{name}.")
    return list(dict.fromkeys(found))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = getattr(annotation, "__args__", ()) or ()
    return [section for part in parts for section in _sections(part)]


def likely(model: type[BaseModel], before: str = "") -> list[tuple[str, Any]]:
    """Every field with what it may well be: its default, its choices, its bounds and what lies just
    beyond them.
    """
    found: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        at = before + name
        fitting = [] if field.is_required() or field.default_factory else [field.default]
        fitting += [
            one for one in getattr(field.annotation, "__args__", ()) or () if isinstance(one, str)
        ]
        for bound in field.metadata:
            for edge in (getattr(bound, side, None) for side in ("ge", "gt", "le", "lt")):
                fitting += (
                    [] if edge is None else [edge, edge - 1, edge + 1, edge + 0.5, edge + 0.001]
                )
        found += [(at, value) for value in fitting]
        for part in _sections(field.annotation):
            found += likely(part, f"{at}.")
    return found


def edits(
    fields: list[str], fitting: Sequence[tuple[str, Any]] = ()
) -> st.SearchStrategy[list[tuple[str, Any]]]:
    """Fields and what is put there; a field may be one that there is not."""
    edit: st.SearchStrategy[tuple[str, Any]] = st.tuples(st.sampled_from(fields) | texts, values)
    if fitting:
        few = st.sampled_from(list(fitting))
        edit = few | few | few | edit
    return st.lists(edit, min_size=1, max_size=3)


def quick_text(random: Random) -> str:
    if random.random() < 0.5:
        return random.choice(WORDS)
    return "".join(chr(random.choice((random.randrange(128), random.randrange(0x3000), random.randrange(0x110000))))
                   for _ in range(random.randrange(8)))  # fmt: skip


def quick_value(random: Random) -> Any:
    match random.randrange(6):
        case 0:
            return random.choice(PIECES)
        case 1:
            return random.choice(NUMBERS)
        case 2:
            return random.choice(
                (random.randrange(-5, 300), random.uniform(-2, 2), random.getrandbits(40))
            )
        case 3:
            return [quick_value(random) for _ in range(random.randrange(3))]
        case 4:
            return {quick_text(random): quick_value(random) for _ in range(random.randrange(3))}
        case _:
            return quick_text(random)


def quick_edits(
    fields: Sequence[str], fitting: Sequence[tuple[str, Any]] = ()
) -> Callable[[Random], list[tuple[str, Any]]]:
    """As `edits`, from a seeded generator."""

    def one(random: Random) -> tuple[str, Any]:
        if fitting and random.random() < 0.75:
            return random.choice(fitting)
        field = random.choice(fields) if random.random() < 0.9 else quick_text(random)
        return field, quick_value(random)

    return lambda random: [one(random) for _ in range(random.choice((1, 1, 2, 3)))]


def edited(base: dict[str, Any], changes: list[tuple[str, Any]]) -> dict[str, Any]:
    return merge(copy.deepcopy(base), dict(changes))


CONTRACT = {
    "name": "mails",
    "columns": {"text": "body", "label": "verdict", "slices": ["language"]},
    "labels": {"values": ["yes", "no"]},
    "splits": {"valid": 0.2},
}
CONTRACT_FIELDS = fields_of(ClassifyContract)
SMALL = {"name": "x"}
RECIPES: list[dict[str, Any]] = [
    {"name": "mails", "contract": SMALL, "source": {"kind": "sample"}},
    {
        "name": "mails",
        "contract": CONTRACT,
        "source": {"url": "mails.csv"},
        "tokenizer": {"vocab_size": 500},
    },
    {
        "contract": SMALL,
        "source": {"url": {"train": "a.csv", "test": "https://host/b.csv"}, "window": {"days": 28}},
        "model": {"encoder": {"path": "models/x"}, "reparameterization": {"kind": "low_rank"}},
    },
    {
        "contract": SMALL,
        "source": {"rows": 400},
        "model": {
            "encoder": {"kind": "transformer"},
            "ngrams": {},
            "reparameterization": {"noise": {}},
        },
        "task": {"wide": {}},
        "promotion": {"slices": {"by": ["label"], "min": 0.5}, "bounds": {"f1/*": {"min": 0.1}}},
    },
]
RECIPE_FIELDS = fields_of(Recipe)


def contract(case: list[tuple[str, Any]]) -> bool:
    try:
        read = parse_contract(edited(CONTRACT, case), origin="c.yaml")
    except RecipeError as error:
        return refused(error)
    assert parse_contract(json.loads(read.model_dump_json()), origin="again") == read
    return True


def check_recipe(data: Any) -> bool:
    try:
        recipe = parse_recipe(data, origin="r.yaml", base=BASE)
    except RecipeError as error:
        return refused(error)
    # It is stored by Prefect and MLflow as JSON, and read again from there.
    stored = json.loads(recipe.model_dump_json())
    assert parse_recipe(stored, origin="again") == recipe
    recipe.on(date(2026, 1, 1))
    return True


def recipe(case: tuple[int, list[tuple[str, Any]]]) -> bool:
    return check_recipe(edited(RECIPES[case[0]], case[1]))


def setting(case: list[str]) -> bool:
    try:
        changes = dict(map(parse_set, case))
    except RecipeError as error:
        return refused(error)
    return check_recipe(merge({"source": {"kind": "sample"}, "contract": SMALL}, changes))


LIKELY = likely(Recipe)
likely_settings = [f"{field}={json.dumps(value)}" for field, value in LIKELY]
set_texts = st.sampled_from(likely_settings) | st.builds(
    lambda field, sign, value: f"{field}{sign}{value}",
    st.sampled_from(RECIPE_FIELDS) | texts,
    st.sampled_from(["=", "=", "=", "", "==", " = "]),
    texts
    | st.builds(str, scalars)
    | st.sampled_from(["{kind: none}", "[a, b]", "!!python/name:os.system", "&a [*a]"]),
)


def quick_settings(random: Random) -> list[str]:
    def one() -> str:
        if random.random() < 0.6:
            return random.choice(likely_settings)
        sign = random.choice(("=", "=", "=", "", "==", " = "))
        return f"{random.choice(RECIPE_FIELDS)}{sign}{quick_value(random)}"

    return [one() for _ in range(random.choice((1, 1, 2, 3)))]


# --- YAML -----------------------------------------------------------------------------------------

YAML = [
    b"name: mails\nsource: {url: mails.csv}\ncontract: {name: x}\ntraining:\n  max_epochs: 3\n  learning_rate: 1e-3\n",
    b"name: x\nlabels:\n  values: [yes, no, 1, 1.0, 2026-01-01]\ncolumns: &c {text: body}\n# a comment\n",
    b"a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}, e: null}\nf: |\n  text\n  more\ng: >-\n  folded\n",
    b'{"name": "a", "contract": {"name": "x"}, "model": {"encoder": {"kind": "tanh"}}}',
    "name: 'it''s'\ndescription: \"好 \\u00e9 \\x41\"\n? [a, b]\n: 1\nwhen: 2026-01-01 10:00:00\n".encode(),
    b"name: 010\nlabels: {values: [yes, on, 010, 1.10, 1e3, true, ~, 12:30]}\ncolumns: {text: 1, label: no}\n"
    b"select: {answer: accept}\nconflicts: {keep: none}\n",
    b"---\na: !!str 5\nb: !!binary aGVsbG8=\nc: !!set {a, b}\nd: !!omap [a: 1]\ne: 0x1F\nf: 1_000\ng: 190:20:30\n...\n",
]
YAML_WORDS = joined(
    ["&a ", "*a", "<<: ", "!!python/object/apply:os.system ", "!!set ", "!!omap ", "!!binary ", "!!timestamp ",
     "!!float ", "!!int ", "!x ", "---\n", "...\n", "? ", ": ", "- ", "[", "]", "{", "}", "|\n", ">-\n", "%YAML 1.1\n",
     "%TAG ! x\n", "\t", "\n", "\r", "\u2028", "\ufeff", '"', "'", "#", "@", "`", "name", "contract", "training",
     "1e999", "0b_", "0x_", "08", "190:20:30.5", ".inf", "~", "yes", "2026-13-45", "=", "\\ud800", "\\0", "\x01",
     "9" * 400, "[" * 60, "{a: " * 50],
    b"\xff", b"\xc3",
)  # fmt: skip
PLAIN = (
    str,
    int,
    float,
    bool,
    type(None),
    bytes,
    date,
    datetime,
    WrittenInt,
    WrittenFloat,
    WrittenBool,
)


def yaml(data: bytes) -> bool:
    try:
        value = parse_yaml(data.decode("utf-8", "replace"), "x.yaml")
    except RecipeError as error:
        return refused(error)
    plain(value)
    for parse in (parse_contract, parse_recipe):
        try:
            parse(value, origin="x.yaml")
        except RecipeError as error:
            refused(error)
    return True


def plain(value: Any) -> None:
    """Nothing but data: what a tag built would be of another type."""
    if type(value) in (list, tuple, set):
        for part in value:
            plain(part)
    elif type(value) is dict:
        for key, part in value.items():
            plain(key)
            plain(part)
    else:
        assert type(value) in PLAIN, type(value)


# --- grids ----------------------------------------------------------------------------------------

GRID: dict[str, Any] = {
    "name": "methods",
    "recipe": {"name": "mails", "contract": SMALL, "source": {"url": "mails.csv"}},
    "seeds": [0, 1],
    "variants": {"dropout": {}, "none": {"model.reparameterization": {"kind": "none"}}},
    "predictions": {"fastText": "fast-*.parquet"},
    "baseline": "dropout",
}
GRID_FIELDS = [
    *GRID, *(f"recipe.{field}" for field in RECIPE_FIELDS if "." not in field), "variants.dropout", "variants.new",
    "variants.none.training", "variants.none.evaluation", "variants.none.model", "predictions.dropout",
    "recipe.training.seed",
]  # fmt: skip
GRID_VALUES: list[tuple[str, Any]] = [
    ("seeds", [5]), ("seeds", [1, 1]), ("seeds", []), ("recipe.statistics", {"confidence": 0.9}), ("predictions", {}),
    ("variants.new", {"training.learning_rate": 0.1}), ("variants.new", {"training": {"max_epochs": 1}}),
    ("variants.new", {"training.seed": 1}), ("variants.new", {"source": {}}),
    ("variants.new", {"model": {"encoder": {}}}),
    ("variants.new", {"task.calibrate": True}), ("variants.new", {"tokenizer.path": "t.json"}),
    ("baseline", "none"),
    ("variants.new", {"model.embedding.vectors": "v.txt"}), ("variants. new", {}), ("variants.a|b", {}),
    ("recipe", "sample"), ("recipe", {}), ("recipe.statistics", {"samples": 100}),
    ("variants.new", {"training.warm_start": "champion"}), ("recipe.training", {"warm_start": "champion"}),
]  # fmt: skip


def grids(folder: Path) -> Target:
    file = folder / "grid.json"

    class Grid(Written):
        def prepare(self, case: Any) -> None:  # type: ignore[override]
            self.file.write_text(
                json.dumps(_writable(edited(GRID, case)), default=str), encoding="utf-8"
            )

    def check(case: Any) -> bool:
        def find(name: str, base: Path) -> Recipe:
            raise RecipeError(f"There is no recipe {name!r}.", "Name one.")

        try:
            grid = load_comparison(file, {}, find)
        except RecipeError as error:
            return refused(error)
        cells = grid.cells()
        assert len(cells) == len(grid.seeds) * len(grid.variants)
        grid.recipe_of(cells[-1])
        return True

    return Target(
        "grid", "a comparison's grid", 0.4, Grid(file, check), edits(GRID_FIELDS, GRID_VALUES),
                  quick_edits(GRID_FIELDS, GRID_VALUES), warm=[[]])  # fmt: skip


def _writable(value: Any) -> Any:
    """JSON knows text keys alone."""
    if isinstance(value, dict):
        return {str(key): _writable(part) for key, part in value.items()}
    return [_writable(part) for part in value] if isinstance(value, list) else value


contract_edits = edits(CONTRACT_FIELDS, likely(ClassifyContract))
recipe_edits = edits(RECIPE_FIELDS, LIKELY)
quick_recipe = quick_edits(RECIPE_FIELDS, LIKELY)
CONFIGURATION = [
    Target("yaml", "YAML of any kind, then as a contract and a recipe", 5, yaml, seeds=YAML, tokens=YAML_WORDS),
    Target("contract", "a contract's fields", 6, contract, contract_edits,
           quick_edits(CONTRACT_FIELDS, likely(ClassifyContract)), warm=[[]]),
    Target(
        "recipe", "a recipe's fields", 5, recipe,
        st.tuples(st.integers(0, 3), recipe_edits), lambda random: (random.randrange(4), quick_recipe(random)),
        warm=[(i, []) for i in range(4)],
    ),
    Target("set", "--set of the command line", 2.5, setting, st.lists(set_texts, min_size=1, max_size=3),
           quick_settings,
           warm=[["training.max_epochs=3"]]),
]  # fmt: skip
