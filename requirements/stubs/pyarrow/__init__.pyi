# Compiled for the most part, and without types of its own: whatever it is asked for, is there.
from typing import Any

def __getattr__(name: str) -> Any: ...
