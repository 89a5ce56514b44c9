"""A person gives a folder of dated files and a window: its days are read, no other, and what was
read is said.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import fsspec
import pytest
import yaml

from data_contracts.contract.sections import WindowLimits
from data_contracts.errors import ContractViolation, SourceError
from data_contracts.kinds.classify_contract import ClassifyContract
from data_contracts.recipe.source import FileSource
from tasks.ingest import survey
from tasks.sources.dated_files import hold
from tasks.sources.files import list_files
from tasks.tracking.bookkeeping import of_run
from tests.pipeline.conftest import TINY, mlflow_client, refused, told
from tests.stages import ingest_source

DAYS = [date(2026, 11, 22) + timedelta(days=n) for n in range(6)]
WINDOW = {"start": "2026-11-26", "end": "2026-11-27"}
ROWS = "text,label\n" + "".join(
    f"parcel {n} came late,delivery\ninvoice {n} paid twice,billing\n" for n in range(60)
)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(ROWS)
    return folder


def source(url: object, **window: object) -> FileSource:
    return FileSource.model_validate({"url": url, "window": window or WINDOW})


def said(files: FileSource) -> tuple[str, ...]:
    read = survey(files).window
    assert read is not None
    return read.sentences()


def recipe_file(folder: Path, url: str, days: int, **contract: object) -> Path:
    document = {
        **TINY,
        "name": "mails",
        "source": {"url": url, "window": {"days": days}},
        "contract": {
            "name": "mails",
            "splits": {"min_rows": 3},
            "duplicates": {"action": "keep", "max_share": 1.0},
            **contract,
        },
        "training": {"max_epochs": 1},
    }
    file = folder / "mails.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.mark.parametrize(
    ("form", "url"),
    [
        ("{:%Y-%m-%d}.csv", ""),
        ("mails_{:%Y%m%d}.csv", ""),
        ("邮件-{:%Y年%m月%d日}.csv", ""),
        ("{:%d-%b-%Y}.csv", "*.csv"),
        ("mails.{:%Y.%m.%d}T0300.csv", "mails.*"),
        ("date={:%Y-%m-%d}/part-0.csv", "*/*.csv"),
        ("date={:%Y-%m-%d}/part-0.csv", ""),
        ("lang=zh/dt={:%Y%m%d}/part-0.csv", ""),
        ("year={:%Y/month=%m/day=%d}/part-0.csv", "**/*.csv"),
        ("{:%Y/%m/%d}/mails.csv", ""),
        ("{:%Y/%m/%d}.csv", "2026/*/*.csv"),
    ],
)
def test_files_of_other_days_are_not_read(form: str, url: str, tmp_path: Path) -> None:
    write(tmp_path, *(form.format(day) for day in DAYS))
    (tmp_path / "archive").mkdir()
    files = source(f"{tmp_path}/{url}")
    assert [str(file.days) for file in list_files(files)] == ["2026-11-26", "2026-11-27"]
    assert said(files) == ("2 of 2 days, 2026-11-26 to 2026-11-27",)


def test_days_are_told_wherever_fsspec_reaches() -> None:
    memory = fsspec.filesystem("memory")
    for day in DAYS:
        memory.pipe_file(f"/bucket/mails/{day:%Y/%m/%d}/part.csv", ROWS.encode())
    for url in (
        "memory://bucket/mails",
        "memory://bucket/mails/*/*/*/*.csv",
        "memory://bucket/mails/2026/11/*/part.csv",
    ):
        assert [str(file.days) for file in list_files(source(url))] == ["2026-11-26", "2026-11-27"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mails_12345678.csv", "no date"),
        ("latest.csv", "no date"),
        ("mails_20261345.csv", "20261345 is no date"),
        ("05-06-2026.csv", "may mean 2026-05-06 or 2026-06-05"),
        ("2026-11-26_2026-11-27_2026-11-28.csv", "several dates"),
        ("date=2026-11-26/2026-11-27.csv", "tell 2026-11-27 and 2026-11-26"),
    ],
)
def test_a_file_whose_day_is_not_told_is_neither_read_nor_left_out(
    name: str, why: str, tmp_path: Path
) -> None:
    write(tmp_path, "2026-11-26.csv", "2026-11-27.csv", name)
    with pytest.raises(SourceError) as fault:
        list_files(source(str(tmp_path)))
    assert f"{name} (" in fault.value.cause and why in fault.value.cause
    for way in ("Rename", "narrow source.url", "drop source.window", "20261126", "date=2026-11-26"):
        assert way in fault.value.remedy
    assert len(list_files(FileSource(url=str(tmp_path)))) >= 2, (
        "without a window a name need not tell anything"
    )


def test_a_window_over_a_file_that_it_cannot_choose_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "all.csv")
    with pytest.raises(SourceError, match=r"all\.csv \(no date\)"):
        list_files(source(str(tmp_path / "all.csv")))


def test_a_folder_whose_folders_tell_no_day_is_refused_with_their_names(tmp_path: Path) -> None:
    write(tmp_path, "north/2026-11-26.csv", "south/2026-11-26.csv")
    with pytest.raises(SourceError, match="it holds the folders north, south") as fault:
        list_files(source(str(tmp_path)))
    assert f"{tmp_path}/*/*" in fault.value.remedy


def test_a_test_file_that_stays_may_stand_beside_train_files_that_roll_and_is_named(
    tmp_path: Path,
) -> None:
    write(tmp_path, *(f"train/{day}.csv" for day in DAYS), "test.csv")
    files = source({"train": str(tmp_path / "train"), "test": str(tmp_path / "test.csv")})
    assert [file.name for file in list_files(files)] == [
        "2026-11-26.csv",
        "2026-11-27.csv",
        "test.csv",
    ]
    assert said(files) == (
        "train: 2 of 2 days, 2026-11-26 to 2026-11-27",
        "test.csv is named by itself and read whatever the window",
    )


def test_where_the_url_holds_the_dates_nothing_is_said_of_days_that_no_name_tells(
    tmp_path: Path,
) -> None:
    write(tmp_path, "2026-11-26_2026-11-27/part-0.csv")
    files = source(f"{tmp_path}/{{start}}_{{end}}")
    assert [file.name for file in list_files(files)] == ["part-0.csv"]
    assert said(files) == (
        "2026-11-26 to 2026-11-27; names do not tell which of these days are there",
    )


def test_what_a_file_of_several_days_holds_beyond_the_window_is_said(tmp_path: Path) -> None:
    write(tmp_path, "2026-10.csv", "2026-11.csv")
    (sentence,) = said(source(str(tmp_path)))
    assert (
        sentence.startswith("2 of 2 days")
        and "2026-11-01 to 2026-11-25, 2026-11-28 to 2026-11-30" in sentence
    )


def test_an_export_that_died_is_a_broken_contract_and_so_are_gaps_where_they_are_bounded(
    tmp_path: Path,
) -> None:
    write(tmp_path, *(f"{date(2026, 11, 1) + timedelta(days=n)}.csv" for n in range(6) if n != 3))
    day_20, day_21 = (
        survey(source(str(tmp_path), start="2026-11-01", end=f"2026-11-{n}")).window
        for n in (20, 21)
    )
    assert day_20 is not None and day_21 is not None
    hold(day_20, WindowLimits())
    with pytest.raises(ContractViolation) as fault:
        hold(day_21, WindowLimits())
    for word in ("max_age_days", "2026-11-06", "15 days", "2026-11-21", "limit: 14"):
        assert word in fault.value.cause
    hold(day_21, WindowLimits(max_age_days=None, max_missing_days=16))
    with pytest.raises(
        ContractViolation, match=r"max_missing_days: 16 of 21 days .*2026-11-04, .*\(limit: 15\)"
    ):
        hold(day_21, WindowLimits(max_age_days=15, max_missing_days=15))


def test_another_window_over_the_same_files_reads_them_no_second_time_and_tells_its_own_days(
    store, tmp_path
) -> None:
    write(tmp_path / "in", "2026-11.csv")
    contract = ClassifyContract(name="x")

    def run(end: str):
        files = source(str(tmp_path / "in"), start="2026-11-20", end=end)
        found = survey(files)
        fingerprint, read = found.fingerprint, found.window
        assert read is not None
        return ingest_source(files, contract, fingerprint, store, batch_rows=1000), read.coverage[
            0
        ].newest

    (first, newest), (second, later) = run("2026-11-26"), run("2026-11-27")
    assert not first.cached and second.cached and first.manifest == second.manifest
    assert (newest, later) == (date(2026, 11, 26), date(2026, 11, 27))
    write(tmp_path / "in", "2026-11-26.csv").joinpath("2026-11.csv").unlink()
    (third, _) = run("2026-11-26")
    assert [str(days) for days in third.manifest.days] == ["2026-11-26"]


def test_a_retrain_reads_up_to_local_yesterday_and_says_so_everywhere(here, tmp_path: Path) -> None:
    """At any hour one of the two zones has another date than UTC. The second run refuses what the
    contract bounds.
    """
    home = tmp_path / "home"
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        today = datetime.now(ZoneInfo(zone)).date()
        two_days = [today - timedelta(days=back) for back in (1, 2)]
        folder = write(
            tmp_path / zone,
            *(f"in/{today - timedelta(days=back):%Y%m%d}.csv" for back in range(-1, 5)),
        )
        recipe = recipe_file(folder, "in", 2)
        if zone == "Pacific/Kiritimati":
            result = told(here(home, "retrain", recipe, "--json", TZ=zone))
            assert f"({zone}, this machine's time zone)" in result["due"]
            assert result["window"]["window"] == {
                "first": str(two_days[1]),
                "last": str(two_days[0]),
            }
            client = mlflow_client(home)
            run = client.get_run(result["run_id"])
            days = f"2 of 2 days, {two_days[1]} to {two_days[0]}"
            assert (
                of_run(run)["noisefold.window"] == days
                and of_run(run)["noisefold.due"] == result["due"]
            )
            assert (
                f'"days": "2 days, {two_days[1]} to {two_days[0]}"'
                in run.inputs.dataset_inputs[0].dataset.profile
            )
            report = Path(
                client.download_artifacts(run.info.run_id, "validation/report.html", str(tmp_path))
            )
            assert f"Files for 2 days, {two_days[1]} to {two_days[0]}." in report.read_text()
            summary = Path(
                client.download_artifacts(run.info.run_id, "summary.md", str(tmp_path))
            ).read_text()
            assert days in summary
        else:
            folder.joinpath("in", f"{two_days[0]:%Y%m%d}.csv").unlink()
            recipe = recipe_file(folder, "in", 2, window={"max_missing_days": 0})
            done = here(home, "retrain", recipe, TZ=zone)
            refused(
                done,
                "max_missing_days: 1 of 2 days",
                str(two_days[0]),
                "change the limit in the contract",
            )
            assert f"window    Due {today} " in done.output, "the days are said before the run ends"
