"""A score's flow run: what it came to."""

from __future__ import annotations

from prefect import Task

from data_contracts.artifacts import Delivered, Scores
from data_contracts.recipe.score import ScoreRecipe
from flows.running.asking_run import AskingRun, Came
from flows.running.due import Due
from tasks.reports.scored import scored_page
from tasks.retries import STAGE
from tasks.score import score


class Scored(Came):
    """What a score came to: the flow's result."""

    refused: int
    output: str
    sha256: str
    same: bool  # the output was there already, byte for byte


class ScoreRun(AskingRun[ScoreRecipe]):
    """The flow run of a score."""

    def __init__(self, recipe: ScoreRecipe, due: Due) -> None:
        super().__init__(recipe, due, score)

    def finish(self, delivered: Delivered) -> Scored:
        """The end of a score: its pages, and what it came to."""
        scores = self.made[Scores]
        self.tell_needs()

        def publish() -> str:
            page = scored_page(scores, self.store.open(scores))
            how = "holds these answers already" if delivered.same else "was written"
            answered = scores.rows_in - scores.refused
            return self.pages.publish(
                "Scored",
                (
                    f"{answered:,} of {scores.rows_in:,} rows answered by {scores.model}.",
                    f"{delivered.output} {how} ({delivered.size:,} bytes, SHA-256 "
                    f"{delivered.sha256[:12]}…).",
                ),
                page,
            )

        report = self.attempt(Task(publish, name="publish", **STAGE))()
        self.tracker.set_tags(
            {"noisefold.output": delivered.output, "noisefold.output_sha256": delivered.sha256}
        )
        return Scored(
            **self.came(scores.rows_in, report),
            refused=scores.refused,
            output=delivered.output,
            sha256=delivered.sha256,
            same=delivered.same,
        )
