"""GLUE, with each task's own metric (Wang et al. 2019, table 1), by name from the hub or from a folder so called.

The numbers of rows and tokens are for plans made before the data is there. Tokens were counted on the training data; of
qqp and mnli on a part of it, of qnli on pairs made from SQuAD's questions and sentences, as qnli was.
"""

from __future__ import annotations

from plm.tasks import Definition

HUB = "nyu-mll/glue"


def _task(
    name: str, columns: tuple[str, ...], num_labels: int, metrics: tuple[str, ...], *, evaluation: str = "validation",
    counts: tuple[int, int] | None = None, tokens: float | None = None,
) -> Definition:  # fmt: skip
    return Definition(
        columns, num_labels, metrics, hub=(HUB, name), evaluation=evaluation, counts=counts, tokens=tokens
    )


PAIR, QUESTIONS, ACCURACY = ("sentence1", "sentence2"), ("question1", "question2"), ("accuracy",)
TASKS = {
    "cola": _task("cola", ("sentence",), 2, ("matthews", "accuracy"), counts=(8_551, 1_043), tokens=11.3),
    "sst2": _task("sst2", ("sentence",), 2, ACCURACY, counts=(67_349, 872), tokens=13.4),
    "mrpc": _task("mrpc", PAIR, 2, ("f1", "accuracy")),
    "stsb": _task("stsb", PAIR, 1, ("pearson", "spearman"), counts=(5_749, 1_500), tokens=27.8),
    "qqp": _task("qqp", QUESTIONS, 2, ("f1", "accuracy"), counts=(363_846, 40_430), tokens=30.6),
    "mnli": _task(
        "mnli",
        ("premise", "hypothesis"),
        3,
        ACCURACY,
        evaluation="validation_matched",
        counts=(392_702, 9_815),
        tokens=39.2,
    ),
    "qnli": _task("qnli", ("question", "sentence"), 2, ACCURACY, counts=(104_743, 5_463), tokens=45.5),
    "rte": _task("rte", PAIR, 2, ACCURACY, counts=(2_490, 277), tokens=66.6),
    "wnli": _task("wnli", PAIR, 2, ACCURACY, counts=(635, 71), tokens=37.1),
}
