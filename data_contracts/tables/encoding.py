"""Which encoding a text file has: exactly where a byte order mark says so, and as a hint where bytes do not decode."""

from __future__ import annotations

import codecs

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
_NAMES = {
    "cp1252": "windows-1252", "cp1251": "windows-1251", "cp1250": "windows-1250", "cp1253": "windows-1253",
    "cp1254": "windows-1254", "cp1255": "windows-1255", "cp1256": "windows-1256", "cp1257": "windows-1257",
    "cp1258": "windows-1258", "cp932": "shift_jis", "shift_jis_2004": "shift_jis", "shift_jisx0213": "shift_jis",
    "euc_jis_2004": "euc-jp", "euc_jisx0213": "euc-jp", "euc_jp": "euc-jp", "cp949": "euc-kr", "euc_kr": "euc-kr",
    "gbk": "gb18030", "gb2312": "gb18030", "big5hkscs": "big5", "cp950": "big5",
}  # fmt: skip
_USUAL = {*_NAMES.values(), "gb18030", "big5", "koi8_r", "iso8859_2", "tis_620", "cp874"}
_SAMPLE = 1 << 16


def marked(head: bytes) -> str | None:
    """The codec that the first bytes of a file name; it takes the mark away."""
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def kind_of(head: bytes) -> str | None:
    """What the first bytes of a file say that it is, where it is no text."""
    return next((kind for mark, kind in _KINDS.items() if head.startswith(mark)), None)


def likely_encodings(undecoded: str, encoding: str) -> str:
    """The encodings that such bytes may be in, the likeliest first, each with what the text then says; "" for none.

    Args:
        undecoded: text of bytes that did not decode, these as surrogates (`surrogateescape`).
        encoding: the one that was tried.
    """
    try:
        data = undecoded[:_SAMPLE].encode(encoding, "surrogateescape")
    except (UnicodeError, LookupError):
        return ""
    if data.count(b"\0") * 4 > len(data) > 0:  # every second byte of most languages' UTF-16
        return "UTF-16 without a byte order mark (utf-16-le or utf-16-be)"
    from charset_normalizer import from_bytes

    found: dict[str, str] = {}  # name → what the text then says
    for match in from_bytes(data):
        says = str(match)
        # Of those in which it says the same, the one that most programs write.
        name = (
            "windows-1252"
            if _reads(data, "cp1252") == says
            else _NAMES.get(match.encoding, match.encoding)
        )
        if not name.startswith("utf"):
            found.setdefault(name, _excerpt(says))
    found = {name: says for name, says in found.items() if name in _USUAL} or found
    # One byte per letter, and all of them Latin: by far most such files are the West's, whatever the letters say.
    if (
        (west := _reads(data, "cp1252")) is not None
        and found
        and _is_latin(next(iter(found.values())))
    ):
        found = {"windows-1252": _excerpt(west), **found}
    # Syllables of Japanese in what another reading takes for rare characters of Korean or Chinese.
    names = sorted(
        found,
        key=lambda name: name in ("shift_jis", "euc-jp") and _has_kana(found[name]),
        reverse=True,
    )
    return " or ".join(f"{name} ({found[name]!r})" for name in names[:3])


def _reads(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _excerpt(text: str) -> str:
    """The first few words that are not ASCII."""
    start = next((at for at, c in enumerate(text) if not c.isascii()), 0)
    return " ".join(text[max(0, start - 8) : start + 12].split())


def _is_latin(text: str) -> bool:
    return all(c < "\u0250" for c in text)


def _has_kana(text: str) -> bool:
    return any("\u3040" <= c <= "\u30ff" for c in text)
