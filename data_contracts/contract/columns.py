"""Which column of some rows is the text, the label, the id, the split: by what the cells are, then by their names.

Nothing hangs on the order of a set: where two columns fit as well, the order of the columns decides, and it is told.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from data_contracts.contract.rows import Rows
from data_contracts.contract.text import SPLIT_NAMES
from data_contracts.errors import SourceError

Role = Literal["text", "label", "id", "split"]

LOOKED_AT = 2_000  # different cells of a column whose kind is looked at, and rows that a label is held against
MOST = 0.9  # share of the cells that make a column one of addresses, dates, …
NEAR = 0.5  # a text column as long as this share of the longest is a candidate

# What a whole cell is when it is no text that a person wrote.
_KINDS = {
    "numbers": r"[-+]?(\d[\d,. ]*|\.\d+)(e[-+]?\d+)?%?",
    "dates": r"(\d{4}[-/.年]\d{1,2}([-/.月]\d{1,2}日?)?|\d{1,2}[-/.月]\d{1,2}([-/.]\d{2,4}|日)?|\d{1,2}:\d{2})"
    r"([T ,]*[\d:.]*( ?[ap]\.?m\.?)?(Z| ?[+-]\d{2}:?\d{2}| ?UTC| ?GMT)?)",
    "web addresses": r"(https?|ftp|s3|gs|file)://\S+|www\.\S+",
    "mail addresses": r"[^\s@]+@[^\s@]+\.[^\s@]+",
    "names of accounts": r"@[\w.\-]+",
    "file paths": r"([A-Za-z]:)?([\\/]|\.{1,2}[\\/])?([^\s\\/]+[\\/])+[^\s\\/]*|"
    r"[^\s\\/]+\.(png|jpe?g|gif|webp|mp[34]|wav|pdf|txt|html?|json|xml|csv|docx?)",
    "hashes or keys": r"[0-9a-f]{16,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\{[0-9a-f\-]{36}\}",
    "encoded bytes": r"(data:[\w/+.-]+;base64,)?[A-Za-z0-9+/_-]{24,}={0,2}",
    "lists or objects": r"[\[{(].*[\]})]",
}  # fmt: skip
_WHOLE = {kind: re.compile(pattern, re.I | re.S) for kind, pattern in _KINDS.items()}
_NOT_TEXT = tuple(_KINDS)
_NOT_LABEL = ("dates", "web addresses", "mail addresses", "names of accounts", "hashes or keys")

# Words of a column's name, the plainest first. Chinese names are looked for anywhere within a name.
_WORDS: dict[Role, tuple[str, ...]] = {
    "text": (
        "text", "texts", "sentence", "review", "reviews", "comment", "comments", "body", "content", "contents",
        "document", "doc", "message", "messages", "utterance", "query", "question", "tweet", "post", "article",
        "msg", "txt", "nachricht", "kommentar", "texto", "mensaje", "texte", "commentaire", "testo", "opinion",
        "description", "summary", "abstract", "title", "headline", "subject",
    ),
    "label": (
        "label", "labels", "class", "category", "categories", "target", "sentiment", "topic", "intent", "verdict",
        "rating", "stars", "score", "polarity", "emotion", "tag", "type", "choice", "y", "annotation", "genre", "gold",
        "stance", "kind", "kategorie", "klasse", "categoria", "categoría", "catégorie", "etiqueta", "étiquette",
    ),
    "id": ("id", "uid", "uuid", "guid", "key", "pk", "nr", "no", "number", "index", "ref", "identifier"),
    "split": ("split", "fold", "subset", "partition", "set"),
}  # fmt: skip
_CHINESE: dict[Role, tuple[str, ...]] = {
    "text": (
        "文本",
        "正文",
        "内容",
        "评论",
        "评价内容",
        "句子",
        "语句",
        "问题",
        "留言",
        "消息",
        "摘要",
        "描述",
        "标题",
    ),
    "label": (
        "标签",
        "类别",
        "分类",
        "类型",
        "情感",
        "情绪",
        "倾向",
        "极性",
        "意图",
        "主题",
        "评分",
        "星级",
        "种类",
    ),
    "id": ("编号", "序号", "编码", "单号", "主键", "id"),
    "split": ("划分", "数据集"),
}
# Who, when, where and how much: they may have few values, and yet no text tells them.
_BESIDE = {
    "id", "ids", "uid", "uuid", "user", "username", "author", "annotator", "annotators", "worker", "rater", "reviewer",
    "editor", "owner", "account", "customer", "agent", "person", "by", "email", "phone", "date", "datetime", "day",
    "week", "month", "year", "time", "timestamp", "hour", "created", "updated", "modified", "at", "language", "lang",
    "locale", "country", "city", "url", "link", "image", "video", "path", "file", "filename", "platform", "device",
    "version", "hash", "count", "num", "votes", "likes", "length", "len", "size", "page", "row", "line", "index",
    "duration", "source", "channel", "origin", "split", "fold", "flagged", "deleted", "name", "session", "view",
}  # fmt: skip
_BESIDE_CHINESE = (
    "编号", "序号", "用户", "作者", "标注", "账号", "昵称", "日期", "时间", "语言", "语种", "图片", "视频", "链接",
    "地址", "城市", "省份", "平台", "来源", "姓名", "人员",
)  # fmt: skip
_INDEX = re.compile(
    r"(Unnamed: \d+|__index_level_\d+__|)"
)  # what pandas calls the numbers that it wrote for no one


@dataclass(eq=False)
class Column:
    """What the rows show of one column."""

    name: str
    cells: Sequence[str | None]

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(cell for cell in self.cells if cell is not None and cell.strip())

    @property
    def filled(self) -> int:
        return self.counts.total()

    @cached_property
    def mean_length(self) -> float:
        """In characters; Chinese and Japanese say in one what takes others three."""
        cells = [cell for cell in self.cells if cell is not None]
        sample = cells[:: max(1, len(cells) // LOOKED_AT)]
        return sum(len(cell) + 2 * len(_HAN.findall(cell)) for cell in sample) / max(1, len(sample))

    @cached_property
    def kind(self) -> str | None:
        """What nearly all cells are, where that is no text: "dates", "web addresses", …"""
        values = list(self.counts)
        sample = [value.strip() for value in values[:: max(1, len(values) // LOOKED_AT)]]
        for kind, whole in _WHOLE.items():
            if sample and sum(bool(whole.fullmatch(cell[:2_000])) for cell in sample) >= MOST * len(
                sample
            ):
                return kind
        return None

    @cached_property
    def of_words(self) -> bool:
        """Whether half of the cells at least hold several words, or letters of scripts that part none."""
        values = list(self.counts)
        sample = values[:: max(1, len(values) // LOOKED_AT)]
        several = sum(" " in cell.strip() or len(_UNPARTED.findall(cell)) > 3 for cell in sample)
        return 2 * several >= len(sample)

    @cached_property
    def words(self) -> list[str]:
        """Of its name: `reviewText` and `review_text` have two."""
        spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", self.name)
        return [word.casefold() for word in re.findall(r"[^\W\d_]+|\d+", spaced)]

    def named(self, role: Role) -> int:
        """How plainly the name says the role: 3 it is the word for it, 2 it ends in it, 1 it has it, 0 it does not."""
        folded, words = self.name.strip().casefold(), _WORDS[role]
        if folded in words or folded in _CHINESE[role]:
            return 3
        if self.words and self.words[-1] in words:
            return 2
        if role == "id":
            return int(
                bool(self.words)
                and ("id" in (self.words[0], self.words[-1]) or _ends_in_id(self.name))
            )
        return int(
            any(word in words for word in self.words)
            or any(part in folded for part in _CHINESE[role])
        )

    def rank(self, role: Role) -> int:
        """Place of the name among the words for the role, the plainest first."""
        words = _WORDS[role]
        places = [
            words.index(word)
            for word in (self.name.strip().casefold(), *self.words[::-1])
            if word in words
        ]
        places += [
            place for place, part in enumerate(_CHINESE[role]) if part in self.name.casefold()
        ]
        return min(places, default=len(words))

    @property
    def beside(self) -> bool:
        """Whether the name says that it tells of the row, and not what the text is about."""
        if self.named("label") == 3 or (self.words and self.words[-1] in _WORDS["label"]):
            return False
        if any(part in self.name for part in _CHINESE["label"]):
            return False
        return (
            any(word in _BESIDE for word in self.words)
            or any(part in self.name for part in _BESIDE_CHINESE)
            or _ends_in_id(self.name)
        )


_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_UNPARTED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)


def _ends_in_id(name: str) -> bool:
    return bool(re.search(r"([a-z\u3400-\u9fff_\- ]I[dD]|[_\- \u3400-\u9fff]id)$|^id[_\- ]", name))


@dataclass(frozen=True)
class Form:
    """A known tool's export, by columns that no other file has."""

    name: str
    marks: frozenset[str]
    needed: int  # of the marks
    beside: frozenset[str] = frozenset()  # columns that are never text or label
    said: str = ""


