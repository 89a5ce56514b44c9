"""Questions on contexts as data sets of them nest them, as rows of one question each.

Three forms, told by what a record holds: SQuAD's articles (`paragraphs`, each a `context` with its
`qas`), CMRC 2018's (`context_text` with `qas`, whose answers are texts alone), and the rows of
Hugging Face's copies, whose `answers` hold lists of texts and of offsets. A row has the first
answer of its question, and all of them in `answers`, as a JSON list. What only looks like one of
these is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_contracts.tables.batch import Place, json_text

Record = tuple[int, dict[str, Any], int]  # its row, itself, its characters

NESTED = "answers"  # the column of Hugging Face's rows
FLAT = ("answer", "answer_start", "answers")  # what it becomes
_TEXT, _START = "text", "answer_start"

# A file that is one object: the articles are under `data`, each with its `paragraphs`; before them
# stand plain values alone. Possessive, so that no text is gone over twice.
_PLAIN = r'(?:"(?:[^"\\]|\\.)*+"|[-+0-9.eEa-z]++)\s*+'
_BEFORE = rf'(?:"(?:[^"\\]|\\.)*+"\s*+:\s*+{_PLAIN},\s*+)*'
_ARTICLES = re.compile(
    rf'\s*+\{{\s*+{_BEFORE}"data"\s*+:\s*+\[\s*+\{{\s*+{_BEFORE}"paragraphs"\s*+:\s*+\[', re.S
)
_OF_PAGE = ("title",)  # what a question takes over from its article


def holds_articles(head: str) -> bool:
    """Whether a file begins as SQuAD's do: one object, which holds articles."""
    return _ARTICLES.match(head) is not None


def one_by_one(records: Iterator[Record], place: Place, *, flat: bool = True) -> Iterator[Record]:
    """The records with a row for each question of those that nest several.

    From the first one that does, rows are numbered by question.

    Args:
        flat: the answers of a row of its own become cells; False: such rows stay as they are.
    """
    row, by_question = 0, False
    for number, record, size in records:
        if (nested := _paragraphs(record)) is None:
            row = row + 1 if by_question else number
            yield row, with_flat_answers(record) if flat else record, size
            continue
        by_question = True
        for question in _questions(nested, record, place, number):
            row += 1
            yield row, question, sum(len(one) for one in question.values() if isinstance(one, str))


def _paragraphs(record: Mapping[str, Any]) -> list[Any] | None:
    """The contexts of a record with their questions; None where it nests none."""
    paragraphs = record.get("paragraphs")
    if isinstance(paragraphs, list) and paragraphs and _is_context(paragraphs[0]):
        return paragraphs
    return [record] if _is_context(record) else None


def _is_context(one: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("qas"), list):
        return False
    return "context" in one or "context_text" in one


def _questions(
    paragraphs: Sequence[Any], article: Mapping[str, Any], place: Place, number: int
) -> Iterator[dict[str, Any]]:
    above = {name: article[name] for name in _OF_PAGE if name in article}
    for at, paragraph in enumerate(paragraphs, 1):
        if not _is_context(paragraph):
            raise _broken(place, number, f"paragraph {at} is no object with a context and its qas")
        context = paragraph.get("context", paragraph.get("context_text"))
        for question in paragraph["qas"]:
            if not isinstance(question, dict):
                raise _broken(place, number, f"a question of paragraph {at} is no object")
            yield _row(question, context, above, place, number)


def _row(
    question: Mapping[str, Any], context: Any, above: Mapping[str, Any], place: Place, number: int
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": question.get("id", question.get("query_id")),
        **above,
        "question": question.get("question", question.get("query_text")),
        "context": context,
    }
    if "answers" in question:
        answers = question["answers"]
        if (flat := flat_answers(answers)) is None:
            what = (
                f"the answers of question {str(row['id'])[:60]!r} are no texts, with offsets or not"
            )
            raise _broken(place, number, what)
        row |= flat
    if "is_impossible" in question:
        row["is_impossible"] = question["is_impossible"]
    return row


def _broken(place: Place, number: int, what: str) -> Exception:
    return place.error(
        f"{what}, as SQuAD and CMRC write questions on a context", "Check the export.", number
    )


def with_flat_answers(record: dict[str, Any]) -> dict[str, Any]:
    """A row of Hugging Face's form with its first answer as cells of its own."""
    nested = record.get(NESTED)
    if not isinstance(nested, dict | list) or "answer" in record:
        return record
    # A list of texts alone may be anything.
    if not _has_offsets(nested) or (flat := flat_answers(nested)) is None:
        return record
    return {**record, **flat}


def _has_offsets(answers: Any) -> bool:
    one = answers[0] if isinstance(answers, list) and answers else answers
    return isinstance(one, dict) and {_TEXT, _START} <= one.keys()


def flat_answers(answers: Any) -> dict[str, Any] | None:
    """The first answer, its offset where there are any, and all texts that differ as a JSON list.

    Args:
        answers: texts, objects of a text and an offset, or an object of both lists.
    Returns:
        None where they are none of these.
    """
    starts: list[Any] | None = None
    if isinstance(answers, dict):
        texts, starts = answers.get(_TEXT), answers.get(_START)
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return None
    elif isinstance(answers, list) and all(isinstance(one, dict) for one in answers):
        texts = [one.get(_TEXT) for one in answers]
        starts = [one.get(_START) for one in answers] if _has_offsets(answers) else None
    elif isinstance(answers, list):
        texts = answers
    else:
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    flat: dict[str, Any] = {"answer": texts[0] if texts else ""}
    if starts is not None:
        flat["answer_start"] = starts[0] if starts else None
    return {**flat, "answers": json_text(list(dict.fromkeys(texts))) if texts else None}


def answered_impossible(record: Mapping[str, Any]) -> bool:
    """Whether a question is marked as impossible, and has an answer all the same."""
    return record.get("is_impossible") is True and bool(record.get("answer"))
