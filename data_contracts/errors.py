"""Errors a person can act on: one sentence of cause, one of remedy, and never worth a retry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class NoisefoldError(Exception):
    """Something the user can mend. Shown as `cause` and `remedy`, without a traceback; no stage
    retries it.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        cause, remedy = writable(cause), writable(remedy)
        self.cause, self.remedy = cause, remedy
        super().__init__(f"{cause} {remedy}".strip())

    def __reduce__(self) -> tuple[type[NoisefoldError], tuple[str, str]]:
        return type(self), (self.cause, self.remedy)


class RecipeError(NoisefoldError):
    """The recipe or the contract file cannot mean what it says; names file and field."""


class SourceError(NoisefoldError):
    """The source data cannot be read: names the file, and the row or column where there is one."""


class ContractViolation(NoisefoldError):
    """The data break their contract; names expectation, share and sample cells. `report` holds the
    whole story.
    """

    report: Path | None = None


class TrainingError(NoisefoldError):
    """Training cannot give a usable model (a NaN loss, one class only); a retry would end the same
    way.
    """


class ServiceUnavailable(NoisefoldError):
    """A server that the run needs does not answer within its probe."""


def stop_signal(error: BaseException | None) -> BaseException | None:
    """The SIGTERM or Ctrl-C that an error goes back to, if one does.

    A signal may reach a library where its own tidying up then fails (Prefect, between two states:
    "Task run is not set"): what comes out is that failure, and the signal stands in its context
    alone.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt) or type(error).__name__ in (
            "TerminationSignal",
            "Terminated",
        ):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def told_of(error: BaseException) -> str:
    """An error as a sentence, also where it carries no words of its own: which signal stopped the
    work, or who.
    """
    stop = stop_signal(error)
    if isinstance(stop, KeyboardInterrupt):
        return "Stopped by Ctrl-C (SIGINT)."
    if stop is not None:
        return "Stopped by SIGTERM (a cancel in Prefect, the end of its worker, or an operator)."
    name = type(error).__name__
    if name in ("Pause", "PausedRun"):
        return "Paused or suspended in Prefect; the run goes on from here when it is resumed there."
    if name == "Abort":
        return (
            f"Ended by Prefect, which took the run to be over: {error}"
            if str(error)
            else "Ended by Prefect."
        )
    if isinstance(error, SystemExit):
        return f"The process was told to exit (status {error.code})."
    return str(error) or name


def listed(names: Sequence[str], most: int = 10) -> str:
    """a, b and c; of many the first ones and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def writable(text: str) -> str:
    """Half of a surrogate pair, which no file, database or server takes, as its escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """Data quoted in the terminal must not move its cursor, colour it, or turn its words round."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def printable_json(document: str) -> str:
    """JSON of the same meaning without the characters that `printable` escapes."""
    if document.isprintable():
        return document
    units = (c.encode("utf-16-be", "surrogatepass") for c in document)
    return "".join(
        c
        if c.isprintable() or c == "\n"
        else "".join(f"\\u{u[i]:02x}{u[i + 1]:02x}" for i in range(0, len(u), 2))
        for c, u in zip(document, units, strict=True)
    )
