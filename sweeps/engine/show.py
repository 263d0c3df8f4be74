"""What a call of a sweep says: before it runs, what it would cost; afterwards, its tables, and where the files lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from plm.store import Store
    from sweeps.engine.cost import Cost
    from sweeps.engine.plan import Plan
    from sweeps.engine.search import Explorer
    from sweeps.engine.setting import Setting
    from sweeps.engine.worker import Resources


def repeated(planned: Plan, console: Console) -> None:
    """Name the finished runs that are trained again, and why."""
    for run_id, kept in planned.repeated.items():
        console.print(
            f"{run_id} was finished without a step that others start from: it is trained again to keep "
            f"{', '.join(map(str, kept))}",
            highlight=False,
            soft_wrap=True,
        )


def grid_cost(
    planned: Plan, store: Store, resources: Resources, at_a_time: int, rate: float | None, console: Console
) -> None:
    """Print what a grid would run and what that costs; refuse what does not fit on the disk.

    Args:
        at_a_time: Runs at a time; 0: one, in this process.
        rate: FLOPs a second of a GPU, for hours by arithmetic; None: a probe, where there is something to be probed.
    """
    from sweeps.engine.cost import check_space, counted, detectable, estimate, rate_of, spreads_of
    from sweeps.engine.results import arms
    from sweeps.engine.teaching import said

    parents = [r for r in planned.missing if r in planned.keep]
    answered = Counter(cell.spec.run_id for cell in planned.cells)
    shared, spared = sum(count > 1 for count in answered.values()), len(planned.cells) - len(answered)
    lines = [
        f"{len(planned.cells)} cells, {len(planned.runs)} runs: {len(planned.runs) - len(planned.missing)} finished, "
        f"{len(planned.missing)} to run ({len(parents)} of them parents of others)"
    ]
    lines += [f"{shared} runs answer several cells, as baselines do, which spares {spared}"] * (shared > 0)
    lines += [*_unresolved(planned), *said(planned, store, live=resources.live)]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    repeated(planned, console)
    if rate := rate_of(planned, rate):
        cost = counted(planned, store, rate, live=resources.live)
    else:
        cost = estimate(planned, store, resources, max(1, at_a_time), not at_a_time)
    console.print(_priced(cost, at_a_time, rate), highlight=False)
    if not planned.sweep.by_step:
        console.print(detectable(planned, spreads_of(arms(planned, store))), highlight=False, soft_wrap=True)
    check_space(cost, store)


def search_cost(
    asked: Setting,
    trials: int,
    store: Store,
    resources: Resources,
    at_a_time: int,
    rate: float | None,
    console: Console,
) -> None:
    """Print what a search would run at most and what that costs; refuse what does not fit on the disk.

    Args:
        at_a_time: As `grid_cost`.
        rate: As `grid_cost`.
    """
    from sweeps.engine.cost import bound, check_space, rate_of
    from sweeps.engine.found import tried
    from sweeps.engine.teaching import said

    known = sum(t.outcome in ("done", "pruned", "diverged") for t in tried(asked, store))
    new, seeds, confirmed = max(0, trials - known), len(asked.seeds), asked.confirmed
    again = "trials on the front" if asked.sweep.search.second else "best"
    runs = (new + confirmed) * seeds
    console.print(
        f"search {asked.name}: {trials} configurations of {seeds} seeds, {known} known; at most {runs} runs: "
        f"{new} new configurations, and the {confirmed} {again} again at fresh seeds",
        highlight=False,
        soft_wrap=True,
    )
    shown = asked.shown(store)
    for line in _unresolved(shown):
        console.print(line, highlight=False, soft_wrap=True)
    for line in said(shown, store, live=resources.live):
        console.print(f"of the configurations that were looked at, {line}", highlight=False, soft_wrap=True)
    rate = rate_of(shown, rate)
    cost = bound(shown, runs, store, resources, max(1, at_a_time), not at_a_time, rate)
    console.print(
        f"at most {_priced(cost, at_a_time, rate)}; what is given up early costs less", highlight=False, soft_wrap=True
    )
    check_space(cost, store)


def _unresolved(planned: Plan) -> list[str]:
    """What nothing was fetched of."""
    return [f"known by their numbers alone, not fetched: {', '.join(planned.unresolved)}"] * bool(planned.unresolved)


def _priced(cost: Cost, at_a_time: int, rate: float | None) -> str:
    """What runs cost, in words; with a rate by arithmetic alone."""
    hours = f"{cost.gpu_hours:.2f} GPU-hours"
    if rate:
        hours += f" at {rate:.1e} FLOPs a second (--rate)"
    else:
        from sweeps.engine.progress import duration

        hours = f"about {duration(cost.wall_seconds)} with {max(1, at_a_time)} at a time, {hours}"
    return f"{cost.flops:.2e} FLOPs, {cost.bytes / 1e6:.1f} MB to keep, {hours}"


def grid(planned: Plan, store: Store, console: Console, draw: bool) -> None:
    """Print the tables; write them, the results and the figures if asked to."""
    if planned.sweep.by_step:
        _growth(planned, store, console, draw)
        return
    from sweeps.engine import correlation, importance, learning, pivot, record, results
    from sweeps.engine.markdown import section

    found, shape = results.arms(planned, store), planned.sweep.pivot
    for (model, task), panel in results.panels(found):
        _print(results.headline(model, task), results.table(panel), results.caption(panel), console)
    models = pivot.panels(planned, shape, store) if shape else []
    for together in models:
        assert shape is not None
        _print(together.title, pivot.table(together, shape), pivot.caption(together, shape), console)
    asked = planned.sweep.correlation
    between = correlation.pairs(asked, found) if asked else []
    if asked and between:
        _print("correlations between tasks", correlation.table(between), correlation.caption(asked), console)
    layers = importance.panels(found, planned) if planned.sweep.importance else []
    for weighed in layers:
        _print(f"{weighed.title}: layers", importance.table(weighed), importance.caption(weighed), console)
    learned = learning.panels(planned, store) if planned.sweep.learning else []
    saved = [(one.title, *learning.table(one, planned.sweep.learning or ""), learning.caption(one)) for one in learned]
    for name, head, rows, said in saved:
        _print(name, (head, rows), said, console)
    if draw:
        from sweeps.engine import figures, importance_figures, learning_figures, panels, pivot_figures

        record.save(planned.sweep, store)
        first = pivot.markdown(models, shape) if shape else ""
        first += correlation.markdown(asked, between) if asked else ""
        first += importance.markdown(layers)
        first += "".join(section(*one) for one in saved)
        store.put(f"{record.folder(planned.sweep.name)}/table.md", (first + results.markdown(found)).encode())
        drawn = pivot_figures.save(planned.sweep.name, models, shape, store) if shape else []
        drawn += importance_figures.save(planned.sweep.name, layers, store)
        drawn += panels.save(planned.sweep.name, planned.sweep.figures, found, store)
        drawn += learning_figures.save(planned.sweep.name, learned, store)
        _files(planned.sweep.name, [*figures.save(planned, found, store), *drawn], store, console)


def _growth(planned: Plan, store: Store, console: Console, draw: bool) -> None:
    """`grid`, of readings or fine-tunings over the steps of trainings."""
    from sweeps.engine import embryo_collect, embryo_scores, embryo_tables, record
    from sweeps.engine.markdown import section

    found, scores = embryo_collect.collect(planned, store), embryo_scores.collect(planned, store)
    shown = [(embryo_tables.title(one), *embryo_tables.table(one), embryo_tables.caption(one)) for one in found]
    shown += [(embryo_scores.title(one), *embryo_scores.table(one), embryo_scores.caption(one)) for one in scores]
    for name, head, rows, said in shown:
        _print(name, (head, rows), said, console)
    if draw:
        from sweeps.engine import embryo_figures, embryo_score_figures

        record.save(planned.sweep, store)
        text = "".join([*(section(*one) for one in shown), *(one.told() for one in found)])
        store.put(f"{record.folder(planned.sweep.name)}/table.md", text.encode())
        known = embryo_collect.ever_asked(planned, store)
        ever, beside = embryo_collect.ever(planned, known, store), embryo_scores.beside(planned, known, store)
        keys = embryo_figures.save(planned.sweep.name, found, ever, beside, store)
        _files(planned.sweep.name, keys + embryo_score_figures.save(planned.sweep.name, scores, store), store, console)


def search(asked: Setting, store: Store, console: Console, draw: bool) -> None:
    """Print the table of a search; write it, the results and the figure if asked to."""
    from sweeps.engine import found, learning, record
    from sweeps.engine.markdown import section

    trials, name = found.tried(asked, store), asked.sweep.name
    _print(name, found.table(asked, trials), found.caption(asked, trials), console)
    learned = [panel] if (panel := found.learned(asked, trials, store)) else []
    saved = [(one.title, *learning.table(one, "trial"), learning.caption(one)) for one in learned]
    for title, head, rows, said in saved:
        _print(title, (head, rows), said, console)
    if draw:
        from sweeps.engine import front_figures, learning_figures, search_figures

        record.save(asked.sweep, store)
        text = found.markdown(asked, trials) + "".join(section(*one) for one in saved)
        store.put(f"{record.folder(name)}/table.md", text.encode())
        drawn = search_figures.save(asked, trials, store) + front_figures.save(asked, trials, store)
        drawn += learning_figures.save(name, learned, store)
        _files(name, drawn, store, console)


def search_end(explorer: Explorer, trials: int, console: Console) -> None:
    """Say what a search has not done, and why."""
    if explorer.abandoned:
        line = f"what trials start from could not be made: {explorer.known} of {trials} configurations tried"
    elif explorer.exhausted and explorer.known < trials:
        line = f"the space has no more configurations: {explorer.known} of {trials} tried"
    else:
        line = ""
    if explorer.diverged:
        line += f"{'; ' * bool(line)}{explorer.diverged} diverged: they count as the worst and are not tried again"
    if line:
        console.print(line, highlight=False, soft_wrap=True)


def _print(title: str, table: tuple[list[str], list[list[str]]], caption: list[str], console: Console) -> None:
    from rich.table import Table

    head, rows = table
    shown = Table(*head, title=title, caption="\n".join(caption), caption_justify="left")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def _files(name: str, keys: Sequence[str], store: Store, console: Console) -> None:
    """Say where the answers lie."""
    from sweeps.engine.record import folder

    for key in keys:
        if key.endswith(".png"):
            console.print(f"figure: {store.where(key)}", highlight=False, soft_wrap=True)
    console.print(f"results: {store.where(folder(name))}/results.parquet, table.md", highlight=False, soft_wrap=True)
