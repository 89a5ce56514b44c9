"""The file systems of fsspec, and what their faults mean: to be mended, or to be tried again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.urls import redacted, resolve, shown_url


def filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        # aiohttp ends a request after 5 minutes in all, however well it goes: bound the silence
        # instead.
        timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    try:
        return url_to_fs(resolve(url), **options)
    except NoisefoldError:
        raise
    except (ValueError, ImportError) as error:
        cause = redacted(f"{shown_url(url)}: {error}.")
        raise SourceError(cause, "Give a path, or a URL that fsspec can open.") from harmless(error)


def protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def is_local(fs: Any) -> bool:
    return bool({"file", "local"} & set(protocols(fs)))


def is_http(fs: Any) -> bool:
    return bool({"http", "https"} & set(protocols(fs)))


def missing(shown: str) -> SourceError:
    return SourceError(
        f"{shown}: no such file or folder.",
        "Check source.url; a relative path starts at the recipe's folder.",
    )


@contextmanager
def reaching(path: str, name: str) -> Iterator[None]:
    """Sorts the faults of reaching a file into those to mend (SourceError) and those that may heal
    (OSError).
    """
    try:
        yield
    except NoisefoldError:
        raise
    except Exception as error:
        # fsspec calls every failed look-up over http FileNotFoundError; its cause tells why.
        cause = (
            error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        )
        status, shown, told = getattr(cause, "status", None), shown_url(path), harmless(error)
        if isinstance(cause, FileNotFoundError) or status in (404, 410):
            raise missing(shown) from told
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
            raise SourceError(
                f"{shown}: the server refuses it (HTTP {status}).", "Check the URL and its access."
            ) from told
        if isinstance(cause, (PermissionError, IsADirectoryError, NotADirectoryError)):
            raise SourceError(
                f"{shown}: cannot be read ({os.strerror(cause.errno or 0)}).",
                "Check its permissions.",
            ) from told
        if type(cause).__module__.partition(".")[0] == "aiohttp" or isinstance(cause, TimeoutError):
            detail = f"HTTP {status}" if status else redacted(str(cause)) or type(cause).__name__
            raise ConnectionError(f"{shown} cannot be reached or was cut off: {detail}") from told
        if told is None:
            raise ConnectionError(
                f"{shown}: {type(error).__name__}: {redacted(str(error))}"
            ) from None
        raise


def harmless(error: BaseException) -> BaseException | None:
    """The error as the cause of another, whose traceback shows it; None where it or its causes tell
    a secret.
    """
    chain: BaseException | None = error
    while chain is not None:
        if redacted(str(chain)) != str(chain):
            return None
        chain = chain.__cause__ or chain.__context__
    return error
