"""Two text files, one in each language: line n of one belongs to line n of the other."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.errors import RecipeError, SourceError
from data_contracts.recipe.reading import load_recipe, parse_recipe
from data_contracts.recipe.source import FileSource
from data_contracts.sample.phrases import generate
from flows.cli.main import main
from tasks.artifacts.store import ArtifactStore
from tasks.sources.files import list_files, read_rows
from tests.stages import fingerprint, ingest_source, validate_corpus

LAX = {"splits": {"min_rows": 1}, "max_quarantine_share": 1}
Lines = list[str]


def pairs(count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Clean ones."""
    rows = generate(max(200, 2 * count), seed)
    clean = [(row["source"], row["target"]) for row in rows if _is_clean(row)]
    return list(dict.fromkeys(clean))[:count]


def _is_clean(row: dict[str, str]) -> bool:
    source, target = row["source"], row["target"]
    return source.isprintable() and source[-1:] in ".?" and target[-1:] in "。？" and "\ufffd" not in target and source.isascii() and not target.isascii() and len(target) < len(source)  # fmt: skip


def write(path: Path, lines: Lines, end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def sides(folder: Path, count: int = 120, name: str = "train") -> dict[str, str]:
    folder.mkdir(exist_ok=True, parents=True)
    both = pairs(count)
    one = write(folder / f"{name}.en", [source for source, _ in both])
    other = write(folder / f"{name}.zh", [target for _, target in both])
    return {"source": str(one), "target": str(other)}


def contract(**parts: Any) -> DataContract:
    scripts = {"source": {"script": "Latin"}, "target": {"script": "Han"}}
    return parse_contract({"kind": "translate", "name": "t", **LAX, **scripts, **parts}, origin="t")


def rows_of(url: Any, **source: Any) -> list[tuple[int, str, str]]:
    found = []
    for _, batch in read_rows(FileSource(url=url, **source)):
        cells = [batch.columns[name].to_pylist() for name in ("source", "target")]
        found += zip(batch.rows.to_pylist(), *cells, strict=True)
    return found


def validated(url: Any, folder: Path, by: DataContract) -> Any:
    source = FileSource(url=url)
    store = ArtifactStore(str(folder / "artifacts"), folder / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=50).manifest
    return validate_corpus(raw, by, store, batch_rows=50).manifest


def recipe(url: Any, **sections: Any) -> dict[str, Any]:
    return {
        "name": "t",
        "task": {"kind": "translate"},
        "source": {"url": url},
        "contract": contract().model_dump(mode="json"),
        **sections,
    }


def run(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def spoken(done: Result) -> str:
    return " ".join(done.output.split())


# --- lines ----------------------------------------------------------------------------------------


def test_line_n_of_one_belongs_to_line_n_of_the_other(tmp_path: Path) -> None:
    found = rows_of(sides(tmp_path, 90))
    assert found == [(at, *pair) for at, pair in enumerate(pairs(90), 1)]


def test_a_blank_line_is_a_line_and_a_pair_without_one_side(tmp_path: Path) -> None:
    url = sides(tmp_path)
    for name, at in (("source", 4), ("target", 7)):
        lines = Path(url[name]).read_text(encoding="utf-8").split("\n")[:-1]
        lines[at] = ""
        write(Path(url[name]), lines)
    manifest = validated(url, tmp_path, contract())
    assert manifest.quarantined == {"empty_source": 1, "empty_target": 1}
    refused = pq.read_table(f"{manifest.uri}/quarantine.parquet").to_pylist()
    places = {(row["file"], row["row"], row["id"]) for row in refused}
    name = "train.en+train.zh"
    assert places == {(name, 5, f"{name}#5"), (name, 8, f"{name}#8")}
    assert sum(manifest.splits.values()) == 118


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_byte_order_marks_are_no_part_of_a_line(tmp_path: Path, end: str) -> None:
    one = write(tmp_path / "a.en", ["\ufeffWe are here.", "You\u2028are here."], end)
    other = tmp_path / "a.zh"
    other.write_bytes(f"我们在这里。{end}你们\r在这里。".encode())  # the last one without an end
    found = rows_of({"source": str(one), "target": str(other)})
    assert found == [(1, "We are here.", "我们在这里。"), (2, "You\u2028are here.", "你们\r在这里。")]  # fmt: skip


@pytest.mark.parametrize("extra", [["one more"], ["one more", "", "and another"]])
def test_different_numbers_of_lines_name_both_files_and_both_numbers(
    tmp_path: Path, extra: Lines
) -> None:
    url = sides(tmp_path)
    with Path(url["target"]).open("a", encoding="utf-8") as stream:
        stream.write("\n".join(extra))
    with pytest.raises(SourceError) as fault:
        rows_of(url)
    assert f"train.en 120 and train.zh {120 + len(extra)}" in fault.value.cause
    assert "line n of one belongs to line n of the other" in fault.value.cause
    with pytest.raises(SourceError, match=r"train\.zh 12[13]"):
        list(read_rows(FileSource(url=url), max_rows_per_file=5))


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    url = sides(tmp_path)
    Path(url["target"]).write_bytes(b"")
    with pytest.raises(SourceError, match=r"train\.en 120 and train\.zh 0"):
        rows_of(url)


def test_bytes_in_another_encoding_name_file_and_line(tmp_path: Path) -> None:
    url = sides(tmp_path)
    lines = Path(url["target"]).read_bytes().split(b"\n")
    lines[2] = "我们在这里。".encode("gb18030")
    Path(url["target"]).write_bytes(b"\n".join(lines))
    with pytest.raises(SourceError, match=r"train\.zh, line 3: the bytes are not utf-8"):
        rows_of(url)


def test_compressed_files_are_read(tmp_path: Path) -> None:
    url = sides(tmp_path)
    packed = {}
    for name, path in url.items():
        packed[name] = f"{path}.gz"
        Path(packed[name]).write_bytes(gzip.compress(Path(path).read_bytes()))
    assert rows_of(packed) == rows_of(url)


def test_each_split_may_have_its_files(tmp_path: Path) -> None:
    splits = {"train": 60, "valid": 20, "test": 30}
    url = {split: sides(tmp_path / split, rows, "part") for split, rows in splits.items()}
    for at, part in enumerate(url.values()):  # the same sources in all of them would be leaks
        lines = Path(part["source"]).read_text(encoding="utf-8").split("\n")[:-1]
        write(Path(part["source"]), [f"{line} Part {at}." for line in lines])
    manifest = validated(url, tmp_path, contract())
    assert dict(manifest.splits) == splits
    assert manifest.quarantined == {}
    names = [file.name for file in list_files(FileSource(url=url))]
    assert names == [f"{split}/part.{end}" for split in splits for end in ("en", "zh")]


def test_another_kind_of_rows_may_stand_in_files_of_lines_too(tmp_path: Path) -> None:
    """Texts in one file and their labels in another, as fastText's and many papers' data are."""
    both = pairs(60)
    texts = write(tmp_path / "a.text", [one for one, _ in both])
    labels = write(tmp_path / "a.label", ["1.0" if one[-1] == "?" else "2" for one, _ in both])
    by = parse_contract({"name": "t", **LAX}, origin="t")
    manifest = validated({"text": str(texts), "label": str(labels)}, tmp_path, by)
    assert manifest.facts == {"labels": ["1", "2"]}
    assert sum(manifest.splits.values()) == 60


# --- the source as a whole ------------------------------------------------------------------------


def test_each_file_and_its_role_are_part_of_what_the_source_holds_now(tmp_path: Path) -> None:
    url = sides(tmp_path)
    prints = [fingerprint(FileSource(url=url))]
    prints.append(fingerprint(FileSource(url={"source": url["target"], "target": url["source"]})))
    for path in url.values():
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write("x\n")
        prints.append(fingerprint(FileSource(url=url)))
    assert len({*prints}) == 4
    again = fingerprint(FileSource(url=url))
    assert again == prints[-1]


def test_paths_start_at_the_recipes_folder(tmp_path: Path) -> None:
    sides(tmp_path / "data")
    file = tmp_path / "r.yaml"
    file.write_text(
        "name: t\ntask: {kind: translate}\ncontract: {kind: translate, name: t}\n"
        "source:\n  url:\n    train: {source: data/train.en, target: data/train.zh}\n"
    )
    source = load_recipe(file).source
    assert isinstance(source, FileSource)
    assert len(rows_of(source.url)) == 120


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            {"source": "a.en", "goal": "a.zh"},
            "source.url has the keys source, goal, which are neither splits (train, valid, test) "
            "nor the roles of contract t (source, target)",
        ),
        ({"source": "a.en", "target": "a.zh", "extra": "b"}, "which are neither splits"),
        ({"source": "a.en"}, "source is none of train, valid, test; and of files"),
        ({"trian": "a.csv"}, "trian is none of train, valid, test"),
        ({"train": "a.csv", "target": "a.zh"}, "train is a split and target is none"),
        (
            {"train": {"source": "a.en", "target": "a.zh"}, "test": "b.csv"},
            "train has a file for each role and test has one URL: give all splits in one form",
        ),
        ({"source": {"train": "a"}, "target": {"train": "b"}}, "source is none of train"),
        (
            {"train": {"source": "a.en", "target": "a.zh"}, "test": {"source": "b.en"}},
            "test has the files source: within a split each role",
        ),
        ({"source": "a.en", "target": "a.en"}, "a.en is given twice"),
        ({"source": "a.en", "target": " "}, "no URL is given"),
    ],
)
def test_keys_that_mean_nothing_are_refused(url: Any, said: str) -> None:
    with pytest.raises(RecipeError) as fault:
        parse_recipe(recipe(url), origin="r")
    assert said in fault.value.cause


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"window": {"days": 7}}, "a window chooses among dated files"),
        ({"format": "csv"}, "format is csv: name the columns of a table"),
        ({"documents": "paragraph"}, "documents is paragraph: leave source.documents out"),
    ],
)
def test_what_lines_that_belong_together_do_not_have_is_refused(source: Any, said: str) -> None:
    url = {"source": "a.en", "target": "a.zh"}
    with pytest.raises(RecipeError) as fault:
        parse_recipe(recipe(url, source={"url": url, **source}), origin="r")
    assert "url names a file for each of source and target" in fault.value.cause
    assert said in fault.value.cause


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"columns": {"source": "de"}}, "contract.columns.source"),
        ({"columns": {"id": "n"}}, "contract.columns.id"),
        ({"columns": {"slices": ["topic"]}}, "contract.columns.slices"),
        ({"select": {"ok": ["1"]}}, "contract.select"),
    ],
)
def test_there_is_no_column_beside_the_files(parts: Any, field: str) -> None:
    said = {"kind": "translate", "name": "t", **parts}
    with pytest.raises(RecipeError, match=f"leave {field} out"):
        parse_recipe(recipe({"source": "a", "target": "b"}, contract=said), origin="r")