FORMS = (
    Form(
        "Label Studio",
        frozenset({"annotation_id", "annotator", "created_at", "updated_at", "lead_time", "completed_by"}),
        3,
        frozenset({"annotation_id", "annotator", "created_at", "updated_at", "lead_time", "completed_by", "id"}),
        "a task that several people annotated stands there once for each of them",
    ),
    Form(
        "Label Studio's full JSON",
        frozenset({"annotations", "data", "predictions", "total_annotations", "file_upload", "inner_id"}),
        3,
        said="texts and labels are nested there: export as CSV or JSON-MIN in its place",
    ),
    Form(
        "Prodigy",
        frozenset({"_input_hash", "_task_hash", "_session_id", "_view_id", "answer", "_timestamp", "_annotator_id"}),
        2,
        frozenset({"_input_hash", "_task_hash", "_session_id", "_view_id", "answer", "_timestamp", "_annotator_id",
                   "meta", "options", "spans", "tokens", "score", "priority"}),
    ),
    Form("doccano", frozenset({"Comments", "id", "text", "label"}), 4, frozenset({"Comments", "meta"})),
    Form("doccano", frozenset({"id", "data", "label", "text", "annotation_approver"}), 4,
         frozenset({"annotation_approver", "meta"})),
)  # fmt: skip


