"""Files that are not what the manifest says of them are refused."""

import pytest

from tests.adapters.conftest import FILES, problems_of


def refused_positions(path, positions, change):
    """Change one byte at a time; how many of the positions were refused under the file's name."""
    original, refused = path.read_bytes(), 0
    for position in positions:
        altered = bytearray(original)
        altered[position] = change(altered[position])
        path.write_bytes(altered)
        [problem] = problems_of(path.parent)
        refused += problem.startswith(path.name)
    path.write_bytes(original)
    return refused


# Changed bytes


@pytest.mark.parametrize("name", ["adapter_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("bit", [0, 5, 7])
def test_any_changed_byte_of_a_small_file_is_refused(adapter_folder, manifest, name, bit):
    path = adapter_folder / name
    positions = range(path.stat().st_size)
    assert refused_positions(path, positions, lambda byte: byte ^ 1 << bit) == len(positions)


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"]
)
def test_any_changed_byte_of_a_large_file_is_refused(adapter_folder, manifest, name):
    path = adapter_folder / name
    size = path.stat().st_size
    positions = sorted({*range(0, size, 1 + size // 200), size - 1})
    assert refused_positions(path, positions, lambda byte: byte ^ 1) == len(positions)


@pytest.mark.slow
@pytest.mark.parametrize("bit", [0, 5])
def test_any_changed_byte_of_the_manifest_is_refused(adapter_folder, manifest, bit):
    path = adapter_folder / "manifest.json"
    positions = range(path.stat().st_size)
    assert refused_positions(path, positions, lambda byte: byte ^ 1 << bit) == len(positions)


@pytest.mark.parametrize("line_end", [b"\r", b"\r\n"])
def test_other_line_ends_in_the_manifest_are_refused(adapter_folder, manifest, line_end):
    path = adapter_folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n", line_end, 1))
    [problem] = problems_of(adapter_folder)
    assert problem == "manifest.json: changed since it was written"


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("kept", [0, 0.5, -1])
def test_a_truncated_file_is_refused(adapter_folder, manifest, name, kept):
    path = adapter_folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if kept == -1 else whole[: int(len(whole) * kept)])
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(name)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_file_that_has_grown_is_refused(adapter_folder, manifest, name):
    path = adapter_folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(name)


def test_a_wrong_size_is_told_in_bytes(adapter_folder, manifest):
    (adapter_folder / "adapter_config.json").write_text("{}")
    size = manifest.files["adapter_config.json"].size
    assert problems_of(adapter_folder) == [
        f"adapter_config.json has 2 bytes, the manifest says {size}"
    ]


# Missing and extra files


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(adapter_folder, manifest, name):
    (adapter_folder / name).unlink()
    assert problems_of(adapter_folder) == [f"{name} is missing"]


@pytest.mark.parametrize("name", [name for name in FILES if name != "chat_template.jinja"])
def test_a_file_every_adapter_needs_is_missed_even_if_the_manifest_never_named_it(
    adapter_folder, manifest, name
):
    (adapter_folder / name).unlink()
    manifest.save(adapter_folder)
    assert problems_of(adapter_folder) == [f"{name} is missing"]


@pytest.mark.parametrize("name", ["README.md", ".hidden", "model.safetensors"])
def test_an_extra_file_is_refused(adapter_folder, manifest, name):
    (adapter_folder / name).write_bytes(b"")
    assert problems_of(adapter_folder) == [f"{name} is not in the manifest"]


def test_a_folder_inside_is_refused(adapter_folder, manifest):
    (adapter_folder / "checkpoint-100").mkdir()
    assert problems_of(adapter_folder) == ["checkpoint-100 is not a plain file"]


def test_a_link_to_nothing_is_refused(adapter_folder, manifest):
    (adapter_folder / "tokenizer.model").symlink_to(adapter_folder / "nowhere")
    assert problems_of(adapter_folder) == ["tokenizer.model is not a plain file"]


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "pickle", "ckpt"])
def test_a_pickle_is_refused(adapter_folder, manifest, suffix):
    (adapter_folder / f"adapter_model.{suffix}").write_bytes(b"\x80\x04.")
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(f"adapter_model.{suffix} is a pickle")


@pytest.mark.parametrize("suffix", ["bin", "pt", "pkl"])
def test_a_pickle_is_refused_even_if_the_manifest_names_it(adapter_folder, manifest, suffix):
    (adapter_folder / f"adapter_model.{suffix}").write_bytes(b"\x80\x04.")
    manifest.save(adapter_folder)
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(f"adapter_model.{suffix} is a pickle")


def test_a_missing_folder_is_refused_with_the_way_to_make_one(tmp_path):
    [problem] = problems_of(tmp_path / "nowhere")
    assert "no such folder" in problem
    assert "make train" in problem


def test_a_folder_without_a_manifest_is_refused(adapter_folder, manifest):
    (adapter_folder / "manifest.json").unlink()
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("manifest.json is missing")
