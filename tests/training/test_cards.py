import json
from collections import Counter

import pytest

from training.cards import (
    CARDS_FOLDER,
    OPTIONAL_FACETS,
    REQUIRED_FACETS,
    CardError,
    load_cards,
    main,
    ngram_counts,
    words_of,
)

GONE = object()
VERSUS = {
    "with": "an open pot",
    "asks": ["Kettles or a pot?", "Compare kettles with pots.", "Are kettles pots?"],
    "hints": ["Does a lid and a spout make a difference?", "Which one of them whistles?"],
    "short": "Kettles have a lid and a spout.",
    "more": "Pots are wider, so that spoons reach in; soups and stews cook better in one.",
}


def write(folder, name, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")


def problems_of(folder):
    with pytest.raises(CardError) as caught:
        load_cards(folder)
    return str(caught.value).splitlines()


def changed(row, path, value):
    """The row with one value replaced, or left out where the value is GONE."""
    *parents, last = path.split(".")
    place = row
    for parent in parents:
        place = place[parent]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return row


def sentence(num_words):
    return " ".join(["Water", *(f"w{number}" for number in range(num_words - 1))]) + "."


# The shipped cards


def test_there_are_at_least_400_cards(cards):
    assert len(cards) >= 400


def test_every_field_has_at_least_40_cards(cards):
    counts = Counter(card.field for card in cards)
    assert set(counts) == {path.stem for path in CARDS_FOLDER.glob("*.jsonl")}
    assert {field: count for field, count in counts.items() if count < 40} == {}


def test_every_card_has_the_required_facets(cards):
    assert [card.name for card in cards if not set(REQUIRED_FACETS) <= set(card.facets)] == []


@pytest.mark.parametrize("facet", OPTIONAL_FACETS)
def test_each_optional_facet_is_in_use(cards, facet):
    assert sum(facet in card.facets for card in cards) >= 20


def test_no_name_or_alias_belongs_to_two_cards(cards):
    names = [
        name
        for card in cards
        for name in {text.lower() for text in (card.name, card.phrase, *card.aliases)}
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_no_two_cards_give_the_same_short_answer(cards):
    shorts = Counter(facet.short for card in cards for facet in card.facets.values())
    assert [short for short, count in shorts.items() if count > 1] == []


def test_a_comparison_says_what_with_and_nothing_else_does(cards):
    assert [
        card.name for card in cards if bool(card.versus_phrase) != ("versus" in card.facets)
    ] == []


def test_the_check_prints_how_many_cards_each_field_has(cards, capsys):
    assert main() == 0
    printed = capsys.readouterr().out
    assert printed.endswith(f"{len(cards)}  cards, no problems\n")
    assert [line.split()[1] for line in printed.splitlines()[:-1]] == sorted(
        {card.field for card in cards}
    )


# Reading


def test_a_card_is_read_with_all_it_says(tmp_path, kettle):
    write(tmp_path, "kitchen.jsonl", {**kettle, "versus": VERSUS})
    [card] = load_cards(tmp_path)
    assert (card.field, card.name, card.phrase) == ("kitchen", "tea kettle", "a tea kettle")
    assert card.aliases == ("tea kettles", "kettles")
    assert card.versus_phrase == "an open pot"
    assert list(card.facets) == [*REQUIRED_FACETS, "versus"]
    assert card.facets["how"].asks == tuple(kettle["how"]["asks"])
    assert card.facets["how"].hints == tuple(kettle["how"]["hints"])
    assert card.facets["how"].short == kettle["how"]["short"]
    assert card.facets["how"].more == kettle["how"]["more"]


def test_cards_come_in_the_order_of_files_and_lines(tmp_path, kettle):
    def named(name):
        asked = {"asks": [f"What is {name}?"] * 3, "hints": ["What is it?", "What was it?"]}
        facets = {facet: {**kettle[facet], **asked} for facet in REQUIRED_FACETS}
        return {"name": name, "phrase": f"a {name}", "aliases": [f"{name}s"], **facets}

    write(tmp_path, "b.jsonl", named("urn"), named("cup"))
    write(tmp_path, "a.jsonl", named("pot"))
    assert [card.name for card in load_cards(tmp_path)] == ["pot", "urn", "cup"]


def test_blank_lines_are_skipped_but_counted(tmp_path, kettle):
    write(tmp_path, "kitchen.jsonl", "", kettle, "  ", "{}")
    [problem] = problems_of(tmp_path)
    assert problem.startswith("kitchen.jsonl:4: missing ")


def test_a_folder_without_cards_gives_none(tmp_path):
    assert load_cards(tmp_path) == []


# Every rule


TEXT = "must be non-empty text"
ABOUT_HOW = "how needs exactly asks, hints, more, short; asks and hints are lists"
LONG = " ".join(["Aaaaaaaaaaaa", *(letter * 12 for letter in "bcdefg")])


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("name", GONE, "missing name"),
        ("limit", GONE, "missing limit"),
        ("color", "red", "unknown key color"),
        ("name", "", TEXT),
        ("name", 5, TEXT),
        ("phrase", " a tea kettle", TEXT),
        ("phrase", None, TEXT),
        ("aliases", "kettles", TEXT),
        ("aliases", ["kettles", ""], TEXT),
        ("aliases", ["kettles", "tea kettles "], TEXT),
        ("aliases", ["kettles", *"bcdefghij"], "needs 1 to 9 aliases"),
        ("how", "By heat.", ABOUT_HOW),
        ("how.more", GONE, ABOUT_HOW),
        ("how.with", "a pot", ABOUT_HOW),
        ("how.asks", "How do kettles work?", ABOUT_HOW),
        ("how.hints", "How does water boil?", ABOUT_HOW),
        ("how.hints", GONE, ABOUT_HOW),
        ("versus.with", GONE, "versus needs exactly asks, hints, more, short, with; "),
        ("versus.with", "", "versus: every text must be non-empty"),
        ("how.short", None, "how: every text must be non-empty and without outer spaces"),
        ("how.more", "", "how: every text must be non-empty and without outer spaces"),
        ("how.short", " Heat warms all the water.", "how: every text must be non-empty"),
        ("how.asks", ["Kettles?", "A tea kettle?", ""], "how: every text must be non-empty"),
        ("how.asks", ["Kettles?", "A tea kettle?", 3], "how: every text must be non-empty"),
        ("how.asks", ["Kettles?", "A tea kettle?"], "how needs 3 or more asks"),
        ("how.asks", ["Kettles?", "How?", "A kettles."], "how: no name or alias in 'How?'"),
        ("how.asks", ["Kettles", "A tea kettle?", "Kettles."], "neither ? nor . ends 'Kettles'"),
        ("how.hints", ["How does water boil?"], "how needs 2 or more hints"),
        ("how.hints", ["How so?", "Why do KETTLES boil?"], "gives away 'kettles'"),
        ("how.hints", ["How so", "Why does it boil?"], "neither ? nor . ends 'How so'"),
        ("how.hints", ["How so?", ""], "how: every text must be non-empty"),
        ("how.short", "Heat from below warms the metal", "how.short is not a sentence"),
        ("how.short", "heat from below warms the metal.", "how.short is not a sentence"),
        ("how.more", sentence(20)[:-1], "how.more is not a sentence"),
        ("how.more", "x" + sentence(20), "how.more is not a sentence"),
        (
            "how.short",
            "Heat from a café warms it.",
            "how.short has characters outside ASCII: ['é']",
        ),
        ("how.more", sentence(20)[:-1] + "\u2026.", "how.more has characters outside ASCII: ['…']"),
        ("how.short", sentence(4), "how.short has 4 words, not 5 to 16"),
        ("how.short", sentence(17), "how.short has 17 words, not 5 to 16"),
        ("how.more", sentence(11), "how.more has 11 words, not 12 to 32"),
        ("how.more", sentence(33), "how.more has 33 words, not 12 to 32"),
        ("how.short", f"{LONG} hhhhhhhhhhhhhh.", "how.short has 106 characters, at most 105"),
    ],
)
def test_a_rule_refuses_a_card_that_breaks_it(tmp_path, kettle, path, value, problem):
    row = changed({**kettle, "versus": dict(VERSUS)}, path, value)
    write(tmp_path, "kitchen.jsonl", "", row)
    [found] = problems_of(tmp_path)
    assert found.startswith("kitchen.jsonl:2: ")
    assert problem in found


