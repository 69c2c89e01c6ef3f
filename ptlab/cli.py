"""The command ``ptlab`` (also ``python -m ptlab``): a thin door to the package.

Exit codes: 0 all done; 1 something failed, told on standard error (other files are still done);
2 wrong usage; 3 some files of a batch are not ok; 130 interrupted; 141 whoever read the output has
gone.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ptlab import __version__
from ptlab.errors import DataError, PtlabError

if TYPE_CHECKING:
    from ptlab.models import ModelSpec
    from ptlab.transcription import Transcription

__all__ = ["main"]

FORMATS = ("text", "json", "srt", "vtt")
SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
REPORTED = (
    "torch", "transformers", "datasets", "safetensors", "numpy", "scipy", "pandas", "soundfile",
    "soxr", "librosa", "jiwer", "matplotlib", "onnxruntime", "ipywidgets", "anywidget",
    "jupyterlab",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Raises
    ------
    SystemExit
        With code 2 for wrong usage, 0 for ``--help`` and ``--version``; from argparse.

    Examples
    --------
    >>> main(["models"])  # doctest: +ELLIPSIS
    * mini ...
    0
    """
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what the terminal lacks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        code = arguments.run(arguments)
        sys.stdout.flush()  # here, so that a reader that has gone is noticed here
        return code
    except PtlabError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ptlab", description="Portuguese speech recognition.")
    parser.add_argument("--version", action="version", version=f"ptlab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("transcribe", help="write down what is said in sound files")
    add.add_argument("files", nargs="+", metavar="FILE", help="a sound file; - is standard input")
    _add_model(add)
    add.add_argument("--format", "-f", choices=FORMATS, default="text", help="default: text")
    add.add_argument(
        "--output", "-o", metavar="DIR", type=Path,
        help="write a file for each FILE into this folder, not to standard output",
    )  # fmt: skip
    add.set_defaults(run=_transcribe, parser=add)
    _add_batch(commands)
    _add_stream(commands)
    _add_export(commands)
    _add_browser(commands)
    commands.add_parser("models", help="list the models known by name").set_defaults(run=_models)
    info = commands.add_parser("info", help="versions, device, model and data: for a bug report")
    info.set_defaults(run=_info)
    return parser


def _add_batch(commands: Any) -> None:
    add = commands.add_parser("batch", help="transcribe many files, some of them broken perhaps")
    add.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="a folder, a glob, a csv with paths, or files"
    )
    add.add_argument(
        "--out", "-o", required=True, type=Path, metavar="FILE",
        help="the report: a row a file in a .csv, or with words and times in a .jsonl",
    )  # fmt: skip
    add.add_argument("--journal", type=Path, metavar="FILE", help="go on from here if interrupted")
    add.add_argument("--srt-dir", type=Path, metavar="DIR", help="write subtitles into this folder")
    add.add_argument("--jobs", type=int, metavar="N", help="threads that read files")
    _add_model(add)
    add.set_defaults(run=_batch, parser=add)


def _add_stream(commands: Any) -> None:
    add = commands.add_parser("stream", help="captions while it is spoken, or as if it were")
    add.add_argument(
        "source", metavar="FILE",
        help="a sound file; - is raw 16-bit mono PCM from standard input, as ffmpeg or arecord "
        "write it",
    )  # fmt: skip
    add.add_argument("--rate", type=int, default=16_000, help="of raw PCM, in Hz (default: 16000)")
    for name, default, about in (
        ("chunk", 0.5, "heard between two steps"),
        ("left", 3.0, "heard again before the chunk"),
        ("right", 0.5, "heard before words are settled"),
    ):
        add.add_argument(
            f"--{name}", type=float, default=default, metavar="S",
            help=f"seconds {about} (default: {default:g})",
        )  # fmt: skip
    _add_model(add)
    add.set_defaults(run=_stream)


def _add_export(commands: Any) -> None:
    add = commands.add_parser("export", help="write a model as ONNX, which runs without torch")
    add.add_argument("model", metavar="MODEL", help="name, folder or Hub id")
    add.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
    add.add_argument("--int8", action="store_true", help="in 8 bits: smaller, faster")
    add.add_argument("--overwrite", action="store_true", help="replace an exported model there")
    add.set_defaults(run=_export)


