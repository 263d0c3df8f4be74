"""What a search has found: its trials, best first, each with the mean and spread of its seeds.

Two numbers stand beside each other and are never mixed: the one a trial was *selected* by (a slice of the training data;
the best of many is also the luckiest) and the one that is *reported* (the evaluation split, fresh seeds).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from plm.data.corpus import Corpus
from plm.spec import RunSpec
from plm.store import RunFolder, Store
from search_spaces.axis import label
from sweeps.engine.front import front, front_probabilities
from sweeps.engine.learning import EVALUATIONS, Line, Panel, Track, inside
from sweeps.engine.markdown import section
from sweeps.engine.progress import short
from sweeps.engine.record import noted_trials, written
from sweeps.engine.results import described
from sweeps.engine.setting import Setting
from sweeps.engine.stats import seeds_interval

SHOWN = 20
"""Rows of the table, at most."""


@dataclass(frozen=True)
class Tried:
    """A trial of a search."""

    number: int
    outcome: str
    """`done`, `pruned`, `diverged`, `failed` or `running`."""
    point: dict[str, Any]
    """What the space chose, as tables show it."""
    second: float | None
    """The second criterion; None: there is none."""
    selected: tuple[float, ...]
    """The metric of each finished seed, on the slice."""
    reported: tuple[float, ...]
    """The metric of each finished fresh seed, on the evaluation split; empty: it was not measured again."""
    runs: tuple[str, ...]
    again: tuple[str, ...]
    """Of these, those at fresh seeds."""
    seconds: float

    @property
    def value(self) -> float | None:
        """What the search compares: the mean over all seeds; None where some are missing."""
        return mean(self.selected) if self.outcome == "done" and self.selected else None


def tried(setting: Setting, store: Store) -> list[Tried]:
    """The trials of a call's study, in the order they were begun."""
    return [
        _read(trial, setting.sweep.metric, store)
        for trial in noted_trials(setting.sweep.name, store)
        if trial["study"] == setting.name
    ]


def _read(trial: dict[str, Any], metric: str, store: Store) -> Tried:
    values: dict[str, list[float]] = {"runs": [], "confirmed": []}
    seconds = 0.0
    for role, found in values.items():
        for folder in (RunFolder(store, run_id) for run_id in trial[role]):
            if folder.status() == "done":
                result = folder.result()
                found.append(float(result["metrics"][metric]))
                seconds += result["seconds"]
    return Tried(
        trial["trial"],
        trial["outcome"],
        trial["point"],
        next(iter(trial.get("second", {}).values()), None),
        tuple(values["runs"]),
        tuple(values["confirmed"]),
        (*trial["runs"], *trial["confirmed"]),
        tuple(trial["confirmed"]),
        seconds,
    )


def on_front(setting: Setting, trials: Sequence[Tried]) -> list[Tried]:
    """The trials that no other beats by both criteria, by what they were selected by; cheapest first."""
    done = [t for t in trials if t.value is not None]
    on = front([t.value or 0.0 for t in done], _costs(setting, done), smaller=setting.smaller)
    return sorted((t for t, is_on in zip(done, on, strict=True) if is_on), key=lambda t: _costs(setting, [t]))


def chances(setting: Setting, trials: Sequence[Tried], *, reported: bool) -> dict[int, float]:
    """Trial -> the share of redrawn sets of seeds in which it is on the front (of one criterion: the best).

    Args:
        reported: Of the values on the evaluation split, among the trials that have them; else of those to select by,
            among the trials with all seeds.
    """
    chosen = [t for t in trials if (t.reported if reported else t.value is not None)]
    values = [t.reported if reported else t.selected for t in chosen]
    most = max(map(len, values), default=0)
    whole = [(t, v) for t, v in zip(chosen, values, strict=True) if len(v) == most >= 2]
    if not whole:
        return {}
    found = front_probabilities([v for _, v in whole], _costs(setting, [t for t, _ in whole]), smaller=setting.smaller)
    return {t.number: chance for (t, _), chance in zip(whole, found, strict=True)}


def _costs(setting: Setting, trials: Sequence[Tried]) -> list[float]:
    return setting.costs(t.second or 0.0 for t in trials)


def ranked(setting: Setting, trials: Sequence[Tried]) -> list[Tried]:
    """Best first, after the front of two criteria; those without a value last."""
    first = on_front(setting, trials) if setting.sweep.search.second else []
    done = [t for t in trials if t.value is not None and t not in first]
    done.sort(key=lambda t: (t.value or 0.0) * (1 if setting.smaller else -1))
    return first + done + [t for t in trials if t.value is None]


