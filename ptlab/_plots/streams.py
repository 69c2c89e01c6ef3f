"""Look at streams: what was shown when and taken back, what a step costs, what waiting buys."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt  # noqa: F401 (for the examples)
import numpy as np
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from ptlab._metrics.edits import common_beginning
from ptlab._plots.figures import FAINT, LABEL_PT, axes_or_new, axes_width_in
from ptlab._stream.events import Final, Partial
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.typing import LineStyleType

    from ptlab._stream.speech_stream import Event
    from ptlab.stream_log import StreamLog

__all__ = ["plot_flicker", "plot_step_cost", "plot_timeline", "plot_tradeoff"]

LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX*"
SIDES = (((5, 5), "left"), ((-6, 5), "right"), ((-6, -12), "right"), ((5, -12), "left"))
LETTER_IN = 0.075  # width of a letter of a label, about
# How a word is drawn: face, edge, line style, letters.
_DRESS: dict[str, tuple[str, str, LineStyleType, dict[str, Any]]] = {
    "tentative": ("white", "0.3", ":", {"style": "italic", "color": "0.25"}),
    "committed": ("0.8", "black", "-", {}),
    "refined": ("0.35", "black", "-", {"color": "white", "weight": "bold"}),
}


class _Shown(NamedTuple):
    """A word at its place in the text, for as long as it is shown alike."""

    place: int
    text: str
    kind: str
    start_s: float
    end_s: float


def plot_timeline(
    logs: Mapping[str, StreamLog], *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """What a reader sees and when: a row for every place in the text, a block for every stream.

    White with a dotted edge is a word that may still change, grey one that is committed, dark the
    text of the utterance after its last look. To the right is later; a word that is replaced in its
    row has flickered.

    Parameters
    ----------
    logs : mapping of str to StreamLog
        By name, from top to bottom.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If no stream said anything.

    Examples
    --------
    >>> from ptlab.stream_log import StreamLog
    >>> from ptlab.transcription import Word
    >>> words = (Word("bom", 0.1, 0.4, 0.9), Word("di", 0.5, 0.6, 0.3))
    >>> log = StreamLog((Partial(words, 1, 0, audio_s=1.0, emitted_s=1.0),), (), 2.0, "audio")
    >>> ax = plot_timeline({"buffered": log})
    >>> [t.get_text() for t in ax.texts]
    ['bom', 'di']
    >>> plt.close(ax.figure)
    """
    end_s = max((log.duration_s for log in logs.values()), default=0.0)
    end_s += max(0.5, 0.15 * end_s)  # room for what is told at the end
    shown = {name: _shown_words(log.events, end_s) for name, log in logs.items()}
    if not any(shown.values()):
        raise PtlabError("No stream said anything; give logs of speech by name.")
    rows = [1 + max((s.place for s in spans), default=0) for spans in shown.values()]
    ax = axes_or_new(ax, 1.2 + 0.19 * (sum(rows) + len(rows)))
    tops = np.concatenate([[0], np.cumsum(np.array(rows) + 1)])
    ax.set(xlim=(0, end_s), ylim=(tops[-1] - 0.5, -1), xlabel="Time (s)")
    for top, spans in zip(tops, shown.values(), strict=False):
        _draw_words(ax, spans, int(top))
    for top in tops[1:-1]:
        ax.axhline(top - 1, color=FAINT, linewidth=0.7)
    ax.set_yticks(tops[:-1] + (np.array(rows) - 1) / 2, list(logs))
    _draw_key(ax, {s.kind for spans in shown.values() for s in spans})
    ax.set_title("What is shown, and when" if title is None else title, fontsize=11, loc="left")
    return ax


def plot_flicker(
    logs: Mapping[str, StreamLog], *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Words that were shown and taken back, counted over time.

    With a word all words after it are taken back, as in the normalised erasure of
    `ptlab.streaming_metrics`; what the last look at an utterance changes counts as well.

    Parameters
    ----------
    logs : mapping of str to StreamLog
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If there is no log.

    Examples
    --------
    >>> from ptlab.stream_log import StreamLog
    >>> from ptlab.transcription import Word
    >>> events = [
    ...     Partial((Word(text, 0.1, 0.4, 0.9),), 0, 0, audio_s=at, emitted_s=at)
    ...     for at, text in ((1.0, "tia"), (1.5, "dia"), (2.0, "dia"))]
    >>> ax = plot_flicker({"buffered": StreamLog(tuple(events), (), 2.0, "audio")})
    >>> ax.lines[0].get_ydata().tolist()
    [0.0, 0.0, 1.0, 1.0, 1.0]
    >>> plt.close(ax.figure)
    """
    _some(logs)
    ax = axes_or_new(ax, 3.0, width_in=7.0)
    for (name, log), line in zip(logs.items(), itertools.cycle(LINES)):
        times, counts = _erased(log.events)
        ends, sums = [0, *times, log.duration_s], [0, *np.cumsum(counts), sum(counts)]
        ax.plot(ends, np.array(sums, float), color="black", linestyle=line, drawstyle="steps-post",
                label=f"{name}: {sum(counts)}")  # fmt: skip
    ax.set(xlabel="Time (s)", ylabel="Words taken back so far", xlim=(0, None), ylim=(0, None))
    ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax.legend(loc="upper left", fontsize=LABEL_PT)
    ax.set_title("Flicker" if title is None else title)
    return ax


