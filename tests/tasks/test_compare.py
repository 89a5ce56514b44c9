"""The arithmetic of a comparison against slow references; predictions files fit the test rows or
say why not.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss

from data_contracts.errors import SourceError
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.compared import Compared, Facts
from data_contracts.recipe.comparison import Cell, Comparison
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from lightning_modules.evidence import difference, drawn
from lightning_modules.kinds.classify import figures as m
from lightning_modules.kinds.classify.judge import ClassifyJudge, log_proba_of
from lightning_modules.kinds.classify.predictions import write_predictions
from tasks.comparing import predictions
from tasks.comparing.board import Board, Judged
from tasks.comparing.predictions import TestRows
from tasks.comparing.table import as_markdown, read_table, write_table
from tasks.measure import cpu_seconds, one_thread
from tasks.settings import Settings

LABELS = ("bad", "good", "没有意见")
IDS = [f"row-{i}" for i in range(40)]
RECIPE = Recipe()
JUDGE = ClassifyJudge({"labels": LABELS}, Classify(), RECIPE.statistics)


def read_predictions(path, judge=JUDGE):
    return predictions.read_predictions(path, judge)


def simulated(rows: int, classes: int, seed: int, sharpness: float, of: np.ndarray | None = None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows) if of is None else of
    return labels, log_softmax(
        rng.normal(size=(rows, classes)) + sharpness * np.eye(classes)[labels], axis=1
    )


def test_paired_interval_equals_drawing_the_rows_one_resample_at_a_time() -> None:
    """Two models of two and three seeds: difference of the seeds' mean, on the same rows, quantiles
    over resamples.
    """
    labels, first = simulated(90, 3, seed=0, sharpness=1.0)
    one = [first, simulated(90, 3, 1, 1.1, labels)[1]]
    other = [simulated(90, 3, seed, 0.6, labels)[1] for seed in (2, 3, 4)]
    shown = {
        n: [drawn(m.evidence(labels, p), 60, seed=5) for p in runs]
        for n, runs in (("a", one), ("b", other))
    }
    rows = np.random.default_rng(5).integers(0, 90, (60, 90))

    def macro_f1(labels, log_proba):
        present = np.unique(labels)
        return f1_score(
            labels, log_proba.argmax(axis=1), labels=present, average="macro", zero_division=0
        )

    for name, figure in (
        ("accuracy", lambda y, p: accuracy_score(y, p.argmax(axis=1))),
        ("macro_f1", macro_f1),
        ("nll", lambda y, p: log_loss(y, np.exp(p), labels=[0, 1, 2])),
    ):
        differences = []
        for chosen in (np.arange(90), *rows):
            means = [
                np.mean([figure(labels[chosen], p[chosen]) for p in runs]) for runs in (one, other)
            ]
            differences.append(means[0] - means[1])
        sides = [[each[name] for each in shown[which]] for which in ("a", "b")]
        found = difference(*sides, 0.9)
        low, high = np.quantile(differences[1:], [0.05, 0.95])
        assert (found.value, found.low, found.high) == pytest.approx(
            (differences[0], low, high), abs=1e-9
        ), name


def test_a_model_differs_from_itself_by_nothing() -> None:
    labels, log_proba = simulated(200, 4, seed=1, sharpness=1.0)
    resampled = drawn(m.evidence(labels, log_proba), 100)["ece"]
    same = difference([resampled], [resampled, resampled])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_ece_floor_is_what_a_calibrated_model_shows_on_average() -> None:
    """Labels drawn from the model's own probabilities: the ECE is bias alone, and shrinks with the
    number of rows.
    """
    rng = np.random.default_rng(0)
    floors = []
    for rows in (100, 10_000):
        _, log_proba = simulated(rows, 3, seed=2, sharpness=1.0)
        cumulative = np.exp(log_proba).cumsum(axis=1)
        shown = []
        for _ in range(300):
            labels = (rng.random(rows)[:, None] > cumulative).sum(axis=1).clip(0, 2)
            shown.append(m.figures(labels, log_proba)["ece"])
        floors.append(m.ece_floor(log_proba, draws=300))
        assert floors[-1] == pytest.approx(np.mean(shown), abs=4 * np.std(shown) * np.sqrt(2 / 300))
    assert floors[1] < floors[0] / 5
    assert m.ece_floor(np.log([[1 - 1e-12, 1e-12]] * 50)) == pytest.approx(0, abs=1e-9)


@pytest.fixture
def split() -> TestRows:
    rows = pa.table({"id": IDS, "label": [LABELS[row % 3] for row in range(40)]})
    return TestRows(rows, JUDGE, "digest")


def write(path, ids=IDS, labels=LABELS, log_proba=None, **facts):
    log_proba = simulated(len(ids), len(labels), 0, 1.0)[1] if log_proba is None else log_proba
    write_predictions(path, ids, log_proba, labels, facts)
    return log_proba


def test_predictions_read_back_and_are_put_in_the_order_of_rows_and_classes(
    tmp_path, split
) -> None:
    path = tmp_path / "peers" / "tfidf-0.parquet"
    turned = LABELS[::-1]
    log_proba = write(path, IDS[::-1], turned, parameters=7, chosen="C = 10")
    found = read_predictions(path)
    assert found.facts.model_dump(exclude_none=True) == {"parameters": 7, "chosen": "C = 10"}
    assert np.array_equal(log_proba_of(split.align(found.scored, "x")), log_proba[::-1, ::-1])


def test_impossible_class_is_allowed_and_its_loss_is_finite(tmp_path, split) -> None:
    sure = np.log(
        np.eye(3)[np.ones(40, int)],
        where=np.eye(3)[np.ones(40, int)] > 0,
        out=np.full((40, 3), -np.inf),
    )
    write(tmp_path / "p.parquet", log_proba=sure)
    aligned = split.align(read_predictions(tmp_path / "p.parquet").scored, "p")
    assert np.isfinite(JUDGE.evidence(split.rows, aligned).point()["nll"])


def test_rows_and_labels_that_do_not_fit_are_named(tmp_path, split) -> None:
    path = tmp_path / "ft-1.parquet"
    for options, message in (
        (
            {"ids": [*IDS[2:], "other"]},
            r"its ids are not.*40.*2 missing \(row-0, row-1\) and 1 not in the test split \(oth",
        ),
        ({"ids": IDS[:-1]}, r".*: 1 missing \(row-39\)"),
        ({"ids": [*IDS[:-1], IDS[0]]}, "an id stands twice"),
        (
            {"labels": ("bad", "good", "none")},
            r"its labels are not.*1 missing \(没有意见\) and 1 not in .* \(none\)",
        ),
    ):
        write(path, **options)
        with pytest.raises(SourceError, match=f"ft-1.parquet: {message}"):
            split.align(read_predictions(path).scored, path.name)


def test_files_that_hold_no_predictions_are_refused_by_name(tmp_path) -> None:
    path = tmp_path / "bad.parquet"
    with pytest.raises(SourceError, match="no such file"):
        read_predictions(path)
    path.write_bytes(b"no parquet at all")
    with pytest.raises(SourceError, match=r"bad\.parquet: no predictions file"):
        read_predictions(path)
    pq.write_table(pa.table({"id": IDS, "log_proba": [[0.0]] * 40}), path)
    with pytest.raises(SourceError, match=r"no predictions file.*noisefold\.labels"):
        read_predictions(path)
    described = {"noisefold.labels": json.dumps(["a", "b"])}
    pq.write_table(
        pa.table({"id": ["x"], "log_proba": [[0.0]]}).replace_schema_metadata(described), path
    )
    with pytest.raises(SourceError, match="one value for each of 2 labels"):
        read_predictions(path)
    for wrong in (np.zeros((40, 3)), np.full((40, 3), np.nan)):
        write(path, log_proba=wrong)
        with pytest.raises(SourceError, match="probabilities of id row-0 do not sum to 1"):
            read_predictions(path)
    with pytest.raises(ValueError, match="speed"):
        write(path, speed=3)
    with pytest.raises(ValueError, match="shape"):
        write_predictions(path, IDS, np.zeros((40, 2)), LABELS)


def test_cpu_time_of_a_resumed_training_adds_up(tmp_path) -> None:
    from lightning_modules.training.metrics_log import MetricsLog
    from lightning_modules.training.recorder import Recorder

    first, second = (Recorder(MetricsLog(tmp_path / "metrics.jsonl"), print, 10) for _ in range(2))
    first.cpu_before = 40.0
    state = first.state_dict()
    second.load_state_dict(state)
    sum(range(200_000))
    assert second.cpu_seconds > state["cpu_seconds"] > 40


def test_speed_counts_the_work_of_one_thread_whatever_it_calls() -> None:
    """On one thread, the calling thread's CPU time is that of the process: nothing works beside it
    unseen.
    """
    import time

    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    texts, threads = ["a b " * 200] * 500, torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        started = time.process_time()
        seen = cpu_seconds(tokenizer.encode_batch, texts)
        whole = time.process_time() - started
    assert seen > 0.8 * whole
    assert torch.get_num_threads() == threads


def test_an_unfinished_variant_is_paired_at_the_seeds_that_both_have(tmp_path) -> None:
    """A lucky seed of the baseline, which the other has not run yet, must not count against it."""
    grid = Comparison(
        name="grid", recipe=Recipe(), seeds=(0, 1), variants={"a": {}, "b": {}}, baseline="a"
    )
    board = Board(grid, Settings(home=tmp_path), "noisefold compare grid.yaml")
    scores = {Cell("a", 0): 0.5, Cell("a", 1): 0.9, Cell("b", 0): 0.6}
    board.finished = {
        c: Judged({"accuracy": v}, {"accuracy": np.full(4, v)}, Facts()) for c, v in scores.items()
    }
    rows = {row.variant: row for row in board.table().rows}
    assert rows["a"].figures["accuracy"].mean == pytest.approx(0.7)
    assert rows["b"].differences["accuracy"].value == pytest.approx(0.1)
    del board.finished[Cell("a", 0)]
    assert not {row.variant: row for row in board.table().rows}["b"].differences, (
        "no seed in common yet"
    )


def test_a_table_keeps_the_rows_whose_cells_another_state_folder_holds(tmp_path) -> None:
    """Unless the grid asks for other settings now, or this folder has as many cells."""

    def board(**variants) -> Board:
        grid = Comparison(
            name="grid", recipe=Recipe(), seeds=(0, 1), variants={"a": {}, **variants}, baseline="a"
        )
        return Board(
            grid,
            Settings(home=tmp_path),
            "noisefold compare grid.yaml",
            read_table(tmp_path / "table.md"),
        )

    def finish(cells: dict[tuple[str, int], float], **variants) -> Compared:
        made = board(**variants)
        made.finished = {
            Cell(*cell): Judged({"accuracy": v}, {"accuracy": np.full(4, v)}, Facts())
            for cell, v in cells.items()
        }
        return made.table()

    b = {"training.max_epochs": 2}
    whole = finish({("a", 0): 0.5, ("a", 1): 0.9, ("b", 0): 0.6, ("b", 1): 0.8}, b=b)
    write_table(whole, tmp_path / "table.md")
    assert finish({}, b=b) == whole
    assert finish({("a", 0): 0.1}, b=b) == whole, "one seed does not replace two"
    assert finish({("b", 0): 0.6, ("b", 1): 0.8}, b=b) == whole, (
        "nothing here to take the difference from"
    )
    assert finish({("b", 0): 0.6, ("b", 1): 0.7}, b=b).rows[1].figures[
        "accuracy"
    ].mean == pytest.approx(0.65)
    assert finish({("a", 0): 0.1, ("a", 1): 0.3}, b=b).rows[0].figures[
        "accuracy"
    ].mean == pytest.approx(0.2)
    changed = finish({}, b={"training.max_epochs": 3})
    assert [row.finished for row in changed.rows] == [2, 0]
    assert [cell.state for cell in changed.cells if cell.variant == "b"] == ["not run"] * 2


def test_a_label_without_a_test_row_and_the_ece_floor_are_the_kinds_to_tell(split) -> None:
    assert JUDGE.unmeasured(split.rows) == ()
    assert JUDGE.unmeasured(split.rows.slice(0, 2)) == (LABELS[2],)
    log_proba = simulated(40, 3, 0, 1.0)[1]
    scored = JUDGE.predictions(
        pa.table({"id": IDS, "probabilities": np.exp(log_proba).tolist()}).replace_schema_metadata(
            {"noisefold.labels": json.dumps(LABELS)}
        )
    )
    assert np.allclose(log_proba_of(scored), log_proba)
    assert JUDGE.beside(scored) == {"ece_floor": pytest.approx(m.ece_floor(log_proba))}


def test_the_figure_to_choose_by_is_what_the_shared_recipe_monitors(tmp_path) -> None:
    changes = {"training": {"monitor": "val/nll"}}
    for recipe, name, column in (
        (RECIPE, "macro_f1", "valid macro-F1"),
        (parse_recipe({"source": {"kind": "sample"}, **changes}, origin="t"), "nll", "valid NLL"),
    ):
        grid = Comparison(name="g", recipe=recipe, seeds=(0,), variants={"a": {}}, baseline="a")
        table = Board(grid, Settings(home=tmp_path), "").table()
        assert table.chosen_by == name
        assert f"| {column} |" in as_markdown(table)


def test_the_table_tells_by_what_options_of_the_kind_its_figures_are_measured(tmp_path) -> None:
    recipe = parse_recipe({"source": {"kind": "sample"}, "task": {"ece_bins": 7}}, origin="t")
    grid = Comparison(name="g", recipe=recipe, seeds=(0,), variants={"a": {}}, baseline="a")
    table = Board(grid, Settings(home=tmp_path), "").table()
    assert table.settings == {"ece_bins": 7}
    assert "ECE over 7 bins." in as_markdown(table)
    write_table(table, tmp_path / "table.md")
    assert read_table(tmp_path / "table.md") == table
