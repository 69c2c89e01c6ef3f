"""Turn a pre-training run into the encoder that ptlab ships as ``mini-xlsr-53``.

    python data/recipes/ship_xlsr.py RUN --speech speech/babel

Writes the folder ``ptlab/assets/mini-xlsr-53``: encoder and quantizer as fp16 safetensors (as the
real XLSR-53 lies on the Hub), config, feature extractor, ``metrics.json`` (what the run's log and
the speech's index say) and a model card made of them, with the figures of ``transfer.py`` once
these are there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from languages import LANGUAGES
from transfer import RESULTS
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining

ASSETS = Path(__file__).resolve().parents[2] / "ptlab" / "assets" / "mini-xlsr-53"
MOST_BYTES = 25_000_000
CARD = """---
language: [{codes}]
license: apache-2.0
library_name: transformers
tags: [wav2vec2, pretraining, synthetic-speech, education]
---

# mini-xlsr-53: a small encoder that has heard 53 languages

A `Wav2Vec2ForPreTraining` whose encoder, {millions:.1f} million parameters, is of the architecture
of ptlab's `mini`, pre-trained as XLSR-53 was (arXiv 2006.13979): without any text, by telling
hidden sound from other sound of the same utterance. It has **no CTC head**: it gives hidden states
and is a start for fine-tuning; it cannot write. It has never heard a person: all of its speech is
synthetic.

```python
model = ptlab.load_model("mini-xlsr-53")  # hidden states: model.model(...)
result = ptlab.finetune("mini-xlsr-53", ...)  # a head and some minutes of speech
```

## Figures

<!-- measured: begin -->
{measured}
<!-- measured: end -->

## Training

By `data/recipes/pretrain_mini.py` on {hours:.1f} hours of speech that `data/recipes/make_babel.py`
made. The convolutions were fitted to log-mel energies first and then kept; beside the contrastive
loss the last layer was asked for clusters of cepstra, as HuBERT is. With the contrastive loss on
convolutions that start at random this much speech and time taught nothing. Languages were drawn as
XLSR draws them, from the amount of text that there was (exponent 0.5). {own} of the 53 are among
XLSR-53's own; the others stand in for languages that espeak-ng does not speak
(`data/recipes/languages.py` says which, and why).

    python data/recipes/make_babel.py --text texts --out speech/babel --hours 8
    python data/recipes/make_babel.py --text texts --out speech/babel_kokoro --hours 1.2 --kokoro
    python data/recipes/pretrain_mini.py speech/babel speech/babel_kokoro{{,}} --out run \\
        --steps 5600 --processes 1 --batch-s 20 --cluster-weight 1

(The run was planned for 7,000 steps and shortened to 5,600 when 2,700 were done; so was its twin on
Portuguese alone, which heard 8.8 hours of espeak-ng and 1.4 of Kokoro in the same way.)

{table}

## Limits

- espeak-ng's voices are formant synthesis: one sound source in many disguises. What the encoder
  knows of voices, rooms and microphones comes from them and from augmentation.
- Half of the languages have some minutes each, all of one text (the Universal Declaration of Human
  Rights).
- XLSR-53 heard 56,000 hours with 315 million parameters. This is a model to learn with.

## Licence

Apache-2.0. The speech was made with espeak-ng (GPL-3.0, used as a tool; nothing of it is
here){kokoro}. The texts were the Universal Declaration of Human Rights and GNOME's help (CC BY-SA
3.0); none of them is here.
"""


def write_encoder(source: Path, folder: Path) -> int:
    """Weights in half precision with what a folder needs to be loaded; the encoder's parameters."""
    model = Wav2Vec2ForPreTraining.from_pretrained(source)
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    features = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    features.save_pretrained(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > MOST_BYTES:
        raise SystemExit(f"{size / 1e6:.1f} MB in {folder.name}; at most {MOST_BYTES / 1e6:.0f}.")
    for path in folder.iterdir():
        path.chmod(0o644)
    return sum(p.numel() for p in model.wav2vec2.parameters())


def heard(folders: list[Path]) -> dict[str, dict[str, float]]:
    """Hours of each language in folders of ``make_babel.py``, by espeak-ng and by Kokoro."""
    found: dict[str, Counter] = {}
    for folder in folders:
        for line in (folder / "part0.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            kind = "Kokoro" if row["voice"][1:3] in ("f_", "m_") else "espeak-ng"
            found.setdefault(row["language"], Counter())[kind] += row["duration_s"] / 3600
    return {code: dict(found[code]) for code in sorted(found, key=lambda c: -found[c].total())}


def measured(log: Path, results: Path) -> dict:
    """What the run's last line says, and the cells of the transfer experiment if it was made."""
    last = json.loads(log.read_text("utf-8").splitlines()[-1])
    found = {k: last[k] for k in ("step", "accuracy", "contrastive", "perplexity")}
    if results.is_file():
        found["transfer"] = json.loads(results.read_text("utf-8"))["cells"]
    return found


def as_markdown(found: dict) -> str:
    """The measured block of the card."""
    codes = " and ".join(f"{p:.0f}" for p in found["perplexity"])
    lines = [
        f"After {found['step']:,} steps it found the hidden sound among 100 others in "
        f"{100 * found['accuracy']:.1f} % of the frames (chance: 1 %); the perplexities of the two "
        f"groups of codes are {codes}.",
    ]
    if "transfer" in found:
        lines += ["", "Fine-tuned on the course's train split, greedy decoding of its test split, "]
        lines[-1] += "three seeds together, 95 % intervals over voices:"
        lines += ["", "| start | minutes | WER % | CER % |", "|---|---|---|---|"]
        for cell in found["transfer"]:
            wer, cer = ("{} [{}, {}]".format(*cell[m]) for m in ("wer", "cer"))
            lines.append(f"| {cell['start']} | {cell['minutes']} | {wer} | {cer} |")
    return "\n".join(lines)


def card(found: dict, hours: dict[str, dict[str, float]], parameters: int) -> str:
    """The README.md of the model's folder."""
    rows = ["| language | code | one of XLSR-53's | minutes |", "|---|---|---|---|"]
    for code, kinds in hours.items():
        language = LANGUAGES[code]
        own = "yes" if language.xlsr else "no"
        rows.append(f"| {language.name} | {code} | {own} | {60 * sum(kinds.values()):.1f} |")
    by_kokoro = any("Kokoro" in kinds for kinds in hours.values())
    return CARD.format(
        codes=", ".join(f'"{code}"' if code == "no" else code for code in sorted(hours)),
        millions=parameters / 1e6,
        measured=as_markdown(found),
        hours=sum(sum(kinds.values()) for kinds in hours.values()),
        own=sum(LANGUAGES[code].xlsr for code in hours),
        table="\n".join(rows),
        kokoro=" and Kokoro-82M (Apache-2.0)" if by_kokoro else "",
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of pretrain_mini.py")
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="what it heard")
    parser.add_argument("--results", type=Path, default=RESULTS, help="of transfer.py")
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args(arguments)
    parameters = write_encoder(args.run / "model", args.out)
    found, hours = measured(args.run / "log.jsonl", args.results), heard(args.speech)
    (args.out / "metrics.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (args.out / "README.md").write_text(card(found, hours, parameters), "utf-8")


if __name__ == "__main__":
    main()
