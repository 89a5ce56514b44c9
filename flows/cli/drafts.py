"""`contract infer`, `recipe suggest` and `recipe check` in the terminal: rows in, a file that a
person reads out.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data_contracts.errors import NoisefoldError, SourceError, printable
from data_contracts.kinds.base import AnyTask, TaskConfig
from data_contracts.recipe.draft import recipe_yaml
from data_contracts.recipe.profile import check_columns
from data_contracts.urls import redacted

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract
    from data_contracts.contract.infer import Draft
    from data_contracts.contract.rows import Rows
    from data_contracts.recipe.recipe import Recipe
    from data_contracts.recipe.suggest import Choice
    from tasks.sources.look import Asked, Seen

SEPARATORS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "\\t": "\t",
    "bar": "|",
    "pipe": "|",
    "space": " ",
}


_OF_ANY_ROWS = ("id", "split")  # columns that rows of every kind may have


def infer_in_terminal(asked: Mapping[str, Any], output: str | None) -> None:
    from data_contracts.contract.written import to_yaml

    *_, draft = draft_from(asked)
    write_new(
        to_yaml(draft), output, "Read it through, then name it as `contract:` in your recipe."
    )
    _tell(draft)


def suggest_in_terminal(
    asked: Mapping[str, Any],
    contract_file: str | None,
    backbone: str | None,
    output: str | None,
    budget: str | None = None,
) -> None:
    """Args:
    budget: CPU time in which candidates are measured; None: none is.
    """
    check_new(output)
    rows, seen, draft = (
        draft_by(asked, contract_file) if contract_file is not None else draft_from(asked)
    )
    folder = Path(output).resolve().parent if output else Path.cwd()
    placed = backbone and _from_folder(backbone, folder)
    task = task_of(draft.contract)
    head, choices = task.suggest(rows, draft.contract, placed, backbone)

    def written(told: list[str], chosen: Sequence[Choice]) -> str:
        return recipe_yaml(_source_fields(seen, folder), draft, told, chosen)

    text = written([head], choices)
    if budget is not None:
        from flows.cli.measured import measure_in_terminal

        candidates = task.candidates(rows, draft.contract, choices)
        told, chosen = measure_in_terminal(text, folder, choices, candidates, budget)
        text = written([head, *told], chosen)
    write_new(text, output, "Read it through, then: noisefold retrain {output}")
    _tell(draft)


def task_of(contract: DataContract) -> type[TaskConfig]:
    """The kind of task that a contract's rows are for."""
    return AnyTask.kinds[contract.kind]


def check_in_terminal(recipe: Recipe) -> None:
    from tasks.sources.check import check_source

    checked = check_source(recipe.on(datetime.now().astimezone().date()))
    for line in checked.lines:
        click.echo(printable(redacted(line)))
    for line in checked.doubts:
        click.echo(f"warning: {printable(redacted(line))}", err=True)


def draft_by(asked: Mapping[str, Any], contract_file: str) -> tuple[Rows, Seen, Draft]:
    """The rows as a contract that is given reads them, and what `draft_from` would give of it."""
    from data_contracts.contract.contract import load_contract
    from data_contracts.contract.infer import Draft
    from tasks.sources.look import look_closer

    seen, contract = _look(asked), load_contract(contract_file)
    check_columns(seen.rows, contract)
    columns = contract.sources
    texts = [columns[role.name] for role in contract.texts if role.name in columns]
    categories = {
        role.name: columns[role.name] for role in contract.categories if role.name in columns
    }
    there = [name for name in columns.values() if name in seen.rows.columns]
    rows = look_closer(seen.source, there, texts, list(categories.values()))
    counts = {
        role: Counter(value for value in rows.columns[name] if value is not None)
        for role, name in categories.items()
    }
    return rows, seen, Draft(contract, len(rows), counts, seen.found, seen.found.told)


def draft_from(asked: Mapping[str, Any]) -> tuple[Rows, Seen, Draft]:
    """What `contract infer` drafts, with the rows it looked at.

    Args:
        asked: the command's options by name, `files` or `train`, `valid` and `test` among them.
    """
    from data_contracts.contract.infer import UndescribedRows, infer
    from data_contracts.recipe.names import dataset_name
    from tasks.sources.look import look_closer

    seen = _look(asked)
    # Of parallel files the others name the files themselves.
    own = _OF_ANY_ROWS if seen.source.roles else roles()
    given = {role: asked[role] for role in own if asked.get(role) is not None}
    name = asked.get("name") or dataset_name(*map(_whole, seen.source.urls))
    closer = partial(look_closer, seen.source)
    draft = infer(UndescribedRows(seen.rows, name, closer, given, seen.found, asked.get("kind")))
    return draft.seen, seen, draft


