"""XLSR-53 at full size: ours beside what others do, and beside what this machine can do at most.

    python tests/benchmarks/bench_full_size.py             an idle machine, 8 minutes on 2 cores,
                                                           12 GB of memory, 4 GB of disk
    python tests/benchmarks/bench_full_size.py --quick     a small network: only whether it works
    python tests/benchmarks/bench_full_size.py --whisper FOLDER ...     models for faster-whisper

The weights are random, which changes no cost but Whisper's, which has its own: it stops when it has
no more to say. Whisper small, of which there was no whole copy, has random weights as well and
writes as many tokens as base does, 3.8 for a second of speech. Every model has a process of its
own, and all take turns on the same clips; the figures are medians of the rounds.

The limit is a bound from below on the seconds: the operations of the network (counted by torch, for
each clip alone), each kind divided by the best rate that any matrix product reaches on this machine
in the numbers which the row multiplies in. For int8 rows those are int8 in the linear layers (in
one row in convolutions too) and the floats beside it in all else. Nothing between the products is
counted, so that 100 % cannot be reached.

HuggingSound does not run on today's packages. Its way is rebuilt from its documentation: a loop
over batches, padded by the processor; times and probabilities, which it looks for in every frame,
are left out, which favours it.

torchao, openvino and faster-whisper are measured if they are installed.

Results go to data/results/full_size.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
from bench_batch import save_xlsr_53
from results import FOLDER, about_here, write_results
from sounds import RATE, tape

RESULTS = FOLDER / "full_size.json"
LENGTHS_S = (2.0, 4.0, 6.0, 10.0)
FLOATS = ("float32", "bfloat16")
SMALL = "whisper small, random weights"
PIPELINE, ALONE = "HF pipeline, file by file", "ours, torch float32"
TOKENS_A_SECOND = 3.8  # Whisper base, on these clips and on 22 of the corpus's test split
WHISPER_SMALL = {  # Radford et al. 2022, table 1
    "d_model": 768, "vocab_size": 51865,
    "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072,
    "decoder_layers": 12, "decoder_attention_heads": 12, "decoder_ffn_dim": 3072,
}  # fmt: skip
SAME_TEXT, FASTEST, OF_LIMIT = 2.5, 5.0, 0.6  # what is asked of ours, see the end of the table


@dataclass(frozen=True)
class Row:
    """Somebody who brings files to text.

    Attributes
    ----------
    name : str
    process : str
        Rows of one process share its model.
    way : str
        One of `WAYS`.
    floats, linear, convolutions : str
        What it multiplies in: in attention, in linear layers, and in convolutions (by default as in
        attention). Empty for Whisper.
    """

    name: str
    process: str
    way: str = "ours"
    floats: str = "float32"
    linear: str = "float32"
    convolutions: str = ""


ROWS = (
    Row(PIPELINE, "torch float32", "pipeline"),
    Row("HuggingSound, batches of 1", "torch float32", "huggingsound 1"),
    Row("HuggingSound, batches of 4", "torch float32", "huggingsound 4"),
    Row(ALONE, "torch float32"),
    Row("ours, ONNX float32", "ONNX float32"),
    Row("ours, OpenVINO float32", "OpenVINO float32"),
    Row("ours, torch bfloat16", "torch bfloat16", floats="bfloat16", linear="bfloat16"),
    Row("ours, OpenVINO bfloat16", "OpenVINO bfloat16", floats="bfloat16", linear="bfloat16"),
    Row("torchao int8 dynamic", "torchao int8", linear="int8"),
    Row("ours, ONNX int8 dynamic", "ONNX int8 dynamic", linear="int8"),
    Row("ours, ONNX int8, convolutions too", "ONNX int8, convolutions", linear="int8",
        convolutions="int8"),
    Row("ours, OpenVINO int8", "OpenVINO int8", linear="int8"),
    Row("ours, OpenVINO int8 and bfloat16", "OpenVINO int8 and bfloat16", "ours", "bfloat16",
        "int8"),
)  # fmt: skip


# --- in the processes of the contenders ----------------------------------------------------------

held: dict[str, Any] = {}  # the model of this process, and the ways that have been made


def prepare(options: dict[str, Any]) -> None:
    """Load the model of this process; what fails is told when it is asked."""
    try:
        held["model"] = _load(**options)
    except Exception as error:  # a row that cannot be measured must not take the others with it
        held["error"] = f"{type(error).__name__}: {error}".splitlines()[0]


def _load(**options: Any) -> Any:
    from ptlab.models import load_model

    if "whisper" in options:
        from faster_whisper import WhisperModel

        threads = int(os.environ["OMP_NUM_THREADS"])
        return WhisperModel(options["whisper"], "cpu", compute_type="int8", cpu_threads=threads)
    torchao = options.pop("torchao", False)
    model = load_model(**options)
    if torchao:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(model.model, Int8DynamicActivationInt8WeightConfig())
    return model


def state() -> str | None:
    """Why this process cannot be measured; None if it can."""
    return held.get("error")


def run(way: str, paths: Sequence[str]) -> tuple[float, list[str]]:
    """Seconds and texts."""
    if way not in held:
        held[way] = WAYS[way](held["model"])
    start = time.perf_counter()
    texts = held[way](paths)
    return time.perf_counter() - start, [" ".join(text.split()) for text in texts]


def letters(paths: Sequence[str]) -> list[list[int]]:
    """The most probable token of every frame, a list a clip."""
    from ptlab.audio import load_audio
    from ptlab.ctc import greedy_path

    log_probs = held["model"].log_probs([load_audio(p).waveform for p in paths], batch_size=1)
    return [greedy_path(matrix).tolist() for matrix in log_probs]


def _ours(model: Any) -> Callable[[Sequence[str]], list[str]]:
    from ptlab.batch import transcribe_files
    from ptlab.transcribe import Transcriber

    transcriber = Transcriber(model)
    return lambda paths: [r.text for r in transcribe_files(paths, transcriber, progress=False)]


def _pipeline(model: Any) -> Callable[[Sequence[str]], list[str]]:
    """As the model's page has it; sounds are read here, for it needs ffmpeg to read a file."""
    from ptlab.audio import load_audio
    from ptlab.transcribe import hf_pipeline

    pipeline = hf_pipeline(model)
    return lambda paths: [pipeline(load_audio(p).waveform.copy())["text"] for p in paths]


