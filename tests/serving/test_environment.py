import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from serving.environment import read_environment


@dataclasses.dataclass(frozen=True)
class Kitchen:
    kettles: int = 1
    liters: float | None = None
    gas: bool = False
    shelf: Path = Path("shelf")
    tea: Literal["green", "black"] = "green"


@dataclasses.dataclass(frozen=True)
class Guests:
    names: tuple[str, ...] = ()
    chairs: int = 4

    def __post_init__(self) -> None:
        if self.chairs < len(self.names):
            raise ValueError("chairs must be enough for all names")


def complaint(environment):
    with pytest.raises(ValueError, match=r"LACONIC_|must be") as caught:
        read_environment(environment, Kitchen, Guests)
    return str(caught.value)


def test_each_kind_gets_the_variables_of_its_own_fields():
    kitchen, guests = read_environment(
        {"LACONIC_KETTLES": "3", "LACONIC_CHAIRS": "6"}, Kitchen, Guests
    )

    assert (kitchen, guests) == (Kitchen(kettles=3), Guests(chairs=6))


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("LACONIC_KETTLES", "-2", -2),
        ("LACONIC_LITERS", "1.5", 1.5),
        ("LACONIC_GAS", "true", True),
        ("LACONIC_GAS", "No", False),
        ("LACONIC_SHELF", "/srv/shelf", Path("/srv/shelf")),
        ("LACONIC_TEA", "black", "black"),
    ],
)
def test_a_text_becomes_a_value_of_the_fields_kind(variable, text, value):
    (kitchen,) = read_environment({variable: text}, Kitchen)

    assert getattr(kitchen, variable.removeprefix("LACONIC_").lower()) == value


def test_values_of_a_list_stand_between_commas():
    (guests,) = read_environment({"LACONIC_NAMES": "Ada, Grace,,Alan "}, Guests)

    assert guests.names == ("Ada", "Grace", "Alan")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LACONIC_KETTLES", "two"),
        ("LACONIC_LITERS", "much"),
        ("LACONIC_GAS", "maybe"),
        ("LACONIC_SHELF", ""),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_by_name(variable, text):
    assert f"{variable}={text!r}" in complaint({variable: text})


def test_problems_of_all_kinds_are_told_at_once():
    message = complaint(
        {
            "LACONIC_KETTLE": "3",
            "LACONIC_GAS": "maybe",
            "LACONIC_NAMES": "Ada,Grace",
            "LACONIC_CHAIRS": "1",
        }
    )

    assert "did you mean LACONIC_KETTLES?" in message
    assert "LACONIC_GAS='maybe'" in message
    assert "chairs must be enough" in message


def test_where_the_server_listens_is_left_to_gunicorn():
    assert read_environment({"LACONIC_BIND": "0.0.0.0:80"}, Kitchen) == (Kitchen(),)
