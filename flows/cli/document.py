"""What a script reads of a command: `--json` means that standard output holds our document and
nothing else.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


@contextmanager
def document(only: bool) -> Iterator[TextIO]:
    """Standard output, for the command's own text.

    Args:
        only: nothing else may reach it inside the block. What a library, C code or a child process
            prints there goes to standard error, by the file descriptor that all of them share.
    """
    if not only:
        yield sys.stdout
        return
    ours, descriptor = sys.stdout, _descriptor(sys.stdout)
    kept = None
    ours.flush()
    sys.stdout = sys.stderr
    try:
        if descriptor is None:
            yield ours
        else:
            kept = os.dup(descriptor)
            os.dup2(2, descriptor)
            stream = os.fdopen(
                os.dup(kept), "w", buffering=1, encoding=ours.encoding, errors=ours.errors
            )
            try:
                yield stream
            finally:
                # Told where it arose; closing tries once more to write what is left.
                with suppress(BrokenPipeError):
                    stream.close()
    finally:
        sys.stdout.flush()
        sys.stdout = ours
        if kept is not None and descriptor is not None:
            os.dup2(kept, descriptor)
            os.close(kept)


def _descriptor(stream: TextIO) -> int | None:
    """The number of the file behind a stream; None where a test, say, has put text in memory in its
    place.
    """
    try:
        return stream.fileno()
    except (io.UnsupportedOperation, AttributeError, ValueError):
        return None
