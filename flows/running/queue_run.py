"""A queue's flow run: what it came to."""

from __future__ import annotations

from prefect import Task
from prefect.artifacts import create_table_artifact

from data_contracts.artifacts import Delivered, FetchedModel, Queue
from data_contracts.recipe.queue import QueueRecipe
from flows.running.asking_run import AskingRun, Came
from flows.running.due import Due
from lightning_modules.bundle import Bundle
from lightning_modules.doubting import doubting_of
from tasks.queue import queue
from tasks.reports.queued import first_rows, left_out, queue_page
from tasks.retries import STAGE
from tasks.score import score


class Queued(Came):
    """What a queue came to: the flow's result.

    without: rows that have nothing to be asked.
    filled: such as have an answer already.
    learnt: such as the model was trained on.
    repeated: the same as a row before.
    queued: of the rest.
    """

    without: int
    filled: int
    learnt: int
    repeated: int
    queued: int
    output: str
    sha256: str
    same: bool  # the output was there already, byte for byte


class QueueRun(AskingRun[QueueRecipe]):
    """The flow run of a queue."""

    def __init__(self, recipe: QueueRecipe, due: Due) -> None:
        super().__init__(recipe, due, score, queue)

    def model(self) -> FetchedModel:
        """The version that answers.

        Raises:
            NoisefoldError: it is of a kind that has no queue.
        """
        found = super().model()
        doubting_of(Bundle.load(found.bundle))  # before every row is asked
        return found

    def finish(self, delivered: Delivered) -> Queued:
        """The end of a queue: its pages, and what it came to."""
        chosen = self.made[Queue]
        self.tell_needs()

        def publish() -> str:
            how = "holds this queue already" if delivered.same else "was written"
            lines = [
                f"{chosen.rows_out:,} of {chosen.rows_in:,} rows, chosen by {chosen.model}.",
                f"{delivered.output} {how} ({delivered.size:,} bytes, SHA-256 "
                f"{delivered.sha256[:12]}…).",
            ]
            if told := left_out(chosen):
                lines.insert(1, told)
            folder = self.store.open(chosen)
            create_table_artifact(
                first_rows(chosen, folder),
                key="queued-rows",
                description=f"{self.work.name}: the rows that stand first",
            )
            page = queue_page(chosen, folder)
            return self.pages.publish("Queued", tuple(lines), page)

        report = self.attempt(Task(publish, name="publish", **STAGE))()
        self.tracker.set_tags(
            {"noisefold.output": delivered.output, "noisefold.output_sha256": delivered.sha256}
        )
        return Queued(
            **self.came(chosen.rows_in, report),
            without=chosen.without,
            filled=chosen.filled,
            learnt=chosen.learnt,
            repeated=chosen.repeated,
            queued=chosen.rows_out,
            output=delivered.output,
            sha256=delivered.sha256,
            same=delivered.same,
        )
