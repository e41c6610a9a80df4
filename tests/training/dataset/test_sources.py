"""Files of every kind, whole and damaged."""

import hashlib
import json

import pytest

from tests.training.dataset.conftest import read, told, write_lines
from training.dataset.problems import Problems
from training.dataset.reader import load_rows
from training.dataset.rows import DataError
from training.dataset.sources import read_source

ROWS = [{"prompt": f"What is number {n}?", "completion": "A number."} for n in range(3)]


def lines_of(path):
    rows, _ = read(path)
    return [(row.line, row.prompt) for row in rows]


EXPECTED = [(n + 1, f"What is number {n}?") for n in range(3)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"data": rows, "version": 1}])
def test_one_json_list_is_read_row_by_row(tmp_path, wrap, indent):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(wrap(ROWS), indent=indent))

    assert lines_of(path) == EXPECTED


def test_json_lines_may_be_called_json(tmp_path):
    path = write_lines(tmp_path / "rows.json", *ROWS)

    assert lines_of(path) == EXPECTED


def test_a_list_in_a_file_of_lines_is_refused_with_a_hint(path):
    path.write_text(json.dumps(ROWS))

    rows, problems = read(path)

    assert rows == []
    assert "is named .json" in problems.found[0].text


def test_parquet_is_read_with_its_lists(tmp_path):
    import pyarrow
    import pyarrow.parquet

    chats = [
        [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "A number."}]
        for n in range(3)
    ]
    table = pyarrow.table({"messages": chats, "system": [None, "Be kind.", None]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=2)

    rows, problems = read(tmp_path / "rows.parquet")

    assert [(row.line, row.prompt) for row in rows] == [(1, "0?"), (2, "1?"), (3, "2?")]
    assert [len(row.messages) for row in rows] == [1, 2, 1]
    assert told(problems, "refused") == []


def test_a_column_without_a_value_is_as_if_it_were_not_there(tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = {"prompt": ["Hi."], "completion": ["Hello."], "style": [None], "note": [None]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")

    rows, problems = read(tmp_path / "rows.parquet")

    assert len(rows) == 1
    assert told(problems, "refused") == []


def test_a_file_that_is_no_parquet_is_told(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 but no more")

    with pytest.raises(DataError, match=r"^rows.parquet: not a whole Parquet file"):
        load_rows(path, ["terse"])


@pytest.mark.parametrize("ending", [".csv", ".gz"])
def test_other_kinds_of_files_are_refused_by_name(tmp_path, ending):
    path = tmp_path / f"rows{ending}"
    path.write_bytes(b"prompt,completion\n")

    with pytest.raises(DataError, match=f"^rows{ending}: {ending} files are not read"):
        load_rows(path, ["terse"])


# Encodings


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_byte_order_mark_is_skipped_and_told(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode())

    rows, problems = read(path)

    assert len(rows) == 1
    assert (1, "byte order mark") in told(problems, "notice")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_as_a_whole_with_the_way_out(path, encoding):
    path.write_bytes("\n".join(map(json.dumps, ROWS)).encode(encoding))

    rows, problems = read(path)

    assert rows == []
    [problem] = problems.found
    assert (problem.severity, problem.kind) == ("fatal", "wrong encoding")
    assert "iconv -f UTF-16 -t UTF-8" in problem.text


def test_latin_1_is_refused_line_by_line(path):
    good = json.dumps(ROWS[0]).encode()
    path.write_bytes(good + b'\n{"prompt": "gr\xf6\xdfer", "completion": "a"}\n')

    rows, problems = read(path)

    assert len(rows) == 1
    assert told(problems, "refused") == [(2, "wrong encoding")]
    assert "iconv -f LATIN1" in problems.found[0].text


# What a source is known by


def test_a_source_is_identified_by_the_bytes_of_the_file(path):
    path.write_bytes(b'{"prompt": "a"}\r\n')
    source = read_source(str(path), Problems("rows.jsonl"))

    assert source.sha256 == hashlib.sha256(b'{"prompt": "a"}\r\n').hexdigest()


def test_a_file_without_rows_is_an_error(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("[]")

    with pytest.raises(DataError, match=r"^rows.json: holds no rows$"):
        load_rows(path, ["terse"])
