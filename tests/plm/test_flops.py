"""FLOPs of families that no list describes: twice the weights that a token meets, counted in the layers themselves."""

from __future__ import annotations

import pytest
import transformers
from families import FAMILIES, of_type
from tiny import SIZES

from plm.flops import layer_weights
from plm.models import GATED, PLAIN, shape
from plm.models.configured import Configured, canonical

UNLISTED = {
    "stablelm": (of_type("stablelm", num_key_value_heads=4), 3),
    "granite": (of_type("granite", num_key_value_heads=2), 3),
    "olmo": (of_type("olmo"), 3),
    "phi": (of_type("phi"), 2),
    "biogpt": (of_type("biogpt"), 2),
    "nomic_bert": (of_type("nomic_bert"), 3),
}
"""A family, and how many matrices its feed-forward has."""
WIDTH, INNER, LAYERS = SIZES["hidden_size"], SIZES["intermediate_size"], SIZES["num_hidden_layers"]


@pytest.mark.parametrize("name", UNLISTED)
def test_a_feed_forward_is_counted_as_it_is(name):
    value, matrices = UNLISTED[name]
    found = shape(value)
    attention = 2 * WIDTH * (found.attention_size + found.key_value_size)
    assert found.flops_per_token(0) == 2 * LAYERS * (attention + matrices * WIDTH * INNER)
    assert found.flops_per_token(9) - found.flops_per_token(0) == LAYERS * 4 * 9 * WIDTH


def test_keys_that_all_heads_share_are_counted_once():
    """Falcon does not say so by `num_key_value_heads`."""
    falcon = of_type("falcon", multi_query=True, new_decoder_architecture=False, ffn_hidden_size=INNER)
    keys = 2 * WIDTH * WIDTH // SIZES["num_attention_heads"]
    assert shape(falcon).flops_per_token(0) == 2 * LAYERS * (2 * WIDTH**2 + keys + 2 * WIDTH * INNER)


def test_a_token_meets_the_experts_it_is_sent_to():
    sizes = {"num_key_value_heads": 4, "num_local_experts": 4}
    few, many = (shape(of_type("mixtral", num_experts_per_tok=n, **sizes)) for n in (1, 3))
    assert many.flops_per_token(0) - few.flops_per_token(0) == 2 * LAYERS * 2 * 3 * WIDTH * INNER
    router = 4 * WIDTH
    assert few.flops_per_token(0) == 2 * LAYERS * (4 * WIDTH**2 + router + 3 * WIDTH * INNER)


def test_matrices_with_their_heads_apart_are_counted():
    """XLNet's five of attention (one is of relative positions), beside small tables of biases and of segments."""
    sizes = {"vocab_size": 65, "n_layer": LAYERS, "d_model": WIDTH, "n_head": 4, "d_inner": INNER}
    xlnet = shape(Configured(canonical({"model_type": "xlnet", **sizes})))
    tables = 2 * WIDTH + 3 * WIDTH
    assert xlnet.flops_per_token(0) == 2 * LAYERS * (5 * WIDTH**2 + 2 * WIDTH * INNER + tables)


def test_what_cannot_be_counted_is_said():
    """The layers of an encoder-decoder are two lists."""
    t5 = Configured(canonical({"model_type": "t5", "vocab_size": 65, "d_model": 32, "num_layers": 2, "num_heads": 4}))
    with pytest.warns(UserWarning, match="FLOPs of t5 are an estimate.*its layers could not be counted"):
        assert shape(t5).flops_per_token(0) > 0


@pytest.mark.parametrize("name", [name for name in (*GATED, *PLAIN) if not name.startswith("albert")])
def test_the_lists_say_what_counting_would(name):
    """At transformers' own sizes, to less than a matrix: layers may hold a small table beside."""
    own = {"attention_types": [[["global"], 2]]} if name == "gpt_neo" else {}
    value = Configured(canonical(transformers.AutoConfig.for_model(name, num_hidden_layers=2, **own).to_dict()))
    found = shape(value)
    assert (found.unlisted, found.num_hidden_layers) == (None, 2)
    matrix = found.hidden_size * found.intermediate_size
    assert layer_weights(value.json) + _mapped(found) == pytest.approx(found.flops_per_token(0) / 2, abs=0.5 * matrix)


def _mapped(found) -> int:
    """Weights of the map from the embeddings' width to the layers', which stands before them."""
    return found.hidden_size * found.embedding_size if found.hidden_size != found.embedding_size else 0


def test_the_families_of_ours_are_listed():
    """So that a plan of theirs does not wait for torch."""
    assert {value.model_type for value in FAMILIES.values()} <= {*GATED, *PLAIN}
