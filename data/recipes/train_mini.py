"""Train ``mini``, the wav2vec2 CTC model that ships with ptlab, on speech that we made.

    python data/recipes/train_mini.py SPEECH_FOLDER... --out RUN --minutes 120 --processes 2

The folders are those of ``make_speech.py`` and ``make_espeak.py``, or the corpus's ``data`` (its
train split). New clips in the folders of ``--growing`` are picked up while the run goes on. Each
process uses one thread (two threads in one process gain nothing here) and gradients are averaged.
The schedule runs on the clock: warm-up, constant, then a linear fall over the last third, so that a
busy machine gives a shorter training, not an unfinished one.
A run writes ``checkpoint.pt`` every few minutes and goes on from it when started again. Where the
fall begins it also writes ``before_fall.pt``: as the ``checkpoint.pt`` of a new folder it lets a
longer run go on at full rate, while weights that have fallen lose half an hour to a new rise.
The loss is CTC plus a frame-wise phone cross-entropy on an inner layer, which gets the model over
the plateau of blanks; its head is thrown away. Weights that ship are an exponential average.
With ``--spliced`` a share of the examples are sentences of ``--texts``, said by words of clips.
With ``--teacher`` a model learns from a larger one as well, frame by frame: what it gives every
character, where it hears all of the clip (``prune_neurons.py`` makes such a smaller model).
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from fast_wav2vec2 import FastForward, mixed_precision
from sentences import lines_of
from speech import NO_PHONE, PHONES, batches, frames_of, read_corpus, read_folder
from splice import Splicer
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from ptlab import decode, error_rates, load_corpus, normalize, normalize_text
from ptlab._finetune.optimizer import orthogonal
from ptlab.text import VOCABULARY

INNER_LAYER = 5  # of 8, where the phone loss is applied
FALL = 0.35  # share of the time in which the learning rate falls
MALLOC_M_TRIM_THRESHOLD, MALLOC_M_MMAP_MAX = -1, -4


def new_model() -> Wav2Vec2ForCTC:
    """The architecture of ``mini``: XLSR-53's, small, with cheap early convolutions."""
    config = Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=256,
        num_hidden_layers=8,
        num_attention_heads=4,
        intermediate_size=1024,
        conv_dim=(32, 64, 96, 128, 192, 256, 256),
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=64,
        num_conv_pos_embedding_groups=16,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
    )
    return Wav2Vec2ForCTC(config)


class Muon:
    """Momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024), for matrices and kernels.

    The processes share the matrices out among themselves, then exchange the updates.
    """

    def __init__(self, weights: list[Tensor], momentum: float = 0.95, decay: float = 0.02):
        self.weights, self.momentum, self.decay = weights, momentum, decay
        self.buffers = [torch.zeros_like(w) for w in weights]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        updates = [torch.zeros_like(w) for w in self.weights]
        alone = not dist.is_initialized()
        processes, rank = (1, 0) if alone else (dist.get_world_size(), dist.get_rank())
        for i, (weight, buffer) in enumerate(zip(self.weights, self.buffers, strict=True)):
            buffer.lerp_(weight.grad, 1 - self.momentum)
            if i % processes == rank:
                nesterov = weight.grad.lerp(buffer, self.momentum).flatten(1)
                updates[i] = orthogonal(nesterov) * (0.2 * max(nesterov.shape) ** 0.5)
        flat = torch.cat([u.flatten() for u in updates])
        if not alone:
            dist.all_reduce(flat)
        parts = flat.split([u.numel() for u in updates])
        for weight, part in zip(self.weights, parts, strict=True):
            weight.mul_(1 - lr * self.decay).add_(part.view_as(weight), alpha=-lr)


