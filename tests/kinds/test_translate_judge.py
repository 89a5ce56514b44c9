"""A translator is judged by chrF and BLEU, beside a dictionary; other programs' translations too."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from tokenizers import Tokenizer

from data_contracts.errors import SourceError
from data_contracts.kinds.base import Metric
from data_contracts.kinds.translate import Translate
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.tokenizer import CharacterTokenizer
from data_contracts.results import Interval, Table, Text
from lightning_modules.evidence import figures
from lightning_modules.kinds.judging import judge_of
from lightning_modules.kinds.translate import dictionary
from lightning_modules.kinds.translate import judge as judging
from lightning_modules.kinds.translate.dictionary import Dictionary
from lightning_modules.kinds.translate.judge import TranslateJudge
from lightning_modules.network.tokenizer import eos_id, load_lossless
from tasks.comparing.board import judge as judge_rows
from tasks.comparing.predictions import TestRows, read_predictions
from tasks.gate import Sliced, all_slices
from tasks.vocabulary import train_tokenizer

FACTS = {"source_script": "Latin", "target_script": "Latin"}
WORDS = {
    "ein": "a", "hund": "dog", "katze": "cat", "läuft": "runs", "schläft": "sleeps",
    "heute": "today", "und": "and", "kleiner": "small", "mann": "man", "sieht": "sees",
}  # fmt: skip
CHARACTERS = {
    "ein": "一个",
    "hund": "狗",
    "katze": "猫",
    "läuft": "跑",
    "schläft": "睡",
    "mann": "人",
}


def pairs(count: int, seed: int, words: Mapping[str, str] = WORDS, join: str = " ") -> pa.Table:
    """Sentences of a language whose every word has one translation, in the same order."""
    draw = random.Random(seed)
    chosen = [draw.choices(list(words), k=draw.randint(3, 9)) for _ in range(count)]
    rows = {
        "id": [f"{seed}-{row}" for row in range(count)],
        "source": [f"{' '.join(one).capitalize()}." for one in chosen],
        "target": [f"{join.join(words[word] for word in one).capitalize()}." for one in chosen],
        "topic": ["animals" if "hund" in one else "people" for one in chosen],
    }
    return pa.table(rows)


def tokenizer_for(*tables: pa.Table) -> Tokenizer:
    texts = [
        text for rows in tables for name in ("source", "target") for text in rows[name].to_pylist()
    ]
    return load_lossless(
        train_tokenizer(CharacterTokenizer(), lambda: iter([texts])).to_str().encode()
    )


def token_table(rows: pa.Table, tokenizer: Tokenizer) -> pa.Table:
    end = eos_id(tokenizer)
    sides = [
        [
            [*tokenizer.encode(text, add_special_tokens=False).ids, end]
            for text in rows[name].to_pylist()
        ]
        for name in ("source", "target")
    ]
    return pa.table(
        {
            "id": rows["id"],
            "window": pa.array([0] * len(rows), pa.int32()),
            "input_ids": pa.array(
                [one + other for one, other in zip(*sides, strict=True)], pa.list_(pa.int32())
            ),
            "context": pa.array([len(one) for one in sides[0]], pa.int32()),
        }
    )


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as tokenize leaves it: 300 pairs to count, 40 to be judged on."""
    folder = tmp_path_factory.mktemp("tokens")
    splits = {"train": pairs(300, 0), "test": pairs(40, 1)}
    tokenizer = tokenizer_for(*splits.values())
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    for split, rows in splits.items():
        pq.write_table(token_table(rows, tokenizer), folder / f"{split}.parquet")
    return folder


