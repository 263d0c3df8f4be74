"""Tokenizers of our own training: a function of their value alone, and readable by everybody."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, BertConfig, GPT2Config, RobertaConfig

import plm
from plm.build import build
from plm.data import tokenizer as tokenizers
from plm.data import trained
from plm.data.files import Files, files
from plm.data.sources import corpus, tokenizer
from plm.data.trained import ALGORITHMS, Trained, _ordered, load, train
from plm.models.roberta import Roberta
from plm.spec import digest
from plm.train import open_stream

PROSE = (
    "The river rises in the northern hills and flows southwards through forests and farmland. "
    "Farmers of the hills rear sheep; in the forests, hunters and foresters work. Río Águila, its longest tributary, "
    "isn't navigable. In 1849 the railway reached the riverside, and the riverboats lost their passengers. "
)
SIZE = 340


@pytest.fixture(scope="module")
def prose(tmp_path_factory) -> Files:
    """Sentences in many orders, so that counts of pieces tie and do not."""
    folder, parts = tmp_path_factory.mktemp("prose"), PROSE.replace(", ", ". ").split(". ")
    for split, count in (("train", 60), ("validation", 5)):
        lines = [". ".join(parts[(i * k) % len(parts)] for k in range(1, 6)) for i in range(count)]
        lines.append("Characters as rare as can be: þ ð ŋ ñ ø æ œ ß")
        (folder / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return files(str(folder))


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


def value(prose: Files, algorithm: str) -> Trained:
    found = tokenizer(f"{algorithm}:{SIZE}", prose)
    assert found is not None
    return found


SCRIPT = """
import hashlib, sys
from plm.data.files import files
from plm.data.trained import ALGORITHMS, Trained, train
for algorithm in ALGORITHMS:
    made = train(Trained(files(sys.argv[1]), algorithm, int(sys.argv[2]), algorithm in ("wordpiece", "unigram")))
    print(algorithm, hashlib.sha256(made.to_str().encode()).hexdigest())
