"""The fixtures of whole runs: a Prefect server for the session, and the command in this process."""

from tests.pipeline.conftest import here, prefect_api

__all__ = ["here", "prefect_api"]
