"""What `noisefold doctor` says: a line per finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Line:
    """One finding. `remedy` says what to do where the state is not ok."""

    check: str
    state: State
    what: str
    remedy: str = ""
