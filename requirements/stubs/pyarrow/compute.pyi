# Made from Arrow's registry of functions when it is imported: no source names them.
from typing import Any

def __getattr__(name: str) -> Any: ...
