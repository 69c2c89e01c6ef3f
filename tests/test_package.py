"""The package as a whole: quick to import, complete, documented, layered; one set of pins."""

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import ptlab

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ptlab"

# Rooms from bottom to top: a room imports only from rows above its own.
ORDER = (
    ("errors",),
    (
        "figures",
        "finetune_settings",
        "install_missing",
        "machine",
        "onnx_weights",
        "resampling",
        "stop_signals",
    ),
    (
        "samples",
        "decoders",
        "numerals",
        "lattice",
        "minibatches",
        "audio_queue",
        "half_precision",
        "int4",
        "int8_weights",
        "graph_sessions",
    ),
    ("audio", "text", "collate", "training_history", "roads"),
    (
        "speech_model",
        "devices",
        "calibration",
        "edits",
        "sound_stream",
        "finetune_augment",
        "finetune_weights",
        "training_progress",
        "stream_audio",
        "endpointing",
    ),
    ("onnx_model", "hidden_states"),
    ("onnx_graph", "graph_layers"),
    ("models", "data", "metrics", "pooling", "embedding_windows"),
    ("probe_folds", "probe_mix", "probe_scores", "near_duplicates", "retrieval"),
    ("probe_fit", "probe_result", "verification"),
    ("runtime_worker",),
    ("runtime_costs",),
    ("ctc", "finetune_data", "finetune_model", "finetune_arguments", "finetune_folder"),
    ("confidence", "transcription", "windows", "finetune_audit", "finetune_trainer", "stream_grid"),
    ("frame_readings",),
    (
        "transcribe",
        "file_result",
        "batch_inputs",
        "finetune_result",
        "stream_events",
        "stream_policies",
    ),
    ("probe_data", "web_runtime"),
    ("journal", "batch_reader", "comparison", "finetune_card", "stream_setup", "stream_text"),
    ("batch_report", "batch_progress", "finetune_save", "hearing", "runtime_quality"),
    ("batch_ledger", "embedding_store", "stream_refinement", "runtimes"),
    ("batch_run", "embedding_run", "speech_stream"),
    ("batch", "streaming", "embeddings", "finetune", "export"),
    (
        "ray_worker",
        "probe_controls",
        "stream_log",
        "captions",
        "live_session",
        "quantize",
        "tensorrt",
        "browser",
    ),
    ("ray_batch", "streaming_metrics", "probes", "probe_leaks", "features", "sensitivity"),
    (
        "fit_size",
        "diagrams",
        "error_plots",
        "batch_plots",
        "transfer_plots",
        "stream_plots",
        "runtime_plots",
        "probe_plots",
    ),
    ("plots", "widgets", "map_widget", "live_widget"),
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms}

