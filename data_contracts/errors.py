"""Errors a person can act on: one sentence of cause, one of remedy, and never worth a retry."""

from __future__ import annotations

from pathlib import Path


class NoisefoldError(Exception):
    """Something the user can mend. Shown as `cause` and `remedy`, without a traceback; no stage retries it."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause, self.remedy = cause, remedy
        super().__init__(f"{cause} {remedy}".strip())

    def __reduce__(self) -> tuple[type[NoisefoldError], tuple[str, str]]:
        return type(self), (self.cause, self.remedy)


class RecipeError(NoisefoldError):
    """The recipe or the contract file cannot mean what it says; names file and field."""


class SourceError(NoisefoldError):
    """The source data cannot be read: names the file, and the row or column where there is one."""


class ContractViolation(NoisefoldError):
    """The data break their contract; names expectation, share and sample cells. `report` holds the whole story."""

    report: Path | None = None


class TrainingError(NoisefoldError):
    """Training cannot give a usable model (a NaN loss, one class only); a retry would end the same way."""


class ServiceUnavailable(NoisefoldError):
    """A server that the run needs does not answer within its probe."""
