"""Which encoding a text file has: exactly where a byte order mark says so, else by its bytes."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

# Longest first: the mark of UTF-32 (little endian) begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES = 8  # of a mark or of a kind
# What a file is whatever its name says, by its first bytes.
_KINDS = {
    b"PK\x03\x04": "a zip file (or an Excel workbook, which is one)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip file",
    b"(\xb5/\xfd": "a zstd file",
    b"BZh91AY&": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"PAR1\x15": "a Parquet file",
    b"%PDF": "a PDF",
}
# What people call the encodings that Python's codecs have other names for.
_NAMES = {
    **{f"cp125{number}": f"windows-125{number}" for number in range(9)},
    "cp932": "shift_jis",
    "euc_jp": "euc-jp",
    "cp949": "euc-kr",
    "euc_kr": "euc-kr",
    "cp950": "big5",
}
# A family that shares its first members is named by the one that has them all.
_WIDEST = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "hz": "gb18030",
    "big5": "cp950",
    "big5hkscs": "cp950",
    "latin_1": "cp1252",
}
_HARDLY_USED = re.compile(
    r"iso8859_1[0346]|hp_roman8|kz1048|ptcp154|mac_|cp037|cp4|cp5|cp7|cp8[5-6]|cp1[01]"
)
_KANA = re.compile(r"[\u3040-\u30ff]")
_WESTERN = re.compile(
    "[ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŸŠšŽž‘’“”„‚«»–—…€£°§·¿¡ºª©®™´\xa0•]"
)
_SAMPLE = 1 << 17  # bytes that are looked at
_SHOWN = 3  # encodings that a hint names


@dataclass(frozen=True)
class Encoding:
    """An encoding that fits some bytes: `others` fit too, `excerpt` shows what it makes of them."""

    name: str
    others: tuple[str, ...] = ()
    excerpt: str = ""


def marked(head: bytes) -> str | None:
    """The codec that the first bytes of a file name; it takes the mark away."""
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def kind_of(head: bytes) -> str | None:
    """What the first bytes of a file say that it is, where it is no text."""
    return next((kind for mark, kind in _KINDS.items() if head.startswith(mark)), None)


def find_encoding(data: bytes, *, whole: bool) -> Encoding | None:
    """The encoding of a file's first bytes; None where none fits.

    Args:
        whole: whether `data` is the whole file, so that a character cut at its end is a fault.
    """
    if marked(data) is not None or (data.isascii() and b"\0" not in data):
        # As good as any: the reader takes a byte order mark before what is named.
        return Encoding("ascii")
    if (wide := _without_mark(data)) is not None:
        return wide
    # Of a damaged one the reader names the row.
    if is_utf8(data, whole=whole) or _damaged_utf8(data):
        return Encoding("utf-8")
    foreign = b"\n".join(line for line in data.splitlines() if not line.isascii())[:_SAMPLE]
    if len(foreign) == _SAMPLE:  # a character may be cut at its end
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
    """UTF-16 whose byte order mark is missing: every other byte of its line ends and digits is
    null.
    """
    head = data[:_SAMPLE]
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


def likely_encodings(undecoded: str, tried: str) -> str:
    """The encodings that such bytes may be in, each with what the text then says; "" for none.

    Args:
        undecoded: text of bytes that did not decode, these as surrogates (`surrogateescape`).
        tried: the encoding that it was read in.
    """
    try:
        data = undecoded[:_SAMPLE].encode(tried, "surrogateescape")
    except (UnicodeError, LookupError):
        return ""
    found = find_encoding(data, whole=False)
    if found is None or found.name in ("ascii", "utf-8"):
        return ""
    if found.name.startswith("utf-16"):
        return "UTF-16 without a byte order mark (utf-16-le or utf-16-be)"
    shown: dict[str, str] = {}
    for name in (found.name, *found.others):
        if (text := _decoded(data, name)) is not None:
            shown.setdefault(_NAMES.get(name, name), _excerpt(text))
    return " or ".join(f"{name} ({says!r})" for name, says in list(shown.items())[:_SHOWN])
