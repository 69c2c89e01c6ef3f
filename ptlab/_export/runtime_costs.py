"""What models cost on this machine: disk, time to load, memory, and time for a second of sound."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ptlab._export.runtime_worker import Worker
from ptlab.errors import ModelError
from ptlab.machine import Machine, this_machine

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RuntimeCosts", "load_options", "measure_costs"]

LENGTHS_S = (2.0, 5.0, 15.0, 30.0)


@dataclass(frozen=True, eq=False)
class RuntimeCosts:
    """Costs of models; made by `ptlab.measure_costs`.

    Attributes
    ----------
    models : pandas.DataFrame
        A row a model: ``size_mb`` (all its files), ``load_s`` (until it can be asked, imports
        included) and ``memory_mb`` (peak of a process of its own).
    speeds : pandas.DataFrame
        A row for each model, number of ``threads`` and ``length_s``: the real-time factor ``rtf``
        (seconds of work for a second of sound), median of the rounds, with the least and the most.
    machine : Machine
    rounds : int
    """

    models: pd.DataFrame
    speeds: pd.DataFrame
    machine: Machine
    rounds: int

    def to_frame(self) -> pd.DataFrame:
        """A row a model: size, time to load, memory, and a column of RTF a length and threads."""
        wide = self.speeds.pivot(index="model", columns=["threads", "length_s"], values="rtf")
        wide.columns = [f"rtf_{s:g}s_{t}t" for t, s in wide.columns]
        return self.models.join(wide)

    def __str__(self) -> str:
        table = self.to_frame().to_string(float_format=lambda x: f"{x:.3g}")
        return f"{table}\n{self.machine}; median of {self.rounds} rounds, models by turns"


def measure_costs(
    models: Mapping[str, Any],
    *,
    lengths_s: Sequence[float] = LENGTHS_S,
    threads: Sequence[int] = (1, 2),
    rounds: int = 5,
    start: Callable[[dict[str, Any], int], Any] = Worker,
) -> RuntimeCosts:
    """Measure disk, time to load, memory and speed of models, each in a process of its own.

    The models take turns, and the order moves on with every round, so that an hour in which the
    machine is slow hits all of them. The longest clip is run once before anything is counted.

    Parameters
    ----------
    models : mapping of str to model
        Name to show -> what `ptlab.load_model` takes: a name or path, or a mapping of its options
        such as ``{"name_or_path": "mini", "dtype": "bfloat16"}``. On the CPU, unless they name
        another ``device``.
    lengths_s : sequence of float
        Lengths of the clips, in seconds.
    threads : sequence of int
        Numbers of threads.
    rounds : int
    start : callable
        Makes the process; tests give one that needs no time.

    Returns
    -------
    RuntimeCosts

    Raises
    ------
    ModelError
        If there are no models, one cannot be loaded, or a number is not positive.
    """
    import pandas as pd

    _check(models, lengths_s, threads, rounds)
    costs: dict[str, dict[str, float]] = {name: {} for name in models}
    rows = []
    for count in threads:
        with ExitStack() as stack:
            workers = {
                name: stack.enter_context(start(load_options(model), count))
                for name, model in models.items()
            }
            rows += _speeds(workers, count, sorted(lengths_s), rounds)
            for name, worker in workers.items():
                _add(costs[name], worker.facts, worker.ask()["peak_mb"])
    frame = pd.DataFrame.from_dict(costs, orient="index").rename_axis("model")
    return RuntimeCosts(frame, pd.DataFrame(rows), this_machine(), rounds)


def load_options(model: Any) -> dict[str, Any]:
    """Options of `ptlab.load_model` for a name, a path, or such options.

    Examples
    --------
    >>> load_options("mini")
    {'name_or_path': 'mini', 'device': 'cpu'}
    """
    if isinstance(model, Mapping):
        options = {"device": "cpu", **model}  # as text, for they go to another process
        return {k: v if v is None else str(v) for k, v in options.items()}
    if not isinstance(model, str | os.PathLike):
        raise ModelError(
            f"A model of type {type(model).__name__}; every model is loaded in a process of its "
            "own, so give its name or path, or a dict of load_model's options."
        )
    return {"name_or_path": os.fspath(model), "device": "cpu"}


def _check(
    models: Mapping[str, Any], lengths_s: Sequence[float], threads: Sequence[int], rounds: int
) -> None:
    if not isinstance(models, Mapping) or not models:
        raise ModelError("Give models by name, as in {'whole': 'mini', 'int8': 'runs/int8'}.")
    for what, numbers in (("lengths_s", lengths_s), ("threads", threads), ("rounds", [rounds])):
        if not numbers or min(numbers) <= 0:
            raise ModelError(f"{what}={numbers}; expected positive numbers, at least one.")


def _speeds(
    workers: dict[str, Any], threads: int, lengths_s: Sequence[float], rounds: int
) -> list[dict[str, Any]]:
    names, rates = list(workers), {n: w.facts["sampling_rate"] for n, w in workers.items()}
    taken: dict[tuple[str, float], list[float]] = {(n, s): [] for n in names for s in lengths_s}
    for name in names:
        workers[name].ask(samples=round(lengths_s[-1] * rates[name]))
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            for length in lengths_s:
                told = workers[name].ask(samples=round(length * rates[name]))
                taken[name, length].append(told["seconds"] / length)
    return [
        {
            "model": name, "threads": threads, "length_s": length, "rtf": median(found),
            "rtf_min": min(found), "rtf_max": max(found),
        }
        for (name, length), found in taken.items()
    ]  # fmt: skip


def _add(costs: dict[str, float], facts: dict[str, Any], peak: float) -> None:
    costs["size_mb"] = facts["size_bytes"] / 1e6
    costs["load_s"] = min(facts["load_s"], costs.get("load_s", float("inf")))
    costs["memory_mb"] = max(peak, costs.get("memory_mb", 0.0))