def _huggingsound(model: Any, size: int) -> Callable[[Sequence[str]], list[str]]:
    import torch

    from ptlab.audio import load_audio

    def transcribe(paths: Sequence[str]) -> list[str]:
        texts = []
        for i in range(0, len(paths), size):
            waves = [load_audio(p).waveform for p in paths[i : i + size]]
            inputs = model.processor(
                waves, sampling_rate=RATE, return_tensors="pt", padding=True, do_normalize=True
            )
            with torch.no_grad():
                logits = model.model(
                    inputs.input_values, attention_mask=inputs.attention_mask
                ).logits
            texts += model.processor.batch_decode(logits.argmax(-1))
        return texts

    return transcribe


def _whisper(model: Any) -> Callable[[Sequence[str]], list[str]]:
    from ptlab.audio import load_audio

    def transcribe(paths: Sequence[str]) -> list[str]:
        heard = (model.transcribe(load_audio(p).waveform, language="pt")[0] for p in paths)
        return ["".join(segment.text for segment in segments) for segments in heard]

    return transcribe


def _whisper_in_tokens(model: Any) -> Callable[[Sequence[str]], list[str]]:
    """Whisper with random weights, which does not know when to stop: a fixed number of tokens."""
    from faster_whisper.audio import pad_or_trim

    from ptlab.audio import load_audio

    token = model.hf_tokenizer.token_to_id
    prompt = [token(f"<|{t}|>") for t in ("startoftranscript", "pt", "transcribe", "notimestamps")]
    never = [-1, token("<|endoftext|>")]  # those that Whisper never writes, and the last one

    def transcribe(paths: Sequence[str]) -> list[str]:
        texts = []
        for wave in (load_audio(path).waveform for path in paths):
            count = round(TOKENS_A_SECOND * len(wave) / RATE)
            heard = model.encode(pad_or_trim(model.feature_extractor(wave)))
            options = {"beam_size": 5, "max_length": 2 * count, "suppress_tokens": never}
            tokens = model.model.generate(heard, [prompt], **options)[0].sequences_ids[0]
            if len(tokens) != count:
                raise RuntimeError(f"{len(tokens)} tokens were written, not {count}")
            texts.append(model.hf_tokenizer.decode(tokens))
        return texts

    return transcribe


