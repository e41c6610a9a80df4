import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from adapters.manifest import AdapterMismatchError
from serving.config import PROJECT_FOLDER
from serving.startup import check_start, resolve_base_folder
from tests.serving.conftest import LONG, SHORT

pytestmark = pytest.mark.slow


@pytest.fixture
def presets(tmp_path):
    """Writes a presets file."""

    def write(data):
        path = tmp_path / "presets.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return write


def test_nothing_here_imports_torch():
    # Gunicorn's first process checks the settings too, and must stay small and free of CUDA.
    code = "import sys, serving.startup; sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_FOLDER, check=False)
    assert result.returncode == 0


def test_a_base_model_may_be_any_folder(tiny):
    assert resolve_base_folder(str(tiny.base)) == tiny.base


def test_a_relative_folder_is_one_of_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_base_folder("models/pocket") == PROJECT_FOLDER / "models" / "pocket"


def test_a_folder_of_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "pocket").mkdir(parents=True)
    assert resolve_base_folder("models/pocket").samefile(tmp_path / "models" / "pocket")


# Neither can be the id of a model on the hub, so that nothing is asked for over the network.
@pytest.mark.parametrize("name", ["/nowhere/base", "not/a/model"])
def test_a_base_model_that_is_nowhere_is_refused_by_name(name):
    with pytest.raises(FileNotFoundError, match=name):
        resolve_base_folder(name)


def test_a_sound_adapter_passes_with_the_base_it_names(tiny):
    manifest = check_start(tiny.config())
    assert manifest.name == "tiny"
    assert manifest.styles == (SHORT, LONG)


def test_a_copy_of_the_base_elsewhere_is_as_good(tiny, tmp_path):
    shutil.copytree(tiny.base, tmp_path / "copy")
    assert check_start(tiny.config(base_model=str(tmp_path / "copy"))) == check_start(tiny.config())


def test_another_base_than_the_adapter_was_trained_on_is_refused(tiny, tiny_grown):
    with pytest.raises(AdapterMismatchError, match="is another model") as caught:
        check_start(tiny.config(base_model=str(tiny_grown.base)))
    assert any("320" in problem and "384" in problem for problem in caught.value.problems)


def test_a_base_that_was_trained_further_is_refused(tiny, tmp_path):
    shutil.copytree(tiny.base, tmp_path / "tuned")
    weights = tmp_path / "tuned" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-len(data) // 4 :] = bytes(len(data[-len(data) // 4 :]))
    weights.write_bytes(data)
    with pytest.raises(AdapterMismatchError, match="is another model"):
        check_start(tiny.config(base_model=str(tmp_path / "tuned")))


def test_a_base_that_is_nowhere_is_refused(tiny):
    with pytest.raises(FileNotFoundError, match="/nowhere/base"):
        check_start(tiny.config(base_model="/nowhere/base"))


def test_an_adapter_that_is_nowhere_is_refused(tiny, tmp_path):
    with pytest.raises(AdapterMismatchError, match="no such folder"):
        check_start(tiny.config(adapter=tmp_path / "nothing"))


def test_without_a_presets_file_the_presets_are_those_of_the_adapter(tiny):
    assert [style.preset for style in check_start(tiny.config()).styles] == [
        SHORT.preset,
        LONG.preset,
    ]


def test_a_presets_file_replaces_the_values_it_names_and_no_others(tiny, presets):
    path = presets({"long": {"top_p": 0.5, "max_new_tokens": 99}})
    short, long = check_start(tiny.config(presets=path)).styles
    assert short == SHORT
    assert long.preset == dataclasses.replace(LONG.preset, top_p=0.5, max_new_tokens=99)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"middling": {}}, "unknown style 'middling'; known: short, long"),
        ({"long": {"top_k": 5}}, "top_k"),
        ({"long": {"top_p": 7}}, "top_p must be"),
        ({"long": {"max_new_tokens": 5}}, "min_new_tokens must be between"),
        ({"long": {"temperature": "hot"}}, "long"),
        ({"long": 5}, "long"),
        ([], "presets"),
        ("{", "presets"),
    ],
)
def test_a_presets_file_that_does_not_fit_is_refused(tiny, presets, data, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_start(tiny.config(presets=presets(data)))
