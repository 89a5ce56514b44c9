"""What every command checks before it starts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from flows.cli.terminal import writable_home
from tasks.settings import Settings


def test_commands_that_start_at_the_same_moment_do_not_refuse_each_other(tmp_path: Path) -> None:
    """As two lines of a crontab do: each looked for the file that the other had just taken away."""
    settings, start = Settings(home=tmp_path / "home"), Barrier(8)

    def check(_: int) -> None:
        start.wait()
        for _ in range(100):
            with writable_home(settings):
                pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(check, range(8)))
    assert not list(settings.root.iterdir())
