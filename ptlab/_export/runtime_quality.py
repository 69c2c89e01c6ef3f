"""Does a smaller or faster model write the same? Log-probs, frames, words, and a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab.comparison import decoded, hear, normal_references, speakers_to_draw
from ptlab.data import Corpus
from ptlab.errors import ModelError
from ptlab.metrics import PairedComparison, error_rates, paired_comparison
from ptlab.transcribe import Transcriber

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Likeness", "heard", "likeness", "quality", "verdict"]

# What did not happen in n trials happens in less than 3 / n of all, with 95 % confidence (Hanley
# and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?").
RULE_OF_THREE = 3.0


@dataclass(frozen=True)
class Likeness:
    """How near the log-probs of two models are, over the frames of a clip or of many.

    Attributes
    ----------
    frames : int
    same : int
        Frames in which both find the same token most probable.
    apart : float
        Sum over the frames of the difference in log-probability, of the token that the first
        model finds most probable.
    """

    frames: int
    same: int
    apart: float

    @property
    def agreement(self) -> float:
        """Share of frames with the same best token."""
        return self.same / self.frames if self.frames else 1.0

    @property
    def difference(self) -> float:
        """Mean difference in log-probability; the others' that no text is made of do not count."""
        return self.apart / self.frames if self.frames else 0.0

    def __add__(self, other: Likeness) -> Likeness:
        return Likeness(
            self.frames + other.frames, self.same + other.same, self.apart + other.apart
        )


def likeness(first: np.ndarray, second: np.ndarray) -> Likeness:
    """Compare log-probs ``(frames, vocab)`` of two models for one clip.

    Raises
    ------
    ModelError
        If their shapes differ.

    Examples
    --------
    >>> first = np.log([[0.8, 0.2], [0.5, 0.5]])
    >>> second = np.log([[0.4, 0.6], [0.5, 0.5]])
    >>> found = likeness(first, second)  # log 0.8 - log 0.4 = 0.69 in one frame of two
    >>> found.agreement, round(found.difference, 3)
    (0.5, 0.347)
    """
    if first.shape != second.shape:
        raise ModelError(
            f"Log-probs of shapes {first.shape} and {second.shape}: the models have not the same "
            "grid of frames or vocabulary, and are not two forms of one model."
        )
    best = first.argmax(axis=-1)[:, None]
    gaps = np.take_along_axis(np.abs(first - second), best, axis=-1)
    same = int((second.argmax(axis=-1)[:, None] == best).sum())
    return Likeness(len(first), same, float(gaps.sum()))


def heard(transcriber: Transcriber, corpus: Corpus) -> list[np.ndarray]:
    """Log-probs of every clip of a corpus."""
    return list(hear(transcriber, corpus, "hearing", delay_s=5))


def verdict(difference: PairedComparison, margin: float) -> str:
    """What an interval of the difference says about a margin that may be lost.

    Parameters
    ----------
    difference : PairedComparison
        Of the smaller model and the whole one; above 0 the smaller one is worse.
    margin : float
        That may be lost, such as 0.005 of WER.

    Returns
    -------
    {"not worse", "worse", "not shown"}

    Examples
    --------
    >>> verdict(PairedComparison(0.001, -0.002, 0.004, 0.5), margin=0.005)
    'not worse'
    >>> verdict(PairedComparison(0.001, -0.020, 0.022, 0.9), margin=0.005)
    'not shown'
    """
    if difference.high <= margin:
        return "not worse"
    return "worse" if difference.low > margin else "not shown"


def quality(
    transcribers: Iterable[tuple[str, Transcriber]],
    corpus: Corpus,
    margin: float,
    **resampling: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare each model with the first: a row a model, and a row for each model and clip.

    They are asked for one after another, so that not all are in memory at once.
    """
    import pandas as pd

    transcribers = iter(transcribers)
    reference, first = next(transcribers)
    chosen, references = normal_references(corpus, [first.model.vocabulary])
    clips = Corpus(corpus.name, corpus.frame.iloc[chosen].reset_index(drop=True), corpus.root)
    resampling["groups"] = speakers_to_draw(corpus, chosen)
    standard = heard(first, clips)
    before = lower_texts(standard, first.model)
    rows, details = [], []
    for name, transcriber in chain([(reference, first)], transcribers):
        is_first, model = transcriber is first, transcriber.model
        matrices = standard if is_first else heard(transcriber, clips)
        near = [likeness(a, b) for a, b in zip(standard, matrices, strict=True)]
        texts = lower_texts(matrices, model)
        changes = {
            metric: paired_comparison(references, before, texts, metric=metric, **resampling)
            for metric in ("wer", "cer")
        }
        if not is_first:
            changes = {m: _with_room(found, m, references) for m, found in changes.items()}
        changed = sum(a != b for a, b in zip(before, texts, strict=True))
        said = "reference" if is_first else verdict(changes["wer"], margin)
        row = _summary(name, near, references, texts, changes)
        rows.append(row | {"changed": changed, "verdict": said})
        details += _clips(name, clips, near, references, texts, model)
    return pd.DataFrame(rows).set_index("model"), pd.DataFrame(details)


def _with_room(found: PairedComparison, metric: str, references: list[str]) -> PairedComparison:
    """The comparison with an upper end that allows for what was not met: at least 3 / words.

    A bootstrap draws from the clips that there are, and its interval has no width where no text
    changed, however few were heard.
    """
    size = sum(len(r.split() if metric == "wer" else r) for r in references)
    return replace(found, high=max(found.high, RULE_OF_THREE / size))


def lower_texts(matrices: list[np.ndarray], model: Any) -> list[str]:
    return [text.lower() for text in decoded(matrices, model)]


def _summary(
    name: str,
    near: list[Likeness],
    references: list[str],
    texts: list[str],
    changes: dict[str, PairedComparison],
) -> dict[str, Any]:
    rates, total = error_rates(references, texts), sum(near, Likeness(0, 0, 0.0))
    row = {"model": name, "difference": total.difference, "agreement": total.agreement}
    for metric, found in changes.items():
        row |= {
            metric: getattr(rates, metric), f"{metric}_change": found.difference,
            f"{metric}_low": found.low, f"{metric}_high": found.high,
        }  # fmt: skip
    return row


def _clips(
    name: str,
    clips: Corpus,
    near: list[Likeness],
    references: list[str],
    texts: list[str],
    model: Any,
) -> list[dict[str, Any]]:
    rows = []
    for identity, close, reference, text in zip(
        clips.frame.id, near, references, texts, strict=True
    ):
        rates = error_rates(reference, text)
        errors = rates.substitutions + rates.deletions + rates.insertions
        rows.append({
            "model": name, "id": identity, "length_s": close.frames * model.hop
            / model.sampling_rate, "frames": close.frames, "same": close.same,
            "apart": close.apart, "words": rates.words, "errors": errors,
            "reference": reference, "text": text,
        })  # fmt: skip
    return rows
