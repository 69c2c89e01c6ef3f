"""Which part of a network suffers most from small weights? One part at a time says so.

>>> import pandas as pd
>>> import ptlab
>>> found = ptlab.sensitivity("runs/onnx")  # doctest: +SKIP

It prints a row a group of weights; of two such rows:

>>> rows = {"saved_mb": [2.0, 1.0], "difference": [0.1, 0.4]}
>>> found = ptlab.Sensitivity("int8_dynamic", pd.DataFrame(rows, ["layer 0", "layer 5"]), 32)
>>> found.worst(budget_mb=1.5)  # what to leave alone: ptlab.quantize(..., exclude=["layer 5"])
['layer 5']
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptlab._export.onnx_weights import OPERATORS
from ptlab._export.runtime_quality import Likeness, heard, likeness, lower_texts
from ptlab.comparison import normal_references
from ptlab.data import Corpus
from ptlab.errors import ModelError
from ptlab.metrics import cer
from ptlab.onnx_model import load_onnx
from ptlab.quantize import calibration_clips, operators_of, quantize, weight_groups
from ptlab.transcribe import Transcriber

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sensitivity", "sensitivity"]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What quantizing one group of weights does, group by group; made by `ptlab.sensitivity`.

    Attributes
    ----------
    method : str
        How the groups were quantized.
    frame : pandas.DataFrame
        A row a group: ``weights`` (how many), ``saved_mb`` by quantizing it, and what that does
        to the whole model: mean ``difference`` in log-probability, share of frames in
        ``agreement``, and ``cer_change``.
    clips : int
        That were heard.
    """

    method: str
    frame: pd.DataFrame
    clips: int

    def to_frame(self) -> pd.DataFrame:
        """The groups, in the order of the network."""
        return self.frame

    def worst(self, budget_mb: float) -> list[str]:
        """Groups to leave out, which avoid most damage for so many MB more.

        They are taken by damage avoided per MB while they fit: the best use of a budget but for
        the last group (Dantzig's rule for the knapsack).

        Parameters
        ----------
        budget_mb : float
            By how much the file may be larger than with all groups quantized.

        Returns
        -------
        list of str
            For ``quantize(..., exclude=...)``.
        """
        sizes = self.frame.saved_mb.clip(lower=1e-9)  # a group that saves nothing costs nothing
        gains = (self.frame.difference / sizes).sort_values(ascending=False)
        chosen, left = [], budget_mb
        for group in gains.index:
            if self.frame.saved_mb[group] <= left:
                chosen.append(group)
                left -= self.frame.saved_mb[group]
        return chosen

    def __str__(self) -> str:
        table = self.frame.to_string(float_format=lambda x: f"{x:.3g}")
        return f"{table}\n{self.method}, one group at a time, on {self.clips} clips"


def sensitivity(
    source: str | os.PathLike[str],
    clips: Corpus | None = None,
    *,
    method: str = "int8_dynamic",
    operators: Sequence[str] = OPERATORS,
) -> Sensitivity:
    """Quantize one group of weights at a time, and measure the damage.

    Damages do not add up exactly, for a later layer may mend or magnify an earlier one's; the
    order is what counts.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` has made.
    clips : Corpus, optional
        With texts, never from the test split: what is chosen on clips is no longer tested by them.
        By default 32 clips of the corpus's dev split.
    method : {"int8_dynamic", "int8_static", "int4"}
        int4 has no convolutions; their groups are then left out.
    operators : sequence of {"MatMul", "Conv"}
        As in `ptlab.quantize`, but convolutions too, so that one sees why they are left alone.

    Returns
    -------
    Sensitivity

    Raises
    ------
    ModelError
        If there is no exported graph in float32, or the method is not one of the three.
    DataError
        If clips are from a test split, or have no texts.
    """
    import pandas as pd

    if not method.startswith("int"):
        raise ModelError(f"method={method!r}; choose int8_dynamic, int8_static or int4.")
    corpus = calibration_clips(clips)
    every = list(weight_groups(source))
    groups = weight_groups(source, operators_of(method, operators))
    graph = load_onnx(source, device="cpu")
    whole = Transcriber(graph)
    standard, rows = heard(whole, corpus), {}
    before = _cer(whole, corpus, standard)
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            path, others = Path(folder, group), [g for g in every if g != group]
            made = quantize(source, path, method, operators=operators, exclude=others)
            small = Transcriber(made.load(device="cpu"))
            matrices = heard(small, corpus)
            near = sum(map(likeness, standard, matrices), Likeness(0, 0, 0.0))
            rows[group] = {
                "weights": groups[group],
                "saved_mb": (graph.size_bytes - made.size_bytes) / 1e6,
                "difference": near.difference,
                "agreement": near.agreement,
                "cer_change": _cer(small, corpus, matrices) - before,
            }
    return Sensitivity(method, pd.DataFrame(rows).T.rename_axis("group"), len(corpus))


def _cer(transcriber: Transcriber, corpus: Corpus, matrices: list[np.ndarray]) -> float:
    model = transcriber.model
    chosen, references = normal_references(corpus, [model.vocabulary])
    return cer(references, lower_texts([matrices[i] for i in chosen], model))