# Rooms whose names ptlab does not export itself, and why.
INTERNAL = {
    "audio_queue": "part of batch",
    "batch_inputs": "part of batch",
    "batch_ledger": "part of batch",
    "batch_plots": "part of plots, which exports its names",
    "batch_progress": "part of batch",
    "batch_reader": "part of batch",
    "batch_report": "part of batch, which exports its names",
    "batch_run": "part of batch",
    "calibration": "part of metrics, which exports its names",
    "captions": "part of the command",
    "cli": "the command",
    "decoders": "part of audio",
    "devices": "part of models",
    "diagrams": "part of plots, which exports its names",
    "edits": "part of metrics, which exports its names",
    "embedding_run": "part of embeddings",
    "embedding_store": "part of embeddings",
    "embedding_windows": "part of embeddings",
    "endpointing": "part of streaming, which exports its names",
    "error_plots": "part of plots, which exports its names",
    "figures": "part of plots",
    "file_result": "part of batch, which exports its names",
    "finetune_arguments": "part of finetune",
    "finetune_augment": "part of finetune",
    "finetune_card": "part of finetune",
    "finetune_data": "part of finetune",
    "finetune_folder": "part of finetune",
    "finetune_model": "part of finetune",
    "finetune_result": "part of finetune, which exports its name",
    "finetune_save": "part of finetune",
    "finetune_settings": "part of finetune, which exports its name",
    "finetune_trainer": "part of finetune",
    "finetune_weights": "part of finetune",
    "frame_readings": "part of transcribe",
    "graph_layers": "part of embeddings",
    "graph_sessions": "part of onnx_model",
    "half_precision": "part of quantize",
    "hearing": "part of streaming",
    "hidden_states": "part of embeddings, which exports its main name",
    "install_missing": "what the notebooks' first cell runs where there is no ptlab",
    "int4": "part of quantize",
    "int8_weights": "part of quantize",
    "journal": "part of batch",
    "lattice": "part of ctc, which exports its names",
    "live_session": "part of live_widget",
    "minibatches": "part of batch and models",
    "near_duplicates": "part of probe_leaks, which exports its name",
    "numerals": "part of text, which exports its names",
    "onnx_graph": "part of export and models",
    "onnx_weights": "part of quantize and tensorrt",
    "pooling": "part of embeddings",
    "probe_controls": "part of probes, which exports its main name",
    "probe_fit": "part of probes",
    "probe_folds": "part of probes, which exports join_groups",
    "probe_mix": "part of probes, which exports its name",
    "probe_plots": "part of plots, which exports its names",
    "probe_result": "part of probes, which exports its names",
    "probe_scores": "part of probes",
    "ray_worker": "part of ray_batch, which exports its name",
    "resampling": "part of metrics and probes",
    "roads": "part of models",
    "runtime_costs": "part of runtimes, which exports its names",
    "runtime_plots": "part of plots, which exports its names",
    "runtime_quality": "part of runtimes",
    "runtime_worker": "part of runtimes",
    "samples": "part of audio",
    "sound_stream": "part of batch",
    "speech_model": "part of models, which exports its names",
    "speech_stream": "part of streaming, which exports Stream",
    "stop_signals": "part of batch",
    "stream_audio": "part of streaming",
    "stream_events": "part of streaming, which exports its names",
    "stream_grid": "part of streaming",
    "stream_plots": "part of plots, which exports its names",
    "stream_policies": "part of streaming, which exports its names",
    "stream_refinement": "part of streaming",
    "stream_setup": "part of streaming",
    "stream_text": "part of streaming",
    "training_history": "part of finetune and of plots, which exports plot_training",
    "training_progress": "part of finetune",
    "transfer_plots": "part of plots, which exports its names",
    "web_runtime": "part of browser",
    "windows": "part of transcribe",
}
ROOMS = sorted(p.stem for p in PACKAGE.glob("*.py") if p.stem not in ("__init__", "__main__"))


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_takes_under_200_ms_and_loads_nothing_heavy():
    code = (
        "import sys, time, json; start = time.perf_counter(); import ptlab; "
        "print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))"
    )
    results = [json.loads(run(code)) for _ in range(3)]
    assert min(seconds for seconds, _ in results) < 0.2
    heavy = {"torch", "transformers", "matplotlib", "datasets", "librosa", "pandas", "scipy"}
    assert not heavy & set(results[0][1])


def test_errors_text_and_audio_need_no_torch():
    """What only reads sound or text does not wait for torch: 10 seconds on a slow machine."""
    names = "ptlab.load_audio, ptlab.normalize_text, ptlab.wer, ptlab.load_corpus, ptlab.align"
    code = f"import sys, ptlab; {names}; print('torch' in sys.modules)"
    assert run(code).strip() == "False"


def test_a_picture_needs_neither_torch_nor_transformers():
    code = "import sys, ptlab; ptlab.plot_bars; print({'torch', 'transformers'} & set(sys.modules))"
    assert run(code).strip() == "set()"


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_exported_or_the_room_is_internal(room):
    names = importlib.import_module(f"ptlab.{room}").__all__
    if room in INTERNAL:
        assert room not in ptlab._ROOMS
    else:
        assert sorted(ptlab._ROOMS[room]) == sorted(names)


def test_names_that_are_exported_exist_once():
    names = [name for names in ptlab._ROOMS.values() for name in names]
    assert len(names) == len(set(names))
    assert ptlab.__all__ == sorted(names)
    for name in ptlab.__all__:
        assert getattr(ptlab, name) is not None
        assert name in dir(ptlab)
    assert set(INTERNAL) <= set(ROOMS)  # no reason for a room that is gone


def test_a_name_that_is_not_there_is_told():
    with pytest.raises(AttributeError, match=r"no attribute 'sing'; see ptlab\.__all__"):
        ptlab.sing  # noqa: B018


