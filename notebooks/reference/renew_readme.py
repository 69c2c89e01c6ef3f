"""Write what the README shows of `mini`: its table, from the model's figures, and its picture.

    python notebooks/reference/renew_readme.py

To be run whenever the weights change; a test says so.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import ptlab

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"
METRICS = HERE.parents[1] / "ptlab" / "assets" / "mini" / "metrics.json"
PICTURE = HERE / "readme.png"
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")
ROWS = {
    "test": "`mini`: new sentences by ten synthetic voices that it was not trained on",
    "test, 10 dB": "the same in noise at 10 dB",
    "story": "a story of four minutes, told by one of its training voices and a new one",
    "real words": "**people**: 15 single words",
}
PUBLISHED = """\
| `xlsr-53-pt`: people reading, Common Voice 6.0 | | 11.3 | 3.7 |
| `xlsr-53-pt`: people talking, Robust Speech Event | | 42.1 | 17.9 |"""


def table(metrics: dict) -> str:
    """The README's table: error rates with their intervals, the honest rows among them.

    >>> rates = {"clips": 2, "wer": [33.66, 28.99, 40.56], "cer": [7.49, 7.49, 7.49]}
    >>> print(table(dict.fromkeys(ROWS, rates)).splitlines()[3])
    | the same in noise at 10 dB | 2 | 33.7 [29.0, 40.6] | 7.5 |
    """
    rows = [
        f"| {shown} | {metrics[name]['clips']} | {_rate(*metrics[name]['wer'])} "
        f"| {_rate(*metrics[name]['cer'])} |"
        for name, shown in ROWS.items()
    ]
    head = ["| what is heard | clips | WER % | CER % |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, PUBLISHED])


def _rate(value: float, low: float, high: float) -> str:
    return f"{value:.1f}" if low == high else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def first_native_clip() -> tuple[ptlab.Audio, str]:
    """The first clip of the test split by its Brazilian voice, not chosen for how it comes out."""
    corpus = ptlab.load_corpus("test").filter(accent="native")
    return corpus.audio(0), corpus.row(0)["text"]


def draw(path: Path) -> None:
    """What was said, and below it what the model makes of every fiftieth of a second."""
    sound, text = first_native_clip()
    model = ptlab.load_model("mini", device="cpu")
    result = ptlab.transcribe(sound, model=model)
    figure, (top, bottom) = plt.subplots(
        2, figsize=(8.6, 6.4), height_ratios=(2, 3), sharex=True, layout="constrained"
    )
    ptlab.plot_spectrogram(sound, result.words, ax=top, title=f"Said: “{text}”")
    log_probs = model.log_probs([sound.waveform])[0]
    title = f"Written: “{result.text}”"
    ptlab.plot_log_probs(log_probs, model.vocabulary, ax=bottom, title=title)
    figure.canvas.draw()
    about = PngInfo()
    about.add_itxt("Description", result.text)
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    picture.quantize(48).save(path, pnginfo=about, optimize=True)  # a third of the size
    plt.close(figure)


def main() -> None:
    measured = table(json.loads(METRICS.read_text("utf-8")))
    start, end = map(re.escape, MARKS)
    readme = README.read_text("utf-8")
    block = f"{MARKS[0]}\n{measured}\n{MARKS[1]}"
    README.write_text(re.sub(f"{start}.*{end}", lambda _: block, readme, flags=re.S), "utf-8")
    draw(PICTURE)


if __name__ == "__main__":
    main()
