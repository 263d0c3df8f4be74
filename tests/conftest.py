"""Fixtures for both halves: models, tasks and text of toy size, and the real data where there is any."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# This folder is on the path and holds folders called plm and sweeps: the packages must be found before them.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import SIZES, perturbed, save_model, sentence, write_rows, write_task

settings.register_profile("tests", deadline=None)  # the first example pays for imports
settings.load_profile("tests")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the network should fail, and at once
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A thread for each process of the tests: two beside another busy process wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def make_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Saves a "pretrained" encoder and returns its folder."""

    def make(name: str = "bert", head: str = "BertModel", **changes: Any) -> str:
        import torch
        import transformers

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(transformers, head)(transformers.BertConfig(**{**SIZES, **changes}))
        return save_model(perturbed(model), tmp_path_factory.mktemp("models") / name)

    return make


@pytest.fixture(scope="session")
def tiny_bert(make_bert: Callable[..., str]) -> str:
    """With dropout."""
    return make_bert()


@pytest.fixture(scope="session")
def still_bert(make_bert: Callable[..., str]) -> str:
    """Without dropout."""
    return make_bert("still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture(scope="session")
def toy_task(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two classes."""
    return write_task(tmp_path_factory.mktemp("tasks") / "toy", lambda i: {"sentence": sentence(i), "label": i % 2})


@pytest.fixture(scope="session")
def toy_regression(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pairs with a real number."""
    return write_task(
        tmp_path_factory.mktemp("tasks") / "similar",
        lambda i: {"sentence1": sentence(i), "sentence2": sentence(i + i % 3), "label": i % 3 / 2},
    )


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Plain text of the same words."""
    folder = tmp_path_factory.mktemp("corpora") / "lines"
    folder.mkdir()
    (folder / "train.txt").write_text("\n".join(sentence(i) for i in range(120)))
    (folder / "validation.txt").write_text("\n".join(sentence(i) for i in range(500, 540)))
    return str(folder)


@pytest.fixture(scope="session")
def toy_documents(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Documents of three to six such sentences."""
    folder = tmp_path_factory.mktemp("corpora") / "documents"
    folder.mkdir()
    for name, first, count in (("train", 0, 60), ("validation", 500, 20)):
        rows = [{"text": "\n".join(sentence(first + 7 * i + j) for j in range(3 + i % 4))} for i in range(count)]
        write_rows(folder / f"{name}.jsonl", rows)
    return str(folder)


@pytest.fixture(scope="session")
def finetune(toy_task: str, tiny_bert: str) -> Callable[..., Any]:
    """Makes a fine-tuning run of four steps in float32."""
    import plm

    def make(task: str = toy_task, **changes: Any) -> plm.RunSpec:
        return plm.finetune(
            task,
            **{"init": tiny_bert, "duration": plm.steps(4), "batch_size": 8, "lr": 1e-3, "dtype": "float32", **changes},
        )

    return make


@pytest.fixture(scope="session")
def pretrain(toy_corpus: str, tiny_bert: str) -> Callable[..., Any]:
    """Makes a masked-LM run of four steps in float32."""
    import plm

    def make(dropout: float = 0.1, text: str = toy_corpus, architecture: Any = None, **changes: Any) -> plm.RunSpec:
        return plm.pretrain(
            architecture or plm.Bert(**SIZES, dropout=dropout),
            text,
            **{
                "vocabulary": tiny_bert,
                "duration": plm.steps(4),
                "batch_size": 4,
                "seq_len": 16,
                "lr": 1e-3,
                "dtype": "float32",
                **changes,
            },
        )

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is not."""
    folder = Path(__file__).parents[1] / "../shared"
    if not folder.is_dir():
        pytest.skip("no folder ../shared with real data beside the checkout")
    return folder


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored lessons in parts of two steps, so that runs of four have several."""
    from plm import lessons, taught

    for module in (lessons, taught):
        monkeypatch.setattr(module, "PART", 2)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making its tables takes seconds, copying it does not."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    from tracker import client

    client(f"sqlite:///{path}").search_experiments()
    return path