def _add_browser(commands: Any) -> None:
    add = commands.add_parser("browser", help="serve a page that transcribes in the browser")
    add.add_argument("model", metavar="MODEL", help="the folder of an exported model")
    add.add_argument("--port", type=int, default=0, help="default: any that is free")
    add.add_argument(
        "--runtime", metavar="PATH",
        help="onnxruntime-web, a folder or what npm pack writes (default: fetched by npm once)",
    )  # fmt: skip
    add.set_defaults(run=_browser)


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", "-m", help="name, folder or Hub id (default: $PTLAB_MODEL or mini)"
    )
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    command.add_argument(
        "--runtime", choices=["torch", "onnxruntime", "openvino", "auto"],
        help="what runs the model; auto is the fastest that this machine has",
    )  # fmt: skip


def _model(arguments: argparse.Namespace) -> Any:
    """The model that is meant; of ``--runtime auto`` standard error says which and why."""
    if arguments.runtime is None:
        return arguments.model
    from ptlab.models import load_model

    model = load_model(arguments.model, device=arguments.device, runtime=arguments.runtime)
    if model.road is not None:
        print(f"ptlab: {model.name} by {model.road}", file=sys.stderr)
    return model


def _batch(arguments: argparse.Namespace) -> int:
    _check_places(arguments)
    from ptlab.batch import transcribe_files

    inputs = arguments.inputs if len(arguments.inputs) > 1 else arguments.inputs[0]
    try:
        report = transcribe_files(
            inputs, _model(arguments), journal=arguments.journal, jobs=arguments.jobs,
            device=arguments.device, progress=sys.stderr.isatty(),
        )  # fmt: skip
    except PtlabError as error:  # of the inputs, the journal, the model or an option
        arguments.parser.error(str(error))
    write = report.to_jsonl if arguments.out.suffix == ".jsonl" else report.to_csv
    write(arguments.out)
    if arguments.srt_dir is not None:
        report.write_subtitles(arguments.srt_dir)
    print(report, flush=True)
    if report.interrupted:
        return 130
    return 3 if report.counts.keys() - {"ok"} else 0


def _check_places(arguments: argparse.Namespace) -> None:
    """Find out before a long run, and not after it, whether its results can be written."""
    if arguments.out.suffix not in (".csv", ".jsonl"):  # it may be a sound by mistake
        arguments.parser.error(f"--out {arguments.out}: give the name of a .csv or a .jsonl")
    try:
        arguments.out.open("a").close()
        if arguments.srt_dir is not None:
            arguments.srt_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        arguments.parser.error(f"{error.filename} cannot be written: {error.strerror}")


def _stream(arguments: argparse.Namespace) -> int:
    from ptlab._speech.sound_stream import SoundStream
    from ptlab.captions import pcm_packets, show_captions
    from ptlab.streaming import BufferedCTC, StreamingRecognizer

    policy = BufferedCTC(arguments.chunk, arguments.left, arguments.right)
    live = arguments.source == "-"
    options: dict[str, Any] = {} if live else {"clock": None}  # a file cannot be late
    recognizer = StreamingRecognizer(_model(arguments), policy, device=arguments.device, **options)
    if live:
        events = recognizer.stream(pcm_packets(sys.stdin.buffer, arguments.rate), arguments.rate)
    else:
        sound = SoundStream(arguments.source)
        events = recognizer.stream(sound, sound.sampling_rate)
    show_captions(events, sys.stdout)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from ptlab.export import export_onnx
    from ptlab.quantize import quantize

    model, out, overwrite = arguments.model, arguments.out, arguments.overwrite
    if not arguments.int8:
        print(export_onnx(model, out, overwrite=overwrite))
        return 0
    with TemporaryDirectory() as folder:
        whole = export_onnx(model, Path(folder, "float32"))
        products = quantize(whole, Path(folder, "products"))
        print(quantize(products, out, "int8_convolutions", overwrite=overwrite))
    return 0


def _browser(arguments: argparse.Namespace) -> int:
    from ptlab.browser import browser_demo

    with browser_demo(arguments.model, runtime=arguments.runtime, port=arguments.port) as page:
        print(page.url, flush=True)
        page.wait()
    return 0


