"""The checker behind shape annotations while the tests run: beartype, with whole numbers accepted where reals are asked for."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
