"""Families of masks: what they mean at any depth, how they are written, and that a new one is one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import masks

DEPTHS = st.integers(1, 16)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("none", ("000000",)),
        ("all", ("111111",)),
        ("000111", ("000111",)),
        ("upward:4", ("000011",)),
        ("progressive", ("000000", "000001", "000011", "000111", "001111", "011111", "111111")),
        ("blocks", ("110000", "011000", "001100", "000110", "000011")),
        ("blocks:5", ("111110", "011111")),
        ("preserved_blocks:5", ("000001", "100000")),
        ("singles", ("100000", "010000", "001000", "000100", "000010", "000001")),
        ("alternate", ("101010", "010101")),
    ],
)
def test_a_word_means(word: str, expected: tuple[str, ...]) -> None:
    assert masks.spelled(word, 6) == expected


def test_blocks_of_the_paper_are_three_of_twelve() -> None:
    found = masks.spelled("blocks", 12)
    assert (len(found), found[0], found[-1]) == (10, "111000000000", "000000000111")
    assert masks.spelled("preserved_blocks", 12)[4] == "111100011111"


@given(DEPTHS, st.sampled_from(("progressive", "blocks", "preserved_blocks", "singles", "alternate")))
def test_every_family_fits_every_depth(layers: int, word: str) -> None:
    found = masks.spelled(word, layers)
    assert found
    assert len(set(found)) == len(found)
    assert all(len(mask) == layers and not set(mask) - {"0", "1"} for mask in found)


@given(DEPTHS, st.data())
def test_a_subset_has_its_size_and_its_seed(layers: int, data: st.DataObject) -> None:
    size, seed = data.draw(st.integers(0, layers)), data.draw(st.integers(0, 99))
    (mask,) = masks.spelled(f"subset:{size}:{seed}", layers)
    assert mask.count("1") == size
    assert masks.spelled(f"subset:{size}:{seed}", layers) == (mask,)


def test_subsets_differ_by_seed() -> None:
    drawn = {masks.spelled(f"subset:3:{seed}", 12)[0] for seed in range(30)}
    assert len(drawn) > 20
    assert all(any(mask[layer] == "1" for mask in drawn) for layer in range(12))


@given(DEPTHS, st.data())
def test_a_block_is_found_again(layers: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, layers))
    for first, mask in enumerate(masks.spelled(f"blocks:{size}", layers)):
        assert masks.run_of(mask, "1") == range(first, first + size)
        assert masks.run_of(masks.inverse(mask), "0") == range(first, first + size)
    assert masks.run_of("0" * layers, "1") is None
    assert masks.run_of("101" + "0" * layers, "1") is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("blokcs", "Did you mean 'blocks'"),
        ("blocks:x", r"write blocks\[:SIZE\]"),
        ("blocks:1:2", r"write blocks\[:SIZE\]"),
        ("subset:2", "write subset:SIZE:SEED"),
        ("blocks:7", "choose from 1 to 6"),
        ("blocks:0", "choose from 1 to 6"),
        ("subset:7:0", "the model has 6 layers"),
        ("upward:6", "layers 0 to 5"),
        ("0101", "write 6 characters"),
    ],
)
def test_what_means_nothing_is_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks.spelled(word, 6)


def test_a_new_family_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends.py").write_text(
        '"""The lowest and the highest layers."""\n\nfrom search_spaces.masks import bits\n\n\n'
        "def masks(num_layers: int, size: int = 1) -> tuple[str, ...]:\n"
        "    return (bits(num_layers, (*range(size), *range(num_layers - size, num_layers))),)\n"
    )
    monkeypatch.setattr(masks, "__path__", [*masks.__path__, str(tmp_path)])
    axis = masks.masks("none").read("ends,ends:2")
    assert axis.values == ("ends", "ends:2")
    assert [masks.spelled(word, 6) for word in axis.values] == [("100001",), ("110011",)]
    assert "ends" in masks.families()
