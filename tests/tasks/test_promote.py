"""Promotion: the rule, its reasons, and aliases that never leave the registry without a champion."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import mlflow.artifacts
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mlflow.exceptions import MlflowException

from data_contracts.artifacts import EvaluationReport, TrainedModel
from data_contracts.contract.contract import DataContract
from data_contracts.contract.rules import Role
from data_contracts.contract.text import text_hash
from data_contracts.errors import RecipeError
from data_contracts.kinds.base import Metric
from data_contracts.recipe.sections import PromotionConfig, SlicesConfig
from data_contracts.recipe.tokenizer import WindowConfig, WordTokenizer
from data_contracts.results import Interval, PromotionDecision
from lightning_modules import evidence
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.evidence import Evidence
from lightning_modules.kinds.classify.judge import ClassifyJudge
from lightning_modules.kinds.classify.rivals import mcnemar
from lightning_modules.kinds.judging import Comparable, Judge, Rivals, RowFigure, judge_of
from tasks import promote
from tasks.contest import Verdict, ask, compare, first_champion
from tasks.gate import Sliced, check_bounds, slice_checks
from tasks.reports.decision import decision_page
from tasks.reports.readable import markdown
from tasks.serving.check import Served
from tasks.serving.fetched import Champion
from tasks.tracking.aliases import append_line
from tasks.tracking.bookkeeping import of_run
from tests.stages import promote_model, tokenize_corpus
from tests.tasks.registry import gone_after

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture(autouse=True)
def serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule alone: serving in a fresh process takes seconds each time, and
    tests/tasks/test_releases.py holds it.
    """
    monkeypatch.setattr(promote, "check_served", lambda *_: Served(200, 1.5, 0.5))


def run(
    world: World,
    model: TrainedModel,
    ledger: Path,
    report: EvaluationReport | None = None,
    moves_aliases: bool = True,
) -> PromotionDecision:
    """Evaluate, register and promote, as a retrain does."""
    report = report or world.evaluate(model)
    registered = world.register(model, report)
    return promote_model(
        registered,
        model,
        report,
        world.tokens,
        world.corpus,
        recipe=world.recipe,
        store=world.store,
        tracker=world.tracker,
        ledger=ledger,
        moves_aliases=moves_aliases,
    )


def aliases(world: World) -> dict[str, str]:
    found = world.tracker.client.get_registered_model(world.recipe.model_name).aliases
    return {alias: str(version) for alias, version in found.items()}


