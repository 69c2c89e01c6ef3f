"""Subtitles for a video: every word on the screen when it is said.

    python subtitles.py film.mp4

writes `film.srt` into the current folder. Video is read with the program ffmpeg,
most sound files without it. With no file named, the course's story gets subtitles.
"""

import sys
from pathlib import Path

import ptlab

story = ptlab.data_dir() / "story" / "story.ogg"
film = Path(sys.argv[1] if len(sys.argv) > 1 else story)

result = ptlab.transcribe(film)
subtitles = Path(film.stem + ".srt")
subtitles.write_text(result.to_srt(), encoding="utf-8")

print(f"{subtitles}: {len(result.cues())} subtitles in {result.duration_s / 60:.1f} minutes")
