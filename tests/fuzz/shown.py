"""What is shown of data: URLs without their secrets; texts in Markdown, CSV, JSON and on the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from hypothesis import strategies as st
from markdown_it import MarkdownIt

from data_contracts.errors import SourceError, printable, printable_json
from data_contracts.urls import credential_in, misplaced_variable, redacted, resolve, shown_url
from tasks.readable import code, csv_cell, markdown, markdown_table
from tests.fuzz.target import Target, refused

SECRET = "pl4nted"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_LINK = re.compile(r"://|www\.|\w@\w", re.I)  # what renderers make a link of by themselves

# --- URLs -------------------------------------------------------------------------------------------------------------

# A slash or a query mark in a password has to be percent-encoded, and an @ as well. Either alone is seen through; both
# together are a host with a path. Two colons are fsspec's chain.
_JUNK = st.text(st.sampled_from("ab0:/?#&=%+.-_~!$*,;()[]"), max_size=6).filter(lambda text: "::" not in text)
_MORE_AT = st.text(st.sampled_from("ab0@&=%+.-_~!$*,;()"), max_size=6)
_USERS = st.text(st.sampled_from("ab0@%+.-_~"), max_size=6)
_ROUTES = st.sampled_from(["", "/", "/a?", "/experiments/1&"])
_SCHEMES = st.sampled_from(["http", "https", "s3", "ftp", "sftp", "hdfs", "abfs", "postgresql", "HTTPS", "s3+x"])
_HOSTS = st.sampled_from(["host", "host:8443", "[::1]:80", "127.0.0.1", "bucket", "xn--a.example"])
_PATHS = st.sampled_from(["", "/", "/a.csv", "/a@b/c.csv", "/a:b", "/{start}.csv", "/a.zip"])
_PARAMETERS = st.sampled_from(
    ["token", "X-Amz-Signature", "sig", "api_key", "password", "access_token", "sv=1&sig", "a=b&secret", "AUTH"]
)
_PLACES = st.one_of(
    st.builds(lambda s, u, j, h, p: f"{s}://{u}:{j}{SECRET}{j}@{h}{p}", _SCHEMES, _USERS, _MORE_AT, _HOSTS, _PATHS),
    st.builds(
        lambda s, u, j, k, h, p: f"{s}://{u}:p{j}{SECRET}{k}@{h}{p}", _SCHEMES, _USERS, _JUNK, _JUNK, _HOSTS, _PATHS
    ),
    st.builds(lambda h, p, n, j: f"https://{h}{p}?{n}={SECRET}{j}", _HOSTS, _PATHS, _PARAMETERS, _JUNK),
    st.builds(lambda h, p, s, n: f"https://{h}{p}#{s}{n}={SECRET}", _HOSTS, _PATHS, _ROUTES, _PARAMETERS),
    st.builds(
        lambda j, h, p: f"https://{SECRET}{j}@{h}{p}", st.text(st.sampled_from("ab0.-_~"), max_size=4), _HOSTS, _PATHS
    ),
)
_AROUND = st.sampled_from(["", "could not read ", "('", 'url="', "<", "zip://a.csv::", "simplecache::", "a\n", "…"])
_AFTER = st.sampled_from(["", ": error", "')", '"', ">", "\n", " (HTTP 401)", "::file:///x", "。"])


def url(case: tuple[str, str, str]) -> bool:
    """No credential of a URL, wherever in it it stands, is in what is shown of it."""
    before, given, after = case
    assert SECRET not in shown_url(given), f"shown_url: {shown_url(given)}"
    text = before + given + after
    assert SECRET not in redacted(text), f"redacted: {redacted(text)}"
    misplaced_variable(given)
    try:
        resolve(given.replace(SECRET, "${NOT_SET_IN_ANY_ENVIRONMENT}"))
    except SourceError as error:
        refused(error)
    return credential_in(given) is not None


# --- texts ------------------------------------------------------------------------------------------------------------

_MARKS = st.sampled_from(
    ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![a](http://h/x)", "|",
     "`", "```\n", "\n\n", "\n# x", "- ", "1. ", "> ", "***", "__", "~~x~~", "&lt;", "&#60;", "\\", "http://h.example",
     "www.h.example", "a@h.example", "<http://h>", "[x]: http://h\n", "    code", "\t", "---\n", "===\n", "$x$", "{{",
     "{%", "=1+1", "@SUM(A1)", "+1", "-1", "\0", "\x1b[31m", "\r", "\x85", "\u2028", "\u202e", "\ud800", "\ufeff", "，",
     "＝1", " =1", "\x07", "javascript:", "ftp://h.example/x", "mailto:a@b.example", ":", "//", "h.example/x",
     "+ ", "_a_", "* a", "+", "1) ", "<!--", "<?x", "]]>", "\\|", "[^1]", "[ ] "]
)  # fmt: skip
hostile_texts = st.lists(_MARKS | st.text(st.characters(), max_size=6), max_size=5).map("".join)


def shown(text: str) -> bool:
    """A text means just itself, whoever renders it."""
    _means_itself(markdown(text))
    table = MARKDOWN.parse(markdown_table(["text", "n"], [(text, 1)]))
    assert [token.type for token in table].count("td_open") == 2, "a cell that is more than one"
    span = _inline(code(text))
    assert [child.type for child in span] == ["code_inline"], [child.type for child in span]

    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(text), "x"])
    cell = next(csv.reader(io.StringIO(stream.getvalue(), newline="")))[0]
    assert not cell.lstrip(" \t\r\n\v\f").startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")), cell
    assert cell.lstrip("'") == text.lstrip("'") or cell == text

    for character in printable(text):
        assert character.isprintable() or character == "\n", hex(ord(character))
    document = json.dumps({text: [text]}, ensure_ascii=False)
    assert json.loads(printable_json(document)) == {text: [text]}
    printable_json(document).encode()
    return True


def _means_itself(text: str) -> None:
    text.encode()
    assert not _LINK.search(text), "a link"
    plain = {"text", "text_special"}
    assert {child.type for child in _inline(text)} <= plain, [(c.type, c.content) for c in _inline(text)]


def _inline(text: str) -> list[Any]:
    tokens = MARKDOWN.parse(text)
    kinds = [token.type for token in tokens]
    if not text.strip():
        return []
    assert kinds == ["paragraph_open", "inline", "paragraph_close"], kinds
    return tokens[1].children or []


SHOWN = [
    Target("url", "secrets in URLs", 5, url, strategy=st.tuples(_AROUND, _PLACES, _AFTER),
           warm=[("", "https://u:p@h/a", "")]),
    Target("shown", "texts in Markdown, CSV, JSON and on the terminal", 4, shown, strategy=hostile_texts, warm=["a"]),
]  # fmt: skip
