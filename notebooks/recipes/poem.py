"""Align a poem with its reading: when is each line said?

    python poem.py poema.txt leitura.mp3

writes `poema.lrc`, the format in which players show songs line by line, and prints
the lines that the model is least sure of: were they read otherwise, or left out?
With no files named, it is the course's story, a sentence a line.
"""

import sys
from pathlib import Path

import ptlab

if len(sys.argv) > 2:
    poem, reading = Path(sys.argv[1]), sys.argv[2]
    lines = poem.read_text(encoding="utf-8").splitlines()
else:
    poem, reading = Path("story.txt"), ptlab.load_story().path
    lines = ptlab.load_story().sentences.text

spoken = {n: ptlab.normalize_text(line) for n, line in enumerate(lines)}
words = iter(ptlab.Transcriber().align(reading, " ".join(spoken.values())).words)

stamped, doubts = [], []
for n, text in spoken.items():
    if of_line := [next(words) for _ in text.split()]:  # nothing between two stanzas
        minutes, seconds = divmod(of_line[0].start_s, 60)
        stamped.append(f"[{minutes:02.0f}:{seconds:05.2f}]{lines[n]}")
        doubts.append((min(word.confidence for word in of_line), stamped[-1]))

lyrics = Path(poem.stem + ".lrc")
lyrics.write_text("\n".join(stamped) + "\n", encoding="utf-8")
print(f"{lyrics}: {len(stamped)} lines. Listen first to")
print(*(line for _, line in sorted(doubts)[:3]), sep="\n")
