"""Where sentences begin: rules for English-like prose, by punctuation and what stands around it.

Lines end sentences always. Within a line a sentence ends at `.`, `!` or `?` (closing quotes and brackets included) before
white space and a capital, digit or opening quote; not after a title or a common abbreviation, nor after an initial.
Simple on purpose: a wrong boundary costs the pair objectives little, and a rule can be read.
"""

from __future__ import annotations

import re

_ABBREVIATIONS = (
    "mr mrs ms dr prof st sr jr rev hon gen col lt sgt capt maj cmdr adm gov sen rep pres "
    "no nos vol vols ed eds pp fig figs eq sec ch art op al cf viz vs approx ca est "
    "inc ltd co corp dept univ assn bros mt ft ave blvd rd "
    "jan feb mar apr jun jul aug sep sept oct nov dec e.g i.e u.s u.k a.m p.m"
)
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
_OPEN, _CLOSE = r"""["'\u201c\u2018\u00ab(\[]""", r"""["'\u201d\u2019\u00bb)\]]"""
_END = re.compile(rf"[.!?][.!?]*{_CLOSE}*\s+(?={_OPEN}?[^\W_a-z\u00df-\u00f6\u00f8-\u00ff])")
_WORD_BEFORE = re.compile(r"""([^\s(\["'\u201c\u2018]+)\.$""")


def starts(line: str) -> list[int]:
    """Character positions at which the sentences of a line begin, 0 first."""
    found = [0]
    for end in _END.finditer(line):
        if line[end.start()] != "." or not _abbreviated(line[found[-1] : end.start() + 1]):
            found.append(end.end())
    return found


def _abbreviated(until: str) -> bool:
    """Whether the full stop at the end belongs to an abbreviation or an initial."""
    word = _WORD_BEFORE.search(until[-24:])
    return word is not None and (word[1].lower() in ABBREVIATIONS or (len(word[1]) == 1 and word[1].isalpha()))
