"""How good, how quick and how steady a stream is, in the measures of the literature.

>>> import ptlab
>>> corpus = ptlab.load_corpus("test")
>>> log = ptlab.simulate(corpus.audio(0), model="mini")
>>> offline = ptlab.transcribe(corpus.audio(0), model="mini").text
>>> found = ptlab.streaming_metrics(log, corpus.words(0), offline)
>>> found.first_partial.p50 > 0 and found.commit.p50 > 0  # seconds that a reader waits
True

References
----------
Papi et al. (2022), "Over-Generation Cannot Be Rewarded: Length-Adaptive Average Lagging", arXiv
2206.05807. Arivazhagan et al. (2020), "Re-translation versus Streaming for Simultaneous
Translation", arXiv 2004.03643: normalised erasure. Shangguan et al. (2020), "Analyzing the Quality
and Stability of a Streaming End-to-End On-Device Speech Recognizer", arXiv 2006.01416: unstable
partial word ratio.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._metrics.edits import align_words, common_beginning
from ptlab._stream.events import Commit, Final, Partial
from ptlab.errors import PtlabError
from ptlab.metrics import PairedComparison, paired_comparison, wer
from ptlab.stream_log import StreamLog

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Spread", "StreamingMetrics", "laal", "normalized_erasure", "streaming_metrics"]


@dataclass(frozen=True)
class Spread:
    """Median and 95th percentile; NaN of nothing.

    Examples
    --------
    >>> print(Spread.of([0.2, 0.4, 0.9]))
    0.40 s (p95 0.85 s)
    """

    p50: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of values in seconds."""
        if not len(values):
            return cls(float("nan"), float("nan"))
        return cls(*(float(q) for q in np.percentile(values, [50, 95])))

    def __str__(self) -> str:
        return f"{self.p50:.2f} s (p95 {self.p95:.2f} s)"


