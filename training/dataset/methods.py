"""Which rows a training method can use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from training.config import Method
from training.dataset.problems import Problems
from training.dataset.rows import Row

LABELLED_FALSE = "labelled as undesirable, which only kto learns from"
PAIRS = "the worse answer of a pair, which only dpo learns from"


def usable_rows(
    rows: Sequence[Row], method: Method, problems: Problems
) -> tuple[list[Row], Counter[str]]:
    """The rows that the method learns from, and how much of the others it leaves out.

    Rows that cannot be what the method needs are a problem of the whole source.
    """
    if method != "sft":
        misfit = _pairs_problem(rows) if method == "dpo" else _labels_problem(rows)
        if misfit is not None:
            problems.stop(0, "method", misfit)
        return (list(rows) if misfit is None else []), Counter()
    used = [row for row in rows if row.label is not False]
    left_out = Counter(
        {
            LABELLED_FALSE: len(rows) - len(used),
            PAIRS: sum(row.rejected is not None for row in used),
        }
    )
    return used, +left_out


def _pairs_problem(rows: Sequence[Row]) -> str | None:
    alone = [row.line for row in rows if row.rejected is None]
    if not alone:
        return None
    return (
        f"method dpo needs pairs, and {len(alone)} of {len(rows)} examples have no 'rejected' "
        f"answer (the first at line {alone[0]}); give prompt, chosen and rejected"
    )


def _labels_problem(rows: Sequence[Row]) -> str | None:
    unjudged = [row.line for row in rows if row.label is None]
    if unjudged:
        return (
            f"method kto needs judged answers, and {len(unjudged)} of {len(rows)} examples have "
            f"no 'label' (the first at line {unjudged[0]}); give true or false with every row"
        )
    labels = {row.label for row in rows}
    if len(labels) == 1:
        return (
            f"method kto compares good answers with bad ones, and all {len(rows)} are labelled "
            f"{str(labels.pop()).lower()}"
        )
    return None
