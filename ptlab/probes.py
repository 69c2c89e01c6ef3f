"""Probes: what can be read, by a linear classifier, from the layers of a frozen encoder.

>>> import ptlab
>>> speakers = ptlab.load_probe_set("speakers").filter(label=["pm_alex", "pf_dora"])
>>> few = speakers.frame.groupby("label").head(15)
>>> vectors = ptlab.embed(few.file.tolist(), "mini", layers=[2], pool="mean")
>>> sweep = ptlab.layer_sweep(vectors, few.label, few.text, folds=3, n_resamples=100)
>>> sweep.layers[2].accuracy.value > 0.8  # two voices are easily told apart
True

How it is done here, and why: groups (voices, texts, sessions) are never in training and test at
once; the scaler is fitted and the layer is chosen inside the training clips; intervals draw whole
groups; and each score comes with those of the controls that it must beat. Folds:
`ptlab._probe.folds`. Controls: `ptlab._probe.controls`. Leaks: `ptlab.probe_leaks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._probe.controls import CONTROLS, FROM_LABELS, sound_controls
from ptlab._probe.fit import Guesses, as_tensor, guess, majority_guesses, make_classifier
from ptlab._probe.folds import Folds, group_folds, join_groups, numbered, shuffled_labels
from ptlab._probe.mix import LayerMix
from ptlab._probe.result import LayerSweep, ProbeResult
from ptlab._probe.scores import METRICS, Scores, compare_guesses, score_guesses
from ptlab.embeddings import Embeddings
from ptlab.errors import PtlabError
from ptlab.metrics import Interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LayerMix", "LayerSweep", "ProbeResult", "join_groups", "layer_sweep",
           "learning_curve", "probe", "sound_controls"]  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Study:
    """Features of the probe and of its controls, labels and folds."""

    features: np.ndarray
    layers: tuple[Any, ...]
    controls: dict[str, np.ndarray]
    without: dict[str, str]
    y: np.ndarray
    classes: np.ndarray
    groups: np.ndarray
    folds: Folds
    classifier: Any
    seed: int

    def guess(self, features: np.ndarray, y: np.ndarray | None = None) -> Guesses:
        y = self.y if y is None else y
        return guess(features, y, self.groups, self.folds, self.classifier, self.seed)

    def score(self, guesses: np.ndarray, y: np.ndarray | None = None, **options: Any) -> Scores:
        y = self.y if y is None else y
        return score_guesses(y, guesses, self.groups, len(self.classes), seed=self.seed, **options)

    def missing(self, made: Sequence[str]) -> tuple[str, ...]:
        return tuple(c for c in CONTROLS if c not in made and c not in self.without)


def probe(
    X: Embeddings | np.ndarray,  # noqa: N803
    y: Sequence[Any],
    groups: Sequence[Any],
    *,
    controls: Mapping[str, np.ndarray] | None = None,
    without: Mapping[str, str] | None = None,
    classifier: Any = "logistic",
    C: float = 1.0,  # noqa: N803
    folds: int = 5,
    n_permutations: int = 20,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    n_jobs: int | None = None,
) -> ProbeResult:
    """Can a linear classifier read ``y`` from an encoder, for groups that it has not heard?

    Parameters
    ----------
    X : Embeddings or ndarray
        What `ptlab.embed` made with ``pool``; or (clips, numbers), or (clips, layers, numbers).
        Of more layers, each fold's training clips choose one, on folds of their own.
    y : sequence
        Labels, one a clip.
    groups : sequence
        What must not be in training and test at once: voices if ``y`` is language or style, texts
        or sessions if ``y`` is the voice. Two at once: `join_groups`.
    controls : dict of str to ndarray, optional
        Features of the controls; by default those of `sound_controls` if ``X`` is `Embeddings`.
        Others of your own may be among them.
    without : dict of str to str, optional
        Controls to leave out, each with the reason, which is shown.
    classifier : {"logistic", "svm", "lda"} or estimator
        A `LayerMix` weighs all layers and chooses none.
    C : float
        Inverse strength of the penalty.
    folds : int
        Fewer where a class has fewer groups.
    n_permutations : int
        Label sets shuffled (`ptlab._probe.folds.shuffled_labels`), each with the whole procedure;
        the least possible p-value is one over one more than this.
    n_resamples, level, seed
        Of the bootstrap.
    n_jobs : int, optional
        Processes for the permutations, as joblib counts them.

    Returns
    -------
    ProbeResult

    Raises
    ------
    PtlabError
        If the parts do not fit together, or a class is in one group only.

    Examples
    --------
    >>> import ptlab
    >>> voices = ["pm_alex", "af_bella"]
    >>> clips = ptlab.load_corpus("test").filter(speaker=voices)
    >>> vectors = ptlab.embed(clips.frame.file.tolist(), "mini", [1, 4], pool="mean")
    >>> result = probe(vectors, clips.frame.speaker, clips.frame.text, n_permutations=3)
    >>> result.to_frame().features.tolist()
    ['probe', 'majority', 'duration', 'loudness', 'MFCC', 'random weights', 'shuffled labels']
    """
    study = _study(X, y, groups, controls, without, make_classifier(classifier, C), folds, seed)
    options: dict[str, Any] = {"n_resamples": n_resamples, "level": level}
    found = study.guess(study.features)
    others = {"majority": majority_guesses(study.y, study.folds)}
    others |= {name: study.guess(f).guesses for name, f in study.controls.items()}
    scores = study.score(found.guesses, **options)
    shuffled = _shuffled(study, n_permutations, n_jobs)
    made = {name: study.score(guesses, **options) for name, guesses in others.items()}
    if shuffled:
        made["shuffled labels"] = _pooled(shuffled, level)
    gains = {
        name: compare_guesses(
            study.y, guesses, found.guesses, study.groups, len(study.classes), seed=seed, **options
        )
        for name, guesses in others.items()
    }
    as_good = sum(s.macro_f1.value >= scores.macro_f1.value for s in shuffled)
    return ProbeResult(
        scores,
        made,
        gains,
        study.missing(list(made)),
        study.without,
        (1 + as_good) / (1 + len(shuffled)),
        tuple(study.layers[layer] for layer in found.layers),
        tuple(study.classes.tolist()),
        found.guesses,
        len(study.folds),
        len(np.unique(study.groups)),
        len(study.y),
        classifier if isinstance(classifier, str) else type(classifier).__name__,
    )


def layer_sweep(
    X: Embeddings | np.ndarray,  # noqa: N803
    y: Sequence[Any],
    groups: Sequence[Any],
    *,
    controls: Mapping[str, np.ndarray] | None = None,
    without: Mapping[str, str] | None = None,
    classifier: Any = "logistic",
    C: float = 1.0,  # noqa: N803
    folds: int = 5,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> LayerSweep:
    """The score of each layer by itself, on the same folds.

    Parameters
    ----------
    X, y, groups, controls, without, classifier, C, folds, n_resamples, level, seed
        As for `probe`. Labels are not shuffled here.

    Returns
    -------
    LayerSweep

    Examples
    --------
    >>> rng, y = np.random.default_rng(0), np.arange(48) % 2
    >>> layers = rng.normal(size=(48, 3, 4))
    >>> layers[:, 1] += 3 * y[:, None]
    >>> sweep = layer_sweep(layers, y, np.arange(48) // 4)
    >>> [scores.accuracy.value > 0.8 for scores in sweep.layers.values()]
    [False, True, False]
    >>> sweep.missing
    ('duration', 'loudness', 'MFCC', 'random weights')
    """
    study = _study(X, y, groups, controls, without, make_classifier(classifier, C), folds, seed)
    options: dict[str, Any] = {"n_resamples": n_resamples, "level": level}

    def of_layers(features: np.ndarray, names: Sequence[Any]) -> dict[Any, Scores]:
        return {
            name: study.score(study.guess(features[:, [i]]).guesses, **options)
            for i, name in enumerate(names)
        }

    made = {"majority": {None: study.score(majority_guesses(study.y, study.folds), **options)}}
    for name, features in study.controls.items():
        same = features.shape[1] == len(study.layers) > 1
        made[name] = of_layers(features, study.layers if same else [None] * features.shape[1])
    missing = study.missing([*made, "shuffled labels"])
    return LayerSweep(of_layers(study.features, study.layers), made, missing, study.without)


def learning_curve(
    X: Embeddings | np.ndarray,  # noqa: N803
    y: Sequence[Any],
    groups: Sequence[Any],
    sizes: Sequence[int] = (5, 10, 20, 50, 100),
    *,
    layer: Any = None,
    controls: Mapping[str, np.ndarray] | None = None,
    classifier: Any = "logistic",
    C: float = 1.0,  # noqa: N803
    folds: int = 5,
    repeats: int = 5,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How good a probe is that has few labelled clips, beside its controls with the same clips.

    Of each fold's training clips some are drawn, of each class as many as there can be, and the
    fold's test clips are guessed; so ``repeats`` times.

    Parameters
    ----------
    X, y, groups, controls, classifier, C, folds, n_resamples, level, seed
        As for `probe`; of the random encoder the same layer is taken.
    sizes : sequence of int
        Labelled clips; those that a fold does not have are left out.
    layer : int or str, optional
        Needed if there is more than one, as few clips cannot choose one.
    repeats : int

    Returns
    -------
    pandas.DataFrame
        ``features, clips, macro_f1, low, high``; the interval is over groups.

    Examples
    --------
    >>> rng, y = np.random.default_rng(0), np.arange(80) % 2
    >>> x = rng.normal(size=(80, 4)) + y[:, None]
    >>> curve = learning_curve(x, y, np.arange(80) // 4, sizes=[4, 40])
    >>> curve.features.tolist(), bool(curve.macro_f1.iloc[0] < curve.macro_f1.iloc[1])
    (['probe', 'probe', 'majority', 'majority'], True)
    """
    import pandas as pd

    study = _study(X, y, groups, controls, None, make_classifier(classifier, C), folds, seed)
    if (layer is None and len(study.layers) > 1) or layer not in (None, *study.layers):
        raise PtlabError(f"layer={layer!r}; choose one of {', '.join(map(str, study.layers))}.")
    at = 0 if layer is None else study.layers.index(layer)
    every = {"probe": study.features, **study.controls}
    every = {name: f[:, [min(at, f.shape[1] - 1)]] for name, f in every.items()}
    least = min(len(train) for train, _ in study.folds)
    draws = {
        size: [_smaller(study, size, seed + r) for r in range(repeats)]
        for size in sizes
        if len(study.classes) <= size <= least
    }
    if not draws:
        raise PtlabError(
            f"sizes={list(sizes)}; give sizes from {len(study.classes)} (one clip a class) to "
            f"{least} (the training clips of a fold)."
        )
    rows = []
    for name in ("probe", "majority", *study.controls):
        for size, drawn in draws.items():
            guesses = [
                majority_guesses(study.y, f)
                if name == "majority"
                else guess(every[name], study.y, study.groups, f, study.classifier, seed).guesses
                for f in drawn
            ]
            scores = score_guesses(
                np.tile(study.y, repeats), np.concatenate(guesses), np.tile(study.groups, repeats),
                len(study.classes), n_resamples=n_resamples, level=level, seed=seed,
            ).macro_f1  # fmt: skip
            rows.append((name, size, scores.value, scores.low, scores.high))
    return pd.DataFrame(rows, columns=["features", "clips", "macro_f1", "low", "high"])


def _study(
    X: Any,  # noqa: N803
    y: Any,
    groups: Any,
    controls: Any,
    without: Any,
    classifier: Any,
    folds: int,
    seed: int,
) -> _Study:
    count = len(X)
    labels, classes = numbered(y, "labels", count)
    group_numbers, _ = numbered(groups, "groups", count)
    made = group_folds(labels, group_numbers, folds, seed)
    features = as_tensor(X, "X", count)
    if controls is None:
        controls = sound_controls(X) if isinstance(X, Embeddings) else {}
    without = dict(without or {})
    unknown = [c for c in without if c not in CONTROLS or not str(without[c]).strip()]
    if unknown:
        raise PtlabError(
            f"without={without!r}; give controls among {', '.join(CONTROLS)}, each with its reason."
        )
    taken = [c for c in controls if c in FROM_LABELS]
    if taken:
        raise PtlabError(f"The control {taken[0]!r} is made of the labels; leave it out.")
    return _Study(
        features,
        tuple(X.layers) if isinstance(X, Embeddings) else tuple(range(features.shape[1])),
        {c: as_tensor(f, c, count) for c, f in controls.items() if c not in without},
        without,
        labels,
        classes,
        group_numbers,
        made,
        classifier,
        seed,
    )


def _shuffled(study: _Study, count: int, n_jobs: int | None) -> list[Scores]:
    """Scores of the whole procedure on shuffled labels."""
    from joblib import Parallel, delayed

    rng = np.random.default_rng(study.seed)
    labels = [shuffled_labels(study.y, study.groups, rng) for _ in range(count)]
    return Parallel(n_jobs=n_jobs)(delayed(_score_of)(study, y) for y in labels)


def _score_of(study: _Study, y: np.ndarray) -> Scores:
    return study.score(study.guess(study.features, y).guesses, y, n_resamples=1)


def _pooled(shuffled: Sequence[Scores], level: float) -> Scores:
    """Mean over the label sets, and the middle of their values."""
    intervals = {}
    for metric in METRICS:
        values = [getattr(scores, metric).value for scores in shuffled]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        intervals[metric] = Interval(float(np.mean(values)), float(low), float(high), level)
    return Scores(**intervals, confusion=np.sum([s.confusion for s in shuffled], axis=0))


def _smaller(study: _Study, size: int, seed: int) -> Folds:
    """The folds with ``size`` training clips, of each class as many as there can be."""
    rng = np.random.default_rng(seed)
    return [(_in_turn(study.y, rng.permutation(train))[:size], test) for train, test in study.folds]


def _in_turn(y: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Clips such that the classes take turns.

    >>> _in_turn(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3])).tolist()
    [0, 3, 1, 2]
    """
    turn = np.zeros(len(clips), int)
    for label in np.unique(y[clips]):
        of_class = y[clips] == label
        turn[of_class] = np.arange(of_class.sum())
    return clips[np.argsort(turn, kind="stable")]
