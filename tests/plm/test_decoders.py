"""Decoders that are known by a folder alone are equals: they are fine-tuned, with some blocks redrawn, like any other."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from test_padding import write_tokenizer
from tiny import SIZES, perturbed

import plm
from plm.objectives.clm import CausalLM
from plm.store import Store

CONFIGS = {
    "gpt_neox": {"rotary_pct": 0.25, "use_parallel_residual": True},
    "llama": {"num_key_value_heads": 2, "rms_norm_eps": 1e-5},
}


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory):
    """What the release of a decoder looks like: a configuration, weights, and a tokenizer that has no padding token."""
    made = Path(tmp_path_factory.mktemp("decoders")) / request.param
    made.mkdir()
    document = {"model_type": request.param, **SIZES, **CONFIGS[request.param], "bos_token_id": 61, "eos_token_id": 61}
    (made / "config.json").write_text(json.dumps(document))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(made))
    perturbed(model).save_pretrained(made)
    write_tokenizer(made, ("<|endoftext|>",), None)
    return str(made)


def trained(spec, store):
    result = plm.train(spec, store=store, execution=plm.Execution(keep_weights=True))
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert 0 <= result.metrics["val/score"] <= 1
    return Store.at(store).run(spec).result()


def test_a_decoder_s_blocks_are_redrawn_and_it_is_fine_tuned(folder, finetune, tmp_path):
    """Every mask of a grid is a run of its own; what is redrawn is the block that the mask names, and nothing else."""
    found = {mask: trained(finetune(init=plm.reinit(folder, mask)), tmp_path) for mask in ("00", "01", "10", "11")}
    assert len({result["weights_sha256"] for result in found.values()}) == 4
    for mask, result in found.items():
        blocks = {int(name.partition("layers.")[2].partition(".")[0]) for name in result["redrawn"]}
        assert blocks == {i for i, bit in enumerate(mask) if bit == "1"}
        assert result["fresh"] == ["score.weight"]
    assert len(found["11"]["redrawn"]) == len(found["01"]["redrawn"]) + len(found["10"]["redrawn"]) > 10


def test_a_decoder_is_built_anew_from_its_folder(folder, pretrain, finetune, tmp_path):
    """`plm.architecture` of it is pretrained here, and the result fine-tuned."""
    parent = pretrain(architecture=plm.architecture(folder), objective=CausalLM(), vocabulary=folder)
    assert plm.train(parent, store=tmp_path).metrics["val/perplexity"] > 1
    result = trained(finetune(init=plm.reinit(parent.final, "01")), tmp_path)
    assert {name.partition("layers.")[2][0] for name in result["redrawn"]} == {"1"}
