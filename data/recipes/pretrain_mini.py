"""Pre-train an encoder of the architecture of ``mini`` on unlabelled speech, as XLSR does.

    python data/recipes/pretrain_mini.py speech/babel --out RUN --steps 12000
    python data/recipes/pretrain_mini.py speech/espeak --languages pt --out RUN_PT --steps 12000

wav2vec 2.0's task (Baevski et al. 2020, arXiv 2006.11477; for many languages Conneau et al. 2020,
arXiv 2006.13979): spans of 10 frames are hidden, about half of all; at each hidden frame the
network is to tell the quantized sound from 100 others of the same utterance. The parameters are
those of HF's ``Wav2Vec2ForPreTraining``, the loss is its loss (held by ``test_pretraining.py``),
computed at the hidden frames alone: one product of all predictions with all targets, from which
the negatives are picked. That costs next to nothing, where HF gathers 100 vectors a frame.

With a small batch the network says the same of every hidden frame for thousands of steps. Two
things get it off: convolutions that are fitted first and then kept (``front_end.py``, which has the
figures), and a second target, with ``--cluster-weight``: which cluster of cepstra a frame is in,
asked for at visible frames too. The clusters are those of the clean sound, the network hears it
behind noise, rooms and microphones (as in WavLM, arXiv 2110.13900).

Two groups of 64 codes in place of XLSR's 320: a step here has about 700 targets a process, XLSR's
some 100,000. The diversity loss has to see from these how often each code is used; 10 of them a
code are enough for that, 2 are not, and 4,096 pairs are plenty for the sounds of speech.

The schedule runs on steps, so that two runs of equal ``--steps`` are comparable; ``--minutes`` only
ends a call earlier. Started again, a run goes on from ``checkpoint.pt`` and is the same as one that
was never stopped: what a step draws depends on its number alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import clusters
import front_end
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from augment import RATE, augment, change_speed
from fast_wav2vec2 import FastForward, mixed_precision
from speech import frames_of
from torch import Tensor, nn
from train_mini import (
    Muon,
    average_gradients,
    full_share,
    keep_memory,
    new_model,
    split_parameters,
)
from transformers import Wav2Vec2ForPreTraining
from unlabelled import Drawer, read_sounds

from ptlab.audio import normalize

SPAN, START_SHARE, LEAST_SPANS = 10, 0.065, 2  # frames hidden; share of frames that begin a span
NEGATIVES, KAPPA, DIVERSITY = 100, 0.1, 0.1  # wav2vec 2.0's
TEMPERATURES = (2.0, 0.5)  # of the Gumbel softmax, at the start and from `COOLED` on
COOLED, FALL = 0.7, 0.3  # shares of the run
COLLAPSED = 0.15  # of the codes in use, weighed by how much
LENGTHS_S = (2.5, 7.0)  # of the clips of a batch
CLUSTER_S, FRONT_END_S = 600, 12  # of speech to find the clusters in; a step of the front end


def new_encoder(codes: int = 64, groups: int = 2) -> Wav2Vec2ForPreTraining:
    """The architecture of ``mini`` with a quantizer in place of the CTC head."""
    config = new_model().config
    config.num_codevectors_per_group, config.num_codevector_groups = codes, groups
    config.codevector_dim = config.proj_codevector_dim = 128
    config.num_negatives, config.contrastive_logits_temperature = NEGATIVES, KAPPA
    config.diversity_loss_weight, config.feat_quantizer_dropout = DIVERSITY, 0.0
    config.mask_time_prob, config.mask_time_length = SPAN * START_SHARE, SPAN
    return Wav2Vec2ForPreTraining(config)


def span_mask(lengths: Tensor, frames: int, rng: np.random.Generator) -> Tensor:
    """Frames to hide ``(batch, frames)``: spans whose starts are drawn without replacement.

    Their number is a share of the clip's own frames, rounded at random, two at the least; a clip
    of less than two spans is hidden in its middle, so that it keeps something to hear.
    """
    mask = torch.zeros(len(lengths), frames, dtype=torch.bool)
    for row, length in zip(mask, lengths.tolist(), strict=True):
        if length < 2 * SPAN:
            row[length // 4 : length - length // 4] = True
            continue
        spans = max(LEAST_SPANS, int(START_SHARE * length + rng.random()))
        for start in rng.choice(length - SPAN + 1, spans, replace=False):
            row[start : start + SPAN] = True
    return mask


def draw_negatives(mask: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """For each hidden frame ``count`` others of its clip: ``(hidden, count)`` places among them."""
    rows, first = [], 0
    for hidden in mask.sum(1).tolist():
        others = rng.integers(0, max(1, hidden - 1), (hidden, count))
        others += others >= np.arange(hidden)[:, None]  # never itself
        rows.append(first + np.minimum(others, max(0, hidden - 1)))
        first += hidden
    return torch.from_numpy(np.concatenate(rows))


def quantize(quantizer: nn.Module, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors ``(frames, dim)``, codes ``(frames, groups)``, perplexity ``(groups,)``.

    As `Wav2Vec2GumbelVectorQuantizer`, which gives the sum of the perplexities.
    """
    groups, codes = quantizer.num_groups, quantizer.num_vars
    scores = quantizer.weight_proj(features).float().view(-1, codes)
    if quantizer.training:
        chosen = F.gumbel_softmax(scores, tau=quantizer.temperature, hard=True)
        usage = scores.softmax(-1)
    else:
        chosen = usage = F.one_hot(scores.argmax(-1), codes).float()
    chosen, usage = (x.view(-1, groups, codes) for x in (chosen, usage))
    mean = usage.mean(0)
    perplexity = torch.exp(-torch.xlogy(mean, mean).sum(-1))
    book = quantizer.codevectors.view(groups, codes, -1)
    vectors = torch.einsum("fgc,gcd->fgd", chosen, book).flatten(1)
    return vectors, chosen.argmax(-1), perplexity


