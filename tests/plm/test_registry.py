"""Open folders: members are found by file name, and unknown names are answered with the nearest."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plm.analyses import Analysis
from plm.inits import Init
from plm.models import Model
from plm.objectives import Objective
from plm.registry import member, names, unknown
from plm.spec import encode

BASES = {"analyses": Analysis, "inits": Init, "models": Model, "objectives": Objective}
MEMBERS = [(folder, name) for folder in BASES for name in names(folder)]


@pytest.mark.parametrize(("folder", "name"), MEMBERS)
def test_every_member_is_a_value(folder, name):
    cls = member(folder, name)
    assert issubclass(cls, BASES[folder])
    assert cls.__mro__[1] is BASES[folder]  # one level of inheritance
    assert cls.kind == f"{folder}/{name}"
    assert isinstance(cls.version, int)
    assert cls.version >= 1
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert cls.__doc__
    assert not cls.__abstractmethods__


def test_the_folders_have_members():
    assert {("inits", "reinit"), ("models", "bert"), ("objectives", "mlm"), ("objectives", "classify")} <= set(MEMBERS)


def test_unknown_members_get_the_nearest_and_the_list():
    with pytest.raises(ValueError, match=r"'renit'. Did you mean 'reinit'\? There are: .*load.*scratch"):
        member("inits", "renit")
    with pytest.raises(ValueError, match="unknown open folder 'models2'"):
        member("models2", "bert")


@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_unknown_name_has_an_answer(given_name, known):
    assert f"unknown thing {given_name!r}" in str(unknown("thing", given_name, known))


def test_objectives_are_encoded_with_their_version():
    document = json.loads(json.dumps(encode(member("objectives", "mlm")(), identity=True)))
    assert document["version"] == 1
    assert document["kind"] == "objectives/mlm"