def test_a_card_needs_an_alias(tmp_path, kettle):
    write(tmp_path, "kitchen.jsonl", {**kettle, "aliases": []})
    assert "kitchen.jsonl:1: needs 1 to 9 aliases" in problems_of(tmp_path)


@pytest.mark.parametrize("row", ["[]", '"kettle"', "null", "7"])
def test_a_card_must_be_an_object(tmp_path, row):
    write(tmp_path, "kitchen.jsonl", row)
    assert problems_of(tmp_path) == ["kitchen.jsonl:1: a card is a JSON object"]


def test_a_line_that_is_no_json_is_refused(tmp_path, kettle):
    write(tmp_path, "kitchen.jsonl", kettle, '{"name": ')
    [found] = problems_of(tmp_path)
    assert found.startswith("kitchen.jsonl:2: not JSON: ")


@pytest.mark.parametrize("facet", OPTIONAL_FACETS)
def test_an_optional_facet_is_checked_too(tmp_path, kettle, facet):
    write(tmp_path, "kitchen.jsonl", {**kettle, facet: {}})
    [found] = problems_of(tmp_path)
    assert found.startswith(f"kitchen.jsonl:1: {facet} needs exactly ")


def test_four_words_in_a_row_may_stand_twice_in_a_card_but_not_three_times(tmp_path, kettle):
    for facet in ("definition", "how"):
        kettle[facet]["short"] = f"Fill water into it for {facet}."
    write(tmp_path, "kitchen.jsonl", kettle)
    assert len(load_cards(tmp_path)) == 1
    kettle["limit"]["more"] += " Fill WATER into it!"
    write(tmp_path, "kitchen.jsonl", kettle)
    assert problems_of(tmp_path) == [
        "kitchen.jsonl:1: 'fill water into it' stands 3 times; two at most"
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [("name", "TEA kettle"), ("phrase", "Kettles"), ("aliases", ["a tea kettle", "kettle"])],
)
def test_a_name_may_stand_for_one_card_only(tmp_path, kettle, path, value):
    other = {**kettle, "name": "kettles of iron", "phrase": "iron", "aliases": ["kettle"]}
    write(tmp_path, "a.jsonl", "", kettle)
    write(tmp_path, "b.jsonl", changed(other, path, value))
    [found] = problems_of(tmp_path)
    assert found.startswith("b.jsonl:1: ")
    assert found.endswith(" is already a name or alias at a.jsonl:2")