def contrast(
    predicted: Tensor, targets: Tensor, codes: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of the contrastive losses, and whether each target was found among its negatives.

    A negative with the same codes as the target is no negative.
    """
    similar = F.normalize(predicted, dim=-1) @ F.normalize(targets, dim=-1).T / KAPPA
    same = (codes[negatives] == codes[:, None]).all(-1)
    others = similar.gather(1, negatives).masked_fill(same, -torch.inf)
    right = similar.diagonal()
    logits = torch.cat([right[:, None], others], 1)
    loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="sum")
    return loss, right > others.amax(1)


@dataclass(frozen=True)
class Outcome:
    """What one batch gave; the losses are sums over the hidden frames."""

    contrastive: Tensor
    diversity: Tensor
    right: Tensor  # (hidden,)
    codes: Tensor  # (hidden, groups)
    perplexity: Tensor  # (groups,) of the soft choice
    cluster: Tensor  # loss of the second target
    known: Tensor  # how many clusters were guessed right
    visible: Tensor  # mean loss of the second target at visible frames


def hear(
    forward: FastForward, waves: Tensor, lengths: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """What the convolutions hear, and what the Transformer makes of the frames not hidden."""
    convolutions = forward.model.wav2vec2.feature_extractor
    with torch.set_grad_enabled(next(convolutions.parameters()).requires_grad):
        features = forward.features(waves)
    last, _ = forward.encode(features, lengths, mask)
    return features, last.float()


def losses(
    model: Wav2Vec2ForPreTraining, heard: Tensor, guessed: Tensor, negatives: Tensor
) -> Outcome:
    """Contrastive and diversity loss of a batch, as `Wav2Vec2ForPreTraining` gives them."""
    normed = model.wav2vec2.feature_projection.layer_norm(heard)
    vectors, codes, perplexity = quantize(model.quantizer, normed)
    predicted, targets = model.project_hid(guessed), model.project_q(vectors)
    contrastive, right = contrast(predicted, targets, codes, negatives)
    all_codes = model.quantizer.num_groups * model.quantizer.num_vars
    diversity = (all_codes - perplexity.sum()) / all_codes * len(right)
    nothing = torch.zeros(())
    return Outcome(contrastive, diversity, right, codes, perplexity, nothing, nothing, nothing)


def cluster_losses(
    head: nn.Module, last: Tensor, truth: Tensor, mask: Tensor, visible: Tensor
) -> dict[str, Tensor]:
    """Loss of the second target: summed over hidden frames, the mean over visible ones."""
    guesses, known = head(last[mask]), truth[mask]
    return {
        "cluster": F.cross_entropy(guesses, known, reduction="sum"),
        "known": (guesses.argmax(-1) == known).sum(),
        "visible": F.cross_entropy(head(last[visible]), truth[visible]),
    }


def make_batch(
    drawer: Drawer, rng: np.random.Generator, budget_s: float, strength: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Waveforms of one length, the same without noise and room, and the valid frames of each."""
    samples = int(rng.integers(2 * LENGTHS_S[0], 2 * LENGTHS_S[1] + 1)) * RATE // 2
    count = max(1, int(budget_s * RATE / samples))
    waves, lengths = torch.zeros(2, count, samples), []
    for rows in waves.unbind(1):
        clean = wave = drawer.draw(rng)
        if strength:
            clean = change_speed(clean, float(np.clip(rng.normal(1, 0.1), 0.8, 1.25)))
            wave = augment(clean, rng, strength)
        start = int(rng.integers(0, max(1, len(wave) - samples + 1)))
        for row, sound in zip(rows, (wave, clean), strict=True):
            cut = normalize(sound[start : start + samples])
            row[: len(cut)] = torch.from_numpy(cut)
        lengths.append(frames_of(len(cut)))
    return waves[0], waves[1], torch.tensor(lengths)


def temperature(gone: float) -> float:
    """Of the Gumbel softmax: falls by the same factor in each step."""
    first, last = TEMPERATURES
    return max(last, first * (last / first) ** (gone / COOLED))


def rate(step: int, steps: int) -> float:
    """Share of the full learning rate: rises over 5 % of the run, falls over its last 30 %."""
    return full_share(step, steps, 0.05, FALL)


class Run:
    """Model, optimisers and step of one process, saved and read as one."""

    def __init__(self, args: argparse.Namespace):
        torch.manual_seed(args.seed)
        self.args, self.step = args, 0
        self.model = new_encoder(args.codes).float().train()
        front_end.look_nearby(self.model)
        state = torch.load(args.out / "front_end.pt", weights_only=True)
        self.model.wav2vec2.feature_extractor.load_state_dict(state)
        self.model.wav2vec2.feature_extractor.requires_grad_(False)
        self.head = nn.Linear(self.model.config.hidden_size, args.clusters)
        self.centres = torch.from_numpy(np.load(args.out / "clusters.npy"))
        matrices, self.others = split_parameters(nn.ModuleList([self.model, self.head]))
        self.parameters = matrices + self.others
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(self.others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)
        self.forward = FastForward(self.model, inner_layer=0)
        self._resume()

    def _resume(self) -> None:
        path = self.args.out / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            self.adam.load_state_dict(state["adam"])
            self.muon.buffers, self.step = state["muon"], state["step"]

    def save(self) -> None:
        """Write the checkpoint and the model's folder."""
        state = {"model": self.model.state_dict(), "adam": self.adam.state_dict()}
        state |= {"head": self.head.state_dict(), "muon": self.muon.buffers, "step": self.step}
        part = self.args.out / "checkpoint.part"
        torch.save(state, part)
        part.replace(self.args.out / "checkpoint.pt")
        self.model.save_pretrained(self.args.out / "model")

    def advance(self, drawer: Drawer) -> Outcome:
        """One step, whose draws depend on its number, the process and the seed."""
        args, rank = self.args, dist.get_rank()
        rng = np.random.default_rng([args.seed, self.step, rank])
        torch.manual_seed(int(rng.integers(2**31)))  # the Gumbel noise
        waves, clean, lengths = make_batch(drawer, rng, args.batch_s, args.strength)
        frames = frames_of(waves.shape[1])
        mask = span_mask(lengths, frames, rng)
        negatives = draw_negatives(mask, NEGATIVES, rng)
        self.model.quantizer.temperature = temperature(self.step / args.steps)
        with mixed_precision():
            heard, last = hear(self.forward, waves, lengths, mask)
        # 8 bits are too few to choose a code
        found = losses(self.model, heard[mask].float(), last[mask], negatives)
        if args.cluster_weight:
            truth = clusters.nearest(clusters.mfcc(clean, lengths), self.centres)
            visible = (torch.arange(frames) < lengths[:, None]) & ~mask
            second = cluster_losses(self.head, last, truth, mask, visible)
            found = replace(found, **second)
        loss = found.contrastive + args.diversity * found.diversity
        loss = (loss + args.cluster_weight * found.cluster) / len(found.right)
        loss = loss + args.cluster_weight * found.visible
        if not math.isfinite(loss.item()):
            raise SystemExit(f"The loss is {loss.item()} in step {self.step}: lower the rates.")
        self._update(loss)
        return found

    def _update(self, loss: Tensor) -> None:
        for p in self.parameters:
            p.grad = torch.zeros_like(p)
        loss.backward()
        average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.others, 1.0)
        share = rate(self.step, self.args.steps)
        self.muon.step(self.args.muon_lr * share)
        for group in self.adam.param_groups:
            group["lr"] = self.args.adam_lr * share
        self.adam.step()
        self.step += 1


