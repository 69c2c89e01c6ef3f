"""Look at sound, log-probs and alignments; and all plots of the other rooms under one name.

>>> import matplotlib.pyplot as plt
>>> import ptlab
>>> corpus = ptlab.load_corpus("test")
>>> ax = ptlab.plot_waveform(corpus.audio(0), corpus.words(0), title=corpus.row(0)["text"])
>>> [text.get_text() for text in ax.texts][:3]
['na', 'minha', 'época']
>>> plt.close(ax.figure)

Every function draws on a matplotlib ``Axes`` (a new figure if none is given) and returns it. What
matters is told by line, marker, hatch or text, never by colour alone, so that a page printed in
black and white says the same. Nothing is shown and no global setting is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt  # noqa: F401 (for the examples)
import numpy as np

from ptlab import ctc
from ptlab._finetune.history import plot_training
from ptlab._plots.batch import plot_bars, plot_listening_order, plot_padding, plot_throughput
from ptlab._plots.diagrams import plot_asr_overview, plot_pretraining, plot_receptive_field
from ptlab._plots.errors import plot_confusions, plot_errors, plot_intervals, plot_reliability
from ptlab._plots.figures import CASING, FAINT, LABEL_PT, axes_or_new, axes_width_in, text_width_pt
from ptlab._plots.probes import (
    plot_det,
    plot_frame_similarity,
    plot_layer_sweep,
    plot_layers,
    plot_map,
)
from ptlab._plots.runtimes import plot_runtimes, plot_sensitivity
from ptlab._plots.streams import plot_flicker, plot_step_cost, plot_timeline, plot_tradeoff
from ptlab._plots.transfer import plot_transfer
from ptlab.audio import SAMPLE_RATE, Audio
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_alignment",
    "plot_asr_overview",
    "plot_bars",
    "plot_confusions",
    "plot_det",
    "plot_errors",
    "plot_flicker",
    "plot_frame_similarity",
    "plot_intervals",
    "plot_layer_sweep",
    "plot_layers",
    "plot_listening_order",
    "plot_log_probs",
    "plot_map",
    "plot_padding",
    "plot_pretraining",
    "plot_receptive_field",
    "plot_reliability",
    "plot_runtimes",
    "plot_sensitivity",
    "plot_spectrogram",
    "plot_step_cost",
    "plot_throughput",
    "plot_timeline",
    "plot_tradeoff",
    "plot_training",
    "plot_transfer",
    "plot_waveform",
]

ENVELOPE_COLUMNS = 4_000  # pairs of extremes that a long waveform is drawn with
TOKEN_THRESHOLD = 0.1  # a token that never gets this probability is not worth a row
FLOOR_DB = -70.0  # below the loudest point: speech lies within it
LINE_PT = 12.0  # distance of two rows of words
PATH_COLOUR = "darkred"  # it or its white dots stand out from any grey by 3 to 1
CLOSE_UP_FRAMES = 120  # with more, the dots of a path are smaller
_NAMES = {"<pad>": "blank", "[PAD]": "blank", "|": "space", " ": "space"}


class _Span(NamedTuple):
    text: str
    start_s: float
    end_s: float


def plot_waveform(
    audio: Audio | np.ndarray,
    words: Any = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Sound pressure over time, with the words above.

    Parameters
    ----------
    audio : Audio or ndarray (samples,)
        An array is taken to be at 16 kHz.
    words
        What to write above the wave: a `Transcription`, its words, a frame with ``text, start_s,
        end_s``, or segments of `ptlab.word_segments`. A dashed line is the start of a word, a
        dotted one its end.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If there is no sound, or the words have no times.

    Examples
    --------
    >>> ax = plot_waveform(np.zeros(16_000), [("oi", 0.2, 0.6)])
    >>> ax.get_xlabel(), [t.get_text() for t in ax.texts]
    ('Time (s)', ['oi'])
    >>> plt.close(ax.figure)
    """
    waveform, rate = _sound(audio)
    spans = _spans(words)
    ax = axes_or_new(ax, 2.6)
    ax.plot(*_envelope(waveform, rate), color="black", linewidth=0.5)
    ax.axhline(0, color=FAINT, linewidth=0.5)
    ax.set_xlim(0, len(waveform) / rate)
    ax.set(xlabel="Time (s)", ylabel="Amplitude (full scale 1)")
    rows = _write_words(ax, spans)
    ax.set_title("Waveform" if title is None else title, pad=6 + rows * LINE_PT)
    return ax


