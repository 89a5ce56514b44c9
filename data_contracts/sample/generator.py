"""The bundled sample: synthetic product reviews in English and Chinese, where word order decides the label.

Every text is made up by the grammar below; none was written by a customer, and no figure measured on it says
anything about real reviews. The labels have one rule. A review asserts opinions on aspects of the product:

    only good ones -> positive;   only bad ones -> negative;   both -> mixed;   none at all -> no_opinion

and what is asked, supposed, expected, hearsay or said of an older model is no assertion. The same adjectives stand
in all of these ("I expected the screen to be awful, but it is superb" and the reverse), so that a bag of words
sees much the same words under different labels, while a model that reads in order can be right every time.

`LABEL_NOISE` of the clean rows of each split, exactly, carry another label than the true one: nobody can be better
than .95. The dirty rows are planted, `DIRTY_ROWS` of each kind, each with one fault only, on top of true labels;
everything else is distinct even after NFKC, casefold and collapsing of white space. So a validator must
quarantine exactly `dirty_rows(rows)`: of a duplicate the later row of the file, of a leak the row in train. (Empty
texts resemble one another by nature, so a row is looked at for duplication only when it has no fault of its own.)

Measured on the clean rows of the default sample (20,000 rows, seed 20260101), test accuracy of TF-IDF + logistic
regression at C = 10: .761 from characters (1, 3), .654 from words (1, 2), .793 from a model per language (English
words, Chinese characters). `pytest tests/data_contracts/test_sample.py -m slow` holds the first two below .85.
"""

import os
import random
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Literal

LABELS = ("negative", "mixed", "positive", "no_opinion")
LABEL_WEIGHTS = (26, 23, 27, 24)
TWO_CLASSES = ("negative", "positive")  # the two-class view: no review is mixed or without opinion
SPLITS = {"train": 80, "valid": 10, "test": 10}  # per cent
COLUMNS = ("id", "text", "label", "split", "language")
LABEL_NOISE = 0.05
MAX_CHARACTERS = 2_000  # the sample contract's limit, which `over_long` breaks

DEFAULT_ROWS = 20_000
DEFAULT_SEED = 20_260_101
MIN_ROWS = 200
# Faults in the words of the quarantine; counts for DEFAULT_ROWS.
DIRTY_ROWS = {
    "empty": 40,
    "over_long": 20,
    "bad_label": 30,
    "broken_encoding": 25,
    "duplicate": 60,
    "leaked": 25,
}
BAD_LABELS = ("5 stars", "Positive!", "neg", None, "好评", "3", "N/A", "mixed feelings")
WHITE_SPACE = (" ", "\u3000", "\t", "\n")

KIND_WEIGHTS = (60, 20, 20)  # of plain, negated and contrast among single opinions
PAIR_SHARE = 0.3  # of opinionated reviews that speak of two aspects in one sentence
ASIDE_SHARE = 0.15  # of opinionated reviews with an unsettled sentence beside

Sign = Literal[1, -1]  # +1 praise, -1 blame


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """One language. In a frame, {a} and {b} are aspects, {p} an adjective of the sign that the frame asserts of {a}
    and {n} one of the opposite sign; {gp} and {gn} are the same from the gradable ones, which bear a "not" ("not
    bad" is praise, "not superb" is nothing yet). Any other slot names a list of `words`."""

    families: tuple[tuple[str, str], ...]  # products that share aspects: (products, aspects)
    aspects: str  # that every product has
    gradable: Mapping[Sign, str]
    strong: Mapping[Sign, str]
    words: Mapping[str, str]
    plain: tuple[str, ...]  # each asserts {p} of {a}, from here ...
    negated: tuple[str, ...]
    contrast: tuple[str, ...]  # ... to here
    same: tuple[str, ...]  # asserts {p} of {a} and of {b}
    both: tuple[str, ...]  # asserts {p} of {a} and {n} of {b}
    both_praise_first: tuple[str, ...]  # the same, for sign +1 only
    unsettled: tuple[str, ...]  # asserts nothing, whatever the sign
    facts: tuple[str, ...]  # asserts nothing, uses no adjective
    stops: str
    space: str


