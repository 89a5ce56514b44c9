"""The model card: what a reader of the registry should know before trusting the model (Mitchell 2019).

Text that came from data or from a recipe is escaped: the registry renders Markdown.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from data_contracts.artifacts import EvaluationReport, TokenDataset, TrainedModel, ValidatedCorpus
from data_contracts.recipe.recipe import Recipe
from tasks.artifacts.parquet_parts import read_parts
from tasks.reports.readable import markdown, markdown_table, shorten, with_interval

_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "nll": "NLL (nats)",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
}
_MOST_LABELS = 30


def model_card(
    model: TrainedModel,
    tokens: TokenDataset,
    corpus: ValidatedCorpus,
    evaluation: EvaluationReport,
    recipe: Recipe,
    facts: dict[str, str],
    texts: list[str],
) -> str:
    """Markdown that reads like a README."""
    splits = ", ".join(f"{count:,} {split}" for split, count in corpus.splits.items())
    known = tokens.facts["labels"]
    labels = ", ".join(f"**{markdown(label)}**" for label in known[:_MOST_LABELS])
    more = (
        f" and {len(tokens.facts['labels']) - _MOST_LABELS} more"
        if len(known) > _MOST_LABELS
        else ""
    )
    fitted = evaluation.facts
    if fitted["temperature_why_not"]:
        temperature = f"No temperature is applied; none could be fitted: {markdown(fitted['temperature_why_not'])}."
    elif fitted["temperature_applied"]:
        temperature = f"Its logits are divided by {fitted['temperature']:.3f}, a temperature fitted on the valid split."
    else:
        temperature = f"No temperature is applied; the one fitted on valid would be {fitted['temperature']:.3f}."
    figures = [
        (shown, with_interval(evaluation.metrics[f"test/{name}"]))
        for name, shown in _NAMES.items()
        if f"test/{name}" in evaluation.metrics
    ]
    classes = sorted(
        (
            (name.removeprefix("test/f1/"), i)
            for name, i in evaluation.metrics.items()
            if name.startswith("test/f1/")
        ),
        key=lambda pair: pair[1].value,
    )
    percent = f"{recipe.statistics.confidence:.0%}"
    parts = [
        f"# {markdown(recipe.model_name)}",
        f"Sorts a text into one of {len(tokens.facts['labels'])} classes: {labels}{more}. A plain network of "
        f"{model.parameters:,} weights ({markdown(recipe.model.encoder.kind)} encoder), trained by noisefold with "
        f"{markdown(recipe.model.reparameterization.kind)} on its weights and folded. {temperature}",
        "## Use",
        "```python\nimport mlflow, pandas\n"
        f'model = mlflow.pyfunc.load_model("models:/{recipe.model_name}@champion")\n'
        'model.predict(pandas.DataFrame({"text": ["..."]}))  # label, probability_<label> per class\n```',
        "## Data",
        f"{markdown(recipe.contract.description)} Contract {markdown(facts['noisefold.contract'])}: "
        f"{corpus.rows_out:,} rows ({splits}), {corpus.rows_in - corpus.rows_out:,} quarantined. "
        f"{tokens.over_length_share:.1%} of the documents are longer than {tokens.windowing.max_length} tokens; their windows' "
        "probabilities are averaged.",
        markdown_table(["example"], [(shorten(text, 160),) for text in texts]),
        f"## Figures on {evaluation.rows_out:,} test rows",
        *(f"**Note.** {markdown(warning, 2000)}" for warning in evaluation.warnings),
        f"With {percent} bootstrap intervals over the test rows. They say nothing about another seed or other data.",
        markdown_table(["figure", f"value ({percent} interval)"], figures),
        "Weakest classes by F1:",
        markdown_table(
            ["class", f"F1 ({percent} interval)"], [(n, with_interval(i)) for n, i in classes[:5]]
        ),
        "## Limits",
        "One label per text, from the classes above, also for a text that fits none of them. Measured on rows "
        "like those it was trained on; figures on other sources, times and languages may be far lower. A probability "
        "is as good as the calibration error above. An empty text gets no label.",
        "## Lineage",
        markdown_table(
            ["what", "which"], sorted((k.removeprefix("noisefold."), v) for k, v in facts.items())
        ),
    ]
    return "\n\n".join(parts) + "\n"


def example_texts(corpus: Path, most: int = 3, limit: int = 200) -> list[str]:
    """A short test text for each script that the data is written in, commonest script first."""
    found: dict[str, list[str]] = {}
    for batch in read_parts(corpus, 2000, ["text", "split"]):
        for text, split in zip(
            *(batch.column(name).to_pylist() for name in ("text", "split")), strict=True
        ):
            if split == "test" and len(text) <= limit and text.strip():
                found.setdefault(script(text), []).append(text)
        if sum(map(len, found.values())) >= 500:
            break
    return _commonest(found, most) or ["..."]


def _commonest(found: dict[str, list[str]], most: int) -> list[str]:
    scripts = sorted(found, key=lambda name: (-len(found[name]), name))
    return [found[name][0] for name in scripts[:most]]


def script(text: str) -> str:
    """The script of most letters, by the first word of their Unicode names: LATIN, CJK, CYRILLIC, ..."""
    counts: dict[str, int] = {}
    for character in text[:200]:
        if character.isalpha():
            name = unicodedata.name(character, "OTHER").split()[0]
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: (counts[name], name), default="OTHER")