def split_parameters(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The matrices of the Transformer's layers, for `Muon`, and all else that learns."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and "encoder.layers" in name]
    chosen = {id(p) for p in matrices}
    return matrices, [p for _, p in named if id(p) not in chosen]


def full_share(step: int, steps: int, rise: float, fall: float) -> float:
    """Of the full learning rate: rises over a share of the run, falls over its last share.

    Examples
    --------
    >>> [full_share(step, 8, 0.25, 0.5) for step in (0, 1, 4, 6, 7)]
    [0.5, 1.0, 1.0, 0.5, 0.25]
    """
    return min(1.0, (step + 1) / max(1, rise * steps), (1 - step / steps) / fall)


def collate(examples: list) -> tuple[Tensor, Tensor, list, Tensor]:
    """Pad to whole half seconds: waveforms, frames of each, labels, phone classes (-100: pad)."""
    longest = max(len(e.waveform) for e in examples)
    longest = -(-longest // 8000) * 8000
    waves = torch.zeros(len(examples), longest)
    phones = torch.full((len(examples), frames_of(longest)), NO_PHONE)
    for i, e in enumerate(examples):
        waves[i, : len(e.waveform)] = torch.from_numpy(e.waveform)
        phones[i, : len(e.frame_phones)] = torch.from_numpy(e.frame_phones)
    lengths = torch.tensor([len(e.frame_phones) for e in examples])
    return waves, lengths, [e.labels for e in examples], phones


def time_mask(lengths: Tensor, frames: int, rng: np.random.Generator, share: float) -> Tensor:
    """SpecAugment over time: spans of 4 to 12 frames (80 to 240 ms), about ``share`` of a clip."""
    mask = torch.zeros(len(lengths), frames, dtype=torch.bool)
    for i, length in enumerate(lengths.tolist()):
        for _ in range(rng.poisson(share * length / 8)):
            start = int(rng.integers(0, length))
            mask[i, start : start + int(rng.integers(4, 13))] = True
    return mask


def warped(length: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Where in a clip of so many frames each frame of another pace is read: (frames,).

    The whole clip is up to ``exp(strength)`` times faster or slower, and so is every half second
    against the rest of it; the pitch stays.
    """
    frames = max(2, round(length * np.exp(rng.uniform(-strength, strength))))
    knots = np.exp(rng.uniform(-strength, strength, 2 + frames // 25))
    pace = np.interp(np.arange(frames - 1), np.linspace(0, frames - 1, len(knots)), knots)
    gone = np.concatenate([[0.0], np.cumsum(pace)])
    return gone * ((length - 1) / gone[-1])


def at_another_pace(
    batch: tuple, rng: np.random.Generator, strength: float
) -> tuple[tuple, Tensor]:
    """A batch of `collate` at other paces, and the places to read features at (batch, frames)."""
    waves, lengths, labels, phones = batch
    paces = [warped(length, rng, strength) for length in lengths.tolist()]
    lengths = torch.tensor([len(pace) for pace in paces])
    places = torch.zeros(len(paces), int(lengths.max()))
    for row, pace in zip(places, paces, strict=True):
        row[: len(pace)] = torch.from_numpy(pace)
    phones = phones.gather(1, places.round().long())
    phones[torch.arange(phones.shape[1]) >= lengths[:, None]] = NO_PHONE
    return (waves, lengths, labels, phones), places


def losses(
    forward,
    phone_head: nn.Module,
    batch: tuple,
    mask: Tensor,
    teacher: FastForward | None = None,
    places: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """CTC loss and phone cross-entropy, then disagreement of views and with the teacher.

    Per character, cross-entropy per frame. ``mask`` may have rows for several views of the batch.
    Views of one clip shall agree: consistency regularization (Yao et al. 2024, arXiv 2410.05101).
    """
    waves, lengths, labels, phones = batch
    views = len(mask) // len(lengths)
    lengths, phones, labels = lengths.repeat(views), phones.repeat(views, 1), labels * views
    with mixed_precision():
        logits, inner = forward(waves, lengths, mask, places)
        guesses = phone_head(inner)
    counts = torch.tensor([len(x) for x in labels])
    targets = torch.tensor([i for x in labels for i in x])
    log_probs = logits.float().log_softmax(-1)
    by_time = log_probs.transpose(0, 1)
    ctc = F.ctc_loss(by_time, targets, lengths, counts, reduction="sum", zero_infinity=True)
    known = phones != NO_PHONE
    cross = F.cross_entropy(guesses[known].float(), phones[known], reduction="sum")
    cross = cross / max(1, int(known.sum()))
    apart = taught = torch.zeros(())
    if views > 1:
        apart = disagreement(log_probs, log_probs.roll(len(waves), 0).detach(), lengths)
    if teacher is not None:
        with torch.no_grad(), mixed_precision():
            heard, _ = teacher(waves, lengths[: len(waves)], None, places)
        targets = heard.float().log_softmax(-1).repeat(views, 1, 1)
        taught = disagreement(log_probs, targets, lengths)
    return ctc / counts.sum(), cross, apart / counts.sum(), taught / counts.sum()


def disagreement(log_probs: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """KL divergence from fixed log-probs to others, summed over valid frames."""
    valid = torch.arange(log_probs.shape[1]) < lengths[:, None]
    apart = F.kl_div(log_probs, targets, reduction="none", log_target=True).sum(-1)
    return apart[valid].sum()


class Schedule:
    """Learning rate, phone weight, longest clip and augmentation by the share of time gone."""

    def __init__(
        self, minutes: float, gone_s: float, curriculum: bool, strength: float, phones: float
    ):
        self.total_s, self.start, self.phones = minutes * 60, time.time() - gone_s, phones
        self.curriculum, self.strength = curriculum, strength

    @property
    def gone(self) -> float:
        return (time.time() - self.start) / self.total_s

    @property
    def falling(self) -> bool:
        return self.gone > 1 - FALL

    def lr(self, step: int) -> float:
        return min(1.0, (step + 1) / 150) * min(1.0, max(0.0, 1 - self.gone) / FALL)

    def phone_weight(self) -> float:
        return max(self.phones, 1 - self.gone) if self.curriculum else self.phones

    def limits(self) -> tuple[float, float]:
        """Longest example in seconds and strength of augmentation."""
        if not self.curriculum:
            return 14.0, self.strength
        strength = self.strength * float(np.clip(self.gone * 8, 0.2, 1.0))
        return min(14.0, 3.0 + 100 * self.gone), strength


def average_gradients(parameters: list[Tensor]) -> None:
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(part.view_as(p))


def texts_of(model: Wav2Vec2ForCTC, waves: Iterable[np.ndarray]) -> list[str]:
    """Greedy text of each waveform."""
    with torch.inference_mode():
        logits = (model(torch.from_numpy(normalize(wave))[None]).logits[0] for wave in waves)
        return [decode(matrix.numpy()) for matrix in logits]


def evaluate(model: Wav2Vec2ForCTC, rows: list[tuple[np.ndarray, str]]) -> dict[str, float]:
    """Greedy WER and CER of (waveform, text) rows."""
    references = [text for _, text in rows]
    hypotheses = texts_of(model, (wave for wave, _ in rows))
    print("   ", references[-1], "|", hypotheses[-1], flush=True)
    rates = error_rates(references, hypotheses)
    return {"wer": rates.wer, "cer": rates.cer}


def held_out(data: Path | None, clips: list, count: int = 40) -> list[tuple[np.ndarray, str]]:
    """Some of the corpus's dev split; before it exists, some clips taken out of training."""
    if data is not None and (data / "metadata.csv").exists():
        rows = clips_of(data, "dev", count)
    else:
        taken = [clips.pop() for _ in range(count)]
        rows = [(c.samples.astype(np.float32) / 32768, c.text) for c in taken]
    return [(wave, normalize_text(text, spell=False)) for wave, text in rows]


def clips_of(data: Path, split: str, count: int) -> list[tuple[np.ndarray, str]]:
    """Waveforms and texts of at least so many clips of the corpus, from all of a split."""
    corpus = load_corpus(split, data)
    chosen = range(0, len(corpus), max(1, len(corpus) // count))
    return [(corpus.audio(i).waveform, corpus.row(i)["text"]) for i in chosen]


def train(rank: int, args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    keep_memory()
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(args.port))
    dist.init_process_group("gloo", rank=rank, world_size=args.processes)
    torch.manual_seed(args.seed)
    model = Wav2Vec2ForCTC.from_pretrained(args.init) if args.init else new_model()
    phone_head = nn.Linear(model.config.hidden_size, len(PHONES) + 1)
    both = nn.ModuleList([model, phone_head]).float().train()
    average = copy.deepcopy(model).eval()
    state = resume(args.out, both, average)
    for layer in model.wav2vec2.feature_extractor.conv_layers[: args.frozen_convolutions]:
        layer.requires_grad_(False)
    matrices, others = split_parameters(both)
    everything = matrices + others
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.01)
    if state.get("muon"):
        muon.buffers = state["muon"]
        adam.load_state_dict(state["adam"])
    clips, more = read_speech(args.speech), read_speech(args.more)
    refresh(clips, args)
    dev = held_out(args.dev, clips)
    if rank == 0:
        hours = sum(len(c.samples) for c in clips + more) / 16000 / 3600
        size = sum(p.numel() for p in model.parameters()) / 1e6
        print(
            f"{len(clips)} + {len(more)} clips, {hours:.2f} h, {size:.2f} M parameters", flush=True
        )
    rng = np.random.default_rng(args.seed * 1000 + rank + state.get("step", 0))
    schedule = Schedule(
        args.minutes, state.get("gone_s", 0.0), not args.init, args.strength, args.phone_weight
    )
    inner = round(INNER_LAYER / 8 * model.config.num_hidden_layers)
    forward = FastForward(model, inner, args.dropout)
    teacher = None
    if args.teacher:
        whole = Wav2Vec2ForCTC.from_pretrained(args.teacher, dtype=torch.float32)
        teacher = FastForward(whole.eval(), INNER_LAYER)
    step, audio_s = state.get("step", 0), state.get("audio_s", 0.0)
    window, saved, running = time.time(), time.time(), []
    checkpoint, full_rate_kept = args.out / "checkpoint.pt", schedule.falling

    texts = [line for path in args.texts for line in lines_of(path)]
    splicer = Splicer(texts)

    def draw():
        if texts and rng.random() < args.spliced:
            clip = splicer.say(clips, rng)
            if clip is not None:
                return clip
        pool = more if rng.random() < (args.more_share if more else 0) else clips
        return pool[rng.integers(len(pool))]

    for examples in batches(draw, rng, args.batch_s, schedule.limits, args.joined):
        done = torch.tensor(float(schedule.gone >= 1))
        dist.all_reduce(done)
        if done.item():
            break
        batch, places = collate(examples), None
        if args.time_warp:
            batch, places = at_another_pace(batch, rng, args.time_warp)
        share = args.time_mask * schedule.limits()[1]
        mask = time_mask(batch[1].repeat(args.views), batch[3].shape[1], rng, share)
        ctc, cross, apart, taught = losses(forward, phone_head, batch, mask, teacher, places)
        for p in everything:
            p.grad = None
        regular = args.consistency * apart + args.teacher_weight * taught
        (ctc + schedule.phone_weight() * cross + regular).backward()
        for p in everything:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        average_gradients(everything)
        nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(args.muon_lr * schedule.lr(step))
        for group in adam.param_groups:
            group["lr"] = args.adam_lr * schedule.lr(step)
        adam.step()
        step, audio_s = step + 1, audio_s + batch[0].numel() / 16000 * args.processes
        with torch.no_grad():
            weight = 1 - min(0.998, (step + 1) / (step + 20))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)
        running.append((ctc.item(), cross.item(), apart.item(), taught.item()))
        if rank == 0 and step % 50 == 0:
            now = time.time()
            c, x, a, t = np.mean(running[-50:], axis=0)
            print(
                f"{schedule.gone:.3f} step {step} {audio_s / 3600:.2f} h ctc {c:.3f} phone {x:.3f} "
                f"apart {a:.3f} taught {t:.3f} "
                f"{(now - window) / 50:.2f} s/step lr {schedule.lr(step):.2f}",
                flush=True,
            )
            window = now
        if rank == 0 and schedule.falling and not full_rate_kept:
            full_rate_kept = True
            keep = args.out / "before_fall.pt"
            save(keep, both, average, muon, adam, step, 0.0, audio_s)
        if time.time() - saved > args.save_every and rank == 0:
            saved = time.time()
            gone_s = schedule.gone * schedule.total_s
            save(checkpoint, both, average, muon, adam, step, gone_s, audio_s)
            report(args.out, average, dev, step, audio_s)
            window = time.time()
        if step % 400 == 0:
            refresh(clips, args)
    if rank == 0:
        save(checkpoint, both, average, muon, adam, step, schedule.total_s, audio_s)
        report(args.out, average, dev, step, audio_s)
    dist.destroy_process_group()


def keep_memory() -> None:
    """Tell glibc to keep freed blocks: page faults cost a third of a step otherwise."""
    libc = ctypes.CDLL(None)
    libc.mallopt(MALLOC_M_MMAP_MAX, 0)
    libc.mallopt(MALLOC_M_TRIM_THRESHOLD, 2**31 - 1)


def refresh(clips: list, args: argparse.Namespace) -> None:
    """Read folders again that are still being filled."""
    for folder in args.growing:
        fresh = read_folder(folder, skip=args.seen.get(folder, 0))
        args.seen[folder] = args.seen.get(folder, 0) + len(fresh)
        clips.extend(fresh)


def read_speech(folders: list[Path]) -> list:
    """Clips of folders of ``make_speech.py``, or of the corpus's train split.

    A folder that is named twice is decoded once; its clips are then drawn twice as often.
    """
    found = {
        f: (read_corpus if (f / "metadata.csv").exists() else read_folder)(f) for f in set(folders)
    }
    return [clip for f in folders for clip in found[f]]


def save(path: Path, both, average, muon, adam, step: int, gone_s: float, audio_s: float) -> None:
    state = {
        "both": both.state_dict(),
        "average": average.state_dict(),
        "muon": muon.buffers,
        "adam": adam.state_dict(),
        "step": step,
        "gone_s": gone_s,
        "audio_s": audio_s,
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def report(out: Path, average: nn.Module, dev: list, step: int, audio_s: float) -> None:
    """Write the averaged weights, and how they do on the dev clips."""
    average.save_pretrained(out / "model")
    scores = evaluate(average, dev)
    line = {"step": step, "audio_h": round(audio_s / 3600, 2), **scores}
    with open(out / "log.jsonl", "a", encoding="utf-8") as f:
        f.write(json.dumps(line) + "\n")
    print(line, flush=True)


def resume(out: Path, both: nn.Module, average: nn.Module) -> dict:
    if not (out / "checkpoint.pt").exists():
        return {}
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    both.load_state_dict(state["both"])
    average.load_state_dict(state["average"])
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", nargs="+", type=Path, help="named twice: drawn twice as often")
    parser.add_argument("--more", nargs="*", type=Path, default=[], help="folders used less often")
    parser.add_argument("--more-share", type=float, default=0.2, help="of the examples")
    parser.add_argument("--joined", type=float, default=0.0, help="share: clips in a row, cut")
    parser.add_argument("--texts", nargs="*", type=Path, default=[], help="for --spliced, by line")
    parser.add_argument("--spliced", type=float, default=0.0, help="share: said by words of clips")
    parser.add_argument("--growing", nargs="*", type=Path, default=[], help="still being filled")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", help="a model folder to go on from (no curriculum then)")
    parser.add_argument("--dev", type=Path, help="the corpus folder, for its dev split")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-s", type=float, default=28, help="audio a step and process")
    parser.add_argument("--muon-lr", type=float, default=2.5e-3)
    parser.add_argument("--adam-lr", type=float, default=1.5e-3)
    parser.add_argument("--strength", type=float, default=0.5, help="of the augmentation, 0 to 1")
    parser.add_argument("--time-mask", type=float, default=0.12, help="share of frames hidden")
    parser.add_argument("--time-warp", type=float, default=0.0, help="log of the change of pace")
    parser.add_argument("--views", type=int, default=1, help="of every clip, behind other masks")
    parser.add_argument("--consistency", type=float, default=0.2, help="weight of disagreement")
    parser.add_argument("--teacher", type=Path, help="the folder of a larger model")
    parser.add_argument("--teacher-weight", type=float, default=1.0, help="beside CTC's")
    parser.add_argument("--phone-weight", type=float, default=0.4, help="of their cross-entropy")
    parser.add_argument("--dropout", type=float, default=0.0, help="of whole channels")
    parser.add_argument("--frozen-convolutions", type=int, default=0, help="first layers kept")
    parser.add_argument("--save-every", type=float, default=480)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=29511)
    args = parser.parse_args()
    if args.spliced and not args.texts:
        parser.error("--spliced says sentences of --texts: name a file of them.")
    args.seen = {}  # clips that were read of each growing folder
    args.out.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(train, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