ENGLISH = Grammar(
    families=(
        ("phone|tablet|laptop|smart watch", "screen|battery|speaker|charger|microphone"),
        ("kettle|blender|rice cooker|coffee machine", "lid|handle|switch|cable|base"),
        ("backpack|jacket|suitcase|tent", "zip|fabric|lining|stitching|front pocket"),
    ),
    aspects="design|packaging|finish|manual|material|customer service",
    gradable={
        +1: "good|nice|decent|pleasant|impressive|convincing",
        -1: "bad|poor|weak|unpleasant|disappointing|irritating",
    },
    strong={
        +1: "great|excellent|superb|wonderful|fantastic|outstanding|brilliant|lovely",
        -1: "terrible|awful|dreadful|horrible|lousy|miserable|useless|hopeless",
    },
    words={
        "really ": "||really |truly |simply ",
        "the": "the|the|its",
        "they say": "people told me|my {person} told me|the reviews say|the shop claims|a friend said|I was told",
        "person": "sister|brother|mother|father|neighbour|colleague|cousin",
        "month": "January|March|April|June|August|October|December",
        "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday",
        "colour": "black|white|blue|red|green|grey|yellow",
        "number": "two|three|four|five|six|seven",
        "ordinal": "first|second|third|fourth",
    },
    plain=(
        "{the} {a} is {really }{p}",
        "I find {the} {a} {really }{p}",
        "{the} {a} turned out to be {really }{p}",
        "I must say that {the} {a} is {really }{p}",
    ),
    negated=(
        "{the} {a} is not {gn} at all",
        "{the} {a} is not in any way {gn}",
        "{the} {a} is far from {n}",
        "{the} {a} is anything but {n}",
        "I can't say {the} {a} is {gn}",
        "nobody could call {the} {a} {gn}",
        "nobody could say that {the} {a} is not {gp}",
        "I can't say that {the} {a} is not {gp}",
    ),
    contrast=(
        "I expected {the} {a} to be {n}, but it is {really }{p}",
        "I expected {the} {a} to be {n}, but it is not",
        "I expected {the} {a} to be {p}, and it is",
        "I expected {the} {a} to be {n}, and now I find it {really }{p}",
        "{they say} {the} {a} is {n}, but it is {really }{p}",
        "{they say} {the} {a} is {n}, but that is not true",
        "{they say} {the} {a} is {p}, and that is true",
        "{they say} that {the} {a} is {n}. I disagree",
        "{they say} that {the} {a} is {p}. I agree",
        "{the} {a} is {really }{p}, although {they say} it is {n}",
        "{the} {a} is {really }{p}, and not {n} as {they say}",
        "in the old model {the} {a} was {n}, but now it is {really }{p}",
        "{the} {a} is {really }{p} now, but in the old model it was {n}",
        "is {the} {a} {n}? No, it is not",
        "is {the} {a} {p}? Yes, it is",
        "is {the} {a} {n}? No, it is {really }{p}",
    ),
    same=(
        "{the} {a} is {really }{p}, and so is {the} {b}",
        "{p} {a}, {p} {b}",
        "neither {the} {a} nor {the} {b} is {gn}",
        "not only is {the} {a} {p}, {the} {b} is {p} too",
        "{the} {a} is {really }{p}, and {the} {b} is not {gn} either",
        "{they say} {the} {a} is {n} and {the} {b} is {n}, but neither is true",
        "{they say} {the} {a} is {p} and {the} {b} is {p}, and both are true",
    ),
    both=(
        "{the} {a} is {really }{p}, but {the} {b} is {really }{n}",
        "{the} {a} is {gp}, but {the} {b} is not",
        "although {the} {a} is {really }{p}, {the} {b} is {really }{n}",
        "{p} {a}, but {n} {b}",
        "{the} {a} is as {gp} as {the} {b} is {gn}",
        "{they say} {the} {a} is {p} and {the} {b} is {p}, but only the first is true",
        "{the} {a} is {really }{p}, and nobody could call {the} {b} {gp}",
    ),
    both_praise_first=("I am happy with {the} {a}, which is {p}, but not with {the} {b}",),
    unsettled=(
        "is {the} {a} {p} or {n}?",
        "is {the} {a} {p}? I do not know",
        "can anyone tell me whether {the} {a} is {really }{p}?",
        "I can't say yet whether {the} {a} is {p} or {n}",
        "I expect {the} {a} to be {really }{p}, but I have not tried it",
        "{they say} {the} {a} is {really }{p}, but I have not tried it",
        "{they say} {the} {a} is {p}, {they say} it is {n}, and I do not know",
        "in the old model {the} {a} was {really }{p}, but I have not tried it in this one",
        "if {the} {a} is {p}, I will tell you, and if it is {n}, I will tell you too",
    ),
    facts=(
        "I bought this {product} in {month}",
        "this {product} is a present for my {person}",
        "the parcel arrived on {day}",
        "I ordered the {colour} one",
        "it is my {ordinal} {product}",
        "my {person} has the same {product}",
        "the shop sells this {product} in {number} colours",
        "it came in a {colour} box on {day}",
        "this {product} is one of {number} things that I ordered",
    ),
    stops=".......!",
    space=" ",
)

