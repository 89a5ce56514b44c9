"""`noisefold queue` in a terminal: rows without labels in, those worth labelling out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from data_contracts.errors import SourceError, printable_json
from flows.cli.document import document
from flows.cli.predict import as_options
from flows.cli.terminal import quiet, safe, writable_home
from flows.running.environment import switches
from tasks.engines.threads import threads_of_a_command
from tasks.settings import Settings

if TYPE_CHECKING:
    from data_contracts.recipe.recipe import Recipe


@dataclass(frozen=True)
class Given:
    """A table, where its queue goes, and the version that is asked."""

    table: str
    output: str
    force: bool
    alias: str


def queue_in_terminal(
    recipe: Recipe, given: Given, wish: tuple[int, str, bool], *, as_json: bool
) -> None:
    """Write the queue, and say how it came about.

    Args:
        wish: how many rows, by which measure, and whether they are to be spread.
    """
    settings = Settings()
    with ExitStack() as stack:
        out = stack.enter_context(document(as_json))
        for context in (writable_home(settings), quiet(False), threads_of_a_command()):
            stack.enter_context(context)
        switches()
        from data_contracts.recipe.source import FileSource
        from tasks.serving.answer_file import Output
        from tasks.serving.explained import load_explainer
        from tasks.serving.queue import Wish, queue_table

        explainer = stack.enter_context(load_explainer(settings, recipe.model_name, given.alias))
        source = FileSource.model_construct(
            url=given.table, format="auto", encoding="utf-8", separator=None
        )
        try:
            done = queue_table(
                explainer.bundle,
                explainer.uri,
                recipe.contract,
                source,
                Output(given.output, given.force, out),
                Wish(*wish),
                learnt=explainer.train_texts,
            )
        except SourceError as error:
            raise SourceError(as_options(error.cause), as_options(error.remedy)) from error
        if as_json:
            print(printable_json(json.dumps({**asdict(done), "output": given.output})), file=out)
            return
    left = {
        "have nothing to be asked": done.without,
        "have an answer already": done.filled,
        "are rows that the model was trained on": done.learnt,
        "are the same as one before": done.repeated,
    }
    told = "; ".join(f"{many:,} {why}" for why, many in left.items() if many)
    more = f" Left out: {told}." if told else ""
    Console(highlight=False).print(
        safe(f"{done.queued:,} of {done.rows:,} rows, by {done.model}, in {given.output}.{more}"),
        soft_wrap=True,
    )
