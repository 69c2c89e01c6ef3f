"""Two models on the same clips: is the second one better, and where?

>>> import ptlab
>>> clips = ptlab.load_corpus("dev").filter(speaker="pm_santa", domain="travel")
>>> before = ptlab.load_model("mini", device="cpu")
>>> found = ptlab.compare(before, "mini", clips)  # in place of "mini": what you have made of it
>>> found.wer.low, found.wer.difference, found.wer.high
(0.0, 0.0, 0.0)
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab import ctc
from ptlab._finetune.data import as_corpus
from ptlab._speech.speech_model import CTCModel
from ptlab.data import Corpus
from ptlab.errors import DataError
from ptlab.metrics import Interval, PairedComparison, bootstrap, error_rates, paired_comparison
from ptlab.text import normalize_text
from ptlab.transcribe import Transcriber

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare"]

FEWEST_SPEAKERS = 5  # with fewer, speakers cannot be drawn at random: clips are
EXAMPLES = 3


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Error rates of two models on the same clips; made by `ptlab.compare`.

    Attributes
    ----------
    before_wer, after_wer, before_cer, after_cer : Interval
    wer, cer : PairedComparison
        Differences, after minus before: below zero the second model is better.
    frame : pandas.DataFrame
        A row a clip: ``id``, ``reference``, ``before``, ``after``, and ``change`` (errors in
        letters after, less those before), best improved first.
    speakers : int or None
        Speakers that were drawn for the intervals; None where clips were.
    names : tuple of str
        Of the two models.
    """

    before_wer: Interval
    after_wer: Interval
    before_cer: Interval
    after_cer: Interval
    wer: PairedComparison
    cer: PairedComparison
    frame: pd.DataFrame
    speakers: int | None
    names: tuple[str, str]

    @property
    def relative_wer(self) -> float:
        """Share of the word errors that is gone: 0.3 is 30 % fewer; below 0 there are more."""
        return -self.wer.difference / self.before_wer.value if self.before_wer.value else 0.0

    def examples(self, count: int = EXAMPLES) -> str:
        """The clips that gained most, and those that lost most, in three lines each."""
        gained = self.frame[self.frame.change < 0].head(count)
        lost = self.frame[self.frame.change > 0].tail(count)[::-1]
        lines = []
        for title, rows in (("most improved", gained), ("most worsened", lost)):
            if len(rows):
                lines.append(f"{title}:")
                lines += [_example(row) for row in rows.to_dict("records")]
        return "\n".join(lines) or "The two models wrote every clip equally well."

    def to_frame(self) -> pd.DataFrame:
        """The clips, best improved first."""
        return self.frame

    def __str__(self) -> str:
        drawn = f"{self.speakers} speakers" if self.speakers else "clips"
        return "\n".join([
            f"{self.names[0]} -> {self.names[1]} on {len(self.frame):,} clips, "
            f"95 % intervals over {drawn}",
            f"WER {self.before_wer} -> {self.after_wer}; difference {self.wer}",
            f"CER {self.before_cer} -> {self.after_cer}; difference {self.cer}",
            self.examples(1),
        ])  # fmt: skip

    def __repr__(self) -> str:
        return f"<Comparison\n{self}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def compare(
    before: str | os.PathLike[str] | CTCModel,
    after: str | os.PathLike[str] | CTCModel,
    split: Any,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Transcribe a split with two models, and say by how much they differ and how sure that is.

    Parameters
    ----------
    before, after : str, path or SpeechModel
    split : Corpus, datasets.Dataset or path
        Clips that neither model was trained on. With five speakers or more, the bootstrap draws
        speakers; else clips, and the intervals then say nothing about new speakers.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If no clip has a text.

    Examples
    --------
    >>> import ptlab
    >>> clips = ptlab.load_corpus("dev").filter(speaker="pm_santa", domain="travel")
    >>> same = compare("mini", "mini", clips)
    >>> same.wer.difference, same.examples()
    (0.0, 'The two models wrote every clip equally well.')
    """
    corpus = as_corpus(split, "the split")
    pair = [Transcriber(model) for model in (before, after)]
    chosen, references = normal_references(corpus, [one.model.vocabulary for one in pair])
    written = [hypotheses(one, corpus) for one in pair]
    texts = [[found[i].lower() for i in chosen] for found in written]
    groups = speakers_to_draw(corpus, chosen)
    options: dict[str, Any] = {"groups": groups, "n_resamples": n_resamples, "seed": seed}
    (before_wer, after_wer), (before_cer, after_cer) = (
        [bootstrap(references, found, metric=metric, **options) for found in texts]
        for metric in ("wer", "cer")
    )
    wer, cer = (
        paired_comparison(references, *texts, metric=metric, **options) for metric in ("wer", "cer")
    )
    frame = _frame(corpus, chosen, references, texts)
    speakers = len(set(groups)) if groups else None
    names = pair[0].model.name, pair[1].model.name
    return Comparison(
        before_wer, after_wer, before_cer, after_cer, wer, cer, frame, speakers, names
    )


def hypotheses(transcriber: Transcriber, corpus: Corpus) -> list[str]:
    """What a model writes for every clip of a corpus."""
    return decoded(hear(transcriber, corpus), transcriber.model)


def hear(
    transcriber: Transcriber, corpus: Corpus, doing: str = "transcribing", delay_s: float = 2
) -> Iterator[np.ndarray]:
    """Log-probs (frames, vocab) of every clip of a corpus, with a bar if it takes a while."""
    from tqdm.auto import tqdm

    rate, doing = transcriber.model.sampling_rate, f"{doing} by {transcriber.model.name}"
    for number in tqdm(range(len(corpus)), doing, leave=False, delay=delay_s):
        yield transcriber.log_probs(corpus.audio(number, rate).waveform)[0]


def decoded(matrices: Iterable[np.ndarray], model: CTCModel) -> list[str]:
    """Greedy text of log-probs, matrix by matrix."""
    return [ctc.decode(matrix, model.vocabulary, model.blank) for matrix in matrices]


def normal_references(
    corpus: Corpus, vocabularies: Iterable[Sequence[str]]
) -> tuple[list[int], list[str]]:
    """Numbers of the clips that have a text, and these texts in the letters of the vocabularies.

    Raises
    ------
    DataError
        If no clip has a text.
    """
    letters = sorted({token.lower() for tokens in vocabularies for token in tokens})
    texts = [normalize_text(_text(row), letters) for row in corpus]
    chosen = [i for i, text in enumerate(texts) if text]
    if not chosen:
        raise DataError("No clip of the split has a text to compare with.")
    return chosen, [texts[i] for i in chosen]


def _text(row: dict[str, Any]) -> str:
    return row["text"] if isinstance(row["text"], str) else ""


def speakers_to_draw(corpus: Corpus, chosen: list[int]) -> list[str] | None:
    """Speakers of the chosen clips, for a bootstrap; None if they are too few for one."""
    if "speaker" not in corpus.frame:
        return None
    speakers = corpus.frame.speaker.iloc[chosen].astype(str).tolist()
    return speakers if len(set(speakers)) >= FEWEST_SPEAKERS else None


def _frame(
    corpus: Corpus, chosen: list[int], references: list[str], texts: list[list[str]]
) -> pd.DataFrame:
    import pandas as pd

    def errors(found: list[str]) -> np.ndarray:
        pairs = [error_rates(r, t) for r, t in zip(references, found, strict=True)]
        return np.array([round(rates.cer * rates.characters) for rates in pairs])

    table = pd.DataFrame({
        "id": corpus.frame.id.iloc[chosen].tolist(),
        "reference": references, "before": texts[0], "after": texts[1],
        "change": errors(texts[1]) - errors(texts[0]),
    })  # fmt: skip
    return table.sort_values("change", kind="stable", ignore_index=True)


def _example(row: dict[str, Any]) -> str:
    heads = ("reference", "before", "after")
    return "\n".join(f"  {head:<9} {row[head]}" for head in heads)
