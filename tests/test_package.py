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
        "_plots.figures",
        "_finetune.settings",
        "install_missing",
        "machine",
        "_speech.agreement",
        "_export.graph_walk",
        "_export.onnx_weights",
        "_metrics.resampling",
        "_batch.stop_signals",
    ),
    (
        "_speech.samples",
        "_speech.decoders",
        "_speech.numerals",
        "_speech.lattice",
        "_speech.cpu_products",
        "minibatches",
        "_batch.audio_queue",
        "_export.half_precision",
        "_export.int8_weights",
        "_export.graph_sessions",
    ),
    (
        "audio",
        "text",
        "collate",
        "_export.int4",
        "_export.int8_convolutions",
        "_finetune.history",
        "_speech.roads",
    ),
    (
        "_speech.speech_model",
        "_speech.devices",
        "_metrics.calibration",
        "_metrics.edits",
        "_speech.sound_stream",
        "_finetune.augment",
        "_finetune.weights",
        "_finetune.progress",
        "_stream.audio",
        "_stream.endpointing",
    ),
    ("onnx_model", "_embed.hidden_states"),
    ("_export.onnx_graph", "_embed.graph_layers"),
    ("models", "data", "metrics", "_embed.pooling", "_embed.embedding_windows"),
    ("_probe.folds", "_probe.mix", "_probe.scores", "_probe.near_duplicates", "retrieval"),
    ("_probe.fit", "_probe.result", "verification"),
    ("_export.runtime_worker",),
    ("_export.runtime_costs",),
    (
        "ctc",
        "_finetune.data",
        "_finetune.model",
        "_finetune.arguments",
        "_finetune.folder",
        "_finetune.optimizer",
    ),
    (
        "confidence",
        "transcription",
        "_speech.windows",
        "finetune_audit",
        "_finetune.trainer",
        "_stream.grid",
    ),
    ("_speech.frame_readings",),
    (
        "transcribe",
        "_batch.file_result",
        "_batch.inputs",
        "_finetune.result",
        "_stream.events",
        "_stream.policies",
    ),
    ("probe_data", "_export.web_runtime"),
    (
        "_batch.journal",
        "_batch.reader",
        "comparison",
        "_finetune.card",
        "_stream.setup",
        "_stream.text",
    ),
    (
        "_batch.report",
        "_batch.progress",
        "_finetune.save",
        "_stream.hearing",
        "_export.runtime_quality",
    ),
    ("_batch.ledger", "_embed.store", "_stream.refinement", "runtimes"),
    ("_batch.run", "_embed.run", "_stream.speech_stream"),
    ("batch", "streaming", "embeddings", "finetune", "export"),
    (
        "_batch.ray_worker",
        "_probe.controls",
        "stream_log",
        "captions",
        "_stream.live_session",
        "quantize",
        "tensorrt",
        "browser",
    ),
    ("ray_batch", "streaming_metrics", "probes", "probe_leaks", "features", "sensitivity"),
    (
        "fit_size",
        "_plots.diagrams",
        "_plots.errors",
        "_plots.batch",
        "_plots.transfer",
        "_plots.streams",
        "_plots.runtimes",
        "_plots.probes",
    ),
    ("plots", "widgets", "map_widget", "live_widget"),
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms}

# Rooms whose names ptlab does not export, besides those in its folders, which are parts of others.
INTERNAL = {
    "cli": "the command",
    "install_missing": "what the notebooks' first cell runs where there is no ptlab",
}
ROOMS = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem not in ("__init__", "__main__")
)


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
    if room in INTERNAL or room.startswith("_"):
        assert names and room not in ptlab._ROOMS
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
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (n.removeprefix("ptlab.") for n in found if n.removeprefix("ptlab.") in HEIGHT)


@pytest.mark.parametrize("room", [*ROOMS, "__main__"])
def test_imports_point_down(room):
    assert room in HEIGHT, f"Say in ORDER where the room {room!r} belongs."
    tree = ast.parse((PACKAGE / f"{room.replace('.', '/')}.py").read_text("utf-8"))
    for below in imported_rooms(tree):
        assert HEIGHT[below] < HEIGHT[room], f"{room} imports {below}"


def test_the_reader_of_imports_finds_every_form():
    code = """
import ptlab.audio
from ptlab import ctc, __version__
from ptlab.data import load_corpus
from ptlab._stream import grid
def f():
    from ptlab._speech.lattice import forward
    import numpy, os.path
"""
    found = sorted(imported_rooms(ast.parse(code)))
    assert found == ["_speech.lattice", "_stream.grid", "audio", "ctc", "data"]


def test_there_are_no_relative_imports():
    """The test above would not see them."""
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        assert not [n.lineno for n in nodes if isinstance(n, ast.ImportFrom) and n.level], path


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
