"""The model card: what a reader of the registry should know before trusting the model (Mitchell
2019).

Text that came from data or from a recipe is escaped: the registry renders Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from data_contracts.artifacts import EvaluationReport, TokenDataset, TrainedModel, ValidatedCorpus
from data_contracts.contract.scripts import script_of
from data_contracts.kinds.base import Metric
from data_contracts.recipe.recipe import Recipe
from tasks.artifacts.parquet_parts import read_parts
from tasks.reports.readable import markdown, markdown_table, shorten, with_interval

if TYPE_CHECKING:
    from lightning_modules.kinds.heads import Head

_MOST_PARTS = 30


@dataclass(frozen=True)
class Subject:
    """What a card is about."""

    model: TrainedModel
    tokens: TokenDataset
    corpus: ValidatedCorpus
    evaluation: EvaluationReport


def model_card(
    made: Subject, recipe: Recipe, lineage: dict[str, str], examples: list[dict[str, str]]
) -> str:
    """Markdown that reads like a README. What is the kind's own comes from `TaskConfig.card`."""
    model, tokens, corpus, evaluation = made.model, made.tokens, made.corpus, made.evaluation
    splits = ", ".join(f"{count:,} {split}" for split, count in corpus.splits.items())
    task = recipe.task
    card = task.card(tokens.facts, evaluation.facts)
    does = markdown(card.does)
    if card.parts:
        does += ": " + ", ".join(f"**{markdown(part)}**" for part in card.parts[:_MOST_PARTS])
    if len(card.parts) > _MOST_PARTS:
        does += f" and {len(card.parts) - _MOST_PARTS} more"
    own = [one for one in task.metrics if one.shown == "everywhere"]
    figures = [
        (metric.words, with_interval(evaluation.metrics[f"test/{metric.name}"]))
        for metric in own
        if metric.per is None and f"test/{metric.name}" in evaluation.metrics
    ]
    question = ", ".join(f'"{column.name}": ["..."]' for column in task.inputs)
    asked = list(examples[0])
    header = ["example"] if len(asked) == 1 else asked
    percent = f"{recipe.statistics.confidence:.0%}"
    parts = [
        f"# {markdown(recipe.model_name)}",
        f"{does}. A plain network of {model.parameters:,} weights "
        f"({markdown(recipe.model.encoder.kind)} encoder), trained by noisefold with "
        f"{markdown(recipe.model.reparameterization.kind)} on its weights and folded. "
        f"{markdown(card.how)}".rstrip(),
        "## Use",
        "```python\nimport mlflow, pandas\n"
        f'model = mlflow.pyfunc.load_model("models:/{recipe.model_name}@champion")\n'
        f"model.predict(pandas.DataFrame({{{question}}}))  # {card.answers}\n```",
        "## Data",
        f"{markdown(recipe.contract.description)} Contract {markdown(lineage['contract'])}: "
        f"{corpus.rows_out:,} rows ({splits}), {corpus.rows_in - corpus.rows_out:,} quarantined. "
        f"{tokens.over_length_share:.1%} of the documents are longer than "
        f"{tokens.windowing.max_length} tokens; "
        f"{card.windows}.",
        markdown_table(header, [[shorten(row[name], 160) for name in asked] for row in examples]),
        f"## Figures on {evaluation.rows_out:,} test rows",
        *(f"**Note.** {markdown(warning, 2000)}" for warning in evaluation.warnings),
        f"With {percent} bootstrap intervals. They say nothing about another seed or other data.",
        markdown_table(["figure", f"value ({percent} interval)"], figures),
        *_weakest(own, evaluation, percent),
        "## Limits",
        " ".join(
            [
                *(markdown(one) for one in card.limits),
                "Measured on rows like those it was trained on; figures on other sources, times "
                "and languages may be far lower.",
            ]
        ),
        "## Lineage",
        markdown_table(["what", "which"], sorted(lineage.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _weakest(own: list[Metric], evaluation: EvaluationReport, percent: str) -> list[str]:
    """A table of the worst parts for each figure that has one value per part."""
    told: list[str] = []
    for metric in own:
        prefix = f"test/{metric.name}/"
        parts = [
            (name.removeprefix(prefix), interval)
            for name, interval in evaluation.metrics.items()
            if metric.per is not None and name.startswith(prefix)
        ]
        parts.sort(key=lambda pair: pair[1].value, reverse=metric.better == "lower")
        if parts:
            told.append(f"Weakest by {metric.words}:")
            header = [metric.per or "", f"{metric.words} ({percent} interval)"]
            told.append(
                markdown_table(header, [(name, with_interval(one)) for name, one in parts[:5]])
            )
    return told


def example_rows(
    corpus: Path, head: type[Head], facts: Mapping[str, Any], most: int = 3, limit: int = 200
) -> list[dict[str, str]]:
    """A short question of a test row for each script that the data is written in, commonest script
    first.

    Args:
        head: says what is asked of a row; the first column's script counts.
        facts: what the data said.
    """
    asked = head.asked
    found: dict[str, list[dict[str, str]]] = {}
    for batch in read_parts(corpus, 2000, [*head.columns(facts), "split"]):
        of_test = batch.filter(pc.equal(batch["split"], "test"))
        questions = head.questions(facts, of_test.to_pydict())
        for values in zip(*(questions[name] for name in asked), strict=True):
            texts = [text or "" for text in values]
            short = all(len(text) <= limit for text in texts)
            if short and texts[0].strip():
                example = dict(zip(asked, texts, strict=True))
                found.setdefault(script_of(texts[0]), []).append(example)
        if sum(map(len, found.values())) >= 500:
            break
    scripts = sorted(found, key=lambda name: (-len(found[name]), name))
    return [found[name][0] for name in scripts[:most]] or [dict.fromkeys(asked, "...")]