def roles() -> tuple[str, ...]:
    """The columns that some kind of contract has a role for, as options name them."""
    from data_contracts.contract.contract import AnyContract

    own = [role.name for kind in AnyContract.kinds.values() for role in kind.possible_roles()]
    return tuple(dict.fromkeys([*own, *_OF_ANY_ROWS]))


def _look(asked: Mapping[str, Any]) -> Seen:
    from tasks.sources.look import look

    return look(_asked(asked))


def _asked(asked: Mapping[str, Any]) -> Asked:
    from data_contracts.contract.sections import SPLITS
    from tasks.sources.look import Asked

    files = asked.get("files", ())
    by_split: dict[str, Any] = {
        split: asked[split] for split in SPLITS if asked.get(split) is not None
    }
    if by_split and files:
        raise SourceError(
            "Both FILE and --train, --valid or --test are given.", "Give one or the other."
        )
    if len(files) > 1:
        raise SourceError(
            f"{len(files)} files are given, the first two {files[0]} and {files[1]}.",
            "Give their folder, or a glob in quotes ('news/*.parquet'), which the shell then "
            "leaves alone. Text files whose lines belong together are named by what they are: "
            "--source a.de --target a.en.",
        )
    parallel = {} if by_split or files else _parallel(asked)
    if by_split and "train" not in by_split:
        raise SourceError("There are no rows to train on.", "Give them with --train.")
    if not by_split and not files and not parallel:
        raise SourceError(
            "No rows are named.", "Give a file, a folder, a glob or a URL; or --train and --test."
        )
    separator = asked.get("separator")
    return Asked(
        url=by_split or parallel or files[0],
        encoding=asked.get("encoding"),
        separator=separator and SEPARATORS.get(separator.lower(), separator),
        format=asked.get("format_"),
        documents=asked.get("documents"),
    )


def _parallel(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Files by role, where no other is named and the options of columns name them: --source a.de
    --target a.en.
    """
    own = [role for role in roles() if role not in _OF_ANY_ROWS]
    named = {role: asked[role] for role in own if asked.get(role) is not None}
    there = [one for one in named.values() if "://" in one or os.path.exists(one)]
    return named if len(named) > 1 and there else {}


def _source_fields(seen: Seen, folder: Path) -> dict[str, Any]:
    """The source as a recipe in `folder` has it: what was given or found out, without what is the
    default.
    """
    url = seen.source.url
    placed: Any = (
        _from_folder(url, folder)
        if isinstance(url, str)
        else {k: _from_folder(v, folder) for k, v in url.items() if isinstance(v, str)}
    )
    fields = seen.source.model_dump(mode="json", exclude_defaults=True, exclude={"kind", "url"})
    return {"url": placed, **fields}


def _whole(url: str) -> str:
    """`train.csv` is called after the folder it lies in, wherever the command runs."""
    return url if "://" in url else os.path.abspath(url)


def _from_folder(path: str, folder: Path) -> str:
    """A recipe's relative paths start at its own folder."""
    return path if "://" in path else os.path.relpath(path, folder)


def _tell(draft: Draft) -> None:
    """What a person should know before the draft is used, beside the file that says it too."""
    for kind, lines in (("note", draft.found.told), ("warning", draft.warned)):
        for line in lines:
            click.echo(f"{kind}: {printable(redacted(line))}", err=True)


def write_new(text: str, output: str | None, next_step: str) -> None:
    """To the terminal, or to a file that is not there yet."""
    if output is None:
        click.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
        return
    check_new(output)
    Path(output).write_text(text, encoding="utf-8")
    click.echo(f"Wrote {output}. {next_step.format(output=output)}")


def check_new(output: str | None) -> None:
    """What is there already is not written over.

    Raises:
        NoisefoldError: it is there.
    """
    if output is not None and Path(output).exists():
        raise NoisefoldError(
            f"{output} is there already.", "Choose another name, or remove it first."
        )
