"""What the rows show of one column: what its cells are, and which role its name speaks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Role = Literal["text", "label", "id", "split"]

# Different cells of a column whose kind is looked at, and rows that a label is held against.
LOOKED_AT = 2_000
MOST = 0.9  # share of the cells that make a column one of addresses, dates, …

# What a whole cell is when it is no text that a person wrote.
_KINDS = {
    "numbers": r"[-+]?(\d[\d,. ]*|\.\d+)(e[-+]?\d+)?%?",
    "dates": r"(\d{4}[-/.年]\d{1,2}([-/.月]\d{1,2}日?)?"
    r"|\d{1,2}[-/.月]\d{1,2}([-/.]\d{2,4}|日)?|\d{1,2}:\d{2})"
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
WHOLE = {kind: re.compile(pattern, re.I | re.S) for kind, pattern in _KINDS.items()}
NOT_TEXT = tuple(_KINDS)

# Words of a column's name, the plainest first. Chinese names are looked for anywhere within a name.
_WORDS: dict[Role, Sequence[str]] = {
    "text": (
        "text texts sentence review reviews comment comments body content contents document doc "
        "message messages utterance query question tweet post article msg txt nachricht kommentar "
        "texto mensaje texte commentaire testo opinion description summary abstract title "
        "headline subject"
    ).split(),
    "label": (
        "label labels class category categories target sentiment topic intent verdict rating "
        "stars score polarity emotion tag type choice y annotation genre gold stance kind "
        "kategorie klasse categoria categoría catégorie etiqueta étiquette"
    ).split(),
    "id": "id uid uuid guid key pk nr no number index ref identifier".split(),
    "split": "split fold subset partition set".split(),
}
_CHINESE: dict[Role, Sequence[str]] = {
    "text": "文本 正文 内容 评论 评价内容 句子 语句 问题 留言 消息 摘要 描述 标题".split(),
    "label": "标签 类别 分类 类型 情感 情绪 倾向 极性 意图 主题 评分 星级 种类".split(),
    "id": "编号 序号 编码 单号 主键 id".split(),
    "split": "划分 数据集".split(),
}
# Who, when, where and how much: they may have few values, and yet no text tells them.
_BESIDE = set(
    (
        "id ids uid uuid user username author annotator annotators worker rater reviewer editor "
        "owner account customer agent person by email phone date datetime day week month year "
        "time timestamp hour created updated modified at language lang locale country city url "
        "link image video path file filename platform device version hash count num votes likes "
        "length len size page row line index duration source channel origin split fold flagged "
        "deleted name session view"
    ).split()
)
_BESIDE_CHINESE = (
    "编号 序号 用户 作者 标注 账号 昵称 日期 时间 语言 语种 图片 视频 链接 地址 城市 省份 平台 "
    "来源 姓名 人员"
).split()
# What pandas calls the numbers that it wrote for no one.
INDEX = re.compile(r"(Unnamed: \d+|__index_level_\d+__|)")


@dataclass(eq=False)
class SeenColumn:
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
        return sum(len(cell) + 2 * len(HAN.findall(cell)) for cell in sample) / max(1, len(sample))

    @cached_property
    def kind(self) -> str | None:
        """What nearly all cells are, where that is no text: "dates", "web addresses", …"""
        values = list(self.counts)
        sample = [value.strip() for value in values[:: max(1, len(values) // LOOKED_AT)]]
        for kind, whole in WHOLE.items():
            if sample and sum(bool(whole.fullmatch(cell[:2_000])) for cell in sample) >= MOST * len(
                sample
            ):
                return kind
        return None

    @cached_property
    def of_words(self) -> bool:
        """Whether half of the cells at least hold several words, or letters of scripts that part
        none.
        """
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
        """How plainly the name says the role: 3 it is the word for it, 2 it ends in it, 1 it has
        it, 0 it does not.
        """
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


HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_UNPARTED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)


def _ends_in_id(name: str) -> bool:
    return bool(re.search(r"([a-z\u3400-\u9fff_\- ]I[dD]|[_\- \u3400-\u9fff]id)$|^id[_\- ]", name))