def plot_spectrogram(
    audio: Audio | np.ndarray,
    words: Any = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    max_hz: float = 8000,
) -> Axes:
    """Energy over time and frequency: windows of 25 ms, every 10 ms; dark is loud.

    Parameters
    ----------
    audio : Audio or ndarray (samples,)
        An array is taken to be at 16 kHz.
    words
        As in `plot_waveform`.
    ax : Axes, optional
    title : str, optional
    max_hz : float
        Highest frequency shown.

    Returns
    -------
    Axes

    Examples
    --------
    >>> ax = plot_spectrogram(np.random.default_rng(0).normal(size=16_000), max_hz=4000)
    >>> ax.get_ylabel(), float(ax.get_ylim()[1])
    ('Frequency (Hz)', 4000.0)
    >>> plt.close(ax.figure)
    """
    import librosa

    waveform, rate = _sound(audio)
    spans = _spans(words)
    ax = axes_or_new(ax, 3.2)
    window, hop = round(0.025 * rate), round(0.010 * rate)
    spectrum = librosa.stft(waveform, n_fft=2 * window, win_length=window, hop_length=hop)
    level = librosa.amplitude_to_db(np.abs(spectrum), ref=np.max, top_db=-FLOOR_DB)
    half = rate / (2 * window) / 2  # of a bin: its centre lies on its frequency
    edges = (-hop / rate / 2, (level.shape[1] - 0.5) * hop / rate, -half, rate / 2 + half)
    image = ax.imshow(
        level, origin="lower", aspect="auto", extent=edges, cmap="gray_r", vmin=FLOOR_DB, vmax=0
    )
    ax.set(xlim=(0, len(waveform) / rate), ylim=(0, min(max_hz, rate / 2)))
    ax.set(xlabel="Time (s)", ylabel="Frequency (Hz)")
    ax.figure.colorbar(image, ax=ax, label="Level below the loudest (dB)", pad=0.01)
    rows = _write_words(ax, spans)
    ax.set_title("Spectrogram" if title is None else title, pad=6 + rows * LINE_PT)
    return ax


def plot_log_probs(
    log_probs: np.ndarray,
    vocabulary: Sequence[str],
    *,
    path: bool = True,
    ax: Axes | None = None,
    title: str | None = None,
    start_s: float = 0.0,
    hop_s: float = 0.02,
) -> Axes:
    """Probability of each token in each frame, and the best path through them.

    Only tokens are shown that are somewhere the best or reach a probability of 0.1.

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)
        Natural logarithms.
    vocabulary : sequence of str
        Tokens by id; the blank and the space are written by name.
    path : bool
        Draw the most probable token of every frame.
    ax : Axes, optional
    title : str, optional
    start_s : float
        Time of the left edge of the first frame, in seconds.
    hop_s : float
        Seconds from frame to frame.

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If the matrix is empty or has not a column for each token.

    Examples
    --------
    >>> matrix = np.log(np.eye(4)[[0, 2, 0, 3, 1]] * 0.96 + 0.01)
    >>> ax = plot_log_probs(matrix, ("<pad>", "|", "o", "i"))
    >>> [t.get_text() for t in ax.get_yticklabels()]
    ['blank', 'space', 'o', 'i']
    >>> plt.close(ax.figure)
    """
    matrix = _checked(log_probs, vocabulary)
    best = ctc.greedy_path(matrix)
    shown = np.union1d(np.flatnonzero(np.exp(matrix.max(axis=0)) >= TOKEN_THRESHOLD), best)
    ax = axes_or_new(ax, 1.2 + 0.19 * max(len(shown), 8))
    _heat(ax, np.exp(matrix[:, shown]).T, start_s, hop_s)
    ax.set_yticks(range(len(shown)), [_name(vocabulary[i]) for i in shown])
    ax.set_ylabel("Token")
    if path:
        _draw_path(ax, np.searchsorted(shown, best), start_s, hop_s, "most probable token")
    ax.set_title("Probability of each token" if title is None else title, pad=22 if path else 6)
    return ax


