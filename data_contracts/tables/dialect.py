"""What the bytes of a text file are: their encoding, and the separator of its CSV. Found where nobody said it."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass

from data_contracts.tables.csv import SEPARATORS
from data_contracts.tables.encoding import marked

RECORDS = 200  # of a file's head, by which its separator is told
SAMPLE = 1 << 17  # bytes that charset-normalizer looks at
_KANA = re.compile(r"[\u3040-\u30ff]")
_WESTERN = re.compile(
    "[ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŸŠšŽž‘’“”„‚«»–—…€£°§·¿¡ºª©®™´\xa0•]"
)
# A family that shares its first members is named by the one that has them all.
_WIDEST = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz": "gb18030",
    "big5": "cp950",
    "latin_1": "cp1252",
}
_HARDLY_USED = re.compile(
    r"iso8859_1[0346]|hp_roman8|kz1048|ptcp154|mac_|cp037|cp4|cp5|cp7|cp8[5-6]|cp1[01]"
)


@dataclass(frozen=True)
class Encoding:
    """An encoding that fits some bytes: `others` fit too, and `excerpt` shows what it makes of them."""

    name: str
    others: tuple[str, ...] = ()
    excerpt: str = ""


def find_encoding(data: bytes, *, whole: bool) -> Encoding | None:
    """The encoding of a file's first bytes; None where none fits.

    Args:
        whole: whether `data` is the whole file, so that a character cut at its end is a fault.
    """
    if marked(data) is not None or (data.isascii() and b"\0" not in data):
        return Encoding(
            "ascii"
        )  # as good as any: the reader takes a byte order mark before what is named
    if (wide := _without_mark(data)) is not None:
        return wide
    if is_utf8(data, whole=whole) or _damaged_utf8(
        data
    ):  # of a damaged one the reader names the row
        return Encoding("utf-8")
    foreign = b"\n".join(line for line in data.splitlines() if not line.isascii())[:SAMPLE]
    if len(foreign) == SAMPLE:  # a character may be cut at its end
        foreign = foreign[: foreign.rfind(b"\n") + 1] or foreign
    return _japanese(foreign) or _western(foreign) or _by_library(foreign)


def is_utf8(data: bytes, *, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _damaged_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    return len(text) - len(text.encode("ascii", "ignore")) - bad >= 3 * bad


def _without_mark(data: bytes) -> Encoding | None:
    """UTF-16 whose byte order mark is missing: every other byte of its line ends and digits is null."""
    head = data[:SAMPLE]
    zeros = head.count(0)
    if zeros < 0.05 * len(head):
        return None
    name = "utf-16-le" if head[1::2].count(0) > zeros / 2 else "utf-16-be"
    return Encoding(
        name,
        ("utf-16-be" if name == "utf-16-le" else "utf-16-le",),
        _excerpt(head.decode(name, "replace")),
    )


def _japanese(data: bytes) -> Encoding | None:
    """Kana in most places are no accident; charset-normalizer takes them for Korean."""
    for name in ("cp932", "euc_jp"):
        text = _decoded(data, name)
        foreign = [c for c in text or "" if not c.isascii()]
        if foreign and len(_KANA.findall("".join(foreign))) > 0.3 * len(foreign):
            return Encoding(name, (), _excerpt(text or ""))
    return None


def _western(data: bytes) -> Encoding | None:
    """Few bytes above ASCII, and every one of them a letter or a mark of Western Europe."""
    text = _decoded(data, "cp1252")
    foreign = [c for c in text or "" if not c.isascii()]
    letters = sum(c.isalpha() for c in text or "")
    if not foreign or len(foreign) > 0.2 * letters or not all(map(_WESTERN.match, foreign)):
        return None
    return Encoding("cp1252", ("iso8859-15", "cp1250", "mac_roman"), _excerpt(text or ""))


def _by_library(data: bytes) -> Encoding | None:
    from charset_normalizer import from_bytes

    matches = from_bytes(data)
    best = matches.best()
    if best is None or best.encoding in ("ascii", "utf_8"):
        return None
    name = _WIDEST.get(best.encoding, best.encoding)
    others = list(dict.fromkeys(_WIDEST.get(match.encoding, match.encoding) for match in matches))
    if _HARDLY_USED.match(name):
        name = next((one for one in others if not _HARDLY_USED.match(one)), name)
    text = _decoded(data, name)
    return Encoding(
        name,
        tuple(one for one in others if one != name)[:4],
        _excerpt(str(best) if text is None else text),
    )


def _decoded(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        return None


def _excerpt(text: str) -> str:
    line = next((line for line in text.splitlines() if not line.isascii()), "")
    at = next((at for at, c in enumerate(line) if not c.isascii()), 0)
    return line[max(0, at - 20) : at + 40].strip()


def find_separator(head: str, usual: str = ",") -> str | None:
    """The separator by which all records of a CSV file's head have as many fields, two at least; None: there is none.

    Args:
        head: the first lines of the file, the last one whole.
        usual: what is taken where it fits, before the others.
    """
    if (
        stated := re.match(r'"?sep=([^"\r\n])"?[\r\n]', head, re.I)
    ) is not None:  # Excel's own first line
        return stated[1]
    fields = {
        separator: _fields(head, separator) for separator in dict.fromkeys((usual, *SEPARATORS))
    }
    if fields[usual] > 1:
        return usual
    most = max(fields.values())
    return (
        next((separator for separator, count in fields.items() if count == most), None)
        if most > 1
        else None
    )


def _fields(head: str, separator: str) -> int:
    """Fields of each record, where all have as many; else 0."""
    counts: set[int] = set()
    try:
        for number, record in enumerate(
            csv.reader(io.StringIO(head, newline=""), delimiter=separator, strict=True)
        ):
            if record:
                counts.add(len(record))
            if len(counts) > 1 or number >= RECORDS:
                break
    except csv.Error:  # a quoted cell that the head cuts, or no CSV by this separator
        return 0
    return counts.pop() if len(counts) == 1 else 0
