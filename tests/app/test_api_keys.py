import subprocess
import sys
from pathlib import Path

import pytest

from app import create_app
from app.auth.__main__ import main
from app.auth.keys import make_key, read_keys
from app.config import WebConfig
from tests.fakes import FakeEngine

ROOT = Path(__file__).parents[2]
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bbcd15d6c15b0f00a08c5"


@pytest.fixture
def write(tmp_path):
    """Writes a file of keys."""

    def make(text):
        file = tmp_path / "keys"
        file.write_text(text, encoding="utf-8")
        return file

    return make


def test_comments_and_empty_lines_mean_nothing(write):
    key, line = make_key("ann")
    keys = read_keys(write(f"# who may\n\n   {line}   # since May\n\t\n"))
    assert keys.find_name(key) == "ann"
    assert keys.find_name("# who may") is None


def test_a_hash_may_be_written_in_capitals(write):
    key, line = make_key("ann")
    name, digest = line.split()
    assert read_keys(write(f"{name} {digest.upper()}")).find_name(key) == "ann"


def test_every_problem_of_a_file_is_reported_at_once(write):
    text = f"""ann {HASH}
ann {HASH[::-1]}
bob {HASH.upper()}
carl
{"d" * 65} {"0" * 64}
eve {"0" * 63}
f/g {"z" * 64}
"""
    with pytest.raises(ValueError, match="is wrong") as caught:
        read_keys(write(text))
    problems = str(caught.value).partition("is wrong: ")[2].split("; line")
    assert [problem.strip().removeprefix("line ").split(":")[0] for problem in problems] == list(
        "2345677"
    )


def test_a_problem_never_shows_what_stands_in_the_file(write):
    key, _ = make_key("ann")
    with pytest.raises(ValueError, match="line 1") as caught:
        read_keys(write(f"ann {key}\n{key}\n"))
    assert key not in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nobody yet\n"])
def test_a_file_without_keys_is_a_problem(write, text):
    with pytest.raises(ValueError, match="no keys"):
        read_keys(write(text))


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_keys(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read"):
        read_keys(tmp_path / "binary")


def test_an_application_does_not_start_with_a_wrong_file(write):
    with pytest.raises(ValueError, match="line 1"):
        create_app(FakeEngine(), WebConfig(api_keys_file=write("ann")))


def test_keys_are_long_and_never_the_same():
    first, second = make_key("ann")[0], make_key("ann")[0]
    assert first != second
    assert len(first) >= 43  # 256 bits in base 64


def find_key_and_line(printed):
    return [line.strip() for line in printed.splitlines() if line.startswith("    ")]


def test_the_command_prints_a_key_and_the_line_that_accepts_it(write, capsys):
    main(["ann"])
    key, line = find_key_and_line(capsys.readouterr().out)
    assert read_keys(write(line)).find_name(key) == "ann"


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a b"], ["-h"], [""]])
def test_the_command_says_what_is_wrong(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert str(ended.value.code).startswith(("usage:", "laconic:"))  # which Python prints: exit 1
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_command_can_be_called(write):
    command = [sys.executable, "-W", "error", "-m", "app.auth"]

    wrong, right = [
        subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
        for more in ([], ["ann"])
    ]

    assert (wrong.returncode, wrong.stdout, wrong.stderr[:6]) == (1, "", "usage:")
    assert (right.returncode, right.stderr) == (0, "")
    key, line = find_key_and_line(right.stdout)
    assert read_keys(write(line)).find_name(key) == "ann"
