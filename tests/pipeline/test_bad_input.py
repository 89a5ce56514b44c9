"""Whatever is wrong with the input: one clear message with cause and remedy, a non-zero exit,
nothing half-written.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.pipeline.conftest import TINY, clean_environment, mlflow_client, refused
from tests.servers import free_port

GOOD = "text,label\n" + "".join(
    f"this is sentence number {i} of the file,{'yes' if i % 2 else 'no'}\n" for i in range(400)
)


def csv(text: str | bytes, name: str = "data.csv") -> Callable[[Path], dict]:
    def make(folder: Path) -> dict:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return {"source": {"kind": "files", "url": name}}

    return make


def recipe(**sections) -> Callable[[Path], dict]:
    def make(folder: Path) -> dict:
        return {**csv(GOOD)(folder), **sections}

    return make


def contract(**parts) -> Callable[[Path], dict]:
    return recipe(contract={"name": "bad", **parts})


def nested_parquet(folder: Path) -> dict:
    pq.write_table(pa.table({"text": [["a"], ["b"]], "label": ["x", "y"]}), folder / "data.parquet")
    return {"source": {"kind": "files", "url": "data.parquet"}}


def split_column(rows: str) -> Callable[[Path], dict]:
    def make(folder: Path) -> dict:
        return {**csv(rows)(folder), "contract": {"name": "bad", "columns": {"split": "split"}}}

    return make


def given_tokenizer(folder: Path) -> dict:
    (folder / "tokenizer.json").write_text("{}")
    return {**csv(GOOD)(folder), "tokenizer": {"kind": "file", "path": "tokenizer.json"}}


NO_TEST = "text,label,split\n" + "".join(
    f"sentence {i} here,{'ab'[i % 2]},{'train' if i < 300 else 'valid'}\n" for i in range(400)
)
ONE_CLASS = GOOD.replace(",no\n", ",yes\n")
BLANK = "text,label\n" + "".join(f"  ,{'yes' if i % 2 else 'no'}\n" for i in range(400))
CUT_GZIP = gzip.compress(GOOD.encode() * 20)[:-200]

CASES: dict[str, tuple[Callable[[Path], dict], str]] = {
    "missing file": (lambda _: {"source": {"kind": "files", "url": "absent.csv"}}, r"absent\.csv: no such file"),
    "empty folder": (lambda f: (f / "in").mkdir() or {"source": {"kind": "files", "url": "in"}}, r"in\b.*no file"),
    "glob without a match": (lambda _: {"source": {"kind": "files", "url": "*.jsonl"}}, r"\*\.jsonl.*no "),
    "empty file": (csv(""), r"data\.csv.*(empty|no rows|header)"),
    "header only": (csv("text,label\n"), r"data\.csv: no rows"),
    "wrong column": (csv(GOOD.replace("text,label", "txt,label")), r"column.*text.*txt"),
    "cut row": (csv(GOOD + "only one field\n"), r"data\.csv.*row 401.*1 field"),
    "open quote": (csv(GOOD + '"never closed,yes\n'), r"data\.csv.*row 401"),
    "bad UTF-8": (csv(GOOD.encode() + b"caf\xe9,yes\n"), r"data\.csv.*row 401.*utf-8"),
    "truncated gzip": (csv(CUT_GZIP, "data.csv.gz"), r"data\.csv\.gz.*end early"),
    "not gzip at all": (csv(GOOD, "data.csv.gz"), r"data\.csv\.gz.*gzip"),
    "bad JSON line": (csv('{"text": "a", "label": "x"}\n{"text": \n', "data.jsonl"), r"data\.jsonl.*row 2.*JSON"),
    "JSON list instead of an object": (csv("[1, 2]\n", "data.jsonl"), r"data\.jsonl.*row 1.*object"),
    "not Parquet": (csv(GOOD, "data.parquet"), r"data\.parquet.*Parquet"),
    "nested text column": (nested_parquet, r"text.*list"),
    "a document": (csv(GOOD, "data.docx"), r"data\.docx is a document.*CSV"),
    "unknown ending": (csv(GOOD, "data.odd"), r"data\.odd.*does not tell the format.*\.csv"),
    "unknown split value": (split_column(GOOD.replace("text,label", "text,label,split").replace("yes\n", "yes,dev\n").replace("no\n", "no,holdout\n")), r"row 1.*holdout"),
    "unknown label": (contract(labels={"values": ["yes", "maybe"]}), r"(?s)label.*'no'|no\b.*label"),
    "one class only": (csv(ONE_CLASS), r"label"),
    "all rows quarantined": (csv(BLANK), r"quarantine"),
    "test split empty": (split_column(NO_TEST), r"test"),
    "too many duplicates": (csv("text,label\n" + "the very same text,yes\nanother text again,no\n" * 200), r"duplicate"),
    "texts too long": (contract(text={"max_characters": 10}), r"over_long|longer|max_characters"),
    "dates outside the window": (
        lambda f: (csv(GOOD, "2026-01-05.csv")(f) and {"source": {"kind": "files", "url": ".", "window": {"start": "2026-03-01", "end": "2026-03-02"}}}),
        r"no file of 2026-03-01 to 2026-03-02",
    ),
    "unusable tokenizer file": (given_tokenizer, r"tokenizer\.path"),
    "no token frequent enough": (recipe(tokenizer={"kind": "word", "min_frequency": 100000}), r"min_frequency"),
    "unknown key": (recipe(training={"epochs": 3}), r"training\.epochs \(line \d+\): unknown key; "
                                                    r"did you mean training\.max_epochs"),
    "vocabulary of 1": (recipe(tokenizer={"kind": "word", "vocab_size": 1}), r"tokenizer\.vocab_size"),
    "wrong type in the recipe": (recipe(training={"max_epochs": "many"}), r"training\.max_epochs "
                                                                          r"\(line \d+\): a whole "
                                                                          r"number is expected"),
    "unknown encoder": (recipe(model={"encoder": {"kind": "mamba"}}), r"model\.encoder.*mamba"),
    "unknown contract": (recipe(contract="nobody"), r"contract nobody: no such file"),
    "source URL of an unknown scheme": (lambda _: {"source": {"kind": "files", "url": "gopher://x/y.csv"}}, r"gopher"),
    "refused connection": (lambda _: {"source": {"kind": "files", "url": f"http://127.0.0.1:{free_port()}/x.csv"}}, r"127\.0\.0\.1"),
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bad") / "home"


def write_recipe(folder: Path, sections: dict) -> Path:
    base = {
        "contract": {"name": "bad"},
        "execution": TINY["execution"],
        "training": TINY["training"],
        "name": "bad",
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**base, **sections}))
    return file


def assert_nothing_is_left_half_done(home: Path) -> None:
    for folder in (home / "artifacts").glob("*/*"):
        assert (folder / "manifest.json").exists(), folder
    if (home / "mlflow.db").exists():
        client = mlflow_client(home)
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        assert not client.search_runs(ids, "attributes.status = 'RUNNING'")


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_in_one_message(case, here, home, tmp_path):
    make, message = CASES[case]
    file = write_recipe(tmp_path, make(tmp_path))
    done = here(home, "retrain", file)
    refused(done)
    assert done.stderr.startswith("error: ")
    assert re.search(message, done.stderr, re.S), done.stderr
    assert_nothing_is_left_half_done(home)


def test_there_are_enough_cases():
    assert len(CASES) >= 25


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_unreachable_server_is_told_by_name(variable, prefect_api, tmp_path):
    file = write_recipe(tmp_path, csv(GOOD)(tmp_path))
    variables = {"NOISEFOLD_HOME": str(tmp_path / "home"), "PREFECT_API_URL": prefect_api.url}
    variables[variable] = f"http://user:hunter2@127.0.0.1:{free_port()}"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", "retrain", str(file)],
        env={**clean_environment(), **variables}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "does not answer" in done.stderr and variable in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert not list((tmp_path / "home").glob("artifacts/*/*"))


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/bin/mount").exists(), reason="needs root to mount a small tmpfs"
)
def test_full_disk_is_told_and_leaves_the_rest(here, tmp_path):
    """The store's, which is not the work folder's."""
    home, disk = tmp_path / "home", tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here ({mounted.stderr.decode().strip()})")
    try:
        file = write_recipe(
            tmp_path, {"source": {"kind": "sample", "rows": 20_000}, "contract": "sample"}
        )
        done = here(home, "retrain", file, NOISEFOLD_ARTIFACTS=str(disk / "artifacts"))
        refused(done, "No space is left", "NOISEFOLD_HOME")
        assert_nothing_is_left_half_done(home)
        assert not [
            f for f in (disk / "artifacts").glob("*/*") if not (f / "manifest.json").exists()
        ]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_state_folder_that_is_a_file_is_told(here, tmp_path):
    (tmp_path / "home").write_text("")
    refused(here(tmp_path / "home", "retrain"), "cannot be written")


def test_model_that_is_not_there_is_told(here, home):
    done = here(home, "predict", "--model", "noisefold-nobody", "text")
    refused(done, "noisefold-nobody")
    assert done.stdout == ""