def plot_tradeoff(
    table: pd.DataFrame,
    *,
    offline: float | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Word error rate against waiting: lower is better, and so is further to the left.

    Parameters
    ----------
    table : DataFrame
        A row a setting, ``group, label, latency_s, wer``; 1.0 is a WER of 100 %. Rows of a group
        share a marker and are joined in their order.
    offline : float, optional
        WER without streaming.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If columns are missing or there is no row.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     [["naive", "1 s", 0.5, 0.8], ["naive", "2 s", 1.0, 0.6]],
    ...     columns=["group", "label", "latency_s", "wer"])
    >>> ax = plot_tradeoff(table, offline=0.4)
    >>> [t.get_text() for t in ax.get_legend().get_texts()]
    ['naive', 'offline']
    >>> plt.close(ax.figure)
    """
    missing = {"group", "label", "latency_s", "wer"} - set(table.columns)
    if missing or table.empty:
        raise PtlabError(f"A table of {len(table)} rows without {sorted(missing)}; see the help.")
    ax = axes_or_new(ax, 4.6, width_in=8.0)
    groups = table.groupby("group", sort=False)
    looks = zip(itertools.cycle(LINES), itertools.cycle(MARKERS))
    for (name, rows), (line, marker) in zip(groups, looks, strict=False):
        ax.plot(rows.latency_s, 100 * rows.wer, color="black", linestyle=line, marker=marker,
                markerfacecolor="white", linewidth=0.9, label=str(name))  # fmt: skip
    if offline is not None:
        ax.axhline(100 * offline, color="0.4", linestyle=(0, (1, 2)), label="offline")
    ax.set(xlabel="From the end of a word to its commit, median (s)", ylabel="WER (%)")
    ax.set_xlim(0, 1.12 * table.latency_s.max())
    ax.margins(y=0.1)  # room for labels below the lowest point
    ax.legend(fontsize=LABEL_PT)
    ax.set_title("What waiting buys" if title is None else title)
    _label_points(ax, table.latency_s, 100 * table.wer, table.label)
    return ax


def _label_points(ax: Axes, xs: Any, ys: Any, labels: Any) -> None:
    """Each label on the first side of its point where it hides no point and no other label."""
    corners = ax.transData.transform(np.column_stack([xs, ys]))
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in corners]
    for x, y, label in zip(xs, ys, labels, strict=True):
        for offset, side in SIDES if label else ():
            note = ax.annotate(label, (x, y), offset, textcoords="offset points", ha=side,
                               fontsize=LABEL_PT - 1, zorder=3)  # fmt: skip
            note.set_path_effects([withStroke(linewidth=3, foreground="white")])
            box = note.get_window_extent()
            if box.count_overlaps(taken) == 0 or (offset, side) == SIDES[-1]:
                taken.append(box)
                break
            note.remove()


def plot_step_cost(
    logs: Mapping[str, StreamLog], *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Computing for every step along the audio; above the grey line a machine falls behind.

    Parameters
    ----------
    logs : mapping of str to StreamLog
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If there is no log, or none has steps.

    Examples
    --------
    >>> from ptlab.stream_log import Step, StreamLog
    >>> log = StreamLog((), (Step(0.5, 0.5, 0.1), Step(1.0, 0.5, 0.2)), 1.0, "audio")
    >>> ax = plot_step_cost({"buffered": log})
    >>> ax.lines[0].get_ydata().tolist()
    [100.0, 200.0]
    >>> plt.close(ax.figure)
    """
    _some({name: log for name, log in logs.items() if log.steps})
    ax = axes_or_new(ax, 3.2, width_in=7.0)
    for (name, log), line in zip(logs.items(), itertools.cycle(LINES)):
        at = [step.audio_s for step in log.steps]
        ms = [1000 * step.compute_s for step in log.steps]
        ax.plot(at, ms, color="black", linestyle=line, linewidth=1.2, label=name)
    chunk_s = np.median([step.new_s for log in logs.values() for step in log.steps])
    ax.axhline(1000 * chunk_s, color=FAINT, linewidth=3,
               label=f"real time: {1000 * chunk_s:.0f} ms a step")  # fmt: skip
    ax.set(xlabel="Position in the audio (s)", ylabel="Computing for a step (ms)")
    ax.set(yscale="log", xlim=(0, None))
    ax.grid(color="0.88", linewidth=0.6)
    ax.legend(fontsize=LABEL_PT)
    ax.set_title("Cost of a step" if title is None else title)
    return ax


