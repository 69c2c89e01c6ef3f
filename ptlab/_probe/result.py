"""Results of probes, which do not show their scores without those of the controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._probe.scores import METRICS, Scores
from ptlab.errors import PtlabError
from ptlab.metrics import Interval, PairedComparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LayerSweep", "ProbeResult"]

_HEAD = f"  {'':18} {'macro-F1':23} {'balanced accuracy':23} accuracy"


@dataclass(frozen=True, eq=False, repr=False)
class ProbeResult:
    """What a probe found, beside what its controls found.

    Attributes
    ----------
    scores : Scores
        Of guesses for clips whose groups the probe has not learned from.
    controls : dict of str to Scores
        The same procedure on other features, or on shuffled labels.
    gains : dict of str to PairedComparison
        Macro-F1 of the probe minus that of each control, on the same clips.
    missing : tuple of str
        Controls that were not made: as long as there are any, nothing is shown.
    without : dict of str to str
        Controls that were left out on purpose, and why.
    p_value : float
        Share of shuffled label sets, the true one counted among them, whose probe was as good.
    layers : tuple
        The layer that the training clips of each fold chose.
    classes : tuple
    guesses : ndarray (clips,)
        As positions in ``classes``.
    folds, groups, clips : int
    classifier : str
    """

    scores: Scores
    controls: Mapping[str, Scores]
    gains: Mapping[str, PairedComparison]
    missing: tuple[str, ...]
    without: Mapping[str, str]
    p_value: float
    layers: tuple[Any, ...]
    classes: tuple[Any, ...]
    guesses: np.ndarray
    folds: int
    groups: int
    clips: int
    classifier: str

    def __repr__(self) -> str:
        head = (
            f"{self.clips} clips, {len(self.classes)} classes, {self.groups} groups in "
            f"{self.folds} folds, {self.classifier}"
        )
        if self.missing:
            return f"ProbeResult({head}): {_withheld(self.missing)}"
        lines = [f"Probe of {head}", _HEAD]
        lines += [_line(name, scores) for name, scores in self._rows()]
        lines.append("probe minus control, macro-F1:")
        lines += [f"  {name:16} {gain}" for name, gain in self.gains.items()]
        lines.append(f"shuffled labels did as well: p = {self.p_value:.3f}")
        if self.layers:
            lines.append(f"layers chosen in training: {', '.join(map(str, self.layers))}")
        lines += [f"without {name}: {reason}" for name, reason in self.without.items()]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Scores of the probe and of its controls with their intervals, one row each.

        Raises
        ------
        PtlabError
            If controls are missing.
        """
        import pandas as pd

        if self.missing:
            raise PtlabError(_withheld(self.missing))
        return pd.DataFrame([{"features": name, **_cells(s)} for name, s in self._rows()])

    def confusion(self) -> pd.DataFrame:
        """Clips by their true class (row) and by the guess (column)."""
        import pandas as pd

        if self.missing:
            raise PtlabError(_withheld(self.missing))
        return pd.DataFrame(self.scores.confusion, self.classes, self.classes)

    def _rows(self) -> list[tuple[str, Scores]]:
        return [("probe", self.scores), *self.controls.items()]


@dataclass(frozen=True, eq=False, repr=False)
class LayerSweep:
    """Scores of each layer by itself, beside those of the controls.

    The best layer of a sweep was chosen on its own test clips: the score to quote is that of
    `ptlab.probe`, which chooses without them.

    Attributes
    ----------
    layers : dict of layer to Scores
    controls : dict of str to dict of layer to Scores
        ``random weights`` has each layer, the others one entry, None.
    missing : tuple of str
    without : dict of str to str
    """

    layers: Mapping[Any, Scores]
    controls: Mapping[str, Mapping[Any, Scores]]
    missing: tuple[str, ...]
    without: Mapping[str, str]

    def __repr__(self) -> str:
        if self.missing:
            return f"LayerSweep({len(self.layers)} layers): {_withheld(self.missing)}"
        lines = [_HEAD, *(_line(f"layer {name}", s) for name, s in self.layers.items())]
        for name, of_layers in self.controls.items():
            for layer, scores in of_layers.items():
                lines.append(_line(name if layer is None else f"{name}, {layer}", scores))
        lines.append("To quote a best layer, let ptlab.probe choose it without the test clips.")
        lines += [f"without {name}: {reason}" for name, reason in self.without.items()]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row a layer and control: ``features, layer`` and the scores with their intervals."""
        import pandas as pd

        if self.missing:
            raise PtlabError(_withheld(self.missing))
        parts = {"probe": self.layers, **self.controls}
        return pd.DataFrame([
            {"features": name, "layer": layer, **_cells(scores)}
            for name, of_layers in parts.items()
            for layer, scores in of_layers.items()
        ])  # fmt: skip


def _cells(scores: Scores) -> dict[str, float]:
    cells: dict[str, float] = {}
    for metric in METRICS:
        interval: Interval = getattr(scores, metric)
        cells |= {metric: interval.value, f"{metric}_low": interval.low}
        cells[f"{metric}_high"] = interval.high
    return cells


def _line(name: str, scores: Scores) -> str:
    """A row under `_HEAD`: on one line of a notebook at the width of a laptop."""
    return f"  {name:18} {scores.macro_f1!s:23} {scores.balanced_accuracy!s:23} {scores.accuracy}"


def _withheld(missing: tuple[str, ...]) -> str:
    return (
        f"scores withheld, as a score without its controls says nothing: {', '.join(missing)} "
        "missing. Give what ptlab.embed made, or controls=ptlab.sound_controls(sounds); to leave "
        "one out, say why: without={'MFCC': 'the reason'}."
    )