@dataclass(frozen=True)
class StreamingMetrics:
    """What `streaming_metrics` found.

    Attributes
    ----------
    wer, final_wer, offline_wer : float
        Of the words as they were committed, after the refinement, and of the whole file.
    against_offline : PairedComparison
        ``wer`` minus ``offline_wer`` with its interval.
    first_partial : Spread
        From the true beginning of the first word to the first text that is shown.
    commit : Spread
        From the true end of a word to when it was committed, of words that match one.
    final : Spread
        From the true end of an utterance's last word to its `Final`.
    laal_s : float
        Length-adaptive average lagging of the committed words, mean over the recordings in which
        there are any.
    erasure : float
        Normalised erasure: words taken back, with all after them, for each word of the final.
    unstable : float
        Unstable partial word ratio: words that were changed or taken back, for each word of the
        final.
    rtf : float
    step : Spread
        Computing for one step.
    late_steps : int
        Steps that computed longer than the audio lasts that they took in.
    """

    wer: float
    final_wer: float
    offline_wer: float
    against_offline: PairedComparison
    first_partial: Spread
    commit: Spread
    final: Spread
    laal_s: float
    erasure: float
    unstable: float
    rtf: float
    step: Spread
    late_steps: int

    def __str__(self) -> str:
        return (
            f"WER {self.wer:.1%} (offline {self.offline_wer:.1%}, {self.against_offline}; refined "
            f"{self.final_wer:.1%}); a word after {self.commit}; erasure {self.erasure:.2f}; "
            f"RTF {self.rtf:.2f}, {self.late_steps} late steps"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def streaming_metrics(
    logs: StreamLog | Sequence[StreamLog],
    references: pd.DataFrame | Sequence[pd.DataFrame],
    offline: str | Sequence[str],
) -> StreamingMetrics:
    """Score logs of `ptlab.stream_log.simulate`, one a recording.

    Parameters
    ----------
    logs : StreamLog or sequence of StreamLog
    references : DataFrame or sequence of DataFrame
        True words of each, ``text, start_s, end_s``, as ``corpus.words(i)`` gives them.
    offline : str or sequence of str
        What the model makes of each whole file.

    Raises
    ------
    PtlabError
        If they differ in number, or there are none.

    Examples
    --------
    >>> import pandas as pd
    >>> from ptlab.transcription import Word
    >>> bom = Word("bom", 0.1, 0.4, 0.9)
    >>> log = StreamLog((Commit((bom,), 0, audio_s=1.0, emitted_s=1.1),), (), 2.0, "compute")
    >>> truth = pd.DataFrame({"text": ["bom"], "start_s": [0.2], "end_s": [0.5]})
    >>> round(streaming_metrics(log, truth, "bom").commit.p50, 2)
    0.6
    """
    logs = [logs] if isinstance(logs, StreamLog) else list(logs)
    references = [references] if hasattr(references, "columns") else list(references)
    offline = [offline] if isinstance(offline, str) else list(offline)
    if not len(logs) == len(references) == len(offline) > 0:
        raise PtlabError(
            f"{len(logs)} logs, {len(references)} references and {len(offline)} offline texts; "
            "give one of each for every recording."
        )
    texts = [" ".join(r.text) for r in references]
    committed = [log.committed for log in logs]
    pairs = list(zip(logs, references, strict=True))
    steps = [step for log in logs for step in log.steps]
    return StreamingMetrics(
        wer=wer(texts, committed),
        final_wer=wer(texts, [log.text for log in logs]),
        offline_wer=wer(texts, offline),
        against_offline=paired_comparison(texts, offline, committed),
        first_partial=Spread.of([s for pair in pairs for s in _first_partial(*pair)]),
        commit=Spread.of([s for pair in pairs for s in _commit_latencies(*pair)]),
        final=Spread.of([s for pair in pairs for s in _final_latencies(*pair)]),
        laal_s=_mean([_laal_of(*pair) for pair in pairs]),
        erasure=_per_word(logs, _erased),
        unstable=_per_word(logs, _changed),
        rtf=sum(s.compute_s for s in steps) / max(1e-9, sum(log.duration_s for log in logs)),
        step=Spread.of([s.compute_s for s in steps]),
        late_steps=sum(s.is_late for s in steps),
    )


def laal(delays_s: Sequence[float], duration_s: float, reference_words: int) -> float:
    """Length-adaptive average lagging (Papi et al.) of words that came at ``delays_s``.

    An ideal system would give the words evenly over the duration T; this is how far behind it the
    words are, on average, up to the first that came when all had been heard:
    ``mean(delay_i - (i - 1) * T / max(words, reference_words))`` over i = 1 ... tau, where tau is
    the first i with ``delay_i >= T``. NaN without words.

    Examples
    --------
    >>> laal([1.0, 2.0, 3.0, 4.0], duration_s=4.0, reference_words=4)  # each a word later
    1.0
    """
    if not len(delays_s):
        return float("nan")
    pace = duration_s / max(len(delays_s), reference_words)
    heard_all = [i for i, delay in enumerate(delays_s) if delay >= duration_s]
    counted = delays_s[: heard_all[0] + 1] if heard_all else delays_s
    return float(np.mean([delay - i * pace for i, delay in enumerate(counted)]))


def normalized_erasure(texts: Sequence[str]) -> float:
    """Words that were erased on the way, for each word of the last text.

    To go from one text to the next, all words after their common beginning are erased.

    Examples
    --------
    >>> normalized_erasure(["a casa", "a caça e", "a casa é azul"])  # 1 + 2 of 4 words
    0.75
    """
    words = [text.split() for text in texts]
    erased = sum(_erased(a, b) for a, b in itertools.pairwise(words))
    return erased / max(1, len(words[-1])) if words else 0.0


def _per_word(logs: Sequence[StreamLog], count: Any) -> float:
    """Sum of ``count(before, after)`` over all revisions, for each word of the finals."""
    shown = [texts for log in logs for texts in _shown(log)]
    revised = sum(count(a, b) for t in shown for a, b in itertools.pairwise(t))
    return revised / max(1, sum(len(texts[-1]) for texts in shown))


def _shown(log: StreamLog) -> Iterator[list[list[str]]]:
    """For each utterance that was finished: all its texts, as words, the final one last."""
    texts: dict[int, list[list[str]]] = {}
    for event in log.events:
        if isinstance(event, Partial | Final):
            texts.setdefault(event.utterance, []).append(event.text.split())
        if isinstance(event, Final):
            yield texts.pop(event.utterance)


def _erased(before: list[str], after: list[str]) -> int:
    return len(before) - common_beginning([before, after])


def _changed(before: list[str], after: list[str]) -> int:
    edits = align_words(" ".join(before), " ".join(after))
    return sum(edit.op in "SD" for edit in edits)


def _mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN of none."""
    found = [value for value in values if not np.isnan(value)]
    return float(np.mean(found)) if found else float("nan")


def _first_partial(log: StreamLog, reference: pd.DataFrame) -> list[float]:
    for event in log.events:
        if event.text and len(reference):
            return [event.emitted_s - float(reference.start_s.iloc[0])]
    return []


def _delays(log: StreamLog) -> list[tuple[str, float]]:
    commits = (e for e in log.events if isinstance(e, Commit))
    return [(w.text, e.emitted_s) for e in commits for w in e.words]


def _commit_latencies(log: StreamLog, reference: pd.DataFrame) -> list[float]:
    """Of the words that are aligned with a true one, right or wrong."""
    delays, ends, latencies = _delays(log), list(reference.end_s), []
    said = shown = 0
    for edit in align_words(" ".join(reference.text), " ".join(word for word, _ in delays)):
        if edit.op in "=S":
            latencies.append(delays[shown][1] - ends[said])
        said, shown = said + (edit.op != "I"), shown + (edit.op != "D")
    return latencies


def _final_latencies(log: StreamLog, reference: pd.DataFrame) -> list[float]:
    latencies = []
    for event in log.events:
        if isinstance(event, Final):
            inside = reference.end_s[reference.end_s <= event.end_s + 1e-6]
            inside = inside[inside > event.start_s]
            latencies += [event.emitted_s - float(inside.iloc[-1])] if len(inside) else []
    return latencies


def _laal_of(log: StreamLog, reference: pd.DataFrame) -> float:
    return laal([delay for _, delay in _delays(log)], log.duration_s, len(reference))