CHINESE = Grammar(
    families=(
        ("手机|平板|笔记本电脑|智能手表", "屏幕|电池|扬声器|充电器|麦克风"),
        ("电水壶|榨汁机|电饭锅|咖啡机", "盖子|把手|开关|电源线|底座"),
        ("双肩包|外套|行李箱|帐篷", "拉链|面料|内衬|缝线|前袋"),
    ),
    aspects="设计|包装|做工|说明书|用料|售后服务",
    gradable={+1: "好|棒|出色|理想|令人满意", -1: "差|糟|烂|糟糕|令人失望"},
    strong={+1: "优秀|惊艳|给力|讨人喜欢", -1: "差劲|低劣|让人恼火|让人头疼"},
    words={
        "very": "很|非常|真的很|特别|相当",
        "who": "朋友|同事|网友|店家|{person}|很多人",
        "person": "妈妈|爸爸|姐姐|弟弟|邻居|表哥",
        "month": "一月|三月|四月|六月|八月|十月",
        "day": "周一|周二|周三|周四|周五|周六",
        "colour": "黑色|白色|蓝色|红色|绿色|灰色",
        "number": "两|三|四|五|六|七",
        "ordinal": "二|三|四|五",
    },
    plain=(
        "{a}{very}{p}",
        "我觉得{a}{very}{p}",
        "在我看来，{a}{very}{p}",
        "这款{product}的{a}{very}{p}",
    ),
    negated=(
        "{a}一点也不{gn}",
        "{a}没有想象中那么{n}",
        "{a}远没有{who}说的那么{n}",
        "{a}怎么也算不上{gn}",
        "谁也不能说{a}{gn}",
        "谁也不能说{a}不{gp}",
        "我从来不觉得{a}有什么地方{gn}",
        "要说{a}{gn}，我可不同意",
    ),
    contrast=(
        "本来以为{a}会很{n}，结果{very}{p}",
        "买之前听说{a}很{n}，结果并非如此",
        "买之前听说{a}很{p}，结果的确如此",
        "{who}说{a}很{n}，可是我觉得{very}{p}",
        "{who}说{a}很{n}，其实不是",
        "{who}说{a}很{p}，的确如此",
        "虽然{who}说{a}很{n}，但是我觉得{very}{p}",
        "虽然上一代的{a}很{n}，但是这一代的{very}{p}",
        "{a}{very}{p}，虽然{who}说很{n}",
        "{a}{very}{p}，并不像{who}说的那么{n}",
        "这一代的{a}{very}{p}，不像上一代那么{n}",
        "{a}很{n}吗？不，{very}{p}",
        "{a}很{n}吗？并非如此",
        "{a}很{p}吗？的确如此",
    ),
    same=(
        "{a}{very}{p}，{b}也一样",
        "{a}和{b}都很{p}",
        "谁也不能说{a}和{b}{gn}",
        "不光{a}很{p}，{b}也{very}{p}",
        "{a}{very}{p}，{b}也不{gn}",
        "{who}说{a}和{b}都很{n}，其实都不是",
    ),
    both=(
        "{a}{very}{p}，但是{b}{very}{n}",
        "虽然{a}{very}{p}，但是{b}{very}{n}",
        "{a}{very}{p}，{b}就不是这样了",
        "{a}有多{gp}，{b}就有多{gn}",
        "{who}说{a}和{b}都很{p}，其实只有{a}是这样",
        "{a}{very}{p}，{b}却怎么也算不上{gp}",
    ),
    both_praise_first=("{a}不是不{gp}，只是{b}太{gn}了",),
    unsettled=(
        "{a}到底是{p}还是{n}？",
        "{a}很{p}吗？我也不知道",
        "想问一下，{a}是不是{very}{p}？",
        "{a}是{p}还是{n}，我现在还不能说",
        "我估计{a}会很{p}，不过还没有试过",
        "{who}说{a}很{p}，是不是这样我还不知道",
        "{who}说{a}很{p}，{who}说很{n}，我还没有试过",
        "虽然上一代的{a}很{p}，但是这一代的我还没有试过",
        "如果{a}很{p}，我会告诉大家；如果很{n}，我也会告诉大家",
    ),
    facts=(
        "这款{product}是{month}买的",
        "这款{product}是送给{person}的",
        "快递是{day}到的",
        "我一共买了{number}样东西，这款{product}是其中之一",
        "这已经是我第{ordinal}次买{product}了",
        "{person}用的也是这款{product}",
        "店里的{product}一共有{number}种颜色",
        "我{day}下的单，选了{colour}的{product}",
    ),
    stops="。。。。。。。！",
    space="",
)

