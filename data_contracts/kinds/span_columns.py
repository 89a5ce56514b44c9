"""Which columns of a table are a question, the context it is asked of and its answer, by what they
are called and by whether the answers stand in the contexts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data_contracts.contract.columns import INDEX, LOOKED_AT, NOT_TEXT, SeenColumn

# What the columns are called, the plainest first.
NAMES: Mapping[str, Sequence[str]] = {
    "question": ("question questions query query_text question_text q 问题 提问 问句 问").split(),
    "context": (
        "context contexts context_text passage passage_text paragraph document article text "
        "content body story 上下文 段落 篇章 文章 原文 正文 材料 文本 内容"
    ).split(),
    "answer": "answer answer_text span response 答案 回答 答".split(),
    "answer_start": (
        "answer_start answer_offset answer_begin start_position start_char start offset "
        "答案起始 答案位置 起始位置 答案开始 起始"
    ).split(),
}
ANSWERS = "answers"  # a JSON list of texts
FOUND = 0.5  # share of the answers that stand in their contexts, from which these are such


def by_name(columns: Sequence[SeenColumn], role: str) -> SeenColumn | None:
    """The column that is called as those of a role are."""
    named = {"_".join(one.name.casefold().split()): one for one in columns if one.filled}
    return next((named[name] for name in NAMES[role] if name in named), None)


def triple(columns: Sequence[SeenColumn]) -> dict[str, SeenColumn] | None:
    """The columns of the questions, contexts and answers; None where one of them is not there, or
    is no text.
    """
    found: dict[str, SeenColumn] = {}
    for role in ("question", "context", "answer"):
        column = by_name(columns, role)
        if column is None:
            return None
        found[role] = column
    texts = (found["question"], found["context"])
    return found if all(map(is_text, texts)) else None


def is_text(column: SeenColumn) -> bool:
    return column.kind not in NOT_TEXT and not INDEX.fullmatch(column.name)


def share_found(contexts: Sequence[str | None], answers: Sequence[str | None]) -> float:
    """Of the answers there are, those that stand in their context; 0 where there is none."""
    pairs = [(c or "", a) for c, a in zip(contexts, answers, strict=True) if a and a.strip()]
    pairs = pairs[:: max(1, len(pairs) // LOOKED_AT)]
    return sum(answer in context for context, answer in pairs) / max(1, len(pairs))


def is_answers(column: SeenColumn) -> bool:
    """Whether it is called as the lists of all right answers are, and holds lists."""
    return column.name == ANSWERS and column.kind == "lists or objects"