def test_folders_globs_tables_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    url = sides(tmp_path)
    (tmp_path / "a.csv").write_text("source,target\na,b\n")
    for other, said in (
        (tmp_path, "is a folder, and source.url names a file for each"),
        (tmp_path / "*.zh", "is a glob, and source.url names a file for each"),
        (tmp_path / "a.csv", "is a table by its name"),
        (tmp_path / "none.zh", "no such file or folder"),
    ):
        with pytest.raises(SourceError, match=said.replace("*", r"\*")):
            rows_of({**url, "target": str(other)})


# --- on the command line --------------------------------------------------------------------------


def test_a_recipe_is_suggested_and_checked_from_two_files(tmp_path: Path) -> None:
    url = sides(tmp_path / "corpus")
    out = tmp_path / "r.yaml"
    done = run("recipe", "suggest", "--source", url["source"], "--target", url["target"], "-o", out)
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert "url: {source: corpus/train.en, target: corpus/train.zh}" in text
    assert "name: corpus\n" in text and "script: Han" in text
    checked = run("recipe", "check", out)
    assert checked.exit_code == 0, checked.output
    assert "2 files (train.en … train.zh); all 120 rows read, 120 of them kept" in spoken(checked)
    with Path(url["source"]).open("a", encoding="utf-8") as stream:
        stream.write("One more.\n")
    assert "train.en 121 and train.zh 120" in spoken(run("recipe", "check", out))


def test_a_contract_is_inferred_from_two_files(tmp_path: Path) -> None:
    url = sides(tmp_path)
    done = run("contract", "infer", "--source", url["source"], "--target", url["target"])
    assert done.exit_code == 0, done.output
    assert "kind: translate" in done.output
    assert "--source a.de --target a.en" in spoken(run("contract", "infer", *url.values()))
    named = ("--source", url["source"], "--target", url["target"], "--id", "n")
    assert "--id n: there is no such column" in spoken(run("contract", "infer", *named))
    assert "No rows are named" in spoken(run("contract", "infer", "--source", "a", "--target", "b"))
