"""GLUE, with each task's own metric (Wang et al. 2019, table 1), by name from the hub or from a folder so called."""

from __future__ import annotations

from plm.tasks import Definition

HUB = "nyu-mll/glue"

TASKS = {
    "cola": Definition(("sentence",), 2, ("matthews", "accuracy"), hub=(HUB, "cola")),
    "sst2": Definition(("sentence",), 2, ("accuracy",), hub=(HUB, "sst2")),
    "mrpc": Definition(("sentence1", "sentence2"), 2, ("f1", "accuracy"), hub=(HUB, "mrpc")),
    "stsb": Definition(("sentence1", "sentence2"), 1, ("pearson", "spearman"), hub=(HUB, "stsb")),
    "qqp": Definition(("question1", "question2"), 2, ("f1", "accuracy"), hub=(HUB, "qqp")),
    "mnli": Definition(("premise", "hypothesis"), 3, ("accuracy",), hub=(HUB, "mnli"), evaluation="validation_matched"),
    "qnli": Definition(("question", "sentence"), 2, ("accuracy",), hub=(HUB, "qnli")),
    "rte": Definition(("sentence1", "sentence2"), 2, ("accuracy",), hub=(HUB, "rte")),
    "wnli": Definition(("sentence1", "sentence2"), 2, ("accuracy",), hub=(HUB, "wnli")),
}
