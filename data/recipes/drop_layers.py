"""A smaller start from a trained model: the Transformer layers go that are missed least.

    python data/recipes/drop_layers.py ptlab/assets/mini --layers 6 --dev data --out SMALL
    python data/recipes/train_mini.py SPEECH_FOLDER... --init SMALL --teacher ptlab/assets/mini ...

One layer after the other is left out, each time the one without which the CER on the dev split is
lowest. What is left makes many more errors; ``train_mini.py`` brings it back, with the whole model
as its teacher (DistilBERT's way: Sanh et al. 2019, arXiv 1910.01108).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from train_mini import evaluate, held_out
from transformers import Wav2Vec2ForCTC


def keep_layers(model: Wav2Vec2ForCTC, kept: Sequence[int]) -> Wav2Vec2ForCTC:
    """The model itself, with these layers only, in their order.

    Examples
    --------
    >>> from train_mini import new_model
    >>> small = keep_layers(new_model(), [0, 3, 7])
    >>> len(small.wav2vec2.encoder.layers), small.config.num_hidden_layers
    (3, 3)
    """
    layers = model.wav2vec2.encoder.layers
    model.wav2vec2.encoder.layers = nn.ModuleList(layers[number] for number in kept)
    model.config.num_hidden_layers = len(kept)
    return model


def missed_least(layers: int, wanted: int, error: Callable[[list[int]], float]) -> list[int]:
    """Numbers of the layers to keep, by the error of what is left after each one that goes.

    Examples
    --------
    >>> missed_least(4, 2, lambda kept: -sum(kept))
    [2, 3]
    """
    kept = list(range(layers))
    while len(kept) > wanted:
        rest = [[each for each in kept if each != gone] for gone in kept]
        errors = [error(numbers) for numbers in rest]
        kept = rest[errors.index(min(errors))]
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--layers", type=int, required=True, help="how many to keep")
    parser.add_argument("--dev", type=Path, required=True, help="the corpus folder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = Wav2Vec2ForCTC.from_pretrained(args.model, dtype=torch.float32).eval()
    whole, rows = model.wav2vec2.encoder.layers, held_out(args.dev, [], count=80)

    def error(kept: list[int]) -> float:
        model.wav2vec2.encoder.layers = whole
        rates = evaluate(keep_layers(model, kept), rows)
        print(kept, rates, flush=True)
        return rates["cer"]

    kept = missed_least(len(whole), args.layers, error)
    model.wav2vec2.encoder.layers = whole
    keep_layers(model, kept).save_pretrained(args.out)


if __name__ == "__main__":
    main()
