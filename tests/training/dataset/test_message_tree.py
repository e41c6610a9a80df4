"""Trees of messages, one message a row."""

from tests.training.dataset.conftest import read, told, write_lines


def message(name, parent, role, **fields):
    return {
        "message_id": name,
        "parent_id": parent,
        "text": f"text {name}",
        "role": role,
        "lang": "en",
        "rank": None,
        "deleted": False,
        **fields,
    }


TREE = (
    message("q", None, "prompter"),
    message("q-b", "q", "assistant", rank=1),
    message("q-a", "q", "assistant", rank=0),
    message("q-c", "q", "assistant", rank=2),
    message("q-a-q", "q-a", "prompter"),
    message("q-a-q-a", "q-a-q", "assistant"),
)


def said(row):
    return [message.content.removeprefix("text ") for message in row.messages]


def test_the_best_ranked_replies_of_a_tree_are_one_conversation(path):
    write_lines(path, *TREE)

    rows, problems = read(path)

    assert [said(row) for row in rows] == [["q"], ["q", "q-a", "q-a-q"]]
    assert [row.completion for row in rows] == ["text q-a", "text q-a-q-a"]
    assert told(problems, "refused") == []
    assert problems.found[0].text.startswith("6 messages are 1 trees")


def test_a_deleted_reply_is_never_taken(path):
    write_lines(path, TREE[0], TREE[1], {**TREE[2], "deleted": True})

    [row], _ = read(path)

    assert row.completion == "text q-b"


def test_a_ranked_reply_comes_before_one_without_a_rank(path):
    write_lines(path, TREE[0], message("q-z", "q", "assistant"), TREE[3])

    [row], _ = read(path)

    assert row.completion == "text q-c"


def test_several_trees_keep_their_order_and_the_line_they_begin_at(path):
    other = [message("p", None, "prompter"), message("p-a", "p", "assistant")]
    write_lines(path, TREE[0], other[0], TREE[2], other[1])

    rows, _ = read(path)

    assert [(row.line, row.prompt) for row in rows] == [(1, "text q"), (2, "text p")]


def test_a_question_that_nobody_answered_is_refused(path):
    write_lines(path, TREE[0], message("p", None, "prompter"), TREE[2])

    rows, problems = read(path)

    assert len(rows) == 1
    assert told(problems, "refused") == [(2, "no answer")]


def test_messages_that_answer_each_other_in_a_circle_end(path):
    circle = [message("a", None, "prompter"), message("b", "a", "assistant")]
    write_lines(path, *circle, message("a", "b", "prompter"))

    rows, _ = read(path)

    assert [row.completion for row in rows] == ["text b"]
