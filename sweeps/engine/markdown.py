"""Tables as Markdown: the one place that knows how a heading, its rows and its remarks are written."""

from __future__ import annotations

from collections.abc import Sequence


def section(title: str | None, head: Sequence[str], rows: Sequence[Sequence[str]], said: Sequence[str]) -> str:
    """A heading if there is one, a table, and a list of remarks; ends with an empty line."""
    lines = [f"## {title}", ""] if title else []
    for cells in (head, ["---"] * len(head), *rows):
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", *(f"- {line}" for line in said)]) + "\n\n"