def form_of(names: Sequence[str]) -> Form | None:
    return next((form for form in FORMS if len(form.marks & set(names)) >= form.needed), None)


@dataclass(frozen=True)
class Chosen:
    """The roles, and what a person should know of the choice."""

    text: Column
    label: Column
    id: Column | None = None
    split: Column | None = None
    form: Form | None = None
    told: tuple[str, ...] = ()  # for the draft
    warned: tuple[str, ...] = ()  # for the draft and the terminal


@dataclass
class _Choice:
    column: Column
    others: list[Column] = field(default_factory=list)  # that fit as well
    unsure: bool = False
    doubt: str = ""  # against the one that was chosen


def choose(rows: Rows, given: dict[Role, str] | None = None) -> Chosen:
    """The roles of the columns.

    Args:
        given: columns that a person named for a role.
    Raises:
        SourceError: where no column fits a role, naming the option that gives one.
    """
    given = given or {}
    columns = [Column(name, cells) for name, cells in rows.columns.items()]
    named: dict[Role, Column] = {
        role: _named(columns, name, role, rows) for role, name in given.items()
    }
    form = form_of([*rows.columns, *rows.hidden])
    told, warned = list[str](), list[str]()
    free = [column for column in columns if column not in named.values()]
    split = named.get("split") or (None if rows.split_by_url else _split(free, warned))
    free = [column for column in free if column is not split]
    outside = form.beside if form else frozenset()
    text = (
        _Choice(named["text"])
        if "text" in named
        else _text([c for c in free if c.name not in outside], rows, form)
    )
    free = [column for column in free if column is not text.column]
    if "label" in named:
        label = _Choice(_usable_label(named["label"]))
    else:
        label = _label([c for c in free if c.name not in outside], text.column, rows, form)
    free = [column for column in free if column is not label.column]
    identity = _id(named.get("id"), free, rows)
    if form is not None:
        told.append(f"The columns are those of {form.name}{f'; {form.said}' if form.said else ''}.")
    for role, choice in (("text", text), ("label", label)):
        _tell(role, choice, told, warned)
    return Chosen(text.column, label.column, identity, split, form, tuple(told), tuple(warned))