class Translator:
    """A bundle by what a judge asks of it: it says what `says` makes of a source."""

    kind = "translate"
    noise: Mapping[str, Any] = {}

    def __init__(self, tokens: Path, says: Any, facts: Mapping[str, Any] = FACTS) -> None:
        self.lossless_tokenizer = load_lossless((tokens / "tokenizer.json").read_bytes())
        self.says, self.facts = says, dict(facts)
        self.asked: list[str] = []

    def predict(
        self, columns: Mapping[str, Sequence[str]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        assert not params, "it is judged as it is served"
        self.asked += columns["source"]
        said = [self.says(text) for text in columns["source"]]
        # The less it leaves out, the surer.
        sure = [
            -2.0 + min(1.0, len(one) / len(text))
            for one, text in zip(said, columns["source"], strict=True)
        ]
        return {
            "translation": said,
            "log_probability": [4 * one for one in sure],
            "tokens": [4] * len(said),
        }


@pytest.fixture(autouse=True)
def likelihoods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a nat for each token of a target, its end included."""

    def told(bundle: Any, windows: pa.Table) -> np.ndarray:
        sizes = [
            len(ids) - first
            for ids, first in zip(
                windows["input_ids"].to_pylist(), windows["context"].to_pylist(), strict=True
            )
        ]
        return np.array([[0.5 * size, size] for size in sizes])

    monkeypatch.setattr(judging, "teacher_forced", told)


def judge(facts: Mapping[str, Any] = FACTS) -> TranslateJudge:
    found = judge_of(Translate(), facts, Recipe().statistics)
    assert isinstance(found, TranslateJudge)
    return found


def all_but_last_words(source: str) -> str:
    """A translation without the second half of long sentences."""
    words = source.rstrip(".").lower().split()
    kept = [WORDS[word] for word in words[:5]]
    return f"{' '.join(kept).capitalize()}."


def judged(
    tokens: Path, says: Any = all_but_last_words
) -> tuple[TranslateJudge, pa.Table, pa.Table]:
    rows, bundle = pairs(40, 1), Translator(tokens, says)
    scored = judge().score(bundle, pq.read_table(tokens / "test.parquet"))  # pyright: ignore[reportArgumentType]
    assert bundle.asked == rows["source"].to_pylist(), "each source, letter by letter"
    assert bundle.facts["search"] == Translate().search.model_dump()
    return judge().tried(bundle, rows, tokens), rows, scored  # pyright: ignore[reportArgumentType]


def test_figures_are_sacrebleus_and_the_nats_of_the_targets(tokens: Path) -> None:
    one, rows, scored = judged(tokens)
    found = figures(one.evidence(rows, scored), samples=200)
    said, wanted = scored["translation"].to_pylist(), [rows["target"].to_pylist()]
    assert found["chrf"].value == pytest.approx(CHRF().corpus_score(said, wanted).score / 100)
    assert found["bleu"].value == pytest.approx(BLEU().corpus_score(said, wanted).score / 100)
    assert found["nll"] == Interval(value=0.5, low=0.5, high=0.5)
    assert found["chrf"].low < found["chrf"].value < found["chrf"].high
    assert 0.5 < found["length_ratio"].value < 1


def test_the_dictionary_stands_beside_it_in_figures_facts_and_report(tokens: Path) -> None:
    one, rows, scored = judged(tokens)
    found = figures(one.evidence(rows, scored), samples=50)
    # Every word has one translation, and the order is the same.
    assert found["dictionary_chrf"].value == found["dictionary_bleu"].value == pytest.approx(1)
    facts = one.facts()
    assert facts["dictionary_chrf"] == pytest.approx(1)
    assert "tok:13a" in facts["signatures"]["bleu"]
    assert judge().facts() == {}
    shown = one.report(rows, scored, found)
    table = next(block for block in shown if isinstance(block, Table))
    assert table.rows[0] == ("chrF", found["chrf"], found["dictionary_chrf"])
    assert table.rows[1] == ("BLEU", found["bleu"], found["dictionary_bleu"])
    words = [block.text for block in shown if isinstance(block, Text)]
    assert f"BLEU: {facts['signatures']['bleu']}" in words


def test_the_worst_sentences_are_read_first_and_each_once(tokens: Path) -> None:
    one, rows, scored = judged(tokens)
    twice = pa.concat_tables([rows, rows]), pa.concat_tables([scored, scored])
    found = figures(one.tried(None, twice[0], tokens).evidence(*twice), samples=20)  # pyright: ignore[reportArgumentType]
    blocks = {
        block.name: block
        for block in one.tried(None, twice[0], tokens).report(*twice, found)
        if isinstance(block, Table)
    }  # pyright: ignore[reportArgumentType]
    worst = blocks["worst"].rows
    assert len({row[1:] for row in worst}) == len(worst) == 15
    assert [row[0] for row in worst] == sorted(row[0] for row in worst)
    own = CHRF().sentence_score(str(worst[0][3]), [str(worst[0][2])]).score / 100
    assert worst[0][0] == pytest.approx(own)
    assert len(blocks["samples"].rows) == 8


def test_how_sure_it_is_follows_how_right_it_is(tokens: Path) -> None:
    one, rows, scored = judged(tokens)
    found = figures(one.evidence(rows, scored), samples=300)
    sure = scored["log_probability"].to_numpy() / scored["tokens"].to_numpy()
    right = [
        CHRF().sentence_score(said, [target]).score
        for said, target in zip(
            scored["translation"].to_pylist(), rows["target"].to_pylist(), strict=True
        )
    ]
    told = found["sure_and_right"]
    assert told.value == pytest.approx(np.corrcoef(sure, right)[0, 1])
    assert told.low < told.value < told.high and told.value > 0.5
    kept = np.sort(np.argsort(sure, kind="stable")[4:])
    said, wanted = (
        [one[place] for place in kept]
        for one in (scored["translation"].to_pylist(), rows["target"].to_pylist())
    )
    assert found["chrf_without_least_sure"].value == pytest.approx(
        CHRF().corpus_score(said, [wanted]).score / 100
    )
    assert found["chrf_without_least_sure"].value > found["chrf"].value


@pytest.mark.parametrize(
    "says", [lambda source: "", lambda source: "a dog runs."], ids=["nothing", "one"]
)
def test_a_model_that_says_nothing_has_figures_all_the_same(tokens: Path, says: Any) -> None:
    one, rows, scored = judged(tokens, says)
    found = figures(one.evidence(rows, scored), samples=20)
    assert all(np.isfinite([each.value, each.low, each.high]).all() for each in found.values())
    assert one.report(rows, scored, found)


# --- rows as people and stages read them ---


def test_answers_have_the_row_the_translation_and_its_own_chrf(tokens: Path) -> None:
    one, rows, scored = judged(tokens)
    answers = one.answers(rows, scored)
    assert answers.column_names == [
        "id", "source", "target", "translation", "chrf", "log_probability", "tokens", "nats", "target_tokens", "topic",
    ]  # fmt: skip
    said, wanted = answers["translation"][3].as_py(), answers["target"][3].as_py()
    assert answers["chrf"][3].as_py() == pytest.approx(
        CHRF().sentence_score(said, [wanted]).score / 100
    )
    figure = one.row_figure(answers)
    sliced = Sliced(answers, figure, ("source",))
    told = {
        what: (mean, count)
        for what, mean, count in all_slices(sliced, ("topic", "length", "language"))
    }
    by_topic = [count for what, (_, count) in told.items() if what.startswith("topic")]
    assert sum(by_topic) == 40 and len(by_topic) == 2
    for column in ("length", "language"):
        assert sum(count for what, (_, count) in told.items() if what.startswith(column)) == 40
    # What was written is read back as what was scored.
    again = one.predictions(answers)
    assert judge().evidence(rows, again).point() == judge().evidence(rows, scored).point()


# --- translations of other programs ---


def test_another_program_is_compared_by_its_translations_alone(
    tokens: Path, tmp_path: Path
) -> None:
    _, rows, scored = judged(tokens)
    order = np.random.default_rng(0).permutation(len(rows))
    theirs = pa.table({"id": rows["id"], "translation": rows["target"]}).take(pa.array(order))
    pq.write_table(theirs, tmp_path / "peer.parquet")
    test = TestRows(rows.set_column(0, "id", rows["id"].cast(pa.large_string())), judge(), "digest")
    found = read_predictions(tmp_path / "peer.parquet", judge())
    comparison: Any = type("Grid", (), {"recipe": Recipe()})
    peer = judge_rows(test, test.align(found.scored, "peer.parquet"), found.facts, comparison)
    assert peer.figures == {"chrf": pytest.approx(1), "bleu": pytest.approx(1)}, "no NLL is told"
    ours = judge_rows(test, scored, found.facts, comparison)
    assert ours.figures["nll"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["a", "b"]}, "no column translation, but id, text"),
        ({"translation": [1, 2]}, "column translation holds int64, and not texts"),
        ({"translation": ["a", None]}, "1 rows have no translation, the first of them id 1-1"),
    ],
)
def test_a_file_without_translations_is_refused(
    tmp_path: Path, columns: dict[str, Any], said: str
) -> None:
    pq.write_table(pa.table({"id": ["1-0", "1-1"], **columns}), tmp_path / "peer.parquet")
    with pytest.raises(SourceError, match=said):
        read_predictions(tmp_path / "peer.parquet", judge())


# --- the gate ---


def test_a_first_champion_stands_beside_the_dictionary(tokens: Path) -> None:
    one, rows, scored = judged(tokens)
    rivals = judge().against_constant(one.answers(rows, scored), tokens)
    assert rivals.ours.point()["chrf"] < rivals.theirs.point()["chrf"] == pytest.approx(1)
    assert rivals.whose == "of a dictionary counted from the train split, word by word"


def test_champion_and_challenger_are_told_apart_by_their_translations(tokens: Path) -> None:
    one, rows, scored = judged(tokens)
    better = scored.set_column(1, "translation", rows["target"].cast(pa.large_string()))
    rivals = judge().against(one.answers(rows, scored), better, None, "version 7")  # pyright: ignore[reportArgumentType]
    ours, theirs = rivals.ours.point(), rivals.theirs.point()
    assert (theirs["chrf"], rivals.whose) == (pytest.approx(1), "of version 7")
    assert rivals.figures["bleu_difference"] == pytest.approx(ours["bleu"] - theirs["bleu"])


@pytest.mark.parametrize(
    ("champion", "fault"),
    [
        ({}, None),
        (
            {"source_script": "Cyrillic"},
            "from Cyrillic script into Latin, this one from Latin script into Latin: they cannot be compared",
        ),
        ({"kind": "classify"}, "of kind classify, this one translates: they cannot be compared"),
    ],
)
def test_a_champion_of_another_kind_or_language_cannot_be_compared(
    tokens: Path, champion: dict[str, str], fault: str | None
) -> None:
    other: Any = Translator(tokens, str, {**FACTS, **champion})
    other.kind = champion.get("kind", "translate")
    told = judge().comparable(pairs(3, 1), other)
    assert told.rows.tolist() == [True] * 3
    assert (told.fault is None) == (fault is None) and (fault or "") in (told.fault or "")


# --- the dictionary ---


def test_the_dictionary_learns_words_their_case_and_what_stands_between_them() -> None:
    rows = pairs(300, 0)
    found = Dictionary.counted(
        rows["source"].to_pylist(), rows["target"].to_pylist(), "Latin", "Latin"
    )
    assert found.translate(["Kleiner hund läuft heute.", "", "Ein Zebra!"]) == [
        "Small dog runs today.",
        "",
        "A Zebra!",
    ]


def test_the_dictionary_counts_characters_where_no_space_stands_between_words() -> None:
    one_character = {word: sign for word, sign in CHARACTERS.items() if len(sign) == 1}
    rows = pairs(300, 0, one_character, "")
    found = Dictionary.counted(
        rows["source"].to_pylist(), rows["target"].to_pylist(), "Latin", "Han"
    )
    assert found.translate(["Hund läuft mann.", "iPhone 15 hund"]) == ["狗跑人.", "iPhone 15狗"]
    back = Dictionary.counted(
        rows["target"].to_pylist(), rows["source"].to_pylist(), "Han", "Latin"
    )
    assert back.translate(["狗跑人."]) == ["Hund läuft mann."]


def test_a_dictionary_of_nothing_copies() -> None:
    assert Dictionary.counted([], [], "Latin", "Latin").translate(["Ein Hund"]) == ["Ein Hund"]
    assert Dictionary.counted(["...", ""], ["", "a"], "Latin", "Latin").translate(["x ."]) == ["x."]


def test_of_more_pairs_than_can_be_counted_at_once_some_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dictionary, "_MOST", 4000)
    rows = pairs(900, 0)
    found = Dictionary.counted(
        rows["source"].to_pylist(), rows["target"].to_pylist(), "Latin", "Latin"
    )
    assert found.translate(["Ein mann sieht ein hund."]) == ["A man sees a dog."]


def test_metrics_are_shown_in_points_and_the_first_is_the_gates() -> None:
    first: Metric = TranslateJudge.metrics[0]
    assert (first.name, first.scale, first.better) == ("chrf", 100, "higher")
