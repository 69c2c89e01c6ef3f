"""Count the corpus: the lines of the table in data/README.md."""

from __future__ import annotations

from ptlab.data import load_corpus, load_story


def main() -> None:
    corpus = load_corpus()
    for split in ("train", "dev", "test", "all"):
        frame = (corpus if split == "all" else corpus.filter(split=split)).frame
        size = sum((corpus.root / path).stat().st_size for path in frame.path)
        cells = (
            split,
            f"{len(frame):,}",
            f"{frame.duration_s.sum() / 60:.1f}",
            frame.speaker.nunique(),
            f"{(frame.accent == 'native').sum()} ({(frame.accent == 'native').mean():.0%})",
            f"{(frame.variety == 'pt').sum()} ({(frame.variety == 'pt').mean():.0%})",
            f"{size / 1e6:.1f}",
        )
        print("|", " | ".join(map(str, cells)), "|")
    story = load_story()
    size = story.path.stat().st_size / 1e6
    minutes = f"{story.duration_s / 60:.1f}"
    print(f"| story | {len(story.sentences)} sentences | {minutes} | 2 | | | {size:.1f} |")


if __name__ == "__main__":
    main()
