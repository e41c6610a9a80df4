"""Rows that another row repeats or contradicts."""

from tests.training.dataset.conftest import read, told, write_lines

ROW = {"prompt": "What is TCP?", "completion": "A protocol.", "style": "terse"}


def kept_and_refused(path, *rows):
    write_lines(path, *rows)
    found, problems = read(path)
    return [row.line for row in found], told(problems, "refused")


def test_the_second_of_two_equal_rows_is_refused(path):
    kept, refused = kept_and_refused(path, ROW, ROW, ROW)

    assert kept == [1]
    assert refused == [(2, "duplicate"), (3, "duplicate")]


def test_rows_that_differ_in_anything_are_both_kept(path):
    others = (
        {**ROW, "style": "verbose"},
        {**ROW, "prompt": "What is UDP?"},
        {**ROW, "completion": "A cable."},
    )

    assert kept_and_refused(path, ROW, *others) == ([1, 2, 3, 4], [])


def test_answers_that_are_good_here_and_bad_there_are_all_refused(path):
    good, bad = {**ROW, "label": True}, {**ROW, "label": False}

    kept, refused = kept_and_refused(path, good, {**bad, "prompt": "Else?"}, bad)

    assert kept == [2]
    assert refused == [(1, "contradiction"), (3, "contradiction")]


def test_a_contradiction_names_the_line_that_it_contradicts(path):
    write_lines(path, {**ROW, "label": True}, {**ROW, "label": False})

    _, problems = read(path)

    assert [problem.text[:7] for problem in problems.found] == ["line 2 ", "line 1 "]


def test_an_answer_chosen_once_and_rejected_once_is_a_contradiction(path):
    pair = {"prompt": "What is TCP?", "chosen": "A protocol.", "rejected": "A cable."}
    turned = {**pair, "chosen": "A cable.", "rejected": "A hat."}

    kept, refused = kept_and_refused(path, pair, turned)

    assert kept == []
    assert refused == [(1, "contradiction"), (2, "contradiction")]


def test_one_answer_may_be_better_than_two_others(path):
    pair = {"prompt": "What is TCP?", "chosen": "A protocol.", "rejected": "A cable."}

    assert kept_and_refused(path, pair, {**pair, "rejected": "A hat."}) == ([1, 2], [])


def test_conversations_that_begin_alike_share_their_first_answers(path):
    begin = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    rows = [
        {
            "messages": [
                *begin,
                {"role": "user", "content": question},
                {"role": "assistant", "content": "Fine."},
            ]
        }
        for question in ("How are you?", "And you?")
    ]
    write_lines(path, *rows)

    found, problems = read(path)

    assert [(row.line, len(row.messages)) for row in found] == [(1, 1), (1, 3), (2, 3)]
    assert (2, "repeated turn") in told(problems, "notice")
    assert told(problems, "refused") == []
