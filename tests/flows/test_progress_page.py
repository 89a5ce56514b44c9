"""What a run's Prefect page is told while it works, without a server: what is kept and when."""

from __future__ import annotations

import base64
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from flows.running.progress_page import CURVES, PROGRESS, ProgressPage
from tasks.progress import Progress
from tasks.reports.curves import Curves


class Client:
    """Holds artifacts as Prefect's client is asked to; `down` while its server is away."""

    def __init__(self) -> None:
        self.held: dict[Any, Any] = {}
        self.down = False

    def create_artifact(self, new: Any) -> Any:
        if self.down:
            raise OSError("away")
        made = SimpleNamespace(id=uuid4())
        self.held[made.id] = (new.key, new.data, new.description)
        return made

    def update_artifact(self, which: Any, update: Any) -> None:
        if self.down:
            raise OSError("away")
        self.held[which] = (self.held[which][0], update.data, update.description)


def point(key: str, step: int, value: float) -> dict[str, Any]:
    return {"key": key, "value": value, "step": step}


def shown(client: Client) -> dict[str, tuple[Any, str]]:
    return {key: (data, description) for key, data, description in client.held.values()}


def test_newest_progress_and_the_curves_so_far_stand_on_the_page() -> None:
    page, client = ProgressPage(str(uuid4()), "mails"), Client()
    page(Progress("train", 50, 200, "epoch 1 · loss 0.7"))
    page(Progress("train", 0, state="measured", points=(point("train/loss", 50, 0.7),)))
    page._write(client)
    page(Progress("train", 100, 200, "epoch 2 · loss 0.4"))
    page(Progress("train", 0, state="measured", points=(point("train/loss", 100, 0.4),)))
    page._write(client)
    told = shown(client)
    assert len(client.held) == 2, "each is replaced and not made again"
    assert told[PROGRESS] == (50.0, "train: 50 % · epoch 2 · loss 0.4")
    image = told[CURVES][0].partition("base64,")[2].rstrip(")\n")
    assert "train/loss 0.4" in base64.b64decode(image).decode()
    page(Progress("train", 1, 1, state="ran"))
    page._write(client)
    assert shown(client)[PROGRESS] == (100.0, "train: ran")
    page(Progress("evaluate", 0, state="failed"))
    page._write(client)
    assert shown(client)[PROGRESS] == (0.0, "evaluate: failed"), "what failed is not complete"


def test_what_a_server_missed_is_told_when_it_is_back() -> None:
    page, client = ProgressPage(str(uuid4()), "mails"), Client()
    page(Progress("tokenize", 3, 4))
    client.down = True
    with suppress(OSError):
        page._write(client)
    client.down = False
    page._write(client)
    assert shown(client)[PROGRESS] == (75.0, "tokenize: 75 %")


def test_the_next_cell_of_a_comparison_begins_new_curves() -> None:
    page = ProgressPage(str(uuid4()), "grid")
    page(Progress("train", 0, state="measured", points=(point("train/loss", 90, 0.7),)))
    page(Progress("cell", 1, 4, "noise"))
    assert not page.curves


def test_curves_take_points_again_and_show_loss_of_both_splits_together() -> None:
    curves = Curves(
        [point("train/loss", 1, 2.0), point("val/loss", 1, 2.5), point("val/nll", 1, 3)]
    )
    curves.add([point("train/loss", 1, 1.0), point("train/loss", 2, 0.5), point("epoch", 1, 1)])
    panels = curves.panels(best_step=2)
    assert [panel.words for panel in panels] == ["train/loss and val/loss", "val/nll"]
    assert panels[0].last == "train/loss 0.5, val/loss 2.5"
    assert [len(line.split()) for line in panels[0].plot.lines] == [2, 1]