def lines(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def judging(world: World, labels: Sequence[str] | None = None) -> ClassifyJudge:
    """The judge of the challenger, which knows these labels."""
    recipe = world.recipe
    facts = {"labels": labels or world.tokens.facts["labels"]}
    judge = judge_of(recipe.task, facts, recipe.statistics)
    assert isinstance(judge, ClassifyJudge)
    return judge


def first(world: World, table: pa.Table, commonest: str, *seen: np.ndarray) -> Verdict:
    """The rule for a first champion, where this is the commonest label of the train split."""
    judge = judging(world)
    judge.commonest = lambda tokens: commonest
    trained = seen[0] if seen else np.zeros(0, np.uint64)
    return first_champion(judge, table, Path(), trained, world.recipe)


def sliced(table: pa.Table) -> Sliced:
    right = table["correct"].to_numpy().astype(np.float64)
    return Sliced(table, RowFigure("Accuracy", right), ("text",))


def test_first_champion_beats_the_commonest_label(world: World, ledger: Path) -> None:
    decision = run(world, world.model(), ledger)
    assert (decision.promoted, decision.outcome, decision.champion_before) == (
        True,
        "promoted",
        None,
    )
    assert decision.difference is None
    assert decision.over_constant is not None
    assert decision.over_constant.low > 0.4
    assert decision.rows_compared == world.tokens.splits["test"]
    told = decision.reasons[1]
    assert re.search(
        r"always answering \w+ \(the commonest label of the train split\), on \d+ rows", told
    ), told
    assert "bounds: none set" in decision.reasons[0]
    assert aliases(world) == {"champion": "1"}
    (line,) = lines(ledger)
    assert (line["alias"], line["from"], line["to"], line["model"]) == (
        "champion",
        None,
        "1",
        world.recipe.model_name,
    )
    assert line["who"]
    assert line["when"].endswith("+00:00")
    assert "No version is champion" in line["why"]
    assert "above 0" in line["why"]


def test_first_model_below_the_floors_names_every_one(world: World, ledger: Path) -> None:
    strict = world.with_recipe(
        promotion={"bounds": {"accuracy": {"min": 0.999}, "macro_f1": {"min": 0.998}}}
    )
    decision = run(strict, world.model(), ledger)
    assert decision.outcome == "not_promoted"
    assert "accuracy" in decision.reasons[0]
    assert "0.998" in decision.reasons[1]
    assert "bounds: accuracy at least 0.999, macro_f1 at least 0.998" in decision.reasons[2]
    assert aliases(strict) == {"challenger": "1"}


def test_constant_answer_becomes_no_champion_unless_the_recipe_says_so(
    world: World, ledger: Path
) -> None:
    """Every row gets the same label: no floor is set, and no floor has to be."""
    constant = world.model(quality=0.0)
    decision = run(world, constant, ledger)
    assert decision.outcome == "not_promoted"
    assert decision.over_constant is not None and decision.over_constant.low <= 0
    told = " ".join(decision.reasons)
    assert "the lower bound is not above 0" in told and "bounds: none set" in told
    assert "promotion.beat_constant: false" in told
    assert aliases(world) == {"challenger": "1"}
    lenient = world.with_recipe(
        promotion={"beat_constant": False, "bounds": {"accuracy": {"min": 0.1}}}
    )
    decision = run(lenient, constant, ledger)
    assert decision.promoted
    assert "bounds: accuracy at least 0.1" in decision.reasons[0]


def test_commonest_label_is_counted_in_documents(world: World, store) -> None:
    """Two long texts of one label are many windows, and still two documents."""
    from tests.tasks.mlflow_fixtures import make_corpus  # a plugin by now

    long, short = "great lovely fast pretty " * 40, "awful item"
    rows = [(long, "positive")] * 2 + [(short, "negative")] * 3
    columns = {
        "id": [str(number) for number in range(15)],
        "text": [f"{text} {number}" for number, (text, _) in enumerate(rows * 3)],
        "label": [label for _, label in rows * 3],
        "split": ["train"] * 5 + ["valid"] * 5 + ["test"] * 5,
        "language": ["en"] * 15,
    }
    config = WordTokenizer(vocab_size=200, min_frequency=1)
    window = WindowConfig(max_length=16, overlap=4)
    tokens = tokenize_corpus(
        make_corpus(store, pa.table(columns), "long"), config, store, window
    ).manifest
    assert tokens.windows["train"] > 20
    judge = judging(world, tokens.facts["labels"])
    assert judge.commonest(store.open(tokens)) == "negative"


def test_first_champion_is_not_judged_on_what_it_was_trained_on(world: World) -> None:
    table = predictions(world)
    seen = np.array(sorted(map(text_hash, table["text"].to_pylist()[:3])), dtype=np.uint64)
    verdict = first(world, table, "positive", seen)
    assert verdict.passed
    assert (verdict.evidence["rows_left_out"], verdict.evidence["rows_compared"]) == (
        3,
        table.num_rows - 3,
    )
    assert "3 test rows that a model was trained on are left out" in verdict.reasons[1]
    few = first(world, table.slice(0, 10), "positive")
    assert not few.passed
    assert "10 rows are left to compare; the contract asks for 20" in few.reasons[-1]


def test_constant_answer_is_none_though_it_beats_another(world: World) -> None:
    """The labels have changed places since the train split: always answering the one of today
    proves nothing.
    """
    table = pa.table(
        {
            "text": [f"t{n}" for n in range(50)],
            "label": ["x", *["y"] * 4] * 10,
            "predicted": ["y"] * 50,
        }
    )
    verdict = first(world, table, "x")
    assert verdict.evidence["over_constant"].low > 0
    assert not verdict.passed
    assert "It answers all of them with y, so it is a constant answer itself." in verdict.reasons
    absent = first(world, table, "z")
    assert "always answering y (the commonest label among them)" in absent.reasons[1]
    assert absent.evidence["over_constant"] == Interval(value=0, low=0, high=0)


def test_three_rows_prove_nothing(world: World) -> None:
    """All right, and still: a third of the resamples hold one class only, where the constant answer
    is right too.
    """
    contract = {
        "name": "toy",
        "labels": {"values": list(world.tokens.facts["labels"])},
        "splits": {"min_rows": 1},
    }
    table = pa.table(
        {"text": ["a", "b", "c"], "label": ["x", "x", "y"], "predicted": ["x", "x", "y"]}
    )
    verdict = first(world.with_recipe(contract=contract), table, "x")
    assert not verdict.passed
    assert verdict.evidence["over_constant"].value > 0.5
    assert verdict.evidence["over_constant"].low == 0


def test_equal_model_is_promoted_and_the_old_champion_kept_as_previous(
    world: World, ledger: Path
) -> None:
    run(world, world.model(), ledger)
    decision = run(world, world.model(nudge=0.5), ledger)
    assert decision.promoted
    assert decision.champion_before == "1"
    assert decision.rows_compared == world.tokens.splits["test"]
    assert decision.difference == Interval(value=0, low=0, high=0)
    assert aliases(world) == {"champion": "2", "previous": "1"}
    assert [(line["alias"], line["from"], line["to"]) for line in lines(ledger)] == [
        ("champion", None, "1"),
        ("previous", None, "1"),
        ("champion", "1", "2"),
    ]


def test_without_the_alias_a_version_is_judged_as_a_first_champion(
    world: World, ledger: Path
) -> None:
    run(world, world.model(), ledger)
    world.tracker.client.delete_registered_model_alias(world.recipe.model_name, "champion")
    constant = run(world, world.model(quality=0.0), ledger)
    assert constant.outcome == "not_promoted" and constant.champion_before is None
    good = run(world, world.model(nudge=0.5), ledger)
    assert good.promoted and good.over_constant is not None


def test_worse_model_stays_challenger_until_a_better_one_comes(world: World, ledger: Path) -> None:
    run(world, world.model(), ledger)
    worse = run(world, world.model(quality=0.0), ledger)
    assert worse.outcome == "not_promoted"
    assert worse.difference is not None
    assert worse.difference.high < 0
    assert "not above -0.01" in worse.reasons[-1]
    assert aliases(world) == {"champion": "1", "challenger": "2"}
    again = run(world, world.model(quality=0.0), ledger)
    assert again == worse
    assert len(lines(ledger)) == 2, "nothing moved the second time"
    better = run(world, world.model(nudge=0.7), ledger)
    assert better.promoted
    assert aliases(world) == {"champion": "3", "previous": "1"}


def test_an_old_night_is_judged_and_moves_no_alias(world: World, ledger: Path) -> None:
    """Neither where it would pass nor where not; the night itself then decides as if it had not
    been.
    """
    run(world, world.model(), ledger)
    before = aliases(world), lines(ledger)
    worse = run(world, world.model(quality=0.0), ledger, moves_aliases=False)
    assert (worse.outcome, worse.promoted) == ("would_not_pass", False)
    better, night = world.model(nudge=0.7), world.with_recipe(training={"seed": 7})
    judged = run(night, better, ledger, moves_aliases=False)
    assert (judged.outcome, judged.promoted) == ("would_pass", False)
    assert judged.reasons[0].startswith("Judged only") and judged.difference is not None
    assert (aliases(world), lines(ledger)) == before
    same = run(world, world.model(), ledger, moves_aliases=False)
    assert (same.outcome, aliases(world)) == ("already_champion", before[0])

    night.tracker.end("FINISHED")
    client, run_id = world.tracker.client, night.tracker.run_id
    assert client.get_run(run_id).data.tags["noisefold.outcome"] == "judged only, would pass"
    assert "Judged only, would pass" in decision_page(judged)
    later = world.with_recipe(training={"seed": 7})
    assert later.tracker.closed and run(later, better, ledger).promoted
    assert client.get_run(run_id).data.tags["noisefold.outcome"] == "promoted"
    run(later, world.model(nudge=0.9), ledger, moves_aliases=False)
    assert client.get_run(run_id).data.tags["noisefold.outcome"] == "promoted"


def test_floors_hold_a_better_model_back(world: World, ledger: Path) -> None:
    run(world.with_recipe(promotion={"beat_constant": False}), world.model(quality=0.0), ledger)
    strict = world.with_recipe(promotion={"bounds": {"accuracy": {"min": 0.9999}}})
    decision = run(strict, world.model(), ledger)
    assert decision.outcome == "not_promoted"
    assert "floor of 0.9999" in decision.reasons[0]
    assert decision.difference is not None
    assert decision.difference.low > 0, "the comparison is made and shown in any case"


def test_run_shows_decision_reasons_and_difference(
    world: World, ledger: Path, tmp_path: Path
) -> None:
    run(world, world.model(), ledger)
    decision = run(world, world.model(quality=0.0), ledger)
    client, run_id = world.tracker.client, world.tracker.run_id
    data = client.get_run(run_id).data
    assert data.tags["noisefold.outcome"] == "not promoted"
    assert decision.difference is not None
    assert not any(name.startswith("promotion") for name in data.metrics), "the page tells it"
    folder = Path(client.download_artifacts(run_id, "promotion", str(tmp_path)))
    content = json.loads((folder / "promotion.json").read_text())
    assert (
        PromotionDecision.model_validate({k: content[k] for k in PromotionDecision.model_fields})
        == decision
    )
    page = (folder / "promotion.md").read_text()
    assert page.startswith("# Not promoted")
    assert "0.01" in page
    version = client.get_model_version(decision.name, decision.version)
    assert version.tags["noisefold.outcome"].startswith("not promoted: ")
    assert version.description.startswith("Not promoted: ")
    champion = client.get_model_version(decision.name, str(decision.champion_before))
    assert champion.description.startswith("Champion since ")
    assert "\n\n# " in champion.description, "its card follows"
    model = client.get_registered_model(decision.name)
    assert f"**Champion: version {decision.champion_before}.**" in model.description
    assert model.description.count("| champion | – | 1 |") == 1, "the moves as a table"


def test_champion_again_is_already_champion_and_keeps_its_evidence(
    world: World, ledger: Path, tmp_path: Path
) -> None:
    model = world.model()
    run(world, model, ledger)
    decision = run(world, model, ledger)
    assert (decision.promoted, decision.outcome) == (False, "already_champion")
    assert len(lines(ledger)) == 1
    assert (
        world.tracker.client.get_run(world.tracker.run_id).data.tags["noisefold.outcome"]
        == "promoted"
    )
    folder = Path(
        world.tracker.client.download_artifacts(world.tracker.run_id, "promotion", str(tmp_path))
    )
    assert json.loads((folder / "promotion.json").read_text())["outcome"] == "promoted"


def test_every_bound_that_does_not_hold_is_told_at_once(
    world: World, ledger: Path, tmp_path: Path
) -> None:
    bounds = {
        "bounds": {
            "accuracy": {"min": 0.9999},
            "f1/*": {"min": 0.9998},
            "nll": {"max": 1e-6},
            "ece": {"max": 1e-6},
            "megabytes": {"max": 1.0},
            "milliseconds_per_text": {"max": 0.25},
        },
        "slices": {"min": 0.9997, "by": ["label", "length", "language"]},
    }
    contract = {
        "name": "toy",
        "labels": {"values": list(world.tokens.facts["labels"])},
        "columns": {"slices": ["language"]},
    }
    strict = world.with_recipe(promotion=bounds, contract=contract)
    decision = run(strict, world.model(), ledger)
    assert decision.outcome == "not_promoted"
    told = "\n".join(decision.reasons)
    for label in world.tokens.facts["labels"]:
        assert f"F1 of label {label} " in told and f"where label is {label} (" in told
    for what in (
        "Test accuracy",
        "Test NLL",
        "Test calibration error (ECE)",
        "language is zh",
        "language is en",
        "length is 1 to 20",
    ):
        assert what in told, what
    assert "Size in MB 1.5000 is above the ceiling of 1." in told
    assert "CPU milliseconds per text 0.5000 is above the ceiling of 0.25." in told
    assert all(
        check.sentence() in decision.reasons and not check.passed for check in decision.checks
    )
    folder = Path(
        world.tracker.client.download_artifacts(strict.tracker.run_id, "promotion", str(tmp_path))
    )
    page = (folder / "promotion.md").read_text()
    assert page.count("| NO |") == len(decision.checks)
    assert all(markdown(reason) in page for reason in decision.reasons)
    run(strict, world.model(), ledger)
    tracker = strict.tracker
    table = tracker.client.load_table(
        tracker.experiment_id, "promotion/reasons.json", [tracker.run_id]
    )
    assert table["what"].tolist() == [
        *decision.reasons,
        *(check.what for check in decision.checks),
    ], "told once"
    assert not table["holds"][table["kind"] == "bound"].any()


def test_bounds_that_hold_let_a_first_champion_pass(world: World, ledger: Path) -> None:
    kind = world.with_recipe(
        promotion={
            "bounds": {"f1/*": {"min": 0.5}, "nll": {"max": 1.0}, "ece": {"max": 0.5}},
            "slices": {"min": 0.5},
        }
    )
    decision = run(kind, world.model(), ledger)
    assert decision.promoted
    assert decision.checks and all(check.passed for check in decision.checks)
    told = "\n".join(check.what for check in decision.checks)
    columns = dict.fromkeys(re.findall(r"where (\w+) is", told))
    assert list(columns) == ["label", "language", "length"]
    assert f"{len(decision.checks)} bounds hold." in decision.reasons


def test_slices_are_counted_as_pandas_counts_them_and_small_ones_decide_nothing(
    world: World,
) -> None:
    table = predictions(world)
    rows = table.to_pandas()
    length = rows["text"].str.len()
    rows["band"] = np.select(
        [length <= 20, length <= 50, length <= 100], ["1 to 20", "21 to 50", "51 to 100"], "more"
    )
    config = SlicesConfig(min=0.9, by=("language", "length", "label"), min_rows=80)
    names = {"language": "language", "length": "band", "label": "label"}
    wanted = {
        (column, value): group["correct"].mean()
        for column, name in names.items()
        for value, group in rows.groupby(name)
        if len(group) >= 80
    }
    found = {
        re.findall(r"where (.+) is (.+) \(", c.what)[0]: c.value
        for c in slice_checks(sliced(table), config)
    }
    assert found == pytest.approx(wanted)
    assert len(found) < sum(rows[name].nunique() for name in names.values()), "one slice is small"


def test_slices_too_small_to_decide_are_told(world: World, ledger: Path) -> None:
    """Otherwise a floor that looks at nothing would look as if it held."""
    kind = world.with_recipe(
        promotion={"slices": {"min": 0.5, "by": ["label"], "min_rows": 10_000}}
    )
    decision = run(kind, world.model(), ledger)
    assert decision.promoted and not decision.checks
    told = next(reason for reason in decision.reasons if "decide nothing" in reason)
    assert "fewer than 10,000 rows" in told
    assert all(f"label is {label} (" in told for label in world.tokens.facts["labels"])


def test_class_without_a_test_row_meets_no_floor(world: World) -> None:
    report = world.evaluate(world.model()).model_copy(
        update={"without_rows": {"test": ("退款", "b|c")}}
    )
    checks = check_bounds(
        report,
        sliced(predictions(world)),
        None,
        PromotionConfig(bounds={"f1/*": {"min": 0.1}}),
        world.recipe.task,
    )
    unknown = [check for check in checks if check.value is None]
    assert [check.passed for check in unknown] == [False, False]
    assert unknown[0].sentence() == (
        "Test F1 of label 退款, which has no test row, is unknown, so the floor of 0.1 is not shown "
        "to hold."
    )
    assert all(check.passed for check in checks if check.value is not None)
    decision = PromotionDecision(
        promoted=False,
        outcome="not_promoted",
        reasons=(),
        name="m",
        version="1",
        checks=tuple(checks),
    )
    assert "| – | ≥ 0.1 | NO |" in decision_page(decision)
    json.loads(decision.model_dump_json(), parse_constant=pytest.fail)


def test_without_a_column_of_languages_the_script_tells_them_apart(world: World) -> None:
    table = predictions(world).drop_columns(["language"])
    config = SlicesConfig(min=0.9, by=("language",), min_rows=10)
    found = {
        re.findall(r"language is (\w+) \(([\d,]+) rows", check.what)[0]
        for check in slice_checks(sliced(table), config)
    }
    spoken = Counter(predictions(world)["language"].to_pylist())
    assert found == {("Han", f"{spoken['zh']}"), ("Latin", f"{spoken['en']}")}


def test_slice_that_the_contract_does_not_carry_is_refused_before_the_night(world: World) -> None:
    with pytest.raises(
        RecipeError, match=r"promotion\.slices\.by: langauge is none of label, language, length"
    ):
        world.with_recipe(promotion={"slices": {"by": ["langauge"], "min": 0.5}})


@pytest.mark.parametrize(("only_one", "only_other"), [(0, 0), (3, 3), (1, 9), (12, 2)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_rows(
    only_one: int, only_other: int
) -> None:
    one = np.array([True] * (only_one + 20) + [False] * (only_other + 5))
    other = np.array([False] * only_one + [True] * (20 + only_other) + [False] * 5)
    difference, p, alone = mcnemar(one, other)
    assert alone == (only_one, only_other)
    assert difference == pytest.approx((only_one - only_other) / len(one))
    n, k = only_one + only_other, min(only_one, only_other)
    assert p == pytest.approx(min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n))


@pytest.mark.parametrize("moves_before_the_crash", [0, 1, 2])
def test_crash_between_moves_leaves_a_champion_and_the_rerun_ends_the_same(
    world: World, ledger: Path, monkeypatch: pytest.MonkeyPatch, moves_before_the_crash: int
) -> None:
    """Moves of this promotion: previous → 1, champion → 3, challenger (2) taken away."""
    run(world, world.model(), ledger)
    run(world, world.model(quality=0.0), ledger)
    with monkeypatch.context() as patch:
        gone_after(patch, world.tracker.client, moves_before_the_crash)
        with pytest.raises(ConnectionError):
            run(world, world.model(nudge=0.6), ledger)
    assert aliases(world)["champion"] in ("1", "3")
    run(world, world.model(nudge=0.6), ledger)
    assert aliases(world) == {"champion": "3", "previous": "1"}
    moved = {(line["alias"], line["from"], line["to"]) for line in lines(ledger)}
    assert {("previous", None, "1"), ("champion", "1", "3"), ("challenger", "2", None)} <= moved


def test_champion_without_files_is_a_reason_with_a_remedy(world: World, ledger: Path) -> None:
    run(world, world.model(), ledger)
    client = world.tracker.client
    source = Path(
        client.get_model_version_download_uri(world.recipe.model_name, "1").removeprefix("file://")
    )
    weights = source / "artifacts" / "bundle" / "model.safetensors"
    data = weights.read_bytes()
    for damage in ("changed", "weights", "hashes", "all"):
        if damage == "changed":
            weights.write_bytes(data[:-1] + b"!")
        elif damage == "weights":
            weights.unlink()
        elif damage == "hashes":
            weights.write_bytes(data)
            (source / "artifacts" / "train_texts.npy").unlink()
        else:
            source.rename(source.with_name("elsewhere"))
        decision = run(world, world.model(nudge=0.5), ledger)
        assert decision.outcome == "not_promoted", damage
        assert "cannot be scored" in decision.reasons[0]
        assert "alias" in decision.reasons[0]
        assert aliases(world)["champion"] == "1"
    client.delete_registered_model_alias(world.recipe.model_name, "champion")
    assert run(world, world.model(nudge=0.5), ledger).promoted, "the remedy works"


def test_registry_that_does_not_answer_is_raised_not_judged(
    world: World, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world, world.model(), ledger)

    def unavailable(**_: Any) -> None:
        raise MlflowException("503", error_code=8)  # anything but "it does not exist"

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", unavailable)
    with pytest.raises(MlflowException):
        run(world, world.model(nudge=0.5), ledger)


# --- the comparison alone -------------------------------------------------------------------------


def champion_of(
    world: World, tmp_path: Path, labels: tuple[str, ...] | None = None, seen: tuple[str, ...] = ()
) -> Champion:
    """The trained model, under other label names where they are given."""
    bundle = Bundle.load(world.store.open(world.model()) / "bundle")
    facts = {
        "tokenizer_json": bundle.tokenizer_json,
        "windowing": bundle.windowing,
    }
    answering = {**bundle.facts, "labels": list(labels or bundle.facts["labels"])}
    save_bundle(tmp_path / "champion", bundle.network, facts=answering, **facts)
    hashes = np.array(sorted(map(text_hash, seen)), dtype=np.uint64)
    return Champion("7", Bundle.load(tmp_path / "champion"), hashes)


def predictions(world: World) -> pa.Table:
    return pq.read_table(world.store.open(world.evaluate(world.model())) / "predictions.parquet")


def test_rows_that_either_model_was_trained_on_are_left_out(world: World, tmp_path: Path) -> None:
    table = predictions(world)
    texts = table["text"].to_pylist()
    # The champion saw two of them, in other writing; the challenger one more and one that the
    # champion saw too.
    champion = champion_of(world, tmp_path, seen=(texts[0].upper() + "  ", texts[1]))
    trained = np.array(sorted({text_hash(texts[1]), text_hash(texts[2])}), dtype=np.uint64)
    verdict = compare(judging(world), table, champion, trained, world.recipe)
    assert verdict.evidence["rows_left_out"] == 3
    assert verdict.evidence["rows_compared"] == len(texts) - 3
    assert "3 test rows that a model was trained on are left out" in verdict.reasons[0]


def test_nothing_left_to_compare_is_a_reason(world: World, tmp_path: Path) -> None:
    table = predictions(world)
    champion = champion_of(world, tmp_path, seen=tuple(table["text"].to_pylist()))
    verdict = compare(judging(world), table, champion, np.zeros(0, np.uint64), world.recipe)
    assert not verdict.passed
    assert "0 rows are left" in verdict.reasons[-1]


def test_changed_label_set_compares_the_shared_labels(world: World, tmp_path: Path) -> None:
    ours = world.tokens.facts["labels"]
    theirs = ("something else", ours[1], ours[2])
    table = predictions(world)
    verdict = compare(
        judging(world, ours),
        table,
        champion_of(world, tmp_path, theirs),
        np.zeros(0, np.uint64),
        world.recipe,
    )
    names = table["label"].to_pylist()
    compared = [row for row in table.to_pylist() if row["label"] in ours[1:]]
    assert verdict.evidence["rows_compared"] == len(compared)
    assert f"new: {ours[0]}; gone: something else" in verdict.reasons[0]
    assert f"and {names.count(ours[0])} of new labels are not" in verdict.reasons[0]
    beside = sum(row["predicted"] == ours[0] for row in compared)
    assert beside, "some are taken for the label that is not shared"
    assert f"of the challenger to {beside} of them, of version 7 to {beside}" in verdict.reasons[1]
    assert verdict.passed, "the same network under both names"
    assert verdict.evidence["difference"].value == 0


def answered(labels: list[str], predicted: list[str]) -> pa.Table:
    """Test rows, and what the challenger answered to them."""
    return pa.table(
        {"text": [f"row {n}" for n in range(len(labels))], "label": labels, "predicted": predicted}
    )


def says(monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
    """What the champion answers where it is served."""

    def served(self: ClassifyJudge, bundle: Bundle, rows: pa.Table) -> pa.Table:
        numbers = [int(text.split()[1]) for text in rows["text"].to_pylist()]
        return pa.table({"predicted": [answers[number] for number in numbers]})

    monkeypatch.setattr(ClassifyJudge, "ask", served)


def test_answer_outside_the_shared_labels_is_wrong(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new label takes over the rows of an old one: whoever is served gets a worse answer, and no
    gain beside it.
    """
    labels = ["账单", "配送"] * 20 + ["理财"] * 10
    table = answered(labels, ["理财", "配送"] * 20 + ["理财"] * 10)
    says(monkeypatch, ["账单", "配送"] * 20 + ["账单"] * 10)
    champion = champion_of(world, tmp_path, ("账单", "配送", "其他"))
    verdict = compare(
        judging(world, ("理财", "账单", "配送")),
        table,
        champion,
        np.zeros(0, np.uint64),
        world.recipe,
    )
    assert not verdict.passed
    assert verdict.evidence["rows_compared"] == 40
    assert verdict.evidence["difference"] == Interval(value=-0.5, low=-0.5, high=-0.5)
    assert verdict.evidence["notes"]["accuracy_difference"] == -0.5
    told = " ".join(verdict.reasons)
    assert "0 rows only the challenger has right, 20 only the champion" in told
    assert "of the challenger to 20 of them, of version 7 to 0" in told


def test_label_that_is_gone_counts_against_the_champion(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round: what the champion calls by a label that is gone is wrong under the
    labels of today.
    """
    labels = ["a", "b"] * 20
    table = answered(labels, labels)
    says(monkeypatch, ["old", "b"] * 20)
    champion = champion_of(world, tmp_path, ("a", "old", "b"))
    verdict = compare(
        judging(world, ("b", "a")), table, champion, np.zeros(0, np.uint64), world.recipe
    )
    assert verdict.passed
    assert verdict.evidence["difference"].value == 0.5
    assert "gone: old" in verdict.reasons[0]


def test_shared_label_without_a_compared_row_is_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["a", "b"] * 20
    says(monkeypatch, labels)
    champion = champion_of(world, tmp_path, ("a", "b", "rare"))
    verdict = compare(
        judging(world, ("a", "b", "rare")),
        answered(labels, labels),
        champion,
        np.zeros(0, np.uint64),
        world.recipe,
    )
    assert (
        "No compared row has the label rare, so the comparison says nothing of it."
        in verdict.reasons
    )


def test_champion_is_asked_as_serving_asks_it(world: World, tmp_path: Path) -> None:
    """The label of the pyfunc model, ties included: equal probabilities are the first label of its
    own order.
    """
    from mlflow.pyfunc.model import PythonModelContext

    from tasks.serving.pyfunc import TextModel

    bundle = champion_of(
        world, tmp_path, (world.tokens.facts["labels"][2], *world.tokens.facts["labels"][:2])
    ).bundle
    texts = predictions(world)["text"].to_pylist()
    rows = predictions(world).select(["text"])
    for weights in (1.0, 0.0):
        with torch.no_grad():
            bundle.network.head.decoder.weight.mul_(weights)
            bundle.network.head.decoder.bias.mul_(weights)
        serving = TextModel()
        serving.bundle = bundle
        answers = serving.predict(PythonModelContext({}, {}), pd.DataFrame({"text": texts}))
        asked = ask(judging(world), bundle, rows)["predicted"].to_pylist()
        assert asked == answers["label"].tolist()
    assert set(asked) == {world.tokens.facts["labels"][2]}


def test_label_order_does_not_matter(world: World, tmp_path: Path) -> None:
    """A champion that lists its classes in another order is compared by name."""
    ours = world.tokens.facts["labels"]
    champion = champion_of(world, tmp_path, (ours[1], ours[0], ours[2]))
    verdict = compare(
        judging(world, ours), predictions(world), champion, np.zeros(0, np.uint64), world.recipe
    )
    assert verdict.evidence["difference"].value > 0.3, (
        "by name the swapped champion is wrong on two classes"
    )


def test_without_shared_labels_nothing_can_be_compared(world: World, tmp_path: Path) -> None:
    champion = champion_of(world, tmp_path, ("a", "b", "c"))
    verdict = compare(
        judging(world), predictions(world), champion, np.zeros(0, np.uint64), world.recipe
    )
    assert not verdict.passed
    assert "Fewer than two labels" in verdict.reasons[-1]
    assert "noisefold promote" in verdict.reasons[-1], "the way out"


@pytest.mark.parametrize(
    ("low", "passed"), [(-0.0101, False), (-0.01, False), (-0.0099, True), (0.2, True)]
)
def test_lower_bound_must_lie_above_minus_margin(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: float, passed: bool
) -> None:
    difference = Interval(value=0.3, low=low, high=0.4)
    monkeypatch.setattr(evidence, "paired", lambda *_, **__: difference)
    verdict = compare(
        judging(world),
        predictions(world),
        champion_of(world, tmp_path),
        np.zeros(0, np.uint64),
        world.recipe,
    )
    assert verdict.passed is passed


class LengthJudge:
    """A judge of another kind: a number is answered to each text, and judged by its squared error."""

    metrics = (Metric("squared_error", "squared error", "lower"),)

    def __init__(self, constant: bool = True) -> None:
        self.constant = constant

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        return RowFigure("Closeness", np.exp(-self._errors(predictions, "said")))

    def comparable(self, predictions: pa.Table, champion: Any) -> Comparable:
        return Comparable(np.ones(len(predictions), bool))

    def ask(self, bundle: Any, predictions: pa.Table) -> pa.Table:
        asked = bundle.predict({"question": predictions["question"].to_pylist()})
        return pa.table({"said": asked["number"]})

    def against(self, predictions: pa.Table, asked: pa.Table, champion: Any, name: str) -> Rivals:
        theirs = predictions.drop_columns(["said"]).append_column("said", asked["said"])
        return Rivals(self._evidence(predictions), self._evidence(theirs), f"of {name}")

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals | None:
        if not self.constant:
            return None
        mean = np.full(len(predictions), predictions["number"].to_numpy().mean())
        always = predictions.drop_columns(["said"]).append_column("said", pa.array(mean))
        whose = "of always answering the mean"
        return Rivals(self._evidence(predictions), self._evidence(always), whose)

    def _errors(self, rows: pa.Table, column: str) -> np.ndarray:
        return (rows[column].to_numpy() - rows["number"].to_numpy()) ** 2

    def _evidence(self, rows: pa.Table) -> Evidence:
        errors = self._errors(rows, "said")
        values = np.stack([errors, np.ones(len(errors))], axis=1)
        return Evidence(values, lambda sums: {"squared_error": sums[:, 0] / sums[:, 1]})


class Counting:
    """A bundle that answers the length of a text, and is wrong by so much."""

    def __init__(self, wrong: float) -> None:
        self.wrong = wrong

    def predict(self, columns: dict[str, list[str]]) -> dict[str, list[float]]:
        return {"number": [len(text) + self.wrong for text in columns["question"]]}


class Questions(DataContract):
    """What tells rows of the other kind apart is the question."""

    kind: Literal["promote_questions"] = "promote_questions"  # type: ignore[assignment]
    roles = (Role("question"),)
    identified_by = ("question",)


def numbers(wrong: float) -> pa.Table:
    texts = ["a" * (1 + row % 7) + str(row) for row in range(60)]
    lengths = np.array([len(text) for text in texts], float)
    return pa.table({"question": texts, "number": lengths, "said": lengths + wrong})


def asking(world: World) -> Any:
    """The recipe, about questions."""
    contract = Questions.model_construct(splits=world.recipe.contract.splits)
    return world.recipe.model_copy(update={"contract": contract})


@pytest.mark.parametrize(("theirs", "passed"), [(1.0, True), (0.1, True), (0.0, False)])
def test_a_kind_whose_first_figure_is_better_lower_is_compared_by_its_upper_bound(
    world: World, theirs: float, passed: bool
) -> None:
    table = numbers(0.2)
    seen = np.array([text_hash(table["question"][0].as_py())], np.uint64)
    champion = Champion("7", cast(Bundle, Counting(theirs)), seen)
    judge = cast(Judge, LengthJudge())
    recipe = asking(world)
    margin = PromotionConfig(margin=0.035)
    recipe = recipe.model_copy(update={"promotion": margin})
    verdict = compare(judge, table, champion, np.zeros(0, np.uint64), recipe)
    assert verdict.passed is passed
    assert verdict.evidence["rows_compared"] == 59, "told apart by the question"
    assert verdict.evidence["difference"].value == pytest.approx(0.04 - theirs**2)
    word = "below" if passed else "not below"
    assert verdict.reasons[-1].startswith(
        f"Squared error 0.0400 less {theirs**2:.4f}, that of version 7, on 59 shared rows: "
    )
    assert verdict.reasons[-1].endswith(f"the upper bound is {word} 0.035.")


def test_a_first_champion_of_another_kind_beats_its_constant_answer_if_there_is_one(
    world: World,
) -> None:
    none, recipe = np.zeros(0, np.uint64), asking(world)
    for wrong, passed in ((0.2, True), (30.0, False)):
        judge = cast(Judge, LengthJudge())
        verdict = first_champion(judge, numbers(wrong), Path(), none, recipe)
        assert verdict.passed is passed
        assert "that of always answering the mean, on 60 rows" in verdict.reasons[1]
        assert ("is below 0." in verdict.reasons[1]) is passed
    judge = cast(Judge, LengthJudge(constant=False))
    verdict = first_champion(judge, numbers(30.0), Path(), none, recipe)
    assert verdict.passed and "has no constant answer to beat" in verdict.reasons[0]


def test_slices_of_another_kind_have_its_own_figure_and_texts() -> None:
    table = numbers(0.0)
    figure = LengthJudge().row_figure(table)
    config = SlicesConfig(min=0.9, by=("length", "language"), min_rows=1)
    checks = list(slice_checks(Sliced(table, figure, ("question",)), config))
    assert [check.what for check in checks] == [
        "Closeness where length is 1 to 20 (60 rows):",
        "Closeness where language is Latin (60 rows):",
    ]
    assert all(check.passed for check in checks)
    unasked = SlicesConfig(min=0.9, min_rows=1)
    found = slice_checks(Sliced(table, figure, ("question",), ("number",)), unasked)
    columns = [check.what.split(" is ")[0].removeprefix("Closeness where ") for check in found]
    assert list(dict.fromkeys(columns)) == ["number", "language", "length"], "its own first"


def test_line_that_a_crash_cut_short_spoils_no_later_one(ledger: Path) -> None:
    append_line(ledger, {"n": 1})
    with ledger.open("a") as stream:
        stream.write('{"n": ')
    append_line(ledger, {"n": 2})
    append_line(ledger, {"n": "没有"})
    first, torn, second, third = ledger.read_text().splitlines()
    assert (json.loads(first), torn, json.loads(second), json.loads(third)) == (
        {"n": 1},
        '{"n": ',
        {"n": 2},
        {"n": "没有"},
    )


def test_a_later_night_that_decides_otherwise_leaves_the_evidence_of_the_first(
    world: World, ledger: Path, tmp_path: Path
) -> None:
    """Its run is finished and stays closed; the data came back, and meanwhile another version is
    champion.
    """
    first = world.model()
    run(world, first, ledger)
    world.tracker.end("FINISHED")
    other = world.with_recipe(training={"seed": 1})
    run(other, world.model(nudge=0.5), ledger)
    client, run_id = world.tracker.client, world.tracker.run_id
    later = world.with_recipe()
    assert later.tracker.closed and later.tracker.run_id == run_id
    for _ in range(2):  # a third night finds what the second has told
        decision = run(later, first, ledger)
        assert decision.outcome in ("promoted", "already_champion")
        run(replace(later, tracker=other.tracker), world.model(nudge=0.5), ledger)
    folder = Path(client.download_artifacts(run_id, "promotion", str(tmp_path)))
    told = [json.loads(file.read_text()) for file in sorted(folder.rglob("promotion.json"))]
    assert [one["champion_before"] for one in told] == ["2", None], (
        "one folder of the second night, and the first's own"
    )
    assert (folder / "promotion.json").is_file()
    after = client.get_run(run_id)
    assert of_run(after)["noisefold.promotion_against"] == "2"
    assert after.info.status == "FINISHED"
