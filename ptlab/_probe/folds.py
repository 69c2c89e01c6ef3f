"""Which clips a probe learns from, and on which it is tested: no group is ever in both."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptlab.errors import PtlabError

__all__ = [
    "Folds",
    "closed_folds",
    "group_folds",
    "inner_folds",
    "join_groups",
    "numbered",
    "shuffled_labels",
]

Folds = list[tuple[np.ndarray, np.ndarray]]
SHUFFLES = 20  # tried, until every class is in two folds
LEAST_KEPT = 0.5  # of the training clips, else leaky clips are kept apart by crossed folds


def numbered(values: Sequence[Any], what: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Values as numbers from 0, and what each number stands for.

    Raises
    ------
    PtlabError
        If there are not ``count`` of them, or some are missing.

    Examples
    --------
    >>> numbers, names = numbered(["pt", "es", "pt"], "labels", 3)
    >>> numbers.tolist(), names.tolist()
    ([1, 0, 1], ['es', 'pt'])
    """
    values = list(values)
    if len(values) != count:
        raise PtlabError(f"{len(values)} {what} for {count} clips; give one for each clip.")
    missing = [i for i, v in enumerate(values) if v is None or v != v]
    if missing:
        raise PtlabError(
            f"{len(missing)} of the {what} are missing, the first of clip {missing[0]}."
        )
    names, numbers = np.unique(np.array(values), return_inverse=True)
    return numbers.ravel(), names


def join_groups(*columns: Sequence[Any]) -> np.ndarray:
    """Groups such that clips that share a value in any column are in one group.

    Examples
    --------
    >>> voices, texts = ["ana", "ana", "rui", "eva"], ["bom dia", "até logo", "até logo", "olá"]
    >>> join_groups(voices, texts).tolist()
    [0, 0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, edges, nodes = len(columns[0]), [], len(columns[0])
    for column in columns:
        numbers, names = numbered(column, "groups", count)
        edges.append(np.stack([np.arange(count), nodes + numbers]))
        nodes += len(names)
    rows, columns_ = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(rows)), (rows, columns_)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][:count]


def group_folds(y: np.ndarray, groups: np.ndarray, folds: int, seed: int = 0) -> Folds:
    """Training and test clips of each fold: groups apart, classes in like shares.

    There are fewer folds where a class has fewer groups.

    Parameters
    ----------
    y, groups : ndarray of int (clips,)

    Raises
    ------
    PtlabError
        If there is one class only, or a class is in one group only.

    Examples
    --------
    >>> y, voices = np.array([0, 0, 1, 1] * 2), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    >>> [set(voices[train]) & set(voices[test]) for train, test in group_folds(y, voices, 2)]
    [set(), set()]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    classes = np.unique(y)
    if len(classes) < 2:
        raise PtlabError(f"{len(classes)} class among {len(y)} clips; a probe tells at least two.")
    least = min(len(np.unique(groups[y == c])) for c in classes)
    if folds < 2 or least < 2:
        raise PtlabError(
            f"folds={folds}, and the class with the fewest groups is in {least}; both must be at "
            "least 2, as a class that is only tested cannot be learned. If the label is itself the "
            "group (speakers grouped by speaker), group by text or session."
        )
    count = min(folds, least)
    for attempt in range(seed, seed + SHUFFLES):  # a shuffle may have put a class into one fold
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=attempt)
        made = list(splitter.split(y, y, groups))
        if all(len(np.unique(y[train])) == len(classes) and len(test) for train, test in made):
            return made
    raise PtlabError(
        f"With {count} folds of whole groups a class is missing from training. Use fewer folds, or "
        "more groups of each class."
    )