def _some(logs: Mapping[str, StreamLog]) -> None:
    if not logs:
        raise PtlabError("There is nothing to draw; give logs of ptlab.simulate by name.")


def _shown_words(events: Sequence[Event], end_s: float) -> list[_Shown]:
    """Spans of all places; the place of a word counts the words of the utterances before it."""
    open_spans: dict[int, _Shown] = {}
    spans, before = [], 0
    for event in events:
        if not isinstance(event, Partial | Final):
            continue
        words = _dressed(event)
        now = {before + i: word for i, word in enumerate(words)}
        for place in [p for p in open_spans if p >= before]:
            if now.get(place) != (open_spans[place].text, open_spans[place].kind):
                spans.append(open_spans.pop(place)._replace(end_s=event.emitted_s))
        for place in now.keys() - open_spans.keys():
            open_spans[place] = _Shown(place, *now[place], event.emitted_s, end_s)
        before += len(words) if isinstance(event, Final) else 0
    spans += open_spans.values()
    return sorted((s for s in spans if s.end_s > s.start_s), key=lambda s: (s.place, s.start_s))


def _dressed(event: Partial | Final) -> list[tuple[str, str]]:
    if isinstance(event, Final):
        return [(word.text, "refined") for word in event.words]
    kinds = ("tentative", "committed")
    return [(word.text, kinds[i < event.stable]) for i, word in enumerate(event.words)]


def _draw_words(ax: Axes, spans: Sequence[_Shown], top: int) -> None:
    inches = axes_width_in(ax) / ax.get_xlim()[1]
    for span in spans:
        face, edge, line, letters = _DRESS[span.kind]
        width_s = span.end_s - span.start_s
        ax.barh(top + span.place, width_s, 0.84, span.start_s, color=face, edgecolor=edge,
                linestyle=line, linewidth=0.8)  # fmt: skip
        most = int(width_s * inches / LETTER_IN)
        text = span.text if len(span.text) <= most else span.text[: most - 1] + "…"
        if most > 1:
            ax.text(span.start_s + width_s / 2, top + span.place, text, ha="center", va="center",
                    fontsize=LABEL_PT - 1.5, clip_on=True, **letters)  # fmt: skip


def _draw_key(ax: Axes, kinds: set[str]) -> None:
    patches = [
        Patch(facecolor=face, edgecolor=edge, linestyle=line, label=kind)
        for kind, (face, edge, line, _) in _DRESS.items()
        if kind in kinds
    ]
    ax.legend(handles=patches, ncols=3, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))


def _erased(events: Sequence[Event]) -> tuple[list[float], list[int]]:
    """When words were taken back, and how many."""
    before: dict[int, list[str]] = {}
    times, counts = [], []
    for event in events:
        if isinstance(event, Partial | Final):
            words = event.text.split()
            last = before.get(event.utterance, [])
            times.append(event.emitted_s)
            counts.append(len(last) - common_beginning([last, words]))
            before[event.utterance] = words
    return times, counts