def _transcribe(arguments: argparse.Namespace) -> int:
    _check_usage(arguments)
    from ptlab.transcribe import Transcriber

    transcriber = Transcriber(_model(arguments), device=arguments.device)
    failed = 0
    for file in arguments.files:
        try:
            source = sys.stdin.buffer.read() if file == "-" else file
            _write(transcriber.transcribe(source), file, arguments)
        except BrokenPipeError:
            raise
        except (PtlabError, OSError) as error:
            failed = _complain(f"{file}: {error}")
    return failed


def _check_usage(arguments: argparse.Namespace) -> None:
    """Refuse what would mix up or overwrite results."""
    if arguments.output is None:
        if len(arguments.files) > 1 and arguments.format in ("srt", "vtt"):
            arguments.parser.error("subtitles of several files need --output DIR, a file for each")
        return
    targets = [_target(file, arguments) for file in arguments.files]
    twice = next((t for t in targets if targets.count(t) > 1), None)
    if twice is not None:
        arguments.parser.error(f"two files would be written to {twice}; run them one by one")


def _target(file: str, arguments: argparse.Namespace) -> Path:
    name = "stdin" if file == "-" else Path(file).stem
    return arguments.output / (name + SUFFIXES[arguments.format])


def _write(result: Transcription, file: str, arguments: argparse.Namespace) -> None:
    if arguments.output is None:
        several = len(arguments.files) > 1 and arguments.format == "text"
        head = f"{file}: " if several else ""
        print(head + _render(result, file, arguments.format, None), flush=True)
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    target = _target(file, arguments)
    target.write_text(_render(result, file, arguments.format, 2) + "\n", encoding="utf-8")
    print(target, flush=True)


def _render(result: Transcription, file: str, form: str, indent: int | None) -> str:
    """On standard output JSON is one line a file (JSON Lines); in a file it is indented."""
    if form == "json":
        import json

        return json.dumps({"file": file, **result.to_dict()}, ensure_ascii=False, indent=indent)
    if form == "text":
        return result.text
    return (result.to_srt() if form == "srt" else result.to_vtt()).removesuffix("\n")


def _models(_: argparse.Namespace) -> int:
    from ptlab.models import default_model, list_models

    specs = list_models()
    for spec in specs:
        mark = "*" if spec.name == default_model() else " "
        print(f"{mark} {spec.name:12} {spec.parameters:>6}  {spec.licence}  {spec.description}")
        print(f"  {'':12} {'':>6}  {_weights(spec)}")
    if default_model() not in {spec.name for spec in specs}:
        print(f"* {default_model()}  (from PTLAB_MODEL)")
    return 0


def _info(_: argparse.Namespace) -> int:
    for name, value in _facts():
        print(f"{name + ':':14} {value}", flush=True)
    return 0


def _facts() -> Iterator[tuple[str, Any]]:
    yield "ptlab", __version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "platform", platform.platform()
    yield "cores", os.cpu_count()
    yield "device", _device()
    yield "model", _default_weights()
    yield "data", _data()
    yield "ffmpeg", shutil.which("ffmpeg") or "not found (needed for M4A, WebM and video only)"
    for package in REPORTED:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"


def _device() -> str:
    from ptlab._speech.devices import find_device

    try:
        return find_device("auto")
    except (ImportError, OSError) as error:  # a broken installation is what a report is about
        return f"unknown: torch cannot be imported ({error})"


def _default_weights() -> str:
    try:
        from ptlab.models import MODELS, default_model
    except ImportError as error:
        return f"unknown: {error}"
    name = default_model()
    where = _weights(MODELS[name]) if name in MODELS else "a folder or Hub id, from PTLAB_MODEL"
    return f"{name} ({where})"


def _weights(spec: ModelSpec) -> str:
    """Where a model's weights are, without loading them."""
    if spec.revision is None:
        found = any(Path(spec.source).glob("*.safetensors"))
        return "weights found" if found else "weights MISSING: install ptlab again"
    return f"{spec.source} on the Hugging Face Hub, fetched on first use"


def _data() -> str:
    from ptlab.data import data_dir

    try:
        return str(data_dir())
    except DataError as error:
        return f"none: {error}"


def _complain(message: str) -> int:
    print(f"ptlab: {message}", file=sys.stderr, flush=True)
    return 1


def _drop_output() -> None:
    """Let the last flush at exit go nowhere, or Python would complain about the broken pipe."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a descriptor, as in a notebook
        return
