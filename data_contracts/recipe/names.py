"""What a data set is called after: a short ASCII name from its files, another one for another
data set."""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from itertools import takewhile
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

LONGEST = 60  # characters of a name; a recipe's may have 80
_ENDING = re.compile(
    r"(\.(csv|tsv|tab|txt|jsonl|ndjson|json|parquet|pq))?(\.(gz|zst|zstd|zip|bz2|xz))?$", re.I
)
_PATTERN = re.compile(r"[*?\[{]")
# What tools call a part of a data set: the folder around it has the name.
_GENERIC = re.compile(
    "(part|data|dataset|train|training|test|testing|valid|validation|val|dev|file|output|export|rows|shard|chunk)?([-_.]?\\d+)*([-_.]of[-_.]\\d+)?([-_.][0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}.*)?",
    re.I,
)
_SPLIT_WORD = re.compile(r"(^|[-_. ])(train|training|test|testing|valid|validation|val|dev)$", re.I)


def dataset_name(*urls: str) -> str:
    """A name of `[a-z0-9_.-]`, at most 80 characters, the same on every machine.

    A name that is such already stays (in lower case); any other is written in Latin letters, or
    cut, and ends in a digest of the whole, so that two names never become one.
    """
    stems = [stem_of(one) for one in urls]
    shared = _shared(stems)
    if _GENERIC.fullmatch(shared) and shared:  # train.de and train.en: the folder has the name
        return clean(stem_of(f"{urls[0].rpartition('/')[0]}/{shared}"))
    return clean(shared or _SPLIT_WORD.sub("", stems[0]) or stems[0])


def _shared(stems: list[str]) -> str:
    """`mails` of mails-train and mails-test: what the names have in common, up to a separator."""
    alike = takewhile(lambda at: len(set(at)) == 1, zip(*stems, strict=False))
    prefix = "".join(at[0] for at in alike)
    if not all(len(stem) == len(prefix) or not stem[len(prefix)].isalnum() for stem in stems):
        prefix = re.sub(r"[^-_. ]*$", "", prefix)
    return prefix.rstrip("-_. ") if len(stems) > 1 else ""


def clean(stem: str) -> str:
    """`stem` as a name of `[a-z0-9_.-]`."""
    stem = unicodedata.normalize("NFC", stem)  # macOS hands out names decomposed
    same = stem.lower()
    if re.fullmatch(rf"[a-z0-9][a-z0-9_.\-]{{0,{LONGEST - 1}}}", same):
        return same
    from slugify import slugify

    digest = blake2b(stem.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    readable = slugify(stem, max_length=LONGEST - 7, word_boundary=True) or slugify(
        stem, max_length=LONGEST - 7
    )
    return f"{readable or 'data'}-{digest}"


def stem_of(url: str) -> str:
    """What the path says of the data set: the file's name, or for a part, a folder or a glob the
    folder's."""
    parsed = urlsplit(url.split("::")[-1])
    path = f"{parsed.hostname or ''}/{unquote(parsed.path)}" if "://" in url else url
    parts = [
        part
        for part in re.split(r"[\\/]+", path)
        if part not in ("", ".", "..") and "=" not in part
    ]
    while parts:
        last = _ENDING.sub("", parts.pop())
        literal = _PATTERN.split(last)[0].rstrip("-_. ")
        if literal and not _GENERIC.fullmatch(literal):
            return literal
        if not any(not _PATTERN.search(part) and not _GENERIC.fullmatch(part) for part in parts):
            return literal or next((part for part in parts if not _PATTERN.search(part)), "data")
    return PurePath(path).name or "data"