class Journal:
    """Means since the last line of ``log.jsonl``; warns when the codes collapse."""

    def __init__(self, path: Path, codes: int):
        self.path, self.codes, self.found, self.start = path, codes, [], time.time()

    def add(self, found: Outcome) -> None:
        self.found.append(found)

    def write(self, step: int, steps: int) -> dict:
        """Append a line; accuracy, loss a hidden frame, perplexity of the codes of each group."""
        hidden = sum(len(f.right) for f in self.found)
        line = {
            "step": step,
            "accuracy": round(float(sum(f.right.sum() for f in self.found)) / hidden, 4),
            "contrastive": round(float(sum(f.contrastive for f in self.found)) / hidden, 4),
            "diversity": round(float(sum(f.diversity for f in self.found)) / hidden, 4),
            "cluster_accuracy": round(float(sum(f.known for f in self.found)) / hidden, 4),
            "cluster": round(float(sum(f.cluster for f in self.found)) / hidden, 4),
            "visible": round(float(np.mean([f.visible for f in self.found])), 4),
            "perplexity": usage(torch.cat([f.codes for f in self.found]), self.codes),
            "soft_perplexity": np.mean([f.perplexity.tolist() for f in self.found], 0)
            .round(1)
            .tolist(),
            "temperature": round(temperature(step / steps), 3),
            "rate": round(rate(step, steps), 3),
            "s_per_step": round((time.time() - self.start) / len(self.found), 3),
        }
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        print(line, flush=True)
        if min(line["perplexity"]) < COLLAPSED * self.codes and step > 0.05 * steps:
            print(
                f"WARNING: codebook collapse: perplexity {line['perplexity']} of {self.codes} "
                "codes. Raise the weight of the diversity loss, or lower the learning rates.",
                flush=True,
            )
        self.found, self.start = [], time.time()
        return line