"""


def test_training_is_a_function_of_the_value(prose):
    """In other processes, with other hash seeds and other numbers of threads."""
    here = {name: hashlib.sha256(train(value(prose, name)).to_str().encode()).hexdigest() for name in ALGORITHMS}
    for threads in ("1", "3"):
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
        command = [sys.executable, "-c", SCRIPT, str(Path(prose.paths[0][0]).parent), str(SIZE)]
        said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
        assert dict(line.split() for line in said.splitlines()) == here


def test_the_order_of_a_hash_table_leaves_no_trace():
    """As seen on 2 million characters of Wikipedia: noise in the sums, and rare characters added in another order."""
    one = [("the", -3.0000001), ("of", -4.0), ("zz", -9.0), ("þ", -9.0), ("ð", -8.9999), ("ŋ", -8.9998), ("a", -5.0)]
    other = [("of", -4.0), ("the", -3.0), ("ŋ", -9.0), ("zz", -9.0000002), ("þ", -8.9998), ("ð", -8.9999), ("a", -5.0)]
    assert _ordered(one) == _ordered(other)
    assert _ordered(one)[:3] == [("the", -3.0), ("of", -4.0), ("a", -5.0)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_folder_is_read_by_transformers(prose, kept, tmp_path, algorithm):
    ours = load(value(prose, algorithm), kept)
    config = {"wordpiece": BertConfig, "bpe": RobertaConfig, "gpt2": GPT2Config, "unigram": BertConfig}[algorithm]()
    config.save_pretrained(tmp_path)
    for name, data in tokenizers.files(ours).items():
        (tmp_path / name).write_bytes(data)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for texts in ([PROSE], ["The hills", "isn't it?"]):
        assert theirs(*texts)["input_ids"] == ours.encode(*texts).ids
    symbols = tokenizers.symbols(ours)
    assert theirs.mask_token_id == symbols.mask
    assert theirs.cls_token_id == symbols.cls
    assert theirs.eos_token_id == symbols.eos
    assert (theirs.pad_token_id or 0) == symbols.pad == 0
    assert theirs.decode(ours.encode("the railway").ids, skip_special_tokens=True).strip() == "the railway"


@pytest.mark.parametrize(
    ("algorithm", "frame", "specials"),
    [
        ("wordpiece", ("[CLS]", "[SEP]"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
        ("bpe", ("<s>", "</s>"), ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]),
        ("unigram", ("[CLS]", "[SEP]"), ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]),
        ("gpt2", (None, None), ["<|endoftext|>"]),
    ],
)
def test_symbols_are_found_by_their_roles(prose, kept, algorithm, frame, specials):
    ours = load(value(prose, algorithm), kept)
    assert [ours.id_to_token(i) for i in range(len(specials))] == specials
    assert ours.get_vocab_size() <= SIZE
    found = tokenizers.symbols(ours)
    assert np.flatnonzero(found.special).tolist() == list(range(len(specials)))
    assert found.size == ours.get_vocab_size()
    assert tuple(None if i is None else ours.id_to_token(i) for i in (found.cls, found.sep)) == frame
    assert (found.mask is None) == (algorithm == "gpt2")
    if algorithm == "gpt2":
        assert found.bos == found.eos == found.pad == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_words_are_put_together_by_what_continues(prose, kept, algorithm):
    """The pieces from one beginning to the next are the words that white space and punctuation part."""
    few = {"wordpiece": 110, "unigram": 110}.get(algorithm, 310)  # so that words are in pieces
    ours = load(Trained(prose, algorithm, few, lowercase=True), kept)
    continues = tokenizers.symbols(ours).continues
    text = "the riverside farmland. hunters southwards"
    encoding = ours.encode(" " + text if algorithm == "gpt2" else text, add_special_tokens=False)
    words: list[list[tuple[int, int]]] = []
    for token, offsets in zip(encoding.ids, encoding.offsets, strict=True):
        if continues[token]:
            words[-1].append(offsets)
        else:
            words.append([offsets])
    shift = 1 if algorithm == "gpt2" else 0
    said = [text[max(0, w[0][0] - shift) : w[-1][1] - shift].strip() for w in words]
    assert said == ["the", "riverside", "farmland", ".", "hunters", "southwards"]
    assert len(encoding.ids) > len(words)  # or nothing was tested


def test_case_is_kept_or_not(prose, kept):
    cased = load(Trained(prose, "wordpiece", SIZE, lowercase=False), kept)
    assert cased.encode("Río").tokens != cased.encode("rio").tokens
    for algorithm in ("wordpiece", "unigram"):
        ours = load(value(prose, algorithm), kept)
        assert ours.encode("THE River").ids == ours.encode("the river").ids


def test_byte_level_tokenizers_know_everything(prose, kept):
    for algorithm in ("bpe", "gpt2"):
        ours = load(value(prose, algorithm), kept)
        assert ours.decode(ours.encode("日本 Ωmega 🚂", add_special_tokens=False).ids).strip() == "日本 Ωmega 🚂"


def test_rare_characters_take_no_room(prose, tmp_path):
    """Every character of the text would be a token of a Unigram vocabulary."""
    (tmp_path / "train.txt").write_text(PROSE * 20 + "".join(map(chr, range(0x4E00, 0x4E00 + 400))), encoding="utf-8")
    for algorithm in ("wordpiece", "unigram"):
        ours = train(Trained(files(str(tmp_path / "train.txt")), algorithm, SIZE, True))
        assert sum("\u4e00" <= token[-1] <= "\u9fff" for token in ours.get_vocab()) <= 60


def test_training_happens_once(prose, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(trained, "train", lambda t: calls.append(t) or train(t))
    wanted = Trained(prose, "bpe", 301, lowercase=False)
    with ThreadPoolExecutor(4) as pool:
        found = {made.to_str() for made in pool.map(lambda _: trained._load.__wrapped__(wanted, str(tmp_path)), "abcd")}
    assert (len(calls), len(found)) == (1, 1)
    (file,) = tmp_path.glob("*.tokenizer")
    file.write_bytes(file.read_bytes()[:-10])  # a damaged file is made again
    assert {trained._load.__wrapped__(wanted, str(tmp_path)).to_str()} == found
    assert len(calls) == 2


def test_the_value_is_the_identity(prose):
    base = digest(Trained(prose, "bpe", 300, False))
    others = [("gpt2", 300, False), ("bpe", 301, False), ("bpe", 300, True)]
    assert len({base, *(digest(Trained(prose, *other)) for other in others)}) == 4


def test_a_run_is_trained_with_its_own_tokenizer(prose, tmp_path):
    bert = plm.Bert(
        vocab_size=SIZE, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, dropout=0.0,
    )  # fmt: skip
    folder = str(Path(prose.paths[0][0]).parent)
    spec = plm.pretrain(
        bert, folder, vocabulary=f"bpe:{SIZE}", duration=plm.steps(1), batch_size=2, seq_len=16, dtype="float32"
    )
    assert corpus(folder, f"bpe:{SIZE}") == spec.data
    assert plm.RunSpec.from_json(spec.to_json()) == spec
    result = plm.train(spec, store=tmp_path)
    checkpoint = plm.Store.at(tmp_path).checkpoint(spec.final)
    theirs = AutoTokenizer.from_pretrained(checkpoint)
    assert theirs("the hills")["input_ids"] == load(value(prose, "bpe"), tmp_path / "data").encode("the hills").ids
    assert result.metrics["val/loss"] > 0
    with pytest.raises(ValueError, match="the tokenizer has 341 tokens and the model a vocabulary of 340"):
        plm.pretrain(bert, folder, vocabulary="bpe:341", duration=plm.steps(1))


def test_a_configuration_agrees_with_its_tokenizer(prose, kept):
    gpt2 = GPT2Config()
    tokenizers.agree(gpt2, load(value(prose, "gpt2"), kept))
    assert (gpt2.pad_token_id, gpt2.bos_token_id, gpt2.eos_token_id) == (None, 0, 0)
    roberta = RobertaConfig()
    tokenizers.agree(roberta, load(value(prose, "bpe"), kept))
    assert (roberta.pad_token_id, roberta.bos_token_id, roberta.eos_token_id) == (0, 1, 2)
    bert = BertConfig()
    before = bert.to_dict()
    tokenizers.agree(bert, load(value(prose, "wordpiece"), kept))
    assert bert.to_dict() == before


def test_positions_are_counted_from_the_tokenizer_s_padding(prose, toy_task, tmp_path):
    """RoBERTa's configuration says 1, which is the first word of a text here."""
    roberta = Roberta(
        vocab_size=SIZE, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=18, dropout=0.0,
    )  # fmt: skip
    assert roberta.config().pad_token_id == 1
    spec = plm.pretrain(
        roberta, prose, vocabulary=f"bpe:{SIZE}", duration=plm.steps(1), batch_size=2, seq_len=16, dtype="float32"
    )
    built = build(spec, plm.Store.at(tmp_path), plm.Cache())
    assert built.model.config.pad_token_id == 0
    assert built.model.base_model.embeddings.word_embeddings.padding_idx == 0
    assert built.model.base_model.embeddings.position_embeddings.padding_idx == 0
    child = plm.finetune(toy_task, init=spec.final, seq_len=16)
    batch = open_stream(child, plm.Store.at(tmp_path), plm.Cache()).batch(0)
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 0).all()
    assert (batch["attention_mask"] == 0).any()
