"""Which columns of a table are a question and the answer to it, the page that this belongs to and a
link, by what they are called and hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_contracts.contract.columns import INDEX, NOT_TEXT, SeenColumn

Pair = tuple[SeenColumn, SeenColumn]

# What the two columns are called, the plainest first.
PAIRS = (
    ("question", "answer"),
    ("questions", "answers"),
    ("question_text", "answer_text"),
    ("faq_question", "faq_answer"),
    ("q", "a"),
    ("query", "answer"),
    ("faq", "answer"),
    ("问题", "答案"),
    ("问题", "回答"),
    ("问题", "答复"),
    ("提问", "回答"),
    ("标准问题", "答案"),
    ("标准问", "答案"),
    ("问", "答"),
)
# What a text is called that a question is asked of: where there is one, an answer may stand in it.
CONTEXTS = frozenset(
    "context contexts context_text passage passage_text paragraph 上下文 段落 篇章 材料".split()
)
PAGES = (
    "page page_title topic section document doc article faq_page source source_page page_url url "
    "link 页面 主题 话题 栏目 文档 来源"
).split()
LINKS = "link url href page_url source_url answer_url permalink 链接 网址 地址".split()
_MOST_OF_A_PAGE = 50  # rows on average
_CHARACTERS = 30  # that an answer has on average which is no label by another name


def pair_by_name(columns: Sequence[SeenColumn]) -> Pair | None:
    """Two columns that are called question and answer, or as such columns are."""
    by_name = _by_name(columns)
    for question, answer in PAIRS:
        if question in by_name and answer in by_name:
            return by_name[question], by_name[answer]
    return None


def context_of(columns: Sequence[SeenColumn]) -> SeenColumn | None:
    """A column that is called as a text which questions are asked of."""
    by_name = _by_name(columns)
    return next((one for name, one in by_name.items() if name in CONTEXTS), None)


def page_of(columns: Sequence[SeenColumn]) -> SeenColumn | None:
    """The column of the pages: most have several rows, and none has very many."""
    by_name = _by_name(columns)
    named = [by_name[name] for name in PAGES if name in by_name]
    return next((one for one in named if _groups(one)), None)


def link_of(columns: Sequence[SeenColumn], page: SeenColumn | None) -> SeenColumn | None:
    """The column of the links: addresses, or what says where an answer comes from."""
    by_name = _by_name(columns)
    named = [by_name[name] for name in LINKS if name in by_name]
    if named:
        return named[0]
    addresses = [one for one in columns if one.filled and one.kind == "web addresses"]
    if addresses:
        return addresses[0]
    return next((by_name[name] for name in ("source", "来源") if name in by_name), page)


def _by_name(columns: Sequence[SeenColumn]) -> dict[str, SeenColumn]:
    return {"_".join(one.name.casefold().split()): one for one in columns if one.filled}


def _groups(column: SeenColumn) -> bool:
    different, rows = len(column.counts), column.filled
    largest = max(column.counts.values())
    # A publisher of a thousand answers is no page of them.
    pages = different >= 2 and rows <= _MOST_OF_A_PAGE * different
    return pages and 3 * different <= 2 * rows and 2 * largest <= rows


def is_plain(pair: Pair) -> bool:
    """Whether both are texts that a person wrote, and the answers no labels by another name."""
    if not all(one.kind not in NOT_TEXT and not INDEX.fullmatch(one.name) for one in pair):
        return False
    question, answer = pair
    varied = 2 * len(answer.counts) > answer.filled
    said = answer.of_words and answer.mean_length >= _CHARACTERS and len(answer.counts) > 1
    return 2 * len(question.counts) > question.filled and (varied or said)
