"""The course of a training run: as rows, and as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from ptlab._plots.figures import FAINT, LABEL_PT, WIDTH_IN
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["history_rows", "plot_training"]

_COLUMNS = {  # name in the Trainer's log -> name in a history
    "step": "step", "epoch": "epoch", "loss": "loss", "learning_rate": "learning_rate",
    "grad_norm": "grad_norm", "eval_loss": "validation_loss", "eval_wer": "wer", "eval_cer": "cer",
    "eval_reference": "reference", "eval_hypothesis": "hypothesis",
}  # fmt: skip


def history_rows(log: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row an update that was logged or evaluated, from the Trainer's log.

    Examples
    --------
    >>> history_rows([{"step": 5, "loss": 2.5}, {"step": 5, "eval_wer": 0.5}, {"train_loss": 1.0}])
    [{'step': 5, 'loss': 2.5, 'wer': 0.5}]
    """
    rows: dict[int, dict[str, Any]] = {}
    for entry in log:
        found = {new: entry[old] for old, new in _COLUMNS.items() if old in entry}
        if len(found.keys() - {"step", "epoch"}):
            rows.setdefault(found["step"], {}).update(found)
    return list(rows.values())


def plot_training(
    history: Sequence[Mapping[str, Any]] | pd.DataFrame, *, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Loss, and error rates of the validation split, against the updates of the weights.

    Parameters
    ----------
    history : sequence of mappings or DataFrame
        ``result.history``, or a table with columns of these names.
    axes : two Axes, optional
        For the losses and for the error rates.

    Returns
    -------
    two Axes

    Raises
    ------
    PtlabError
        If there is nothing in it.

    Examples
    --------
    >>> rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "wer": 0.5, "cer": 0.25}]
    >>> left, right = plot_training(rows)
    >>> right.get_title()
    'Best WER 50.0 % after 2 updates'
    >>> plt.close(left.figure)
    """
    rows = history.to_dict("records") if hasattr(history, "to_dict") else list(history)
    if not rows:
        raise PtlabError("There is no history to draw; give result.history of a run.")
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 3.2), layout="constrained")[1]
    left, right = axes
    _line(left, rows, "loss", "-", color=FAINT, label="training")
    _line(left, rows, "validation_loss", "ko-", markersize=4, label="validation")
    left.set(xlabel="Updates", ylabel="CTC loss (nats a letter)", title="Loss")
    _line(right, rows, "wer", "ks-", 100, markersize=4, label="WER")
    _line(right, rows, "cer", "k^--", 100, markersize=4, label="CER")
    right.set(xlabel="Updates", ylabel="Validation errors (%)", ylim=(0, None))
    found = [(row["wer"], row["step"]) for row in rows if _there(row, "wer")]
    right.set_title(
        f"Best WER {100 * min(found)[0]:.1f} % after {min(found)[1]:.0f} updates"
        if found else "No evaluation yet"
    )  # fmt: skip
    for ax in (left, right):
        if ax.lines:
            ax.legend(fontsize=LABEL_PT)
    return axes


def _line(ax: Axes, rows: Any, name: str, style: str, scale: float = 1, **options: Any) -> None:
    points = [(row["step"], scale * row[name]) for row in rows if _there(row, name)]
    if points:
        ax.plot(*zip(*points, strict=True), style, **options)


def _there(row: Mapping[str, float], name: str) -> bool:
    return name in row and bool(np.isfinite(row[name]))  # a DataFrame has NaN where nothing is
