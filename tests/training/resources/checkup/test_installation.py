import importlib.metadata

import pytest

from training.resources.checkup.installation import REQUIREMENTS, check_packages, check_python


@pytest.fixture
def requirements(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# what is needed\ntorch==2.13.0  # tensors\n\ntrl==1.16.0\n")
    return path


def installed(**versions):
    def version_of(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    return version_of


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10, 14), "problem"), ((3, 11, 0), "ok"), ((4, 0, 0), "ok")]
)
def test_python_must_be_new_enough(version, level):
    assert check_python(version).level == level


def test_an_old_python_is_told_which_is_needed():
    assert "3.11" in check_python((3, 9, 1)).fix


def test_packages_as_pinned_are_fine(requirements):
    [finding] = check_packages(requirements, installed(torch="2.13.0+cpu", trl="1.16.0"))

    assert (finding.level, finding.text) == ("ok", "2 as pinned")


def test_another_version_is_a_warning(requirements):
    [finding] = check_packages(requirements, installed(torch="2.11.0+cu130", trl="1.16.0"))

    assert finding.level == "warning"
    assert finding.text == "torch is 2.11.0+cu130; 2.13.0 is what was tested"
    assert "pip install" in finding.fix


def test_missing_packages_are_problems_and_all_are_named(requirements):
    findings = check_packages(requirements, installed())

    assert [finding.level for finding in findings] == ["problem", "problem"]
    assert [finding.text.split()[0] for finding in findings] == ["torch", "trl"]


def test_without_the_list_of_pins_nothing_is_compared(tmp_path):
    [finding] = check_packages(tmp_path / "requirements.txt", installed())

    assert finding.level == "warning"


def test_every_pin_of_the_project_is_looked_at():
    pins = [line for line in REQUIREMENTS.read_text().splitlines() if "==" in line]

    assert len(check_packages(version_of=installed())) == len(pins)
