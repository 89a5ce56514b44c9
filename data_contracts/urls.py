"""URLs and what in them is secret: what may be shown, what a recipe may hold, and `${VARIABLE}` in
a URL's place.

A recipe is stored as it is, by Prefect as parameters and by MLflow as params, so a credential in it
would stand in both databases. A URL in a recipe names an environment variable instead; the value is
put in when the file is opened, and nothing that is written or said has it.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from data_contracts.errors import SourceError

HOW = (
    "Name an environment variable in its place, as in https://${USER_NAME}:${PASSWORD}@host/… or "
    "?token=${TOKEN}, or "
    "leave it to fsspec's configuration (FSSPEC_HTTPS_HEADERS, AWS_ACCESS_KEY_ID, "
    "~/.config/fsspec, ~/.netrc)."
)
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>]*")
_SECRET_NAME = re.compile(
    r"token|secret|passw|pwd|signature|(^|[^a-z])sig($|[^a-z])|key|auth|credential|session|jwt|x-amz-|x-goog-",
    re.I,
)
# As fsspec has them: zip://a.csv::https://host/a.zip.
_CHAIN = re.compile(r"::(?=[A-Za-z][\w+.\-]*(?:://|::|$))")
_values: dict[str, str] = {}  # of the variables that a URL of this process was given


def shown_url(url: str) -> str:
    """A URL as it may be shown: without user, password, query, fragment, which may hold a key."""
    return redact_values("::".join(_without_login(part) for part in _CHAIN.split(url)))


def redacted(text: str) -> str:
    """A text with every URL in it as `shown_url` has it, and without any value that a URL was
    given.
    """
    return redact_values(_URL.sub(lambda found: _trimmed(found[0]), text))


def redact_values(text: str) -> str:
    for name, value in _values.items():
        for form in {value, quote(value, safe="")}:
            if len(form) >= 4:  # a shorter one is no secret, and would be found everywhere
                text = text.replace(form, f"${{{name}}}")
    return text


def credential_in(url: str) -> str | None:
    """What in a URL (or a text with URLs in it) looks like a credential: "a password", "a secret in
    its query".
    """
    for found in [found for part in _CHAIN.split(url) for found in _URL.findall(part)]:
        _, _, rest = found.partition("://")
        bare = _VARIABLE.sub("", rest)  # a variable's name is no secret
        netloc, _, _ = re.split(r"[?#]", bare)[0].partition("/")
        user, at, _ = netloc.rpartition("@")
        if _password_before_slash(netloc) or (
            at and user.strip(":") and (":" in user or found.startswith("http"))
        ):
            return "a user name or password"
        query = bare.partition("?")[2] or bare.partition("#")[2]
        if any(
            value and _SECRET_NAME.search(name)
            for name, value in parse_qsl(query.replace("#", "&"))
        ):
            return "a secret in its query"
    return None


def misplaced_variable(url: str) -> bool:
    """Whether a `${VARIABLE}` stands where its value would be shown: in the host or the path."""
    if not _VARIABLE.search(url):
        return False
    if "://" not in url:
        return True
    place = re.split(r"[?#]", url.partition("://")[2])[0]
    netloc, _, path = place.partition("/")
    return bool(_VARIABLE.search(netloc.rpartition("@")[2]) or _VARIABLE.search(path))


def resolve(url: str, *, encoded: bool | None = None) -> str:
    """The URL with the values of its variables, percent-encoded; for the call that opens it, and
    nothing else.

    Args:
        encoded: whether whoever opens it decodes user and password; None: as fsspec does it.
    Raises:
        SourceError: a variable is not set.
    """

    def value(found: re.Match[str]) -> str:
        given = os.environ.get(found[1])
        if not given:
            raise SourceError(
                f"{shown_url(url)}: the environment variable {found[1]} that its URL names is not "
                f"set.",
                "Set it where the run is started (for a worker: in the worker's environment).",
            )
        _values[found[1]] = given
        # fsspec decodes no user or password of other schemes.
        decoded_later = "http" in url if encoded is None else encoded
        return quote(given, safe="") if decoded_later else given

    return _VARIABLE.sub(value, url) if "://" in url else url


def _without_login(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    place = re.split(r"[?#]", rest)[0]
    netloc, slash, path = place.partition("/")
    # A password may hold an unescaped slash, so the last @ counts where a colon that is no port's
    # stands before it.
    if _password_before_slash(netloc) and "@" in rest:
        netloc, slash, path = re.split(r"[?#]", rest.rpartition("@")[2])[0].partition("/")
    return f"{scheme}://{netloc.rpartition('@')[2]}{slash}{path}"


def _trimmed(url: str) -> str:
    """`shown_url` inside a text, where a route behind # (as MLflow's addresses have one) is no
    secret.
    """
    before, hash_, route = url.partition("#")
    if not route.startswith("/") or "@" in route:
        return shown_url(url)
    return shown_url(before) + hash_ + re.split(r"[?&=]", route)[0]


def _password_before_slash(netloc: str) -> bool:
    """`user:pa` of https://user:pa/ss@host/: a colon that no port follows."""
    host = netloc.rpartition("@")[2]
    return bool(re.search(r":(?!\d*$)", re.sub(r"^\[[0-9A-Fa-f:.]*\]", "", host)))


def netloc_login(url: str) -> tuple[str, str] | None:
    """User and password of a URL, decoded; None where it has none."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None
    name, _, password = user.partition(":")
    return unquote(name), unquote(password)
