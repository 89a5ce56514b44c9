"""The kinds of task that are there: each enters the registry by being imported."""

from data_contracts.kinds import classify  # noqa: F401
