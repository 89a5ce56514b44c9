"""Books, notes and logs as .txt: a row is a file, a paragraph or a line, and stands there as it was
written.
"""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from data_contracts.errors import SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables import documents as reader
from tasks.sources.files import left_aside, read_rows

BOOK = "Chapter 1\r\n  It was late.\r\n\r\n \t\r\n\tHe said:\u2028\x85“no”\nand left.\n\n\nEnd"


def documents(url, **source) -> list[tuple[str, int, str]]:
    """File, row and text of each document of a source."""
    files = FileSource(url=url if isinstance(url, dict) else str(url), **source)
    return [
        (file.name, row, text)
        for file, batch in read_rows(files)
        for row, text in zip(batch.rows.to_pylist(), batch.columns["text"].to_pylist(), strict=True)
    ]


def texts(url, **source) -> list[str]:
    return [text for _, _, text in documents(url, **source)]


def written(path: Path, text: str | bytes = BOOK) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_is_one_document_and_not_a_character_of_it_changes(tmp_path: Path) -> None:
    assert documents(written(tmp_path / "book.txt")) == [("book.txt", 1, BOOK)]


def test_paragraphs_stand_between_blank_lines_and_are_found_by_their_line(tmp_path: Path) -> None:
    found = documents(written(tmp_path / "book.txt"), documents="paragraph")
    assert found == [
        ("book.txt", 1, "Chapter 1\r\n  It was late."),
        ("book.txt", 5, "\tHe said:\u2028\x85“no”\nand left."),
        ("book.txt", 9, "End"),
    ]


def test_lines_lose_their_ends_and_blank_ones_are_none(tmp_path: Path) -> None:
    found = documents(written(tmp_path / "log.txt", " a \r\n\nb\r\rc\n \t\nd"), documents="line")
    assert found == [("log.txt", 1, " a "), ("log.txt", 3, "b"), ("log.txt", 5, "c"), ("log.txt", 7, "d")]  # fmt: skip


@pytest.mark.parametrize("cut", ["file", "paragraph", "line"])
def test_a_file_without_a_document_is_a_row_that_is_judged(tmp_path: Path, cut: str) -> None:
    assert documents(written(tmp_path / "none.txt", ""), documents=cut) == [("none.txt", 1, "")]
    blank = documents(written(tmp_path / "blank.txt", "\n \n"), documents=cut)
    assert blank == [("blank.txt", 1, "\n \n" if cut == "file" else "")]


def test_a_folder_a_glob_and_a_url_for_each_split_are_read(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md"):
        written(tmp_path / "books" / name, name)
    assert texts(tmp_path / "books") == ["a.txt", "b.txt"]
    assert texts(tmp_path / "books" / "[b]*.txt") == ["b.txt"]
    assert texts(tmp_path / "books", format="text") == ["a.txt", "b.txt", "c.md"]
    urls = {"train": str(tmp_path / "books" / "a.txt"), "test": str(tmp_path / "books" / "b.txt")}
    splits = [file.split for file, _ in read_rows(FileSource(url=urls))]
    assert (texts(urls), splits) == (["a.txt", "b.txt"], ["train", "test"])


def test_packed_files_are_read_too(tmp_path: Path) -> None:
    written(tmp_path / "book.txt.gz", gzip.compress(BOOK.encode()))
    with zipfile.ZipFile(tmp_path / "book.zip", "w") as archive:
        archive.writestr("book.txt", BOOK)
    assert texts(tmp_path / "book.txt.gz") == texts(tmp_path / "book.zip") == [BOOK]


def test_a_note_beside_tables_stays_one(tmp_path: Path) -> None:
    """As before plain text was read: readme.txt is no row of mails.csv."""
    written(tmp_path / "in" / "mails.csv", "text,label\nhello,x\n")
    written(tmp_path / "in" / "readme.txt", "What these are.")
    assert texts(tmp_path / "in") == ["hello"]
    assert left_aside(FileSource(url=str(tmp_path / "in"))) == [
        "readme.txt (plain text, whose columns the name does not tell)"
    ]
    with zipfile.ZipFile(tmp_path / "mails.zip", "w") as archive:
        archive.writestr("mails.csv", "text,label\nhello,x\n")
        archive.writestr("readme.txt", "What these are.")
    assert texts(tmp_path / "mails.zip") == ["hello"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding_and_is_no_text(tmp_path: Path, encoding: str) -> None:
    assert texts(written(tmp_path / "book.txt", BOOK.encode(encoding))) == [BOOK]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "book.txt", "第一章\n很久以前".encode("gb18030"))
    assert texts(file, encoding="gb18030", documents="line") == ["第一章", "很久以前"]


@pytest.mark.parametrize("cut", ["file", "paragraph", "line"])
def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path: Path, cut: str) -> None:
    file = written(tmp_path / "book.txt", "one\ntwo\n\nGröße\n".encode("cp1252"))
    with pytest.raises(SourceError, match=r"book\.txt, line 4: the bytes are not utf-8") as fault:
        texts(file, documents=cut)
    assert "source.encoding" in fault.value.remedy


@pytest.mark.parametrize(
    ("cut", "where", "way_out"),
    [
        ("file", r"book\.txt: a file", "documents: paragraph or line"),
        ("paragraph", r"book\.txt, line 3: a paragraph", "documents: line"),
        ("line", r"book\.txt, line 4: a line", "Put line ends into it"),
    ],
)
def test_a_document_longer_than_a_row_may_be_is_refused(
    tmp_path: Path, monkeypatch, cut: str, where: str, way_out: str
) -> None:
    monkeypatch.setattr(reader, "MAX_CELL_CHARACTERS", 50)
    file = written(tmp_path / "book.txt", f"one\n\ntwo\n{'x' * 60}\n")
    with pytest.raises(SourceError, match=f"{where} of more than 50 characters") as fault:
        texts(file, documents=cut)
    assert way_out in fault.value.remedy


def test_lines_come_in_batches_so_that_a_long_file_fits(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reader, "BATCH_CHARACTERS", 100)
    file = written(tmp_path / "log.txt", "ten signs.\n" * 200)
    source = FileSource(url=str(file), documents="line")
    sizes = [len(batch.rows) for _, batch in read_rows(source)]
    assert sum(sizes) == 200
    assert max(sizes) <= 11


def test_documents_of_a_table_are_refused_as_idle(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="format is csv: leave one of them out"):
        FileSource(url="a.csv", format="csv", documents="line")
    file = written(tmp_path / "mails.csv", "text,label\nhello,x\n")
    with pytest.raises(SourceError, match=r"what of plain text is a row, and mails\.csv is csv"):
        texts(file, documents="line")


def test_how_text_is_cut_is_in_the_key_of_what_was_read() -> None:
    table = FileSource(url="a.csv").reading
    assert set(table) == {"kind", "format", "encoding", "separator"}, "tables keep their keys"
    assert FileSource(url="a.txt", documents="line").reading == {**table, "documents": "line"}
