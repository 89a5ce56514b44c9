"""Which files a window chooses: by the days that their names and folders tell, and by nothing else.

A file whose day cannot be told is neither read nor left out: the source is refused, and the message
names the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from data_contracts.contract.day_paths import days_of, leads_to_days
from data_contracts.contract.days import (
    FORMS,
    Coverage,
    Days,
    DayUnclear,
    WindowRead,
    coverage,
    shown_spans,
)
from data_contracts.contract.sections import Split, WindowLimits
from data_contracts.errors import ContractViolation, SourceError
from data_contracts.recipe.source import FileSource, RollingWindow

if TYPE_CHECKING:
    from tasks.sources.source_file import SourceFile

_DEPTH = 8  # folders below a folder; a link to itself has no end
_SHOWN = 3  # files that a message names


@dataclass(frozen=True)
class FoundFiles:
    """The files that one URL of a source stands for.

    `base` is the folder part that all of them share by the URL, None where the URL names one file;
    `placed`: the URL held {start} or {end}, so it is the URL that vouches for the days.
    """

    fs: Any
    paths: tuple[str, ...]
    base: str | None
    what: str
    placed: bool

    def parts(self, path: str) -> tuple[Sequence[str], Sequence[str]]:
        """Folders and name as far as they differ from file to file, and the folders before them."""
        if self.base is None:
            plain = unquote(urlsplit(path).path) if "://" in path else path
            return [PurePosixPath(plain).name], []
        above = self.base.split("/")
        return path.split("/")[len(above) :], above

    def name(self, path: str) -> str:
        return "/".join(self.parts(path)[0])


def fixed_window(source: FileSource) -> Days | None:
    """The days to read; None for every file.

    Raises:
        ValueError: the window still rolls; `Recipe.on` fixes it for a day.
    """
    if isinstance(source.window, RollingWindow):
        raise ValueError("a rolling window has no days before Recipe.on")
    return (
        Days(first=source.window.start, last=source.window.end)
        if source.window is not None
        else None
    )


def below(fs: Any, folder: str, depth: int = _DEPTH) -> list[str]:
    """What a folder holds, and what the folders in it hold whose names sort files by day (2026,
    date=2026-11-26).
    """
    found = []
    for one in sorted(fs.ls(folder, detail=False)):
        name = PurePosixPath(one).name
        if depth and not name.startswith((".", "_")) and leads_to_days(name) and fs.isdir(one):
            found += below(fs, one, depth - 1)
        else:
            found.append(one)
    return found


def chosen(found: FoundFiles, window: Days | None) -> dict[str, Days | None]:
    """The files to read, with the days that each is named for; None for those that the URL vouches
    for.

    Raises:
        SourceError: a name does not tell its day, or there is no file of these days.
    """
    if window is None:
        return dict.fromkeys(found.paths)
    told: dict[str, Days | None] = {}
    refused: dict[str, str] = {}
    for path in found.paths:
        try:
            told[path] = days = days_of(*found.parts(path))
        except DayUnclear as error:
            refused[path] = str(error)
            continue
        if days is None and not found.placed and found.base is not None:
            refused[path] = "no date"
    if refused:
        raise _untold({found.name(path): why for path, why in refused.items()}, found)
    inside = {path: days for path, days in told.items() if days is None or days.touches(window)}
    if not inside:
        dated = [days for days in told.values() if days is not None]
        first, last = min(days.first for days in dated), max(days.last for days in dated)
        raise SourceError(
            f"{found.what}: no file of {window}, only files dated {first} to {last}.",
            "Change source.window, or wait for the file of the day.",
        )
    return inside


def governed(
    found: Mapping[Split | None, FoundFiles], days: Mapping[Split | None, Mapping[str, Days | None]]
) -> None:
    """A file that a URL names by itself may stand beside files that the window chooses (a test set
    that stays), and not alone: then the window would choose nothing.

    Raises:
        SourceError: nothing depends on the window.
    """
    chooses = any(one.placed or any(days[split].values()) for split, one in found.items())
    if not chooses:
        every = {one.name(path): "no date" for one in found.values() for path in one.paths}
        raise _untold(every, next(iter(found.values())))


def _untold(refused: Mapping[str, str], found: FoundFiles) -> SourceError:
    files = "; ".join(f"{name} ({why})" for name, why in list(refused.items())[:_SHOWN])
    more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    these = "a name does not" if len(refused) == 1 else f"{len(refused)} names do not"
    narrow = "" if found.base is None else ", narrow source.url to a glob that leaves it out"
    return SourceError(
        f"{found.what}: source.window chooses files by their days, and {these} tell one: "
        f"{files}{more}.",
        f"Rename the file{narrow}, put {{start}} or {{end}} into the URL, or drop source.window. "
        f"Understood: {FORMS}.",
    )


# --- what was found -------------------------------------------------------------------------------


def window_read(source: FileSource, files: Sequence[SourceFile]) -> WindowRead | None:
    """Which days of its window a source holds; None without a window."""
    window = fixed_window(source)
    if window is None:
        return None
    urls = source.by_split
    placed = {split for split, url in urls.items() if "{start}" in url or "{end}" in url}
    told = []
    for split in dict.fromkeys(file.split for file in files if file.days is not None):
        if split not in placed:
            spans = [file.days for file in files if file.split == split and file.days is not None]
            told.append(coverage(window, spans, split))
    always = tuple(file.name for file in files if file.days is None and file.split not in placed)
    return WindowRead(window=window, coverage=tuple(told), always=always)


def hold(read: WindowRead, limits: WindowLimits) -> None:
    """Hold what was found to the contract's limits.

    Raises:
        ContractViolation: too many days are missing, or the newest file is too old.
    """
    broken = [line for one in read.coverage for line in _broken(one, limits)]
    if broken:
        raise ContractViolation(
            "The files break the contract's section window:"
            + "".join(f"\n  - {line}" for line in broken)
            + "\n",
            "Look whether the export still runs and mend it, or change the limit in the contract "
            "(null: none).",
        )


def _broken(one: Coverage, limits: WindowLimits) -> Iterator[str]:
    where = f"{one.split}: " if one.split else ""
    if limits.max_age_days is not None and one.age_days > limits.max_age_days:
        yield (
            f"{where}max_age_days: the newest file is of {one.newest}, {one.age_days} days before "
            f"{one.window.last}, "
            f"the last day of the window (limit: {limits.max_age_days})"
        )
    if limits.max_missing_days is not None and one.missing_days > limits.max_missing_days:
        yield (
            f"{where}max_missing_days: {one.missing_days} of {len(one.window)} days have no file, "
            f"{shown_spans(one.missing)} (limit: {limits.max_missing_days})"
        )
