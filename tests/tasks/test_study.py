"""The trials of a search as Optuna keeps them: what is drawn, taken up again, and whose they are."""

from __future__ import annotations

import sqlite3

import pytest

from data_contracts.errors import NoisefoldError
from tasks.searching.study import FILE, Study, spent
from tests.data_contracts.test_search import search


def carried_out(folder, wanted: int, killed: tuple[int, ...] = (), **changes):
    """So many trials of a made-up figure; those of `killed` are left running once, by a process
    that is gone.
    """
    mine, left = search(**changes), set(killed)
    study, done = Study(mine, folder, "key"), 0
    while done < wanted:
        tried = study.ask()
        value = 10 * tried.overrides["training.learning_rate"] + tried.overrides["model.dropout"]
        going = True
        for epoch in (1, 2, 3):
            told = {"epoch": epoch, "cpu_seconds": 2.0 * epoch, "val/macro_f1": value * epoch / 3}
            going = study_goes_on(tried, told)
            if tried.number in left and epoch == 2:
                break
            if not going:
                break
        if tried.number in left:
            left.remove(tried.number)
            study = Study(mine, folder, "key")
            continue
        if going:
            study.finish(tried, value)
        else:
            study.prune(tried)
        done += 1
    return study


def study_goes_on(tried, told) -> bool:
    return tried.goes_on("val/macro_f1", told)


def test_a_search_that_was_killed_draws_what_one_that_was_not_draws(tmp_path):
    candidates = {"as it is": {}, "n-grams": {"task.wide": {"max_n": 3}}}
    whole = carried_out(tmp_path / "whole", 14, candidates=candidates)
    killed = carried_out(tmp_path / "killed", 14, (0, 6, 12), candidates=candidates)
    assert killed.results() == whole.results()
    assert [one.number for one in whole.results()] == list(range(14))
    assert {one.state for one in whole.results()} == {"finished", "pruned"}
    shares = whole.importance()
    assert shares == killed.importance() and sum(shares.values()) == pytest.approx(1)
    best = max(whole.results(), key=lambda one: one.value)
    assert best.value > whole.results()[0].value


def test_what_is_drawn_depends_on_the_seed(tmp_path):
    one, other = (
        [trial.overrides for trial in carried_out(tmp_path / str(seed), 4, seed=seed).results()]
        for seed in (0, 1)
    )
    assert one[0] == other[0]  # the recipe itself
    assert one[1:] != other[1:]


def test_values_that_are_no_numbers_fail_their_trial_and_a_training_is_paid_once(tmp_path):
    study = Study(search(), tmp_path, "key")
    first, second = study.ask(), study.ask()
    first.cpu_seconds = second.cpu_seconds = 5.0
    study.finish(first, float("nan"))
    study.fail(second, "The training loss became inf.")
    causes = [one.cause for one in study.results()]
    assert causes == ["val/macro_f1 is nan.", "The training loss became inf."]
    again = study.results()[0].model_copy(update={"number": 7})
    assert spent([*study.results(), again]) == 10.0


def test_a_trial_that_draws_what_another_had_ends_as_that_one(tmp_path):
    study = Study(search(space={"training.batch_size": [64, 32]}), tmp_path, "key")
    first = study.ask()
    first.epochs, first.cpu_seconds = 3, 5.0
    study.finish(first, 0.5)
    copies = 0
    for _ in range(8):
        tried = study.ask()
        if study.again(tried):
            copies += tried.overrides == first.overrides
        else:
            study.fail(tried, "No memory.")
    one, *others = study.results()
    assert copies > 0 and {other.state for other in others} == {"finished", "failed"}
    alike = [other for other in others if other.overrides == one.overrides]
    assert all((other.value, other.cpu_seconds) == (0.5, 5.0) for other in alike)
    assert {other.cause for other in others if other.state == "failed"} == {"No memory."}
    assert spent(study.results()) == 5.0


def test_another_searchs_study_and_a_file_that_is_none_are_refused(tmp_path):
    Study(search(), tmp_path, "key")
    with pytest.raises(NoisefoldError, match="another search's") as refused:
        Study(search(seed=3), tmp_path, "key")
    assert refused.value.remedy == "Give this search another name."
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / FILE).write_text("no database")
    with pytest.raises(NoisefoldError, match="cannot be read"):
        Study(search(), tmp_path / "broken", "key")
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("select count(*) from studies").fetchone() == (1,)
