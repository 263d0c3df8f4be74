"""Analyses of the generated language: rows make a table, the summary follows from them, and both are values for ever."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import crossed
import pytest
from subjects import subject, words
from tiny import SIZES

from plm.analyses import analysis
from plm.data import sources
from plm.data.files import files
from plm.data.gold import tagged
from plm.data.world import World
from plm.models import shape
from plm.models.bert import Bert
from plm.names import parted
from plm.reading import to_parquet
from plm.spec import decode, digest, encode

NAMES = ("attention", "evolution", "knowledge", "minimal_pairs", "probing", "similarity")


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    monkeypatch.setattr(sources, "World", lambda **fields: World(num_documents=1200, **fields))


@pytest.mark.parametrize("name", NAMES)
def test_an_analysis_keeps_its_promises(name):
    asked = analysis(name, "world", size=8, seed=1).fewer(6)
    of = subject("BertForMaskedLM" if asked.head == "tokens" else "BertModel", words(World().vocabulary()))
    rows = asked.rows(of)
    assert to_parquet(rows)
    found = asked.summary(rows)
    assert all(math.isfinite(value) for value in found.values())
    assert set(asked.curves[:1]) <= {key.partition("/")[0] for key in found}
    if asked.baseline:
        assert asked.baseline in {key.partition("/")[0] for key in found}
    assert asked.summary([dict(row) for row in rows]) == found
    assert asked.flops(shape(Bert(**SIZES, dropout=0.0))) > 0
    assert decode(json.loads(json.dumps(encode(asked, identity=False)))) == asked
    assert digest(asked) != digest(analysis(name, "world", size=8, seed=2).fewer(6))


@pytest.mark.parametrize("name", ["knowledge", "minimal_pairs", "probing"])
def test_a_unit_says_where_numbers_come_from(name):
    """What intervals resample is what the summary says."""
    asked = analysis(name, "world").fewer(6)
    of = subject("BertForMaskedLM" if asked.head == "tokens" else "BertModel", words(World().vocabulary()))
    rows, seen = asked.rows(of), 0
    found = asked.summary(rows)
    for column in asked.unit.by:
        for value in {row[column] for row in rows} - {"", None}:
            own = [row[asked.unit.value] for row in rows if row[column] == value and row[asked.unit.value] is not None]
            assert found[f"{asked.curves[0]}/{value}"] == pytest.approx(sum(own) / len(own))
            seen += 1
    assert seen > 3
    assert all(row[asked.unit.cluster] not in ("",) for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_of_an_analysis_does_not_wait_for_torch(name):
    code = f"import sys, plm.analyses.{name}; print({{'torch', 'transformers', 'sklearn'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_fields_of_an_analysis_stand_behind_its_data():
    asked = analysis("probing", "world@layers=4:0@description_length@test_size=7", size=5)
    assert (asked.layers, asked.description_length, asked.test_size, asked.size) == ((0, 4), True, 7, 5)
    assert analysis("knowledge", "world@cardinalities=N-M").cardinalities == ("N-M",)
    assert analysis("probing", "world@description_length=false") == analysis("probing", "world")
    with pytest.raises(ValueError, match=r"unknown field of analyses/probing 'layer'\. Did you mean 'layers'"):
        analysis("probing", "world@layer=3")
    with pytest.raises(ValueError, match=r"layers='a' of analyses/probing: it is tuple\[int, \.\.\.\] \| None"):
        analysis("probing", "world@layers=a")
    with pytest.raises(ValueError, match="unknown field of analyses/knowledge 'seed'"):
        analysis("knowledge", "world@seed=3")
    with pytest.raises(ValueError, match=r"unknown field of analyses/similarity 'layers': it has none"):
        analysis("similarity", "world@layers=3")
    with pytest.raises(ValueError, match=r"layers of analyses/probing is given twice"):
        analysis("probing", "world@layers=0@layers=4")
    with pytest.raises(
        ValueError, match=r"cardinalities of analyses/knowledge has no value: .* Write cardinalities=VALUE"
    ):
        analysis("knowledge", "world@cardinalities")


def test_a_path_is_taken_whole_whatever_its_name(tmp_path):
    text, gold = crossed.write(tmp_path / "a+b", 40)
    alone, held = analysis("prediction", gold), analysis("prediction", f"{gold}+{text}")
    assert (alone.data, alone.text) == (tagged(gold), None)
    assert (held.data, held.text) == (tagged(gold), files(text))
    (own := tmp_path / "s@1+2.txt").write_text("The cat sat .\n")
    assert analysis("similarity", str(own)).data == files(str(own))
    (own := tmp_path / "s@1.txt").write_text("The cat sat .\n")
    assert parted(f"{own}@layers=0@x", "@") == [str(own), "layers=0", "x"]
    both = f"{own}+{own}"
    assert parted(f"{both}@layers=0", "@") == [both, "layers=0"]
    assert parted("nowhere@layers=0@x", "@") == ["nowhere", "layers=0", "x"]