@pytest.mark.parametrize(
    "first",
    ["ptlab.Transcriber", "importlib.import_module('ptlab.transcribe')", "ptlab.transcribe"],
)
def test_transcribe_is_the_function_whatever_was_imported_before(first):
    """The room has the same name, and Python binds a module to its package on import."""
    code = f"import importlib, ptlab; {first}; print(type(ptlab.transcribe).__name__)"
    assert run(code).strip() == "function"


@pytest.mark.parametrize("name", ptlab.__all__)
def test_every_exported_name_is_documented(name):
    thing = getattr(ptlab, name)
    if not callable(thing):  # a constant: a comment or a docstring of the module speaks of it
        return
    text = inspect.getdoc(thing)
    assert text and len(text.splitlines()[0]) > 15, name
    if inspect.isfunction(thing) and inspect.signature(thing).parameters:
        assert "Parameters\n---" in text or "Examples\n---" in text, name
        parameters = inspect.signature(thing).parameters.values()
        unnamed = [p.name for p in parameters if p.annotation is p.empty]
        documented = "Parameters\n---" in text
        assert not unnamed or (documented and all(f"\n{p}\n" in text for p in unnamed)), unnamed
        assert inspect.signature(thing).return_annotation is not inspect.Signature.empty


def imported_rooms(tree):
    """Rooms of ptlab that a module imports, at its top or inside functions."""
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        )
        if isinstance(node, ast.ImportFrom):
            if node.level or node.module == "ptlab":
                yield from (name for name in names if name in HEIGHT)
                continue
            names = [node.module]
        yield from (n.split(".")[1] for n in names if n and n.startswith("ptlab."))


@pytest.mark.parametrize("room", [*ROOMS, "__main__"])
def test_imports_point_down(room):
    assert room in HEIGHT, f"Say in ORDER where the room {room!r} belongs."
    tree = ast.parse((PACKAGE / f"{room}.py").read_text("utf-8"))
    for below in imported_rooms(tree):
        assert HEIGHT[below] < HEIGHT[room], f"{room} imports {below}"


def test_the_reader_of_imports_finds_every_form():
    code = """
import ptlab.audio
from ptlab import ctc, __version__
from ptlab.data import load_corpus
from . import text
def f():
    from ptlab.models import load_model
    import numpy, os.path
"""
    assert sorted(imported_rooms(ast.parse(code))) == ["audio", "ctc", "data", "models", "text"]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = [line for line in lines if line and not line.startswith("#")]
    return {name.lower(): version for name, version in (line.split("==") for line in found)}


def pip_arguments_of(target):
    """What the Makefile's rule for a target gives to ``pip install``, without ``--quiet``."""
    rules = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", rules, re.M).group(1)
    line = re.search(r"pip install (.*--editable.*)", recipe).group(1)
    return [a for a in shlex.split(line) if a != "--quiet"]


def test_conda_installs_what_make_test_installs():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    *conda, last = environment["dependencies"]
    arguments = [a for line in last["pip"] for a in shlex.split(line)]
    assert arguments == pip_arguments_of(".venv/test")
    assert {Requirement(c.replace("=", "==", 1)).name for c in conda} == {"python", "pip"}
    version = next(c.split("=")[1] for c in conda if c.startswith("python="))
    assert Requirement(f"x{project()['requires-python']}").specifier.contains(version)


def test_both_set_ups_use_the_constraints():
    for target in (".venv/course", ".venv/test"):
        arguments = pip_arguments_of(target)
        assert arguments[arguments.index("--constraint") + 1] == "constraints.txt"


def test_every_requirement_has_a_tested_version_that_satisfies_it():
    extras = project()["optional-dependencies"]
    lines = [*project()["dependencies"], *(line for e in extras.values() for line in e)]
    for line in lines:
        requirement = Requirement(line)
        pinned = pins().get(requirement.name.lower())
        assert pinned, f"{requirement.name} has no version in constraints.txt"
        assert requirement.specifier.contains(pinned), line


def test_requirements_are_floors_only():
    """An upper bound, or ipywidgets above 7.7, would move what Colab has loaded already."""
    floors = {}
    for line in project()["dependencies"]:
        requirement = Requirement(line)
        assert [s.operator for s in requirement.specifier] == [">="], line
        floors[requirement.name] = requirement.specifier
    assert floors["ipywidgets"].contains("7.7.1")  # Colab, August 2026
    assert floors["numpy"].contains("2.1.3")