def learned(setting: Setting, trials: Sequence[Tried], store: Store) -> Panel | None:
    """What the trials that are reported learn inside their runs, beside the best control, tuned as they are.

    None: the search has no control, it was not measured again, or nothing is pretrained.
    """
    read = {t.number: _inside(t, store) for t in trials if t.reported}
    best = [t for t in ranked(setting, trials) if read.get(t.number)]  # by the slice, not by what is reported
    controls = [t for t in best if setting.sweep.search.is_control(t.point)]
    if not controls:
        return None
    shown = [controls[0], *(t for t in best if t not in controls)]
    lines = (Line(str(t.number), str(controls[0].number), read[t.number]) for t in shown)
    return Panel("what is saved, at fresh seeds", EVALUATIONS, tuple(lines))


def _inside(trial: Tried, store: Store) -> dict[int, Track]:
    """What a trial's pretrainings at fresh seeds learn, by seed."""
    tracks = {}
    for folder in (RunFolder(store, run_id) for run_id in trial.again):
        spec = written(folder) if folder.status() == "done" else None
        if isinstance(spec, RunSpec) and isinstance(spec.data, Corpus):
            tracks[spec.seeds.order] = inside([spec], store)
    return tracks


def table(setting: Setting, trials: Sequence[Tried]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: the best trials, or all if they are few."""
    names = list(dict.fromkeys(name for t in trials for name in t.point))
    metric, second = setting.sweep.metric, setting.sweep.search.second
    chance = f"P({'front' if second else 'best'})"
    head = ["trial", *names, *([second.name] if second else []), "n", f"{metric}, selected by", "spread", chance]
    head += ["n", f"{metric}, reported", "95% seeds (t)", chance, "each seed", "outcome"]
    first, again = (chances(setting, trials, reported=reported) for reported in (False, True))
    rows = [
        [
            str(t.number),
            *(short(t.point.get(n, "")) for n in names),
            *([short(t.second)] if second else []),
            *_selected(t),
            _share(first.get(t.number)),
            *_reported(t, _share(again.get(t.number))),
            t.outcome,
        ]
        for t in ranked(setting, trials)[:SHOWN]
    ]
    return head, rows


def _share(chance: float | None) -> str:
    return "" if chance is None else f"{chance:.2f}"


def _selected(trial: Tried) -> list[str]:
    values = trial.selected
    return [
        str(len(values)),
        f"{mean(values):.4f}" if values else "",
        f"{stdev(values):.4f}" if len(values) > 1 else "",
    ]


def _reported(trial: Tried, chance: str) -> list[str]:
    values = trial.reported
    if not values:
        return [""] * 5
    interval = seeds_interval(values)
    return [
        str(len(values)),
        f"{mean(values):.4f}",
        f"{interval.low:.4f} to {interval.high:.4f}" if interval else "",
        chance,
        " ".join(f"{v:.4f}" for v in values),
    ]


def about(setting: Setting, trials: Sequence[Tried]) -> list[str]:
    """What was searched, and how far: what stands below each figure and table."""
    count = Counter(t.outcome for t in trials)
    fixed = {**{k: label(v) for k, v in setting.point.items()}, "seeds": ", ".join(map(str, setting.seeds))}
    runs, seconds = len({r for t in trials for r in t.runs}), sum(t.seconds for t in trials)
    return [
        f"{described(setting.sweep.metric)}; " + ", ".join(f"{name} {value}" for name, value in fixed.items()),
        f"{len(trials)} trials: {', '.join(f'{n} {outcome}' for outcome, n in count.items()) or 'none yet'} "
        f"({runs} runs, {seconds / 60:.0f} min of computing of those that are finished)",
    ]


def caption(setting: Setting, trials: Sequence[Tried]) -> list[str]:
    """What must be known to read the table."""
    second = setting.sweep.search.second
    what = f"front: no other trial beats it by both {setting.sweep.metric} and {second.name} " if second else ""
    what += f"({'smaller' if second.smaller else 'larger'} is better); " if second else ""
    few = f"shown: {'the front and ' * bool(second)}the best, {SHOWN} in all"
    return [
        *about(setting, trials),
        *([few] if len(trials) > SHOWN else []),
        "selected by: mean over the trial's seeds on a slice cut from the training data; the best of many is also the "
        "luckiest. reported: the evaluation split at fresh seeds, which no choice has seen",
        f"{what}P: in which share of redrawn seeds it is {'on the front' if second else 'the best'}, among the trials "
        "with all seeds, and among those that are reported",
        f"study {setting.name}",
    ]


def markdown(setting: Setting, trials: Sequence[Tried]) -> str:
    """The table as Markdown."""
    return section(None, *table(setting, trials), caption(setting, trials))
