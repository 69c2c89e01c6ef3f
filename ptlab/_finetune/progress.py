"""A training run while it goes on: a bar, and in a notebook a figure."""

from __future__ import annotations

import time
from typing import Any

import matplotlib.pyplot as plt
from transformers import TrainerCallback

from ptlab._finetune.history import history_rows, plot_training

__all__ = ["LiveProgress", "in_notebook"]

REDRAW_S = 5.0  # least time between two figures: drawing one takes a few tenths of a second


class LiveProgress(TrainerCallback):
    """A bar with loss and WER, the text of one validation clip at every evaluation, and in a
    notebook a figure that is drawn again as training goes on.

    Parameters
    ----------
    show : bool
    """

    def __init__(self, show: bool = True):
        self.show, self._figure, self._drawn = show, None, 0.0
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="updates", disable=not self.show
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        rows = history_rows(state.log_history)
        latest = {name: row[name] for row in rows for name in ("loss", "wer") if name in row}
        if "eval_hypothesis" in (logs or {}) and self.show:  # text appears, out of blanks
            self._bar.write(f"{state.global_step:>6}  {logs['eval_hypothesis']}")
        said = {"loss": "loss {:.2f}", "wer": "WER {:.1%}"}
        self._bar.set_postfix_str(", ".join(said[n].format(v) for n, v in latest.items()))
        if time.monotonic() - self._drawn > REDRAW_S or "eval_wer" in (logs or {}):
            self._draw(rows)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._draw(history_rows(state.log_history))
        self.close()

    def close(self) -> None:
        """End the bar, also after an error."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, rows: list[dict[str, Any]]) -> None:
        if not (self.show and rows and in_notebook()):
            return
        from IPython.display import display

        figure: Any = plot_training(rows)[0].figure
        if self._figure is None:
            self._figure = display(figure, display_id=True)
        else:
            self._figure.update(figure)
        plt.close(figure)  # else the notebook shows it once more at the end of the cell
        self._drawn = time.monotonic()


def in_notebook() -> bool:
    """Whether there is a page to draw on: Jupyter, Colab or VS Code.

    Examples
    --------
    >>> in_notebook()
    False
    """
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
