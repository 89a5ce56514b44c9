"""What is shown of data: URLs without their secrets; texts in Markdown, CSV, JSON and on the
terminal.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import strategies as st
from markdown_it import MarkdownIt

from data_contracts.errors import SourceError, printable, printable_json
from data_contracts.urls import credential_in, misplaced_variable, redacted, resolve, shown_url
from tasks.reports.readable import code, csv_cell, markdown, markdown_table, shorten
from tests.fuzz.configuration import quick_text
from tests.fuzz.target import Target, refused

SECRET = "pl4nted"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_LINK = re.compile(r"://|www\.|\w@\w", re.I)  # what renderers make a link of by themselves

# --- URLs -----------------------------------------------------------------------------------------

# A slash or a query mark in a password has to be percent-encoded, and an @ as well. Either alone is
# seen through; both together are a host with a path. Two colons are fsspec's chain.
SCHEMES = ["http", "https", "s3", "ftp", "sftp", "hdfs", "abfs", "postgresql", "HTTPS", "s3+x"]
HOSTS = ["host", "host:8443", "[::1]:80", "127.0.0.1", "bucket", "xn--a.example"]
PATHS = ["", "/", "/a.csv", "/a@b/c.csv", "/a:b", "/{start}.csv", "/a.zip"]
PARAMETERS = [
    "token", "X-Amz-Signature", "sig", "api_key", "password", "access_token", "sv=1&sig", "a=b&secret", "AUTH",
]  # fmt: skip
ROUTES = ["", "/", "/a?", "/experiments/1&"]
AROUND = ["", "could not read ", "('", 'url="', "<", "zip://a.csv::", "simplecache::", "a\n", "…"]
AFTER = ["", ": error", "')", '"', ">", "\n", " (HTTP 401)", "::file:///x", "。"]
# How a URL is made of a scheme, a host, a path, a parameter, a route, and marks: of a user, and
# round the password.
FORMS: list[tuple[str, Callable[..., str]]] = [
    (
        "ab0:/?#&=%+.-_~!$*,;()[]",
        lambda s, h, p, n, r, u, j, k: f"{s}://{u}:p{j}{SECRET}{k}@{h}{p}",
    ),
    ("ab0@&=%+.-_~!$*,;()", lambda s, h, p, n, r, u, j, k: f"{s}://{u}:{j}{SECRET}{k}@{h}{p}"),
    ("ab0:/?#&=%+.-_~", lambda s, h, p, n, r, u, j, k: f"https://{h}{p}?{n}={SECRET}{k}"),
    ("ab0", lambda s, h, p, n, r, u, j, k: f"https://{h}{p}#{r}{n}={SECRET}"),
    ("ab0.-_~", lambda s, h, p, n, r, u, j, k: f"https://{SECRET}{k}@{h}{p}"),
]
USERS = "ab0@%+.-_~"


def marks(alphabet: str) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from(alphabet), max_size=6).map(lambda text: text.replace("::", ":"))


pools = [st.sampled_from(pool) for pool in (SCHEMES, HOSTS, PATHS, PARAMETERS, ROUTES)]
given_urls = st.one_of(
    *(
        st.builds(form, *pools, marks(USERS), marks(alphabet), marks(alphabet))
        for alphabet, form in FORMS
    )
)


def quick_url(random: Random) -> tuple[str, str, str]:
    alphabet, form = random.choice(FORMS)
    chosen = [random.choice(pool) for pool in (SCHEMES, HOSTS, PATHS, PARAMETERS, ROUTES)]
    junk = [
        "".join(random.choices(of, k=random.randrange(7))) for of in (USERS, alphabet, alphabet)
    ]
    while any("::" in text for text in junk):
        junk = [text.replace("::", ":") for text in junk]
    return random.choice(AROUND), form(*chosen, *junk), random.choice(AFTER)


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


# --- texts ----------------------------------------------------------------------------------------

MARKS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![a](http://h/x)", "|",
    "`", "```\n", "\n\n", "\n# x", "- ", "1. ", "> ", "***", "__", "~~x~~", "&lt;", "&#60;", "\\", "http://h.example",
    "www.h.example", "a@h.example", "<http://h>", "[x]: http://h\n", "    code", "\t", "---\n", "===\n", "$x$", "{{",
    "{%", "=1+1", "@SUM(A1)", "+1", "-1", "\0", "\x1b[31m", "\r", "\x85", "\u2028", "\u202e", "\ud800", "\ufeff", "，",
    "＝1", " =1", "\x07", "javascript:", "ftp://h.example/x", "mailto:a@b.example", ":", "//", "h.example/x",
    "+ ", "_a_", "* a", "__a__", "_", "__", "a", "+", "1) ", "<!--", "<?x", "]]>", "\\|", "[^1]", "[ ] ",
]  # fmt: skip
hostile_texts = st.lists(
    st.sampled_from(MARKS) | st.text(st.characters(), max_size=6), max_size=5
).map("".join)


def quick_hostile(random: Random) -> str:
    return "".join(
        random.choice((random.choice(MARKS), quick_text(random)[:50]))
        for _ in range(random.randrange(6))
    )


def shown(text: str) -> bool:
    """A text means just itself, whoever renders it."""
    _means_itself(
        markdown(text),
        "".join(c if c.isprintable() else "\ufffd" for c in shorten(" ".join(text.split()), 300)),
    )
    table = MARKDOWN.parse(markdown_table(["text", "n"], [(text, 1)]))
    assert [token.type for token in table].count("td_open") == 2, "a cell that is more than one"
    span = _inline(code(text))
    assert [child.type for child in span] == ["code_inline"], [child.type for child in span]

    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(text), "x"])
    cell = next(csv.reader(io.StringIO(stream.getvalue(), newline="")))[0]
    assert not cell.lstrip(" \t\r\n\v\f").startswith(
        ("=", "+", "-", "@", "＝", "＋", "－", "＠")
    ), cell
    assert cell.lstrip("'") == text.lstrip("'") or cell == text

    for character in printable(text):
        assert character.isprintable() or character == "\n", hex(ord(character))
    document = json.dumps({text: [text]}, ensure_ascii=False)
    assert json.loads(printable_json(document)) == {text: [text]}
    printable_json(document).encode()
    return True


def _means_itself(text: str, wanted: str) -> None:
    text.encode()
    assert not _LINK.search(text), "a link"
    plain = {"text", "text_special"}
    assert {child.type for child in _inline(text)} <= plain, [
        (c.type, c.content) for c in _inline(text)
    ]
    assert "".join(child.content for child in _inline(text)) == wanted


def _inline(text: str) -> list[Any]:
    tokens = MARKDOWN.parse(text)
    kinds = [token.type for token in tokens]
    if not text.strip():
        return []
    assert kinds == ["paragraph_open", "inline", "paragraph_close"], kinds
    return tokens[1].children or []


SHOWN = [
    Target("url", "secrets in URLs", 5, url,
           st.tuples(st.sampled_from(AROUND), given_urls, st.sampled_from(AFTER)), quick_url,
           warm=[("", "https://u:p@h/a", "")]),
    Target("shown", "texts in Markdown, CSV, JSON and on the terminal", 4, shown, hostile_texts,
           quick_hostile, warm=["a"]),
]  # fmt: skip
