"""The flow run of explanations: what it came to."""

from __future__ import annotations

from prefect import Task
from prefect.artifacts import create_markdown_artifact

from data_contracts.artifacts import Delivered, Explanations, FetchedModel
from data_contracts.recipe.explain import ExplainRecipe
from flows.running.asking_run import AskingRun, Came
from flows.running.due import Due
from lightning_modules.bundle import Bundle
from lightning_modules.explaining.asked import refuse_unexplained
from tasks.explain import explain
from tasks.reports.explanations import explained_markdown, explained_page, sentences
from tasks.retries import STAGE


class Explained(Came):
    """What explanations came to: the flow's result."""

    refused: int
    output: str
    sha256: str
    same: bool  # the output was there already, byte for byte


class ExplainRun(AskingRun[ExplainRecipe]):
    """The flow run of explanations."""

    def __init__(self, recipe: ExplainRecipe, due: Due) -> None:
        super().__init__(recipe, due, explain)

    def model(self) -> FetchedModel:
        """The version that answers.

        Raises:
            NoisefoldError: it is of a kind that cannot be explained.
        """
        found = super().model()
        refuse_unexplained(Bundle.load(found.bundle))
        return found

    def finish(self, delivered: Delivered) -> Explained:
        """The end of it: its pages, and what it came to."""
        explanations = self.made[Explanations]
        folder = self.store.open(explanations)
        self.tell_needs()

        def publish() -> str:
            how = "holds these explanations already" if delivered.same else "was written"
            written = (
                f"{delivered.output} {how} ({delivered.size:,} bytes, SHA-256 "
                f"{delivered.sha256[:12]}…)."
            )
            page = explained_page(explanations, folder)
            create_markdown_artifact(
                f"{explained_markdown(folder)}\n[In colour]({self.pages.links.report})\n",
                key="explained-texts",
                description=f"{self.work.name}: what carried the first answers",
            )
            lines = (*sentences(explanations, folder), written)
            return self.pages.publish("Explained", lines, page)

        report = self.attempt(Task(publish, name="publish", **STAGE))()
        self.tracker.set_tags(
            {"noisefold.output": delivered.output, "noisefold.output_sha256": delivered.sha256}
        )
        return Explained(
            **self.came(explanations.rows_in, report),
            refused=explanations.refused,
            output=delivered.output,
            sha256=delivered.sha256,
            same=delivered.same,
        )
