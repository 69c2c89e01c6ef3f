"""Count the corpus and the probe sets: the lines of the tables in data/README.md."""

from __future__ import annotations

from collections.abc import Iterator

from ptlab.data import Corpus, load_corpus, load_story
from ptlab.probe_data import PROBE_SETS, load_probe_set


def lines() -> Iterator[str]:
    """One line a split, one for all of them, one for the story, one for each probe set."""
    corpus = load_corpus()
    for split in ("train", "dev", "test", "all"):
        yield line(split, corpus if split == "all" else corpus.filter(split=split))
    story = load_story()
    size = story.path.stat().st_size / 1e6
    minutes = f"{story.duration_s / 60:.1f}"
    yield f"| story | {len(story.sentences)} sentences | {minutes} | 2 | | | {size:.1f} |"
    yield from (probe_line(load_probe_set(name)) for name in PROBE_SETS)


def line(name: str, corpus: Corpus) -> str:
    frame = corpus.frame
    native, european = frame.accent == "native", frame.variety == "pt"
    cells = (
        name,
        f"{len(frame):,}",
        f"{frame.duration_s.sum() / 60:.1f}",
        frame.speaker.nunique(),
        f"{native.sum()} ({native.mean():.0%})",
        f"{european.sum()} ({european.mean():.0%})",
        megabytes(corpus),
    )
    return f"| {' | '.join(map(str, cells))} |"


def probe_line(corpus: Corpus) -> str:
    frame = corpus.frame
    cells = (
        f"`{corpus.name}`",
        frame.label.nunique(),
        frame.group.nunique(),
        len(frame),
        f"{frame.duration_s.sum() / 60:.1f}",
        frame.speaker.nunique(),
        megabytes(corpus),
    )
    return f"| {' | '.join(map(str, cells))} |"


def megabytes(corpus: Corpus) -> str:
    return f"{sum((corpus.root / path).stat().st_size for path in corpus.frame.path) / 1e6:.1f}"


if __name__ == "__main__":
    print(*lines(), sep="\n")