def _tell(role: str, choice: _Choice, told: list[str], warned: list[str]) -> None:
    if choice.doubt:
        warned.append(
            f"{choice.column.name} is taken as the {role}, and {choice.doubt}. Choose with --{role}."
        )
    if not choice.others:
        return
    others = ", ".join(f"{c.name} ({described(c, role)})" for c in choice.others[:8])
    how = f"Choose with --{role}, for example --{role} {_quoted(choice.others[0].name)}."
    if choice.unsure:
        warned.append(
            f"No name decides which column is the {role}. {choice.column.name} is taken; as well fit {others}. {how}"
        )
    else:
        told.append(
            f"{choice.column.name} is taken as the {role}; other columns that could be it: {others}. {how}"
        )


def described(column: Column, role: str) -> str:
    values = len(column.counts)
    if role == "label":
        return ", ".join(sorted(column.counts)[:3]) + (
            "" if values <= 3 else f", … {values:,} values"
        )
    return (
        f"{column.mean_length:.0f} characters"
        if not _HAN.search(next(iter(column.counts), ""))
        else "shorter"
    )


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.\-]+", name) else f'"{name}"'


def _named(columns: list[Column], name: str, role: Role, rows: Rows) -> Column:
    if name in rows.hidden:
        raise SourceError(
            f"--{role} {name}: the column holds objects, or lists of several values.",
            "A row has one text and one label: write these as columns of text or numbers.",
        )
    for column in columns:
        if column.name == name:
            if not column.filled:
                raise SourceError(
                    f"--{role} {name}: the column is empty in all {len(rows):,} rows.",
                    "Name another.",
                )
            return column
    folded = {column.name.strip().casefold(): column.name for column in columns}
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise SourceError(
        f"--{role} {name}: there is no such column.{hint}", f"The columns are {_list(columns)}."
    )


def _list(columns: Sequence[Column]) -> str:
    return (
        ", ".join(repr(column.name[:60]) for column in columns[:20])
        + (" …" if len(columns) > 20 else "")
        or "none"
    )


# --- split and id -----------------------------------------------------------------------------------------------------


def _split(columns: list[Column], warned: list[str]) -> Column | None:
    """A column of train, valid and test. With one of them missing, that split would stay empty in every run."""
    for column in sorted(columns, key=lambda c: -c.named("split")):
        values = {value.strip().casefold() for value in column.counts}
        if not values or not values <= SPLIT_NAMES.keys():
            continue
        splits = {SPLIT_NAMES[value] for value in values}
        if len(splits) == 3:
            return column
        if column.named("split") or len(splits) == 2:
            missing = " and ".join(sorted({"train", "valid", "test"} - splits))
            warned.append(
                f"Column {column.name} gives splits, but no {missing} rows, so it is not used and the splits are drawn "
                "by hash. To keep its test rows, write them to a file of their own and give --train and --test."
            )
            columns.remove(column)
            return None
    return None


def _id(given: Column | None, columns: list[Column], rows: Rows) -> Column | None:
    """Only a column whose values are unique in each file, without gaps, can name rows."""
    if given is not None:
        unnamed, repeats = len(rows) - given.filled, given.filled - _different(given, rows)
        if unnamed or repeats:
            what = (
                f"{repeats:,} of {len(rows):,} rows repeat an id of their file"
                if repeats
                else f"{unnamed:,} rows have none"
            )
            raise SourceError(
                f"--id {given.name}: {what}.",
                "Leave --id out: rows are then called by file and number.",
            )
        return given
    named = [
        c
        for c in columns
        if c.named("id") and not _INDEX.fullmatch(c.name) and c.filled == len(rows)
    ]
    unique = [c for c in named if c.mean_length <= 80 and _different(c, rows) == len(rows)]
    return max(unique, key=lambda c: c.named("id"), default=None)


def _different(column: Column, rows: Rows) -> int:
    return len(
        {
            (file, cell)
            for file, cell in zip(rows.files, column.cells, strict=True)
            if cell and cell.strip()
        }
    )


# --- text -------------------------------------------------------------------------------------------------------------


