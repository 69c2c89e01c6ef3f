"""Which clips and which voices are nearest to a clip, by the cosine of their vectors.

>>> import ptlab
>>> voices = ["pm_alex", "af_bella", "jm_kumo"]
>>> clips = ptlab.load_corpus("test").filter(speaker=voices).frame.groupby("speaker").head(4)
>>> vectors = ptlab.embed(clips.file.tolist(), "mini", layers=[2], pool="mean").matrix(2)
>>> ptlab.nearest_voices(vectors, query=0, voices=clips.speaker, count=1).voice.item()
'pm_alex'
>>> clips.speaker.iloc[0]  # who it was; the clip itself is not among those it is compared with
'pm_alex'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["nearest_clips", "nearest_voices", "unit_vectors"]


def unit_vectors(vectors: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
    """Vectors less their mean, each of length one: what cosines are taken of.

    What all clips have in common is most of an encoder's vector, so that without this the cosine of
    any two is near 1.

    Parameters
    ----------
    vectors : ndarray (clips, numbers)
        Pooled, as ``embeddings.matrix(layer)`` gives them.
    centre : ndarray (numbers,), optional
        What is taken away; by default the mean of these clips, for which no label is needed. Give
        that of other voices if yours are few.

    Returns
    -------
    ndarray (clips, numbers), float64

    Raises
    ------
    PtlabError
        If there are not two clips, or no centre and all are the same.

    Examples
    --------
    >>> unit_vectors(np.array([[9.0, 1.0], [3.0, 1.0]])).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    """
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
        raise PtlabError(
            f"Vectors of shape {vectors.shape}; expected finite numbers, (clips, numbers), such as "
            "embed(..., pool='mean').matrix(layer)."
        )
    moved = vectors - (vectors.mean(axis=0) if centre is None else np.asarray(centre))
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    if not lengths.all():
        raise PtlabError(
            "A clip is the centre itself, and so in no direction from it: give centre."
        )
    return moved / lengths


def nearest_clips(
    vectors: np.ndarray,
    query: int,
    count: int = 5,
    *,
    leave_out: Sequence[bool] | np.ndarray | None = None,
    centre: np.ndarray | None = None,
) -> pd.DataFrame:
    """The clips that are most like one of them, the nearest first.

    Parameters
    ----------
    vectors, centre
        As for `unit_vectors`.
    query : int
        Position of the clip.
    count : int
        How many are wanted.
    leave_out : sequence of bool (clips,), optional
        Clips that shall not be found: those of the same text or session, which would be near for
        that reason.

    Returns
    -------
    pandas.DataFrame
        ``number`` (position of the clip) and ``cosine``.

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.1], [1.0, 0.2], [-1.0, 0.0], [0.0, -1.0]])
    >>> nearest_clips(vectors, query=0, count=2).number.tolist()
    [1, 3]
    """
    import pandas as pd

    unit = unit_vectors(vectors, centre)
    allowed = _others(query, len(unit), leave_out)
    cosine = unit @ unit[query]
    order = np.argsort(-cosine, kind="stable")
    order = order[allowed[order]][:count]
    return pd.DataFrame({"number": order, "cosine": cosine[order]})


def nearest_voices(
    vectors: np.ndarray,
    query: int,
    voices: Sequence[Any],
    count: int = 5,
    *,
    leave_out: Sequence[bool] | np.ndarray | None = None,
    centre: np.ndarray | None = None,
) -> pd.DataFrame:
    """The voices whose mean is most like a clip, the nearest first; the clip itself is in no mean.

    Parameters
    ----------
    vectors, query, count, leave_out, centre
        As for `nearest_clips`; clips that are left out are in no mean.
    voices : sequence
        Of each clip.

    Returns
    -------
    pandas.DataFrame
        ``voice``, ``cosine``, and ``number``, the position of its nearest clip: to listen to.

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.1], [1.0, 0.2], [-1.0, 0.0], [-1.0, 0.3]])
    >>> " ".join(nearest_voices(vectors, 0, ["ana", "ana", "rui", "rui"]).voice)
    'ana rui'
    """
    import pandas as pd

    unit = unit_vectors(vectors, centre)
    kept = _others(query, len(unit), leave_out)
    if len(voices) != len(unit):
        raise PtlabError(f"{len(voices)} voices for {len(unit)} clips; give one for each clip.")
    names, rows = np.asarray(voices)[kept], np.flatnonzero(kept)
    cosine = unit[kept] @ unit[query]
    found = []
    for voice in np.unique(names):
        of_voice = names == voice
        mean = unit[kept][of_voice].mean(axis=0)
        near = float(mean @ unit[query] / max(np.linalg.norm(mean), 1e-12))
        found.append((voice, near, rows[of_voice][cosine[of_voice].argmax()]))
    frame = pd.DataFrame(found, columns=["voice", "cosine", "number"])
    return frame.sort_values("cosine", ascending=False, ignore_index=True)[:count]


def _others(query: int, clips: int, leave_out: Sequence[bool] | np.ndarray | None) -> np.ndarray:
    """Which clips may be found: neither the query nor those that are left out."""
    if not 0 <= query < clips:
        raise PtlabError(f"query={query}; give the position of a clip, 0 to {clips - 1}.")
    kept = np.ones(clips, bool) if leave_out is None else ~np.asarray(leave_out, bool)
    kept[query] = False
    return kept
