"""Notes of a meeting, without saying who speaks: a paragraph a turn, with its time.

    python meeting_notes.py reuniao.m4a notes.md

Nobody is told apart: a paragraph ends where there is a pause of 0.8 s or more. Words
that the model is not sure of are in *italics*: listen there before you quote them.
With no file named, the notes are of the course's story.
"""

import sys
from pathlib import Path

import ptlab

PAUSE_S, DOUBT = 0.8, 0.5

meeting = sys.argv[1] if len(sys.argv) > 1 else ptlab.load_story().path
notes = Path(sys.argv[2] if len(sys.argv) > 2 else "notes.md")

turns, last_end_s = [], float("-inf")
for word in ptlab.transcribe(meeting).words:
    if word.start_s - last_end_s >= PAUSE_S:
        minutes, seconds = divmod(int(word.start_s), 60)
        turns.append([f"**{minutes:02d}:{seconds:02d}**"])
    turns[-1].append(word.text if word.confidence >= DOUBT else f"*{word.text}*")
    last_end_s = word.end_s

notes.write_text("\n\n".join(" ".join(turn) for turn in turns) + "\n", encoding="utf-8")
print(f"{notes}: {len(turns)} paragraphs")