def usage(codes: Tensor, size: int) -> list[float]:
    """Perplexity of the codes that were chosen, a group: how many there are if used alike.

    Examples
    --------
    >>> usage(torch.tensor([[0, 3], [1, 3], [0, 3], [1, 3]]), 4)
    [2.0, 1.0]
    """
    shares = [torch.bincount(group, minlength=size) / len(group) for group in codes.T]
    return [round(float(torch.exp(-torch.xlogy(s, s).sum())), 1) for s in shares]


def train(rank: int, args: argparse.Namespace) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    keep_memory()
    store = dist.FileStore(str(args.out / "rendezvous"), args.processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=args.processes)
    drawer = Drawer(read_sounds(args.speech, args.languages), args.alpha)
    fit_front_end(args, drawer)
    run = Run(args)
    journal = Journal(args.out / "log.jsonl", args.codes)
    end = saved = time.time()
    end += 60 * args.minutes
    while run.step < args.steps:
        journal.add(detached(run.advance(drawer)))
        stop = torch.tensor(float(time.time() > end))
        dist.all_reduce(stop)
        ends = stop.item() or run.step == args.steps
        if rank == 0 and (ends or run.step % args.log_every == 0):
            journal.write(run.step, args.steps)
        if rank == 0 and time.time() - saved > args.save_every:
            saved = time.time()
            run.save()
        if ends:
            break
    if rank == 0:
        run.save()
    dist.destroy_process_group()