def _text(columns: list[Column], rows: Rows, form: Form | None) -> _Choice:
    """The column of the longest cells that people wrote; a usual name decides among those of similar length."""
    prose = [
        c for c in columns if c.filled and c.kind not in _NOT_TEXT and not _INDEX.fullmatch(c.name)
    ]
    if not prose:
        seen = "; ".join(f"{c.name} holds {c.kind or 'nothing'}" for c in columns[:8])
        raise SourceError(
            f"No column of {len(rows):,} rows looks like text{f' ({seen})' if seen else ''}.{_hidden(rows, form)}",
            "Name the column with --text.",
        )
    prose = [
        c for c in prose if c.of_words
    ] or prose  # keys and codes of any form are one word each
    longest = max(c.mean_length for c in prose)
    # A name that is the word for a text counts for a shorter one too, if its cells differ as texts do.
    near = [
        c
        for c in prose
        if c.mean_length >= NEAR * longest
        or (
            c.named("text") == 3
            and c.mean_length >= 0.1 * longest
            and 2 * len(c.counts) >= c.filled
        )
    ]
    order = sorted(near, key=lambda c: (-c.named("text"), c.rank("text"), -c.mean_length))
    first, others = order[0], [c for c in order[1:] if 2 * len(c.counts) >= c.filled]
    return _Choice(first, others, unsure=any(_as_well_named(first, c, "text") for c in others))


def _as_well_named(one: Column, other: Column, role: Role) -> bool:
    return (one.named(role), one.rank(role)) == (other.named(role), other.rank(role))


def _hidden(rows: Rows, form: Form | None) -> str:
    if not rows.hidden:
        return ""
    by_form = f" These are the columns of {form.name}: {form.said}." if form and form.said else ""
    return f" Objects, lists or numbers in rows, which are neither: {', '.join(rows.hidden[:8])}.{by_form}"


# --- label ------------------------------------------------------------------------------------------------------------


