"""How texts are read, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.axis import label
from search_spaces.teachers import recipe
from search_spaces.texts import generated, reading, texts


@pytest.mark.parametrize("text", ["world", "world:stories", "world+world:stories"])
def test_the_generated_language_has_its_own_words(text: str) -> None:
    assert generated(text)
    assert reading(text).vocabulary is None
    assert recipe(text).batch_size == 16


@pytest.mark.parametrize("text", ["prose", "prose+books", "world+prose", "worldly"])
def test_other_text_is_read_in_pieces(text: str) -> None:
    assert not generated(text)
    assert reading(text).vocabulary == "wordpiece:8192"
    assert recipe(text).batch_size == 256


def test_texts_joined_by_a_plus_are_absolute_and_labelled_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wiki", "books"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    (joined,) = texts("world").parse("wiki+books")
    assert joined == f"{tmp_path / 'wiki'}+{tmp_path / 'books'}"
    assert label(joined) == "wiki+books"
    assert label(f"world+{tmp_path / 'books'}") == "world+books"
    assert label("linear:10+tail") == "linear:10+tail"
    with pytest.raises(ValueError, match="an empty value"):
        texts("world").parse("wiki+")