GRAMMARS = {"en": ENGLISH, "zh": CHINESE}
_SLOT = re.compile(r"\{([^{}]+)\}")


class _Writer:
    """Writes one review: one product, no aspect twice, and no word of a list or fact twice where it can."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self.grammar, self.rng = grammar, rng
        products, aspects = rng.choice(grammar.families)
        self.product = rng.choice(products.split("|"))
        self.aspects = (aspects + "|" + grammar.aspects).split("|")
        rng.shuffle(self.aspects)
        self.used: list[str] = []  # words, facts and questions of this review so far

    def say(self, frame: str, sign: Sign = 1) -> str:
        """The frame filled in, as a sentence or two."""
        bound = {"product": self.product}
        bound |= {slot: self.aspects.pop() for slot in "ab" if "{" + slot + "}" in frame}
        text = _SLOT.sub(lambda slot: self._fill(slot[1], bound, sign), frame)
        text = text if text.endswith(("?", "？")) else text + self.rng.choice(self.grammar.stops)
        return re.sub(r"(^|[.?] )([a-z])", lambda start: start[1] + start[2].upper(), text)

    def _fill(self, slot: str, bound: Mapping[str, str], sign: Sign) -> str:
        if slot in bound:
            return bound[slot]
        grammar = self.grammar
        if slot in grammar.words:
            options = grammar.words[slot]
        else:
            of: Sign = sign if slot.endswith("p") else -sign
            options = grammar.gradable[of] + (
                "" if slot.startswith("g") else "|" + grammar.strong[of]
            )
        choice = self._fresh(options.split("|"))
        return _SLOT.sub(lambda inner: self._fill(inner[1], bound, sign), choice)

    def _fresh(self, choices: Sequence[str]) -> str:
        """One of the choices, and one that this review has not used where there is one."""
        choice = self.rng.choice([one for one in choices if one not in self.used] or choices)
        self.used.append(choice)
        return choice

    def opinion(self, sign: Sign) -> str:
        kinds = (self.grammar.plain, self.grammar.negated, self.grammar.contrast)
        frames = self.rng.choices(kinds, weights=KIND_WEIGHTS)[0]
        return self.say(self.rng.choice(frames), sign)

    def unsettled(self) -> str:
        return self.say(self._fresh(self.grammar.unsettled), self.rng.choice((1, -1)))

    def fact(self) -> str:
        return self.say(self._fresh(self.grammar.facts))

    def review(self, label: str) -> str:
        rng, grammar = self.rng, self.grammar
        if label == "no_opinion":
            parts = [self.unsettled() for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 2)))]
        elif label == "mixed":
            sign: Sign = rng.choice((1, -1))
            if rng.random() < PAIR_SHARE:
                frames = grammar.both + (grammar.both_praise_first if sign > 0 else ())
                parts = [self.say(rng.choice(frames), sign)]
            else:
                parts = [self.opinion(sign), self.opinion(-sign)]
        else:
            sign = 1 if label == "positive" else -1
            if rng.random() < PAIR_SHARE:
                parts = [self.say(rng.choice(grammar.same), sign)]
            else:
                parts = [self.opinion(sign) for _ in range(rng.choice((1, 2)))]
        if label != "no_opinion" and rng.random() < ASIDE_SHARE:
            parts.insert(rng.randint(0, len(parts)), self.unsettled())
        for _ in range(rng.choice((0, 0, 1, 1, 2)) if parts else 3):
            parts.insert(rng.randint(0, len(parts)), self.fact())
        return grammar.space.join(parts)


def dirty_rows(rows: int = DEFAULT_ROWS) -> dict[str, int]:
    """How many rows of each fault a sample of this size holds: `DIRTY_ROWS` in proportion, at least one of each."""
    if rows < MIN_ROWS:
        raise ValueError(
            f"a sample needs at least {MIN_ROWS} rows to hold one of each fault, not {rows}"
        )
    return {
        fault: max(1, round(count * rows / DEFAULT_ROWS)) for fault, count in DIRTY_ROWS.items()
    }


@dataclass
class _Plan:
    """Where everything stands, fixed before the first text is written, so that rows can be streamed."""

    split: list[str]
    fault: dict[int, str]
    noisy: set[int]
    pair: dict[int, int]  # position of either row of a duplicate or leak -> position of the other


def _plan(rows: int, rng: random.Random) -> _Plan:
    free = list(range(rows))
    rng.shuffle(free)
    plan = _Plan([], {}, set(), {})
    plan.split = rng.choices(tuple(SPLITS), weights=tuple(SPLITS.values()), k=rows)
    for fault, count in dirty_rows(rows).items():
        for _ in range(count):
            at = free.pop()
            if fault in ("duplicate", "leaked"):
                other = free.pop()
                if fault == "duplicate":  # the later one is the fault
                    other, at = sorted((at, other))
                    plan.split[other] = plan.split[at]
                else:
                    plan.split[at], plan.split[other] = "train", "test"
                plan.pair |= {at: other, other: at}
            plan.fault[at] = fault
    for split in SPLITS:
        clean = [at for at in free if plan.split[at] == split]
        originals = [at for at in plan.pair if plan.split[at] == split and at not in plan.fault]
        plan.noisy.update(clean[: round(LABEL_NOISE * len(clean + originals))])
    return plan


def _is_new(text: str, seen: set[bytes]) -> bool:
    """Whether no text before equals this one after NFKC, casefold and collapsing of white space."""
    normalised = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    digest = blake2b(normalised.encode(), digest_size=16).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _break(fault: str, text: str, writer: _Writer, rng: random.Random) -> str:
    """The writer's text with the fault in it; unchanged where the fault is not one of the text."""
    if fault == "empty":
        return "".join(rng.choice(WHITE_SPACE) for _ in range(rng.randint(0, 8)))
    if fault == "over_long":
        while len(text) <= MAX_CHARACTERS:
            text += writer.grammar.space + writer.fact()
    if fault == "broken_encoding":
        for at in rng.sample(range(len(text)), k=rng.randint(1, 3)):
            text = text[:at] + "\ufffd" + text[at + 1 :]
    return text