def inner_folds(y: np.ndarray, groups: np.ndarray, folds: int, seed: int = 0) -> Folds:
    """Folds of training clips, to choose a layer on: as `group_folds`, but a rare class may be
    missing from one, where that only makes the choice a little worse.

    Raises
    ------
    PtlabError
        If there are not two groups.

    Examples
    --------
    >>> len(inner_folds(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 3))
    2
    """
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(folds, len(np.unique(groups)))
    if count < 2:
        raise PtlabError(
            "A fold has one group to learn from, on which no layer can be chosen: give X of one "
            "layer, chosen elsewhere, or more groups."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with few clips, as is known here
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        return [(a, b) for a, b in splitter.split(y, y, groups) if len(a) and len(b)]


def closed_folds(
    y: np.ndarray, groups: np.ndarray, leaks: np.ndarray, folds: int, seed: int = 0
) -> tuple[Folds, Folds]:
    """Folds in which tested and learned clips share no value of ``leaks``, and their open twins.

    Training clips that share a value with the tested ones are left out. Where that would take more
    than half of them (all voices say the same sentences), the values are cut into parts too, and
    each part is tested after training on the others. A twin tests the same clips after training on
    as many, drawn from all other groups: so the two differ in the leak and not in their size.

    Parameters
    ----------
    y, groups, leaks : ndarray of int (clips,)

    Returns
    -------
    closed, twins : list of (ndarray, ndarray)

    Examples
    --------
    >>> y, voices, texts = np.arange(16) % 2, np.arange(16) // 4, np.arange(16) % 4
    >>> closed, twins = closed_folds(y, voices, texts, 2)
    >>> any(set(texts[train]) & set(texts[test]) for train, test in closed)
    False
    >>> any(set(voices[train]) & set(voices[test]) for train, test in twins)
    False
    """
    rng = np.random.default_rng(seed)
    made = group_folds(y, groups, folds, seed)
    pairs = [(train[~np.isin(leaks[train], leaks[test])], train, test) for train, test in made]
    if min(len(kept) / len(train) for kept, train, _ in pairs) < LEAST_KEPT:
        pairs = list(_crossed(made, _parts(y, leaks, folds, seed)))
    for kept, _, _ in pairs:
        if len(np.unique(y[kept])) < len(np.unique(y)):
            raise PtlabError(
                "The leak cannot be closed: without the clips that share it a class is missing "
                "from training. It goes with the label; collect clips that cross it."
            )
    closed = [(kept, test) for kept, _, test in pairs]
    return closed, [(_drawn(y, train, kept, rng), test) for kept, train, test in pairs]


def _parts(y: np.ndarray, leaks: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The part (from 0) of each clip: values of the leak are cut as groups are if they can be."""
    values = np.unique(leaks)
    parts = np.random.default_rng(seed).permutation(len(values)) % min(folds, len(values))
    return parts[np.searchsorted(values, leaks)]


def _crossed(made: Folds, parts: np.ndarray) -> Any:
    for train, test in made:
        for part in np.unique(parts[test]):
            tested = test[parts[test] == part]
            yield train[parts[train] != part], train, tested


def _drawn(
    y: np.ndarray, train: np.ndarray, kept: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """As many clips of each class from ``train`` as there are in ``kept``, or all there are."""
    drawn = []
    for label in np.unique(y[kept]):
        of_class, many = train[y[train] == label], (y[kept] == label).sum()
        drawn.append(rng.choice(of_class, min(many, len(of_class)), replace=False))
    return np.sort(np.concatenate(drawn))


def shuffled_labels(y: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels as they might be if the sounds said nothing of them.

    Where each group has one label, groups exchange theirs; else clips do, inside their group. If
    clips of one group exchanged labels with others, the shuffled set would be easier or harder than
    the true one for no reason in the sound. Groups of one clip each are as none.

    Examples
    --------
    >>> rng = np.random.default_rng(2)
    >>> shuffled_labels(np.array([0, 0, 1, 1, 2, 2]), np.array([7, 7, 8, 8, 9, 9]), rng).tolist()
    [2, 2, 0, 0, 1, 1]
    """
    values, number = np.unique(groups, return_inverse=True)
    if all(len(np.unique(y[number == g])) == 1 for g in range(len(values))):
        labels = np.array([y[number == g][0] for g in range(len(values))])
        return rng.permutation(labels)[number]
    shuffled = y.copy()
    for group in range(len(values)):
        inside = np.flatnonzero(number == group)
        shuffled[inside] = rng.permutation(y[inside])
    return shuffled
