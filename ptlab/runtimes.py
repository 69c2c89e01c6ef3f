"""Several forms of one model side by side: what each costs here, and whether it writes as well.

>>> import ptlab
>>> costs = ptlab.measure_costs({"mini": "mini"}, lengths_s=(1,), threads=(1,), rounds=1)
>>> costs.models.columns.tolist()
['size_mb', 'load_s', 'memory_mb']
>>> bool(costs.speeds.rtf.item() > 0)  # seconds of work for a second of sound
True

Of clips that have texts, `ptlab.compare_runtimes` says besides whether a smaller form writes as
well.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._export.runtime_costs import LENGTHS_S, RuntimeCosts, load_options, measure_costs
from ptlab._export.runtime_quality import quality, verdict
from ptlab._export.runtime_worker import Worker
from ptlab._finetune.data import as_corpus
from ptlab.errors import ModelError
from ptlab.models import load_model
from ptlab.transcribe import Transcriber

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RuntimeComparison",
    "RuntimeCosts",
    "compare_runtimes",
    "measure_costs",
    "verdict",
]

MARGIN = 0.005  # half a word in a hundred: what may be lost by "not worse"
ACCEPTED = ("reference", "not worse")


@dataclass(frozen=True, eq=False, repr=False)
class RuntimeComparison:
    """Forms of one model, each compared with the first; made by `ptlab.compare_runtimes`.

    Attributes
    ----------
    costs : RuntimeCosts
        Disk, time to load, memory, and speed by length of clip and number of threads.
    quality : pandas.DataFrame
        A row a model: mean ``difference`` in log-probability and share of frames in ``agreement``
        with the first model, ``wer`` and ``cer``, their changes with a 95 % interval, in how many
        clips the text is ``changed``, and the ``verdict``: ``"not worse"`` if the interval of the
        WER's change ends within the margin, ``"worse"`` if it begins beyond it, else ``"not
        shown"``. An interval ends at 3 / words or later (the rule of three): few clips without a
        change show little.
    clips : pandas.DataFrame
        A row for each model and clip.
    margin : float
        Absolute WER that may be lost.
    """

    costs: RuntimeCosts
    quality: pd.DataFrame
    clips: pd.DataFrame
    margin: float

    @property
    def reference(self) -> str:
        """Name of the model that the others are compared with."""
        return self.quality.index[0]

    def to_frame(self) -> pd.DataFrame:
        """A row a model: costs, likeness, error rates, and the verdict at the end."""
        return self.costs.to_frame().join(self.quality)

    def speedups(self, length_s: float | None = None, threads: int | None = None) -> pd.Series:
        """How many times as fast as the first model each is; by default the mean over all.

        The mean is geometric, over the lengths and threads that are left.
        """
        speeds = self.costs.speeds
        for column, value in (("length_s", length_s), ("threads", threads)):
            measured = sorted(set(speeds[column]))
            if value is not None and value not in measured:
                raise ModelError(f"{column}={value} was not measured; choose from {measured}.")
            speeds = speeds if value is None else speeds[speeds[column] == value]
        table = speeds.pivot(index="model", columns=["threads", "length_s"], values="rtf")
        ratios = table.loc[self.reference] / table.loc[self.quality.index]
        return np.exp(np.log(ratios).mean(axis=1)).rename("times as fast")

    def fastest(self) -> str:
        """The fastest model that is shown to be not worse."""
        accepted = self.quality.index[self.quality.verdict.isin(ACCEPTED)]
        return self.speedups()[accepted].idxmax()

    def by_length(self, edges_s: Sequence[float] = (3.0, 6.0)) -> pd.DataFrame:
        """WER and frame agreement for short, middling and long clips.

        Parameters
        ----------
        edges_s : sequence of float
            Where one bucket ends and the next begins, in seconds.
        """
        import pandas as pd

        bounds = [0.0, *edges_s, np.inf]
        labels = [f"{a:g} to {b:g} s" for a, b in pairwise(bounds)]
        labels[-1] = f"{edges_s[-1]:g} s and more"
        bucket = pd.cut(self.clips.length_s, bounds, labels=labels, right=False)
        counts = ["words", "errors", "frames", "same"]
        sums = self.clips.groupby([self.clips.model, bucket], observed=True)[counts].sum()
        table = {"WER": sums.errors / sums.words, "agreement": sums.same / sums.frames}
        return pd.DataFrame(table).unstack().loc[self.quality.index]

    def __str__(self) -> str:
        rows = self.to_frame().to_string(float_format=lambda x: f"{x:.3g}")
        return (
            f"{rows}\n{len(self.clips) // len(self.quality)} clips; compared with "
            f"{self.reference!r}, WER margin {self.margin:.1%}\n{self.costs.machine}"
        )

    def __repr__(self) -> str:
        return f"<RuntimeComparison\n{self}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def compare_runtimes(
    models: Mapping[str, Any],
    split: Any,
    *,
    margin: float = MARGIN,
    lengths_s: Sequence[float] = LENGTHS_S,
    threads: Sequence[int] = (1, 2),
    rounds: int = 5,
    n_resamples: int = 1000,
    seed: int = 0,
    start: Callable[[dict[str, Any], int], Any] = Worker,
) -> RuntimeComparison:
    """Measure what forms of one model cost, and test whether they write as well as the first.

    `ptlab.compare` asks whether training made a model better; this asks whether making it smaller
    or faster made it worse. An interval that holds zero does not show that: it may be wide. So the
    verdict is one of non-inferiority: the whole interval must lie within a margin that is stated
    before.

    Parameters
    ----------
    models : mapping of str to model
        Name to show -> name, path, or options of `ptlab.load_model`; the first is the reference.
    split : Corpus, datasets.Dataset or path
        Clips that were used neither for training nor for calibration. With five speakers or more,
        the bootstrap draws speakers; else clips.
    margin : float
        Absolute WER that may be lost: 0.005 is half a word in a hundred.
    lengths_s, threads, rounds, start
        As in `ptlab.measure_costs`.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    RuntimeComparison

    Raises
    ------
    ModelError
        If there are no models, one cannot be loaded, or they are not forms of one model.
    DataError
        If no clip has a text.

    Examples
    --------
    >>> compare_runtimes({"PyTorch": "mini", "int8": "runs/int8"}, "mine/test.csv", margin=-1)
    Traceback (most recent call last):
    ptlab.errors.ModelError: margin=-1; expected the WER that may be lost, such as 0.005.
    """
    if margin < 0:
        raise ModelError(f"margin={margin}; expected the WER that may be lost, such as 0.005.")
    corpus = as_corpus(split, "the split")
    costs = measure_costs(models, lengths_s=lengths_s, threads=threads, rounds=rounds, start=start)
    transcribers = ((n, Transcriber(load_model(**load_options(m)))) for n, m in models.items())
    rows, clips = quality(transcribers, corpus, margin, n_resamples=n_resamples, seed=seed)
    return RuntimeComparison(costs, rows, clips, margin)
