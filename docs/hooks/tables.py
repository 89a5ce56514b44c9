"""The reference: tables of the recipe, of contracts and of commands, from the code that reads them,
so that they are never behind.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import click

from data_contracts.kinds.base import AnyTask
from data_contracts.recipe.explain import ExplainRecipe
from data_contracts.recipe.monitor import MonitorRecipe
from data_contracts.recipe.queue import QueueRecipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.score import OutputContract, ScoreRecipe
from flows.cli.main import main
from flows.running.environment import _OFF
from tasks.settings import Settings

Schema = dict[str, Any]
CONTRACT = "contract"
OF_CONTRACT = ("Contract",)


def tables(name: str) -> str:
    """What stands in place of `<!-- tables: NAME -->`.

    Raises:
        KeyError: there are no tables of that name.
    """
    made = {
        "recipe": recipe,
        "contract": contract,
        "score": score,
        "queue": queue,
        "explain": explain,
        "monitor": monitor,
        "commands": commands,
        "settings": settings,
        "switches": switches,
        "kinds": kinds,
    }
    return made[name]()


# --- recipe and contract --------------------------------------------------------------------------


def recipe() -> str:
    schema = Recipe.model_json_schema()
    lines = [*_table(_plain_fields(schema), schema, "")]
    for name, field in schema["properties"].items():
        if name == CONTRACT:
            lines += ["## `contract`", "", "What the rows are: the name of a bundled contract, the "
                      "path of a YAML file, or the contract itself. Its fields: "
                      "[the contract](contract.md)."]  # fmt: skip
        elif _forms(field, schema):
            lines += ["", *_section(name, field, schema, level=2)]
    return "\n".join(lines)


def score() -> str:
    """Its own fields; `source` and `execution` are those of a recipe."""
    schema = ScoreRecipe.model_json_schema()
    contract = schema["$defs"][OutputContract.__name__]
    return "\n".join(
        [
            *_table(_plain_fields(schema), schema, ""),
            *["", "### `contract` of a score", "", _prose(contract["description"]), ""],
            *_table(_plain_fields(contract), contract, ""),
        ]
    )


def queue() -> str:
    schema = QueueRecipe.model_json_schema()
    return "\n".join(_table(_plain_fields(schema), schema, ""))


def explain() -> str:
    schema = ExplainRecipe.model_json_schema()
    return "\n".join(_table(_plain_fields(schema), schema, ""))


def monitor() -> str:
    schema = MonitorRecipe.model_json_schema()
    return "\n".join(_table(_plain_fields(schema), schema, ""))


def contract() -> str:
    schema = Recipe.model_json_schema()
    lines: list[str] = []
    for form in _forms(schema["properties"][CONTRACT], schema):
        kind = form["properties"]["kind"]["default"]
        lines += ["", f"## Rows to {kind}", "", _prose(form.get("description", "")), ""]
        lines += _table(_plain_fields(form), form, "")
        for name, field in form["properties"].items():
            if _forms(field, {**schema, **form}):
                lines += ["", *_section(name, field, schema, level=3)]
    return "\n".join(lines)


def kinds() -> str:
    """What each kind of task has of its own where a recipe does not say otherwise."""
    lines: list[str] = []
    for name, task in AnyTask.kinds.items():
        metrics = ", ".join(f"`{metric.name}`" for metric in task.metrics)
        monitored = ", ".join(f"`{one}`" for one in task.monitored())
        lines += [f"### {name}", "", _prose(task.__doc__ or ""), ""]
        lines += [f"- Metrics, the deciding one first: {metrics}."]
        lines += [f"- `training.monitor` may name {monitored}."]
        if task.defaults:
            told = "; ".join(f"`{field}: {value}`" for field, value in _flat(task.defaults))
            lines += [f"- Where the recipe does not say otherwise: {told}."]
        lines += [""]
    return "\n".join(lines)


def _flat(section: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", _shown(value)


def _section(path: str, field: Schema, schema: Schema, level: int) -> list[str]:
    """A section, or each kind of one, and the sections within."""
    forms, head, usual = _forms(field, schema), "#" * level, _usual(path)
    listed = field.get("additionalProperties") if field.get("type") == "object" else None
    name = f"{path}.NAME" if listed else path
    lines = [f"{head} `{name}`", ""]
    if said := field.get("description") or WORDS.get(path):
        lines += [_prose(said), ""]
    if len(forms) == 1:
        return [*lines, *_form(name, forms[0], schema, level)]
    if all("kind" in form["properties"] for form in forms):
        named = [f"`{form['properties']['kind']['const']}`" for form in forms]
        last = f"; by default `{usual}`" if usual else ""
        lines += [f"`{path}.kind` is one of {', '.join(named)}{last}.", ""]
    for form in forms:
        told = form["properties"].get("kind", {}).get("const")
        title = f"`{path}: {{kind: {told}}}`" if told else f"`{path}`: {_title(form)}"
        lines += [f"{head}# {title}", "", *_form(path, form, schema, level + 1), ""]
    return lines


def _usual(path: str) -> str | None:
    """The kind of a section of a recipe that says nothing of it."""
    found: Any = USUAL
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found.get("kind") if isinstance(found, dict) else None


def _form(path: str, form: Schema, schema: Schema, level: int) -> list[str]:
    lines = [_prose(form["description"]), ""] if form.get("description") else []
    fields = _plain_fields(form)
    lines += _table(fields, form, path) if fields else ["No fields of its own."]
    for name, field in form["properties"].items():
        if _forms(field, schema):
            lines += ["", *_section(f"{path}.{name}", field, schema, min(level + 1, 5))]
    return lines


def _plain_fields(form: Schema) -> dict[str, Schema]:
    """All fields but `kind`: a section that is told further below has its row, too."""
    return {name: field for name, field in form["properties"].items() if name != "kind"}


def _forms(field: Schema, schema: Schema) -> list[Schema]:
    """The sections that a field may hold; none for a value."""
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return _forms(field["additionalProperties"], schema)
    found: list[Schema] = []
    for one in field.get("anyOf") or field.get("oneOf") or field.get("allOf") or [field]:
        if "$ref" in one:
            one = DEFINITIONS[one["$ref"].rpartition("/")[2]]
        if "properties" in one:
            found.append(one)
    return found


# Where the field itself says nothing, since its kinds do.
WORDS = {
    "source": "Where the rows come from; every recipe file says it.",
    "contract": "What the rows are; needed with files of your own.",
    "tokenizer": "What a token is.",
    "model.encoder": "What turns the vectors of tokens into a document's.",
    "model.reparameterization": "How a weight depends on parameters and noise: the method.",
    "model.reparameterization.noise": "Noise on the factors A and B.",
}
USUAL: dict[str, Any] = Recipe().model_dump(mode="json")
DEFINITIONS: dict[str, Schema] = {
    **ScoreRecipe.model_json_schema()["$defs"],
    **Recipe.model_json_schema()["$defs"],
}


def _table(fields: dict[str, Schema], form: Schema, path: str) -> list[str]:
    if not fields:
        return []
    lines = ["| field | value | default | |", "|---|---|---|---|"]
    for name, field in fields.items():
        needed = name in form.get("required", ())
        at = f"{path}.{name}".strip(".")
        default = "**required**" if needed else _default(field, at)
        words = field.get("description") or WORDS.get(at) or _words_of(field)
        lines.append(f"| `{name}` | {_type(field)} | {default} | {_prose(words)} |")
    return lines


def _words_of(field: Schema) -> str:
    forms = _forms(field, {})
    if len(forms) == 1:
        return forms[0].get("description", "").split(". ")[0].split(".\n")[0].rstrip(".") + "."
    return "One of several kinds, below." if forms else ""


def _default(field: Schema, path: str) -> str:
    if _forms(field, {}):
        kind = _usual(path)
        if kind is not None:
            return f"`{{kind: {kind}}}`"
        return (
            f"`{_shown(field['default'])}`"
            if field.get("default") in (None, {}) and ("default" in field)
            else ""
        )
    return f"`{_shown(field['default'])}`" if "default" in field else ""


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value if value else '""'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(one)}" for name, one in value.items()) + "}"
    return str(value)


def _type(field: Schema) -> str:
    forms = _forms(field, {})
    options = field.get("anyOf") or field.get("oneOf") or [field]
    said = [] if not forms else [_of_forms(field, forms)]
    said += [_plain_type(one) for one in options if not _is_section(one)]
    return " or ".join(dict.fromkeys(one for one in said if one))


def _of_forms(field: Schema, forms: list[Schema]) -> str:
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), dict):
        return "sections by name"
    return "section"


def _is_section(one: Schema) -> bool:
    return "$ref" in one or "properties" in one or bool(_forms(one, {}))


def _plain_type(one: Schema) -> str:
    if "enum" in one:
        return ", ".join(f"`{_shown(value)}`" for value in one["enum"])
    if "const" in one:
        return f"`{_shown(one['const'])}`"
    kind = one.get("type")
    if kind == "array":
        inner = one.get("items") or {}
        return f"list of {_plain_type(inner) or 'values'}"
    if kind == "object":
        inner, names = one.get("additionalProperties"), one.get("propertyNames")
        by = _plain_type(names) if names and ("enum" in names or "const" in names) else "name"
        return f"{_plain_type(inner) if isinstance(inner, dict) else 'values'} by {by}"
    names = {"integer": "integer", "number": "number", "boolean": "`true`, `false`",
             "string": "text", "null": "null"}  # fmt: skip
    said = {"date": "date"}.get(one.get("format", ""), names.get(kind or "", ""))
    return f"{said}{_bounds(one)}"


def _bounds(one: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{sign} {one[key]:,g}" for key, sign in signs.items() if key in one]
    told = [text.replace("<", "&lt;").replace(">", "&gt;") for text in told]
    return f" {', '.join(told)}" if told else ""


def _title(form: Schema) -> str:
    names = {"DataWindow": "the same days in every run", "RollingWindow": "days before each run"}
    return names.get(form.get("title", ""), form.get("title", ""))


def _prose(text: str) -> str:
    """A description as Markdown: plain text, in one line, with links to the pages it names."""
    text = " ".join(text.split())
    parts = re.split(r"(`[^`]*`)", text)
    for at in range(0, len(parts), 2):
        plain = parts[at].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        plain = re.sub(r"([*|\[\]{}#\\])", r"\\\1", plain)
        parts[at] = re.sub(r"docs/(\w+)\.md", r"[\1](../\1.md)", plain)
    for at in range(1, len(parts), 2):
        parts[at] = parts[at].replace("|", "\\|")
    return "".join(parts)


# --- commands and variables -----------------------------------------------------------------------


def commands() -> str:
    lines = ["| command | |", "|---|---|"]
    for name, command in main.commands.items():
        words = _prose(command.get_short_help_str(200))
        inner = command.commands if isinstance(command, click.Group) else {}
        of = ": " + ", ".join(f"`{one}`" for one in inner) if inner else ""
        lines.append(f"| [`noisefold {name}`](commands/{name}.md) | {words}{of} |")
    return "\n".join(lines)


def command_pages() -> dict[str, str]:
    """A page for each command, by its name."""
    with click.Context(main, info_name="noisefold") as above:
        return {name: _command(name, one, above, 1) for name, one in main.commands.items()}


def _command(name: str, command: click.Command, above: click.Context, level: int) -> str:
    with click.Context(command, info_name=name, parent=above) as context:
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        lines = [f"{'#' * level} {context.command_path}", "", *_help(command.help or ""), ""]
        lines += ["```text", usage, "```", "", *_options(command, context), ""]
        if isinstance(command, click.Group):
            inner = command.commands.items()
            lines += [_command(one, of, context, level + 1) for one, of in inner]
    return "\n".join(lines)


def _help(text: str) -> list[str]:
    """Paragraphs; one behind `\\b` is code, line by line."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        first, _, rest = paragraph.partition("\n")
        code = ["```", *rest.splitlines(), "```"] if first.strip() == "\b" else [_prose(paragraph)]
        lines += [*code, ""]
    return lines