WAYS: dict[str, Callable[[Any], Callable[[Sequence[str]], list[str]]]] = {
    "ours": _ours,
    "pipeline": _pipeline,
    "huggingsound 1": lambda model: _huggingsound(model, 1),
    "huggingsound 4": lambda model: _huggingsound(model, 4),
    "whisper": _whisper,
    "whisper in tokens": _whisper_in_tokens,
}


def best_rates(side: int, seconds: float) -> dict[str, float]:
    """The best rate of a matrix product, in operations a second, for each kind of number."""
    import torch

    from ptlab._speech.cpu_products import cpu_products

    rates: dict[str, float] = {"int8": _rate_in_onnxruntime(side, seconds)}
    for kind, rows in product((*FLOATS, "int8"), (side // 4, side)):
        a, b = (torch.randint(-9, 9, (n, side)).to(getattr(torch, kind)) for n in (rows, side))
        multiply = _int8_product if kind == "int8" else torch.nn.functional.linear
        for library in (nullcontext(), cpu_products()):
            with torch.inference_mode(), library:
                least = _least(lambda f=multiply, x=a, y=b: f(x, y), seconds)
            rates[kind] = max(2 * rows * side * side / least, rates.get(kind, 0.0))
    return rates


def _int8_product(a: Any, b: Any) -> Any:
    import torch

    return torch._int_mm(a, b.t())


def _rate_in_onnxruntime(side: int, seconds: float) -> float:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).integers(-9, 9, (side, side)).astype(np.int8)
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    graph = helper.make_graph(
        [node], "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [side, side])],
        [numpy_helper.from_array(weight, "b")],
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    a = np.ones((side, side), np.uint8)
    return 2 * side**3 / _least(lambda: session.run(None, {"a": a}), seconds)


def _least(work: Callable[[], Any], seconds: float) -> float:
    """The least time that a piece of work takes, of many within some seconds."""
    work()
    end, times = time.perf_counter() + seconds, []
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def operations(folder: Path, samples: Sequence[int]) -> dict[str, float]:
    """Operations of the network for clips of so many samples, of each kind."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModelForCTC

    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):  # shapes alone
        model = AutoModelForCTC.from_config(config, attn_implementation="eager").eval()
        found = {"linear": 0.0, "convolutions": 0.0, "others": 0.0}
        kinds = {"addmm": "linear", "mm": "linear", "linear": "linear",
                 "convolution": "convolutions"}  # fmt: skip
        for count in samples:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model(torch.zeros(1, count))
            for operator, flops in counter.get_flop_counts()["Global"].items():
                found[kinds.get(str(operator).split(".")[-1], "others")] += flops
    return found


# --- the measurement -----------------------------------------------------------------------------


def make_models(folder: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Options of `_load` for every process."""
    from ptlab.export import export_onnx
    from ptlab.machine import this_machine
    from ptlab.quantize import quantize

    weights = save_xlsr_53(folder / "xlsr-53", tiny=given.quick)
    whole = export_onnx(weights, folder / "float32")
    speech = [{"array": tape(2.0, seed), "sampling_rate": RATE} for seed in (11, 12)]
    dynamic = quantize(whole, folder / "dynamic")
    products = quantize(dynamic, folder / "products", "int8_convolutions")
    try:
        quantize(whole, folder / "static", "int8_static", calibration=speech)
    except Exception as error:  # its rows are told to be missing, the others go on
        print(f"no static int8: {error}", flush=True)
    torch_, onnx_ = ({"name_or_path": str(p), "device": "cpu"} for p in (weights, whole.folder))
    vino = {**onnx_, "runtime": "openvino"}
    int8 = {**vino, "name_or_path": str(folder / "static")}
    half = {"dtype": "bfloat16"}
    found = {
        "torch float32": torch_, "ONNX float32": onnx_, "OpenVINO float32": vino,
        "torch bfloat16": torch_ | half, "OpenVINO bfloat16": vino | half,
        "torchao int8": torch_ | {"torchao": True}, "OpenVINO int8": int8,
        "ONNX int8 dynamic": onnx_ | {"name_or_path": str(dynamic.folder)},
        "ONNX int8, convolutions": onnx_ | {"name_or_path": str(products.folder)},
        "OpenVINO int8 and bfloat16": int8 | half,
    }  # fmt: skip
    if not {"avx512_bf16", "amx_bf16"} & set(this_machine().flags):
        found = {name: options for name, options in found.items() if "bfloat16" not in name}
    found |= {f"whisper {Path(p).name}": {"whisper": p} for p in given.whisper}
    if given.whisper:
        made = _in_a_process(whisper_small, folder, Path(given.whisper[0]))
        found[SMALL] = {"whisper": str(made)}
    return found


def whisper_small(folder: Path, other: Path) -> Path:
    """Whisper small with random weights, for faster-whisper, and the tokens of another size."""
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizerFast

    tokens, source, made = (
        other / "tokenizer.json", folder / "whisper-weights", folder / "whisper-small"
    )  # fmt: skip
    WhisperForConditionalGeneration(WhisperConfig(**WHISPER_SMALL)).save_pretrained(source)
    WhisperTokenizerFast(tokenizer_file=str(tokens)).save_pretrained(source)
    TransformersConverter(str(source)).convert(str(made), quantization="int8")
    shutil.copy(tokens, made)
    return made


def make_clips(folder: Path, lengths_s: Sequence[float]) -> list[str]:
    speech, paths = tape(sum(lengths_s), seed=1), []
    for n, length in enumerate(lengths_s):
        paths.append(str(folder / f"{n}.wav"))
        samples, speech = np.split(speech, [round(length * RATE)])
        soundfile.write(paths[-1], samples, RATE)
    return paths


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    models, paths = make_models(folder, given), make_clips(folder, given.lengths)
    rows = [r for r in ROWS if r.process in models]
    rows += [
        Row(f"faster-{p}, int8", p, "whisper in tokens" if p == SMALL else "whisper", "", "")
        for p in models if "whisper" in p
    ]  # fmt: skip
    rates = _in_a_process(best_rates, 256 if given.quick else 2048, 0.2 if given.quick else 2.0)
    samples = [round(s * RATE) for s in given.lengths]
    counts = _in_a_process(operations, folder / "xlsr-53", samples)
    print("best rates:", ", ".join(f"{k} {r / 1e9:.0f} GFLOP/s" for k, r in rates.items()))
    print(
        f"operations: {sum(counts.values()) / 1e9:.0f} G for {sum(given.lengths):g} s", flush=True
    )
    pools = {name: _process(prepare, options) for name, options in models.items()}
    try:
        seconds, texts, missing = _take_turns(pools, rows, paths, given.rounds)
        tokens = {
            r.name: pools[r.process].submit(letters, paths).result()
            for r in rows if r.way == "ours" and r.name not in missing
        }  # fmt: skip
    finally:
        for pool in pools.values():
            pool.shutdown()
    audio_s = sum(given.lengths)
    table = [
        _figures(r, seconds[r.name], audio_s, rates, counts)
        | _likeness(r, texts, tokens)
        | {"gain": median(seconds[PIPELINE]) / median(seconds[r.name])}
        for r in rows if r.name not in missing
    ]  # fmt: skip
    return {"rows": table, "missing": missing, "rates": rates, "operations": counts,
            "audio_s": audio_s, "lengths_s": given.lengths, "rounds": given.rounds}  # fmt: skip


def _process(start: Callable[..., None] | None = None, *arguments: Any) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=start, initargs=arguments
    )


def _in_a_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with _process() as pool:
        return pool.submit(work, *arguments).result()


def _take_turns(
    pools: dict[str, ProcessPoolExecutor], rows: Sequence[Row], paths: list[str], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[str]], dict[str, str]]:
    """Seconds and texts of every row, and why some cannot be measured."""
    missing, texts = {}, {}
    for row in rows:  # loading, and a first run that does not count
        error = pools[row.process].submit(state).result()
        try:
            if error is None:
                texts[row.name] = pools[row.process].submit(run, row.way, paths).result()[1]
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}".splitlines()[0]
        if error is not None:
            missing[row.name] = error
    left = [r for r in rows if r.name not in missing]
    seconds: dict[str, list[float]] = {r.name: [] for r in left}
    for turn in range(rounds):
        for row in left[turn % len(left) :] + left[: turn % len(left)]:
            taken, _ = pools[row.process].submit(run, row.way, paths).result()
            seconds[row.name].append(taken)
    return seconds, texts, missing


