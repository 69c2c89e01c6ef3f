"""A smaller start from a trained model: the feed-forward neurons go that are missed least.

    python data/recipes/prune_neurons.py ptlab/assets/mini --neurons 896 --data data --out SMALL
    python data/recipes/ship_mini.py SMALL --out STUDENT

Block after block, one neuron after the other is left out: the one whose loss the others can make
good best, by new output weights that come as close to the block's old sums as least squares do
(the optimal brain surgeon of Hassibi & Stork 1992, for whole neurons). With 896 of the 1,024
neurons of ``mini`` the WER on the dev split goes from 22.6 to 23.1 %, and in four bits, an eighth
of its size, it is 24.4 %. (128 is the largest block of four-bit weights that divides 896.)

Further training was tried with 768 neurons and an earlier ``mini`` of a dev WER of 25.7 %, which
became 27.0 %. With the whole model as teacher (``train_mini.py --teacher``) the small one came
nearer to it on voices of the train split only: after five runs of 13 to 82 minutes on one core the
dev WER was 28.0 to 30.1 %. The mean of the start and two such runs was nearer on dev as well: the
divergence per frame fell from 0.019 to 0.014. Whole layers are missed more: without two of the
eight the dev WER was 43.0 %, and 31.7 % after 48 minutes with the teacher.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from train_mini import clips_of, evaluate, held_out
from transformers import Wav2Vec2ForCTC

from ptlab import normalize

RIDGE = 1e-4  # of the mean of the products' diagonal: keeps their inverse well behaved


def missed_least(products: Tensor, weights: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """Neurons to keep, and their new output weights.

    Parameters
    ----------
    products : Tensor (neurons + 1, neurons + 1)
        Of what the neurons say, summed over frames; the last one always says 1 and always stays.
    weights : Tensor (neurons + 1, outputs)
        Of the block's output, the bias last.
    wanted : int
        How many to keep beside the last.

    Returns
    -------
    kept : Tensor (wanted,), in their old order
    weights : Tensor (wanted + 1, outputs)

    Examples
    --------
    Two neurons that say the same: one goes, the other speaks for both.

    >>> said = torch.tensor([[1.0, 1, 0, 1], [2, 2, 1, 1], [3, 3, 0, 1], [1, 1, 5, 1]]).double()
    >>> weights = torch.tensor([[1.0], [2.0], [1.0], [0.5]]).double()
    >>> kept, new = missed_least(said.T @ said, weights, 2)
    >>> 2 in kept.tolist(), torch.allclose(said[:, [*kept, 3]] @ new, said @ weights, atol=1e-2)
    (True, True)
    """
    ridge = RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=products.dtype)
    inverse, weights = torch.linalg.inv(products + ridge), weights.clone()
    here = torch.ones(len(weights), dtype=torch.bool)
    for _ in range(len(weights) - 1 - wanted):
        costs = weights.square().sum(1) / inverse.diagonal()
        costs[~here] = torch.inf
        gone = int(costs[:-1].argmin())
        column = inverse[:, gone] / inverse[gone, gone]
        weights -= torch.outer(column, weights[gone])
        inverse -= torch.outer(column, inverse[gone].clone())
        here[gone] = False
        inverse[gone, gone] = 1.0  # is not looked at again
    return torch.nonzero(here[:-1]).flatten(), weights[here]


def prune(model: Wav2Vec2ForCTC, waves: list[Tensor], neurons: int) -> Wav2Vec2ForCTC:
    """The model itself, with so many neurons in each feed-forward block."""
    for number, layer in enumerate(model.wav2vec2.encoder.layers):
        block = layer.feed_forward
        inner, outer = block.intermediate_dense, block.output_dense
        size = inner.out_features + 1
        products = torch.zeros(size, size, dtype=torch.double)

        def add(_: nn.Module, given: tuple[Tensor], products: Tensor = products) -> None:
            said = given[0].flatten(0, 1).double()
            said = torch.cat([said, said.new_ones(len(said), 1)], dim=1)
            products += said.T @ said

        hook = outer.register_forward_pre_hook(add)
        with torch.inference_mode():
            for wave in waves:
                model(wave[None])
        hook.remove()
        old = torch.cat([outer.weight.T, outer.bias[None]]).detach().double()
        kept, new = missed_least(products, old, neurons)
        smaller = nn.Linear(inner.in_features, neurons), nn.Linear(neurons, outer.out_features)
        with torch.no_grad():
            smaller[0].weight.copy_(inner.weight[kept])
            smaller[0].bias.copy_(inner.bias[kept])
            smaller[1].weight.copy_(new[:-1].T)
            smaller[1].bias.copy_(new[-1])
        block.intermediate_dense, block.output_dense = smaller
        print(f"layer {number}: {neurons} of {size - 1} neurons", flush=True)
    model.config.intermediate_size = neurons
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--neurons", type=int, required=True, help="how many a block keeps")
    parser.add_argument("--data", type=Path, required=True, help="the corpus folder")
    parser.add_argument("--clips", type=int, default=200, help="of the train split, to listen to")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = Wav2Vec2ForCTC.from_pretrained(args.model, dtype=torch.float32).eval()
    rows, heard = held_out(args.data, [], count=80), clips_of(args.data, "train", args.clips)
    waves = [torch.from_numpy(normalize(wave)) for wave, _ in heard]
    print(evaluate(model, rows))
    print(evaluate(prune(model, waves, args.neurons), rows))
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
