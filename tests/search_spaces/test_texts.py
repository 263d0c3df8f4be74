"""How texts are read, by their names."""

from __future__ import annotations

import pytest

from search_spaces.teachers import recipe
from search_spaces.texts import generated, reading


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