def _options(command: click.Command, context: click.Context) -> list[str]:
    lines = ["| option | default | |", "|---|---|---|"]
    params = command.get_params(context)
    options = [one for one in params if isinstance(one, click.Option) and one.name != "help"]
    if not options:
        return []
    for one in options:
        told = one.to_info_dict()
        names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
        value = "" if one.is_flag else f" {_value(one)}"
        default = told.get("default")
        plain = isinstance(default, str | int | float) and not isinstance(default, bool)
        given = "**required**" if one.required else f"`{default}`" if plain else ""
        lines.append(f"| {names}{value} | {given} | {_prose(one.help or '')} |")
    return lines


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return " or ".join(f"`{one}`" for one in option.type.choices)
    names = {"integer": "NUMBER", "integer range": "NUMBER", "float": "NUMBER",
             "float range": "NUMBER", "path": "FILE"}  # fmt: skip
    return f"`{option.metavar or names.get(option.type.name, 'TEXT')}`"


def settings() -> str:
    lines = ["| variable | default | |", "|---|---|---|"]
    prefix = Settings.model_config.get("env_prefix", "")
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"{prefix}{name}".upper()
        default = "none" if field.default is None else f"`{field.default}`"
        lines.append(f"| `{variable}` | {default} | {_prose(field.description or '')} |")
    return "\n".join(lines)


def switches() -> str:
    lines = ["| variable | set to |", "|---|---|"]
    lines += [f"| `{name}` | `{value}` |" for name, value in _OFF.items()]
    return "\n".join(lines)
