"""Look at the data before a model is trained on it: what will be dropped, why, and what leaks.

>>> import ptlab
>>> train, dev = ptlab.load_corpus("train"), ptlab.load_corpus("dev")
>>> audit = ptlab.audit_data({
...     "train": train.filter(speaker="pf_dora", domain="travel"),
...     "validation": dev.filter(speaker="pm_santa", domain="travel"),
... })
>>> len(audit.dropped), audit.shared_speakers
(0, ())
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._finetune.data import as_corpus, frames_needed
from ptlab.audio import load_audio
from ptlab.data import Corpus
from ptlab.errors import AudioError, DataError, TextError
from ptlab.models import as_model
from ptlab.text import VOCABULARY, encode, normalize_text, writable_text

if TYPE_CHECKING:
    import pandas as pd

    from ptlab._speech.speech_model import CTCModel

__all__ = ["DataAudit", "audit_data"]

CLIPPED_LEVEL, CLIPPED_SHARE = 0.985, 0.001  # of full scale; of the samples
ADVICE = {  # reason of a dropped clip -> what helps if it took the most
    "unreadable": "ptlab.load_audio of one of them says what is wrong with the files.",
    "silent": "Are these the right files?",
    "too short": "The model needs 400 samples, 25 ms, to hear anything.",
    "too long": "Cut recordings into sentences (ptlab.Transcriber.align finds the times), or raise "
    "max_s if memory allows.",
    "no text": "Which column holds what was said? ptlab.load_folder takes text_column.",
    "letters": "Give vocabulary='transcripts', which makes one of the texts, or a model for this "
    "language; single foreign words are better spelled as they sound.",
    "label too long": "Text and sound do not belong together, or the clips are cut too short.",
}


@dataclass(frozen=True, eq=False, repr=False)
class DataAudit:
    """What was found in the clips of a run: prints as a summary.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row a clip: ``split``, ``number`` (of the clip in its split), ``id``, ``text``, ``label``
        (the text in the vocabulary's letters), ``speaker``, ``duration_s``, ``sampling_rate`` of
        the source in Hz, ``clipped`` (share of samples at full scale), ``frames`` of the model,
        ``needed`` (frames that CTC needs for the label), ``dropped`` (why; empty if it is kept)
        and ``detail``.

    Examples
    --------
    >>> import ptlab
    >>> dev = ptlab.load_corpus("dev").filter(speaker="pm_santa", domain=["sports", "travel"])
    >>> print(audit_data({"train": dev}, "mini", max_s=3.0))
    train: 4 clips, 0.2 min, 1 speaker; 2 kept, 0.1 min; dropped: 2 too long
    """

    frame: pd.DataFrame

    @property
    def kept(self) -> pd.DataFrame:
        """Rows of the clips that are used."""
        return self.frame[self.frame.dropped == ""]

    @property
    def dropped(self) -> pd.DataFrame:
        """Rows of the clips that are not used."""
        return self.frame[self.frame.dropped != ""]

    def kept_of(self, split: str) -> pd.DataFrame:
        """Rows of the clips of a split that are used."""
        return self.kept[self.kept.split == split]

    def select(self, corpus: Corpus, split: str) -> Corpus:
        """The clips that are used, of the corpus that was given as a split."""
        rows = corpus.frame.iloc[self.kept_of(split).number]
        return replace(corpus, frame=rows.reset_index(drop=True))

    @property
    def shared_texts(self) -> tuple[str, ...]:
        """Labels that occur in more than one split: a model may know them by heart."""
        return _shared(self.kept, "label")

    @property
    def shared_speakers(self) -> tuple[str, ...]:
        """Speakers that occur in more than one split: figures say little about new voices."""
        return _shared(self.kept, "speaker")

    def hours(self, split: str) -> float:
        """Sound of a split that is used."""
        return float(self.kept_of(split).duration_s.sum()) / 3600

    def to_frame(self) -> pd.DataFrame:
        """The table, a row a clip."""
        return self.frame

    def require_clips(self) -> None:
        """Raise `DataError` if nothing is left of a split; says why and what to do."""
        for split, rows in self.frame.groupby("split", sort=False):
            if (rows.dropped != "").all():
                reason = Counter(rows.dropped).most_common(1)[0][0]
                example = rows[rows.dropped == reason].iloc[0]
                raise DataError(
                    f"Nothing is left of {split}: {_reasons(rows)}. For instance "
                    f"{example.id!r}: {example.detail}. {ADVICE[reason]}"
                )

    def __str__(self) -> str:
        lines = []
        for split, rows in self.frame.groupby("split", sort=False):
            lines += _summary(split, rows)
        for what, shared in (("text", self.shared_texts), ("speaker", self.shared_speakers)):
            if shared:
                some = ", ".join(map(repr, shared[:3])) + (", ..." if len(shared) > 3 else "")
                lines.append(
                    f"{_count(len(shared), what)} in more than one split, which makes figures look "
                    f"better than they are: {some}"
                )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<DataAudit\n{self}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def audit_data(
    splits: Mapping[str, Any], model: str | CTCModel = "mini", *, max_s: float = 20.0
) -> DataAudit:
    """Read every clip and text once, and say what a model can learn from.

    Dropped are clips that cannot be read, are silent, shorter than one frame or longer than
    ``max_s``; whose text is empty, has letters that the vocabulary lacks, or has more letters than
    the sound has frames for (the loss of these would be infinite). Clipping, and texts and speakers
    that are in two splits, are told and kept.

    Parameters
    ----------
    splits : mapping of str to Corpus, datasets.Dataset or path
        By name, such as ``{"train": ..., "validation": ...}``.
    model : str or SpeechModel
        Its vocabulary and its frames count.
    max_s : float
        Longest clip in seconds.

    Returns
    -------
    DataAudit

    Raises
    ------
    DataError
        If a split holds no clips at all, or is nothing that holds clips.

    Examples
    --------
    >>> import ptlab
    >>> dev = ptlab.load_corpus("dev").filter(speaker="pm_santa", domain="travel")
    >>> audit = audit_data({"train": dev, "validation": dev})
    >>> len(audit.kept), len(audit.dropped), audit.shared_speakers
    (4, 0, ('pm_santa',))
    """
    import pandas as pd
    from tqdm.auto import tqdm

    model = as_model(model, device="cpu")
    rows = []
    for split, source in splits.items():
        corpus = as_corpus(source, split)
        for number in tqdm(range(len(corpus)), f"reading {split}", leave=False, delay=2):
            rows.append({"split": split, "number": number, **_look(corpus, number, model, max_s)})
    return DataAudit(pd.DataFrame(rows))


def _look(corpus: Corpus, number: int, model: CTCModel, max_s: float) -> dict[str, Any]:
    """One row of the table; a model without a head will get one for the course's tokens."""
    import pandas as pd

    vocabulary = model.vocabulary or VOCABULARY
    clip = corpus.row(number)
    text = clip["text"] if isinstance(clip["text"], str) else ""  # NaN where a cell was empty
    label = normalize_text(text, vocabulary)
    row: dict[str, Any] = {
        "id": str(clip["id"]),
        "text": text,
        "label": label,
        "speaker": "" if pd.isna(clip.get("speaker")) else str(clip["speaker"]),
        "duration_s": 0.0, "sampling_rate": 0, "clipped": 0.0, "frames": 0, "needed": 0,
    }  # fmt: skip
    try:
        audio = load_audio(clip["audio"] if "audio" in clip else clip["file"])
    except AudioError as error:
        return {**row, "dropped": "unreadable", "detail": str(error)}
    samples = round(audio.duration_s * model.sampling_rate)
    row["duration_s"], row["sampling_rate"] = audio.duration_s, audio.original_sampling_rate
    row["clipped"] = float(np.mean(np.abs(audio.waveform) >= CLIPPED_LEVEL))
    row["frames"] = model.frames(samples)
    row["needed"] = frames_needed(encode(label, vocabulary))
    row["dropped"], row["detail"] = _problem(row, audio.is_silent, vocabulary, max_s)
    return row


def _problem(
    row: dict[str, Any], silent: bool, vocabulary: tuple[str, ...], max_s: float
) -> tuple[str, str]:
    """Why a clip is dropped, as a word and in full; twice "" if it is kept."""
    if silent:
        return "silent", f"nothing above -60 dBFS in {row['duration_s']:.2f} s"
    if not row["frames"]:
        return "too short", f"{row['duration_s'] * 1000:.0f} ms"
    if row["duration_s"] > max_s:
        return "too long", f"{row['duration_s']:.1f} s, over {max_s:g} s"
    if not row["text"].strip():
        return "no text", "the text is empty"
    try:
        writable_text(row["text"], vocabulary)
    except TextError as error:
        kind = "letters" if "cannot write" in str(error) else "no text"
        return kind, f"{row['text']!r}: {error}".rstrip(".")
    if row["needed"] > row["frames"]:
        return "label too long", f"{row['needed']} frames needed, {row['frames']} there"
    return "", ""


def _summary(split: str, rows: pd.DataFrame) -> list[str]:
    kept = rows[rows.dropped == ""]
    speakers = kept.speaker[kept.speaker != ""].nunique()
    size = f"{split}: {_count(len(rows), 'clip')}, {rows.duration_s.sum() / 60:.1f} min"
    size += f", {_count(speakers, 'speaker')}" if speakers else ""
    if len(kept) == len(rows):
        lines = [f"{size}; all are kept"]
    else:
        left = f"{len(kept):,} kept, {kept.duration_s.sum() / 60:.1f} min"
        lines = [f"{size}; {left}; dropped: {_reasons(rows)}"]
    clipped = int((kept.clipped > CLIPPED_SHARE).sum())
    if clipped:
        lines.append(f"  {_count(clipped, 'clip')} of these with clipping, kept")
    rates = Counter(kept.sampling_rate)
    if len(rates) > 1:
        listed = ", ".join(f"{n} at {rate} Hz" for rate, n in rates.most_common())
        lines.append(f"  recorded {listed}")
    return lines


def _reasons(rows: pd.DataFrame) -> str:
    found = Counter(rows.dropped[rows.dropped != ""])
    return ", ".join(f"{n} {reason}" for reason, n in found.most_common())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _shared(rows: pd.DataFrame, column: str) -> tuple[str, ...]:
    rows = rows[rows[column] != ""]
    splits = rows.groupby(column).split.nunique()
    return tuple(splits.index[splits > 1])