def few_values(column: Column, rows: int) -> bool:
    return 2 <= len(column.counts) <= max(20, min(1000, rows // 5))


def _usable_label(column: Column) -> Column:
    if len(column.counts) < 2:
        raise SourceError(
            f"--label {column.name}: all rows have the label {next(iter(column.counts), '')!r}.",
            "A classifier needs two labels or more: name another column, or add rows of another label.",
        )
    if 2 * len(column.counts) > column.filled and column.filled > 40:
        raise SourceError(
            f"--label {column.name}: {len(column.counts):,} different values in {column.filled:,} rows are no labels.",
            "A label stands in many rows: name another column.",
        )
    return column


def _label(columns: list[Column], text: Column, rows: Rows, form: Form | None) -> _Choice:
    """A column with few values: by its name, then by how much the texts tell of it, then by its place."""
    few = [
        c
        for c in columns
        if few_values(c, len(rows))
        and c.mean_length <= 100
        and c.kind not in _NOT_LABEL
        and not _INDEX.fullmatch(c.name)
    ]
    plain = [c for c in few if not c.beside]
    fitting = plain or [
        c for c in few if c.named("label")
    ]  # category_id, where there is no category
    if not fitting:
        raise _no_label(columns, few, text, rows, form)
    gain = {id(c): told_by(text.cells, c.cells) for c in fitting}
    order = sorted(
        fitting, key=lambda c: (-c.named("label"), c.rank("label"), -gain[id(c)], len(c.counts))
    )
    first, others = order[0], order[1:]
    same = [c for c in others if _one_to_one(first, c)]
    if (
        first.kind == "numbers"
    ):  # the same label once as a number, once in words: words are for people
        worded = next((c for c in same if c.kind is None), None)
        if worded is not None:
            others = [first, *(c for c in others if c is not worded)]
            first = worded
    # Columns that say the same are no other choice in substance, but the reader should know of them.
    unsure = any(_as_well_named(first, c, "label") for c in others if not _one_to_one(first, c))
    if (
        unsure
        and len(others)
        and gain[id(first)] > 0.2
        and gain[id(first)] > 2 * max(gain[id(c)] for c in others)
    ):
        unsure = False  # the texts speak where no name does
    doubt = "" if plain else "its name is that of an id"
    if first.kind == "lists or objects":
        doubt = "its cells look like lists: each different list is a class of its own"
    return _Choice(first, others, unsure, doubt)


def _no_label(
    columns: list[Column], few: list[Column], text: Column, rows: Rows, form: Form | None
) -> SourceError:
    constant = [c for c in columns if len(c.counts) == 1 and c.named("label")]
    if constant and not few:
        value = next(iter(constant[0].counts))
        return SourceError(
            f"Column {constant[0].name} looks like a label, and all {constant[0].filled:,} rows have {value!r}: one "
            "label is no classification.",
            "Add rows of another label, or name another column with --label.",
        )
    seen = ", ".join(
        f"{c.name} ({len(c.counts):,} values{f', {c.kind}' if c.kind else ''})"
        for c in columns[:12]
    )
    by_name = (
        f" By their names {', '.join(c.name for c in few)} tell who, when or where." if few else ""
    )
    hidden = _hidden(rows, form)
    option = few[0].name if few else "COLUMN"
    return SourceError(
        "No column looks like a label (2 values or more, each of them often); beside the text "
        f"({text.name}) there are: {seen or 'none'}.{by_name}{hidden}",
        f"Name it with --label, for example --label {_quoted(option)}."
        if columns
        else "Add a column of labels.",
    )


def _one_to_one(one: Column, other: Column) -> bool:
    pairs = {
        (a, b)
        for a, b in zip(one.cells, other.cells, strict=True)
        if a is not None and b is not None
    }
    return len(pairs) == len(one.counts) == len(other.counts)


_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+")


def told_by(texts: Sequence[str | None], cells: Sequence[str | None]) -> float:
    """How much of a column the texts tell: (right - commonest) / (1 - commonest) of Naive Bayes on rows set aside."""
    import math

    both = [(t, c) for t, c in zip(texts, cells, strict=True) if t and c is not None]
    both = both[:: max(1, len(both) // LOOKED_AT)]
    rows = [
        ({token.casefold() for token in _TOKEN.findall(text[:2_000])}, cell) for text, cell in both
    ]
    train, held = rows[::2], rows[1::2]
    if len(held) < 10:
        return 0.0
    labels = Counter(cell for _, cell in train)
    tokens = {label: Counter[str]() for label in labels}
    for found, cell in train:
        tokens[cell].update(sorted(found))

    def score(found: set[str], label: str) -> float:
        seen = labels[label]
        return math.log(seen) + sum(
            math.log((tokens[label][token] + 0.5) / (seen + 1)) for token in sorted(found)
        )

    right = sum(max(labels, key=lambda label: score(found, label)) == cell for found, cell in held)
    commonest = Counter(cell for _, cell in held).most_common(1)[0][1]
    return max(0.0, (right - commonest) / max(1, len(held) - commonest))


# --- a file without a header ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeaderFault:
    """Why a name in the first line of a CSV file looks like a cell."""

    name: str
    what: str
    sure: bool  # False: a form's question is a sentence too


def header_faults(header: Sequence[str], columns: dict[str, list[str | None]]) -> list[HeaderFault]:
    """The names of a header that look like cells of the column below them."""
    # pandas writes 0, 1, 2 over columns without a name.
    if [name.strip() for name in header] == [str(place) for place in range(len(header))]:
        return []
    faults = []
    for name in header:
        column = Column(name, columns.get(name, []))
        fault = next(
            ((what, sure) for looks, what, sure in _LIKE_A_CELL if looks(name.strip(), column)),
            None,
        )
        if fault is not None:
            faults.append(HeaderFault(name, *fault))
    return faults


def _among_values(name: str, column: Column) -> bool:
    return column.counts[name] > 1 and len(column.counts) <= max(20, column.filled // 5)


def _is_sentence(name: str, column: Column) -> bool:
    long = len(name.split()) >= 5 or len(_HAN.findall(name)) >= 12
    return long and column.kind is None and column.mean_length >= 15


def _same_kind(name: str, column: Column) -> bool:
    return column.kind is not None and bool(_WHOLE[column.kind].fullmatch(name))


def _is_number(name: str, _: Column) -> bool:
    return bool(re.fullmatch(r"[-+]?\d+([.,]\d+)?", name))


_LIKE_A_CELL: tuple[tuple[Callable[[str, Column], bool], str, bool], ...] = (
    (_among_values, "is a value that the rows below have too", True),
    (_same_kind, "is of the same kind as the cells below it", True),
    (_is_number, "is a number", True),
    (_is_sentence, "is a sentence", False),
)
