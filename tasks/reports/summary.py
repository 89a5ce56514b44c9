"""The summary of a run as Markdown: Prefect's artifact, MLflow's description of the run."""

from __future__ import annotations

from dataclasses import replace

from data_contracts.results import Interval
from tasks.reports.readable import markdown, with_interval
from tasks.reports.story import StageRecord, Story

_LONGEST = 2000  # characters of a sentence


def summary(story: Story) -> str:
    """Outcome first, then why, the pages, the stages and the figures; everything that came from
    data or from a recipe is escaped.
    """
    parts = [f"# {markdown(story.sentence)}", story.links.as_markdown(), _why(story)]
    parts += [_stages(story.stages), _figures(story.headline)]
    return "\n\n".join(part for part in parts if part) + "\n"


def description(story: Story) -> str:
    """The same for MLflow's description, where the first words are seen in lists."""
    first = f"**{markdown(story.outcome)}**"
    about = markdown(story.sentence.partition(": ")[2])
    best = next(iter(story.headline.items()), None)
    figure = f", {markdown(best[0])} {with_interval(best[1])}" if best else ""
    links = replace(story.links, mlflow="").as_markdown()  # it stands on that page
    parts = [f"{first}: {about}{figure}. {links}".rstrip(), _why(story), _stages(story.stages)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _why(story: Story) -> str:
    lines = []
    if story.fault is not None:
        lines += [_fault(story.fault.cause), f"**What to do:** {_fault(story.fault.remedy)}"]
        lines += [story.again] if story.again else []
        lines = ["\n\n".join(line for line in lines if line)]
    if story.decision is not None:
        lines += [f"- {markdown(reason, _LONGEST)}" for reason in story.decision.reasons]
    lines += [f"- {markdown(line, _LONGEST)}" for line in story.lines]
    lines += [
        f"- Due {markdown(story.due)}, days read: {markdown(days, _LONGEST)}."
        for days in story.days
    ]
    lines += [f"- **Note:** {markdown(warning, _LONGEST)}" for warning in story.warnings]
    return "\n".join(lines)


def _fault(text: str) -> str:
    """A cause may be several lines, each a fault of its own."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    first, rest = lines[:1], lines[1:]
    told = [markdown(line, _LONGEST) for line in first]
    told += [f"- {markdown(line.removeprefix('- '), _LONGEST)}" for line in rest]
    return "\n".join([*told[:1], *([""] if rest else []), *told[1:]])


def _stages(stages: tuple[StageRecord, ...]) -> str:
    if not stages:
        return ""
    rows = [
        f"| {one.name} | {'**failed**' if one.state == 'failed' else one.state} | "
        f"{' | '.join(one.shown)} | {one.seconds:.1f} |"
        for one in stages
    ]
    head = "| stage | state | rows in | rows out | seconds |\n|---|---|--:|--:|--:|"
    return "\n".join([head, *rows])


def _figures(found: dict[str, Interval]) -> str:
    if not found:
        return ""
    rows = [
        f"| {name} | {one.value:.4f} | {one.low:.4f} – {one.high:.4f} |"
        for name, one in found.items()
    ]
    return "\n".join(["| metric | value | interval |", "|---|--:|---|", *rows])