def generate(
    rows: int = DEFAULT_ROWS,
    seed: int = DEFAULT_SEED,
    *,
    classes: Literal[2, 4] = 4,
    with_truth: bool = False,
) -> Iterator[dict[str, str | None]]:
    """The synthetic reviews in their shuffled order, the same ones for a seed on any machine.

    With two classes the true labels are `TWO_CLASSES`, and so are the noisy ones; the planted faults are the same.
    A row has `COLUMNS`; with_truth adds `true_label` (before noise) and `fault` (None for a clean row), which the
    written sample never shows. Memory grows by 16 bytes of digest per row, not by the texts.
    """
    rng = random.Random(seed)
    plan = _plan(rows, rng)
    return _rows(plan, rng, TWO_CLASSES if classes == 2 else LABELS, with_truth)


def _rows(
    plan: _Plan, rng: random.Random, labels: Sequence[str], with_truth: bool
) -> Iterator[dict[str, str | None]]:
    seen: set[bytes] = set()
    held: dict[
        int, dict[str, str | None]
    ] = {}  # position of a copy that is still to come -> the row it repeats
    for at, split in enumerate(plan.split):
        fault = plan.fault.get(at)
        row = held.pop(at, None) or _row(fault, at in plan.noisy, labels, seen, rng)
        if at in plan.pair and at < plan.pair[at]:
            held[plan.pair[at]] = row
        truth = {"true_label": row["true_label"], "fault": fault} if with_truth else {}
        here = {"id": f"s-{at:06d}", "split": split}
        yield {column: here.get(column) or row[column] for column in COLUMNS} | truth


def _row(
    fault: str | None, noisy: bool, labels: Sequence[str], seen: set[bytes], rng: random.Random
) -> dict[str, str | None]:
    language = rng.choice(tuple(GRAMMARS))
    weights = [LABEL_WEIGHTS[LABELS.index(label)] for label in labels]
    true_label = rng.choices(labels, weights)[0]
    while True:
        writer = _Writer(GRAMMARS[language], rng)
        text = writer.review(true_label)
        if fault is not None:
            text = _break(fault, text, writer, rng)
        if fault == "empty" or _is_new(text, seen):
            break
    label: str | None = true_label
    if fault == "bad_label":
        label = rng.choice(BAD_LABELS)
    elif noisy:
        label = rng.choice([other for other in labels if other != true_label])
    return {"text": text, "label": label, "language": language, "true_label": true_label}


def write_sample(
    path: str | os.PathLike[str],
    rows: int = DEFAULT_ROWS,
    seed: int = DEFAULT_SEED,
    classes: Literal[2, 4] = 4,
) -> int:
    """Write the synthetic sample as Parquet (zstd) and return its number of rows.

    Written beside its place and moved there when complete, so that no reader meets half a file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [(column, pa.string()) for column in COLUMNS], metadata={"origin": "synthetic"}
    )
    stream, written = generate(rows, seed, classes=classes), 0
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            while batch := list(islice(stream, 4_096)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                written += len(batch)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return written
