"""Count the corpus: the lines of the table in data/README.md."""

from __future__ import annotations

from collections.abc import Iterator

from ptlab.data import Corpus, load_corpus, load_story


def lines() -> Iterator[str]:
    """One line a split, one for all of them, one for the story."""
    corpus = load_corpus()
    for split in ("train", "dev", "test", "all"):
        yield line(split, corpus if split == "all" else corpus.filter(split=split))
    story = load_story()
    size = story.path.stat().st_size / 1e6
    minutes = f"{story.duration_s / 60:.1f}"
    yield f"| story | {len(story.sentences)} sentences | {minutes} | 2 | | | {size:.1f} |"


def line(name: str, corpus: Corpus) -> str:
    frame = corpus.frame
    native, european = frame.accent == "native", frame.variety == "pt"
    size = sum((corpus.root / path).stat().st_size for path in frame.path)
    cells = (
        name,
        f"{len(frame):,}",
        f"{frame.duration_s.sum() / 60:.1f}",
        frame.speaker.nunique(),
        f"{native.sum()} ({native.mean():.0%})",
        f"{european.sum()} ({european.mean():.0%})",
        f"{size / 1e6:.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    print(*lines(), sep="\n")
