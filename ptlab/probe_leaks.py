"""Leaks: what tested clips share with those a probe has learned from, and what that is worth.

>>> import numpy as np
>>> import ptlab
>>> rng = np.random.default_rng(0)
>>> texts = np.arange(96) // 4  # 24 sentences, each said four times
>>> vectors = rng.normal(size=(24, 30))[texts] + 0.1 * rng.normal(size=(96, 30))
>>> report = ptlab.find_leaks(vectors, texts % 2, range(96), {"text": texts}, n_resamples=200)
>>> report["text"].verdict  # the label was known by the sentence
'leak'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._probe.fit import as_tensor, guess, make_classifier
from ptlab._probe.folds import Folds, closed_folds, group_folds, numbered
from ptlab._probe.near_duplicates import near_duplicates
from ptlab._probe.scores import Scores, compare_guesses, score_guesses
from ptlab.embeddings import Embeddings
from ptlab.errors import PtlabError
from ptlab.metrics import PairedComparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Leak", "LeakReport", "find_leaks", "near_duplicates"]

COPIES = "near-duplicate sound"


@dataclass(frozen=True, eq=False)
class Leak:
    """What one attribute is worth to a probe.

    Attributes
    ----------
    name : str
    shared : float
        Share of tested clips whose value a training clip has too.
    tells : Scores
        Of guessing the label from the attribute alone, by its training clips.
    open, closed : Scores or None
        Of the probe with the leak, and without: closed folds have no shared value, and the open
        ones test the same clips after training on as many. None if nothing is shared or it cannot
        be closed.
    fall : PairedComparison or None
        Macro-F1, closed minus open.
    note : str
        Why it cannot be closed.
    """

    name: str
    shared: float
    tells: Scores
    open: Scores | None = None
    closed: Scores | None = None
    fall: PairedComparison | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """``none``, ``leak`` (the interval of the fall is below zero), ``no fall seen``, or
        ``cannot be closed``."""
        if not self.shared:
            return "none"
        if self.fall is None:
            return "cannot be closed"
        return "leak" if self.fall.high < 0 else "no fall seen"


@dataclass(frozen=True, eq=False, repr=False)
class LeakReport:
    """Leaks, one an attribute."""

    leaks: tuple[Leak, ...]

    def __repr__(self) -> str:
        return "\n".join(_line(leak) for leak in self.leaks)

    def __getitem__(self, name: str) -> Leak:
        found = [leak for leak in self.leaks if leak.name == name]
        if not found:
            raise PtlabError(f"No attribute {name!r}; there are {[k.name for k in self.leaks]}.")
        return found[0]

    def to_frame(self) -> pd.DataFrame:
        """One row an attribute: how much is shared, macro-F1 open and closed, the fall."""
        import pandas as pd

        return pd.DataFrame([_row(leak) for leak in self.leaks])


def find_leaks(
    X: Embeddings | np.ndarray,  # noqa: N803
    y: Sequence[Any],
    groups: Sequence[Any],
    attributes: Mapping[str, Sequence[Any]] | pd.DataFrame,
    *,
    classifier: Any = "logistic",
    C: float = 1.0,  # noqa: N803
    folds: int = 5,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> LeakReport:
    """What the clips that `ptlab.probe` would test share with those it would learn from.

    Parameters
    ----------
    X, y, groups, classifier, C, folds, n_resamples, level, seed
        As for `ptlab.probe`. To see what grouping is worth, give groups that do nothing, such as
        ``range(len(y))``, and the speakers as an attribute.
    attributes : dict or pandas.DataFrame
        Voice, text, session, codec, corpus, ...: a value a clip. If ``X`` is `Embeddings`,
        recordings that are the same sound are found by `near_duplicates`, and are one more.

    Returns
    -------
    LeakReport

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> text = np.arange(96) // 4
    >>> y = text % 2
    >>> sounds = rng.normal(size=(24, 30))[text] + 0.1 * rng.normal(size=(96, 30))
    >>> find_leaks(sounds, y, np.arange(96), {"text": text})["text"].verdict
    'leak'
    """
    count = len(X)
    labels, classes = numbered(y, "labels", count)
    group_numbers, _ = numbered(groups, "groups", count)
    columns = {str(name): attributes[name] for name in attributes}
    if isinstance(X, Embeddings):
        columns[COPIES] = near_duplicates([X.audio(i) for i in range(count)])
    if not columns:
        raise PtlabError("No attributes; give at least one, such as {'text': texts}.")
    check = _Check(
        as_tensor(X, "X", count), labels, len(classes), group_numbers, folds,
        make_classifier(classifier, C), {"n_resamples": n_resamples, "level": level, "seed": seed},
    )  # fmt: skip
    return LeakReport(
        tuple(check.leak(name, numbered(v, name, count)[0]) for name, v in columns.items())
    )


@dataclass(frozen=True, eq=False)
class _Check:
    features: np.ndarray
    y: np.ndarray
    classes: int
    groups: np.ndarray
    folds: int
    classifier: Any
    options: dict[str, Any]

    def leak(self, name: str, values: np.ndarray) -> Leak:
        seed = self.options["seed"]
        made = group_folds(self.y, self.groups, self.folds, seed)
        shared = sum(np.isin(values[test], values[train]).sum() for train, test in made)
        tells = self._scores(_by_value(self.y, values, made), values)
        if not shared:
            return Leak(name, 0.0, tells)
        share = float(shared / len(self.y))
        try:
            closed, twins = closed_folds(self.y, self.groups, values, self.folds, seed)
        except PtlabError as error:
            return Leak(name, share, tells, note=str(error))
        with_leak, without = (self._guess(f) for f in (twins, closed))
        fall = compare_guesses(
            self.y, with_leak, without, self._clusters(values), self.classes, **self.options
        )
        opened, shut = (self._scores(g, values) for g in (with_leak, without))
        return Leak(name, share, tells, opened, shut, fall)

    def _guess(self, folds: Folds) -> np.ndarray:
        seed = self.options["seed"]
        return guess(self.features, self.y, self.groups, folds, self.classifier, seed).guesses

    def _scores(self, guesses: np.ndarray, values: np.ndarray) -> Scores:
        return score_guesses(self.y, guesses, self._clusters(values), self.classes, **self.options)

    def _clusters(self, values: np.ndarray) -> np.ndarray:
        """What is drawn for the intervals: groups, or the leak's values if these are fewer, as
        clips of one voice go together also where the groups do not say so."""
        fewer = len(np.unique(values)) < len(np.unique(self.groups))
        return values if fewer else self.groups


def _by_value(y: np.ndarray, values: np.ndarray, folds: Folds) -> np.ndarray:
    """Guess the most frequent class among the training clips of the same value."""
    guesses = np.zeros_like(y)
    for train, test in folds:
        counts = np.zeros((values.max() + 1, y.max() + 1))
        np.add.at(counts, (values[train], y[train]), 1)
        counts += np.bincount(y[train], minlength=y.max() + 1) / (len(train) + 1) / 2  # unseen ones
        guesses[test] = counts[values[test]].argmax(axis=1)
    return guesses


def _row(leak: Leak) -> dict[str, Any]:
    fall = leak.fall
    return {
        "attribute": leak.name,
        "verdict": leak.verdict,
        "shared": leak.shared,
        "tells": leak.tells.macro_f1.value,
        "open": leak.open.macro_f1.value if leak.open else None,
        "closed": leak.closed.macro_f1.value if leak.closed else None,
        "fall": fall.difference if fall else None,
        "low": fall.low if fall else None,
        "high": fall.high if fall else None,
    }


def _line(leak: Leak) -> str:
    head = (
        f"{leak.name}: {leak.verdict}; {leak.shared:.0%} of tested clips share it, and alone it "
        f"gives macro-F1 {leak.tells.macro_f1}"
    )
    if leak.open is None or leak.closed is None:
        return f"{head}. {leak.note}".rstrip(". ") + "."
    both = f"{leak.open.macro_f1.value:.1%} open, {leak.closed.macro_f1.value:.1%} closed"
    return f"{head}; probe {both}: {leak.fall}."