def test_all_problems_of_all_files_are_listed_at_once(tmp_path, kettle):
    two_wrong = changed(changed({**kettle}, "how.short", "Heat."), "why.asks", ["Kettles?"] * 2)
    write(tmp_path, "b.jsonl", "nonsense", two_wrong)
    write(tmp_path, "a.jsonl", "{}")
    places = [problem.split(": ")[0] for problem in problems_of(tmp_path)]
    assert places == ["a.jsonl:1", "b.jsonl:1", "b.jsonl:2", "b.jsonl:2"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("aliases", ["kettles"]),
        ("aliases", ["kettles", "b", "c", "d", "e"]),
        ("how.short", sentence(5)),
        ("how.short", sentence(16)),
        ("how.short", f"{LONG} hhhhhhhhhhhhh."),
        ("how.short", "100 degrees make it boil!"),
        ("how.more", sentence(12)),
        ("how.more", sentence(32)),
        ("how.asks", ["KETTLES how?", "are Tea Kettles hot?", "Say why kettles boil."]),
        ("how.asks", ["Wozu kettles, größer?", "Kettles?", "kettles."]),
        ("how.hints", ["How does the kettlesmith boil water?", "And what now?"]),
        ("versus", VERSUS),
    ],
)
def test_what_just_keeps_the_rules_is_accepted(tmp_path, kettle, path, value):
    write(tmp_path, "kitchen.jsonl", changed(kettle, path, value))
    assert len(load_cards(tmp_path)) == 1


# Counting


def test_words_are_lower_case_and_without_punctuation():
    assert words_of('It\'s "TCP/IP", v1.4 (or 2).') == ["it's", "tcp", "ip", "v1.4", "or", "2"]


def test_runs_are_counted_where_they_overlap():
    assert ngram_counts([1, 1, 1, 1, 1]) == {(1, 1, 1, 1): 2}
    assert ngram_counts("abab", size=2) == {("a", "b"): 2, ("b", "a"): 1}


def test_fewer_items_than_a_run_has_give_no_runs():
    assert ngram_counts([1, 2, 3]) == {}