def fit_front_end(args: argparse.Namespace, drawer: Drawer) -> None:
    """Write the weights of the convolutions, fitted by all processes together, once a run."""
    path, rank = args.out / "front_end.pt", dist.get_rank()
    if path.exists():
        return
    torch.manual_seed(args.seed)
    model, rng = new_encoder(args.codes).float().train(), np.random.default_rng([args.seed, rank])
    batches = (make_batch(drawer, rng, FRONT_END_S, 0.0)[1:] for _ in itertools.count())
    front_end.fit(model, batches, print if rank == 0 else lambda line: None)
    if rank == 0:
        part = path.with_suffix(".part")
        torch.save(model.wav2vec2.feature_extractor.state_dict(), part)
        part.replace(path)
    dist.barrier()


def find_clusters(args: argparse.Namespace, drawer: Drawer) -> None:
    """Write the centres of the clusters, found in ``CLUSTER_S`` of the speech, once a run."""
    path = args.out / "clusters.npy"
    if path.exists():
        return
    rng, frames = np.random.default_rng([args.seed, 2**31]), []
    while sum(map(len, frames)) < CLUSTER_S * 50:
        _, clean, lengths = make_batch(drawer, rng, 30, args.strength)
        valid = torch.arange(frames_of(clean.shape[1])) < lengths[:, None]
        frames.append(clusters.mfcc(clean, lengths)[valid].numpy())
    np.save(path, clusters.fit(np.concatenate(frames), args.clusters, args.seed))


def detached(found: Outcome) -> Outcome:
    """Without the graph, which holds all activations."""
    return Outcome(*(getattr(found, name).detach() for name in Outcome.__dataclass_fields__))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", nargs="+", type=Path, help="folders of the make_*.py recipes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--languages", nargs="*", default=[], help="only these; default: all")
    parser.add_argument("--alpha", type=float, default=1.0, help="1: by amount, 0.5: XLSR's rule")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end this call earlier")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-s", type=float, default=28, help="audio a step and process")
    parser.add_argument("--codes", type=int, default=64, help="a group; there are two")
    parser.add_argument("--diversity", type=float, default=DIVERSITY, help="weight of that loss")
    parser.add_argument("--cluster-weight", type=float, default=0.0, help="of the second target")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--muon-lr", type=float, default=2e-3)
    parser.add_argument("--adam-lr", type=float, default=1e-3)
    parser.add_argument("--strength", type=float, default=0.3, help="of the augmentation, 0 to 1")
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--save-every", type=float, default=480, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rendezvous").unlink(missing_ok=True)
    sounds = read_sounds(args.speech, args.languages)  # decoded here, once for all processes
    seconds = sounds.seconds
    hours = sum(seconds.values()) / 3600
    print(f"{len(sounds.places)} clips, {hours:.2f} h, {len(seconds)} languages", flush=True)
    find_clusters(args, Drawer(sounds, args.alpha))
    if args.processes == 1:
        train(0, args)
    else:
        torch.multiprocessing.spawn(train, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