def _figures(
    row: Row, taken: list[float], audio_s: float, rates: dict[str, float],
    counts: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    found = {"name": row.name, "seconds": taken, "rtf": median(taken) / audio_s, "of_limit": None}
    if row.floats:
        kinds = {"linear": row.linear, "convolutions": row.convolutions or row.floats,
                 "others": row.floats}  # fmt: skip
        least = sum(counts[part] / rates[kind] for part, kind in kinds.items())
        found["of_limit"] = least / median(taken)
    return found


def _likeness(
    row: Row, texts: dict[str, list[str]], tokens: dict[str, list[list[int]]]
) -> dict[str, Any]:
    """How many texts are not those of our float32, and the share of frames that agree with it."""
    found: dict[str, Any] = {"differ": None, "agreement": None}
    if "whisper" not in row.way:
        found["differ"] = sum(a != b for a, b in zip(texts[ALONE], texts[row.name], strict=True))
    if row.name in tokens:
        one, other = (np.concatenate(tokens[n]) for n in (ALONE, row.name))
        found["agreement"] = float((one == other).mean())
    return found


def report(found: dict[str, Any]) -> str:
    """A table, and whether the bars are met."""
    lines = [f"{'':43}{'RTF':>7}{'(min, max)':>18}{'x pipeline':>11}{'of limit':>9}"
             f"{'texts differ':>13}{'frames agree':>13}"]  # fmt: skip
    for row in found["rows"]:
        least, most = (f(row["seconds"]) / found["audio_s"] for f in (min, max))
        limit, differ, agree = (
            "" if row[key] is None else form.format(row[key])
            for key, form in (("of_limit", "{:.0%}"), ("differ", "{}"), ("agreement", "{:.1%}"))
        )
        lines.append(
            f"{row['name']:43}{row['rtf']:7.3f}{f'({least:.3f}, {most:.3f})':>18}"
            f"{row['gain']:11.2f}{limit:>9}{differ:>13}{agree:>13}"
        )
    lines += [f"{name}: not measured. {why}" for name, why in found["missing"].items()]
    ours = [r for r in found["rows"] if r["agreement"] is not None]
    exact = [r for r in ours if "float32" in r["name"] and r["differ"] == 0]
    bars = (
        ("same texts as float32", max(r["gain"] for r in exact), SAME_TEXT, "times the pipeline"),
        ("fastest of all", max(r["gain"] for r in ours), FASTEST, "times the pipeline"),
        ("float32", max(r["of_limit"] for r in exact), OF_LIMIT, "of the machine's limit"),
    )
    for what, value, bar, unit in bars:
        met = "met" if value >= bar else "NOT met"
        lines.append(f"{what}: {value:.2f} {unit}; at least {bar:g} was asked for: {met}")
    return "\n".join(lines)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", nargs="+", type=float, default=list(LENGTHS_S))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whisper", nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="only whether it works; keeps nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    from ptlab.machine import this_machine

    given = options()
    if given.quick:
        given.lengths, given.rounds = [1.0, 0.5], 1
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(given.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(f"beware: the load is {load:.1f}, and speeds are worth nothing then")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given)
    found |= about_here() | {"threads": given.threads, "load_before": load}
    print(f"{report(found)}\n{this_machine()}, {given.threads} threads; {given.rounds} rounds, "
          f"{time.perf_counter() - start:.0f} s in all")  # fmt: skip
    if not given.quick:
        write_results(given.out, found)


if __name__ == "__main__":
    main()