def plot_alignment(
    log_probs: np.ndarray,
    tokens: Sequence[int],
    vocabulary: Sequence[str],
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Trellis of a known text: its tokens from top to bottom, time to the right.

    The line is the best path (`ptlab.align`): on a token's row where it is emitted, half-way to the
    next row in the blanks between.

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)
    tokens : sequence of int
        Ids of what was said, without blanks: ``ptlab.encode(text)``.
    vocabulary : sequence of str
        Tokens by id.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    AlignmentError
        If the tokens do not fit the frames.

    Examples
    --------
    >>> matrix = np.log(np.eye(4)[[0, 2, 0, 3, 0]] * 0.96 + 0.01)
    >>> ax = plot_alignment(matrix, [2, 3], ("<pad>", "|", "o", "i"))
    >>> [t.get_text() for t in ax.get_yticklabels()]
    ['o', 'i']
    >>> plt.close(ax.figure)
    """
    matrix = _checked(log_probs, vocabulary)
    tokens = [int(t) for t in tokens]
    if not tokens:
        raise PtlabError("There are no tokens to align; encode a text that is not empty.")
    spans = ctc.align(matrix, tokens, _blank(vocabulary)).spans
    ax = axes_or_new(ax, 1.2 + 0.16 * max(len(tokens), 12))
    hop_s, start_s = 0.02, float(ctc.frame_boundary(0))
    _heat(ax, np.exp(matrix[:, tokens]).T, start_s, hop_s)
    ax.set_yticks(range(len(tokens)), [_name(vocabulary[t]) for t in tokens])
    ax.set(ylim=(len(tokens) - 0.2, -0.8), ylabel="Token of the text, in order")
    rows = _trellis_rows(spans, len(matrix))
    _draw_path(ax, rows, start_s, hop_s, "best path (between two rows: blank)")
    ax.set_title("Alignment of the text" if title is None else title, pad=22)
    return ax


def _sound(audio: Audio | np.ndarray) -> tuple[np.ndarray, int]:
    waveform = audio.waveform if hasattr(audio, "waveform") else np.asarray(audio, dtype=float)
    if waveform.ndim != 1 or not len(waveform):
        raise PtlabError(
            f"Sound of shape {waveform.shape}; give an Audio or (samples,) at 16 kHz, not empty. "
            "ptlab.load_audio makes one from any file or array."
        )
    return waveform, getattr(audio, "sampling_rate", SAMPLE_RATE)


def _envelope(waveform: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and values to draw; of a long waveform the extremes of every column only."""
    step = len(waveform) // ENVELOPE_COLUMNS
    if step < 4:
        return np.arange(len(waveform)) / rate, waveform
    columns = waveform[: len(waveform) // step * step].reshape(-1, step)
    values = np.stack([columns.min(axis=1), columns.max(axis=1)], axis=1).ravel()
    return (np.arange(len(values)) + 0.5) * step / 2 / rate, values


def _spans(words: Any) -> list[_Span]:
    """Words of any kind with their times in seconds."""
    if words is None:
        return []
    items = getattr(words, "words", words)
    if hasattr(items, "itertuples"):
        items = items.itertuples(index=False)
    return [_span(item) for item in items]


def _span(item: Any) -> _Span:
    if hasattr(item, "start_s"):
        return _Span(item.text, float(item.start_s), float(item.end_s))
    if hasattr(item, "start_frame"):
        times = (float(ctc.frame_boundary(f)) for f in (item.start_frame, item.end_frame))
        return _Span(item.text, *times)
    if isinstance(item, tuple) and len(item) == 3:
        return _Span(*item)
    if isinstance(item, tuple) and hasattr(item[0], "start_frame"):  # from word_segments
        return _span(item[0])
    raise PtlabError(
        f"A word of type {type(item).__name__}; accepted are objects or frame rows with text, "
        "start_s and end_s, segments of ptlab.word_segments, and (text, start_s, end_s)."
    )


def _write_words(ax: Axes, spans: Iterable[_Span]) -> int:
    """Write words above the axes, in as many rows as keep them apart; return the rows."""
    ends: list[float] = []  # of what is written in each row, in points
    left, right = ax.get_xlim()
    scale = axes_width_in(ax) * 72 * 0.95 / (right - left)  # the labels of the axis take room
    for span in spans:
        for time, line in ((span.start_s, "--"), (span.end_s, ":")):
            ax.axvline(time, color="0.2", linewidth=0.8, linestyle=line, path_effects=CASING)
        middle, width = (span.start_s + span.end_s) / 2, text_width_pt(span.text)
        begin = middle * scale - width / 2
        row = next((i for i, end in enumerate(ends) if begin > end + 3), len(ends))
        ends[row : row + 1] = [begin + width]
        ax.annotate(
            span.text, (middle, 1), (0, 3 + row * LINE_PT), size=LABEL_PT, ha="center",
            xycoords=("data", "axes fraction"), textcoords="offset points", annotation_clip=False,
        )  # fmt: skip
    return len(ends)


def _name(token: str) -> str:
    return _NAMES.get(token, token)


def _blank(vocabulary: Sequence[str]) -> int:
    return next((i for i, token in enumerate(vocabulary) if _name(token) == "blank"), 0)


def _checked(log_probs: np.ndarray, vocabulary: Sequence[str]) -> np.ndarray:
    matrix = np.asarray(log_probs)
    if matrix.ndim != 2 or not len(matrix) or matrix.shape[1] != len(vocabulary):
        raise PtlabError(
            f"log_probs of shape {matrix.shape} for {len(vocabulary)} tokens; expected "
            "(frames, vocab) with a column for each token, and at least one frame."
        )
    return matrix


def _heat(ax: Axes, grid: np.ndarray, start_s: float, hop_s: float) -> None:
    """Probabilities (rows, frames) in grey."""
    rows, frames = grid.shape
    edges = (start_s, start_s + frames * hop_s, rows - 0.5, -0.5)
    image = ax.imshow(
        grid, aspect="auto", extent=edges, cmap="Greys", vmin=0, vmax=1, interpolation="nearest"
    )
    ax.set_xlabel("Time (s)")
    ax.tick_params(axis="y", labelsize=8)
    ax.figure.colorbar(image, ax=ax, label="Probability", pad=0.01)


def _draw_path(ax: Axes, rows: np.ndarray, start_s: float, hop_s: float, label: str) -> None:
    """A thin line with white dots, which are seen on black cells too."""
    times = start_s + (np.arange(len(rows)) + 0.5) * hop_s
    size = 3.5 if len(rows) <= CLOSE_UP_FRAMES else 2
    ax.plot(
        times, rows, color=PATH_COLOUR, linewidth=0.7, drawstyle="steps-mid", marker="o",
        markersize=size, markerfacecolor="white", markeredgewidth=0.6, label=label,
    )  # fmt: skip
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=LABEL_PT)


def _trellis_rows(spans: Sequence[tuple[int, int]], frames: int) -> np.ndarray:
    """Row of each frame: the token that is emitted, or half-way to the next one in a blank."""
    rows = np.full(frames, -0.5)
    for number, (start, end) in enumerate(spans):
        rows[start:end] = number
        rows[end:] = number + 0.5
    return rows
