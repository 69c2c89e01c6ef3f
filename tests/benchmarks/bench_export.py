"""What exported models cost, and how well they write: the figures that notebook 06 shows.

    python tests/benchmarks/bench_export.py                 an idle machine, 20 minutes on 2 cores,
                                                            12 GB of memory
    python tests/benchmarks/bench_export.py --only mini     every test clip, by every form of mini
    python tests/benchmarks/bench_export.py --only full     XLSR-53 at full size, random weights
    python tests/benchmarks/bench_export.py --student FOLDER    mini with fewer neurons, beside mini
    python tests/benchmarks/bench_export.py --quick         a small network: only whether it works

Results go to data/results/export.json, a part at a time. At full size the weights are random, which
changes no cost, so that only costs are measured there: size, loading, memory, speed. The student
is what ``prune_neurons.py`` and ``ship_mini.py`` of data/recipes made.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_batch import save_xlsr_53
from results import FOLDER, about_here, write_results

RESULTS = FOLDER / "export.json"
STUDENT_MARGIN = 0.01  # WER that may be lost for a file of an eighth
SECTIONS = ("mini", "full")


def forms(model: str | Path, folder: Path, *, bfloat16: bool, static: bool) -> dict[str, Any]:
    """A model in all forms that are compared: name -> options of load_model."""
    from ptlab._export.graph_sessions import has_openvino
    from ptlab.data import load_corpus
    from ptlab.export import export_onnx
    from ptlab.fit_size import quantize_to_fit
    from ptlab.quantize import calibration_clips, quantize

    whole = export_onnx(model, folder / "float32")
    few = load_corpus("dev").filter(id=list(calibration_clips(None).frame.id[::8]))
    ways: dict[str, dict[str, Any]] = {
        "float16": {"method": "float16"},
        "int8 dynamic": {"method": "int8_dynamic"},
        "int8 static": {"method": "int8_static", "calibration": few},
        "int8, convolutions too": {"operators": ["MatMul", "Conv"]},
        "int4": {"method": "int4"},
    }
    named: dict[str, Any] = {"torch float32": {"name_or_path": str(model), "dtype": "float32"}}
    if bfloat16:
        named["torch bfloat16"] = {"name_or_path": str(model), "dtype": "bfloat16"}
    named["ONNX float32"] = str(whole.folder)
    vino = {"name_or_path": str(whole.folder), "runtime": "openvino"}
    if has_openvino():
        named["OpenVINO float32"] = vino
        if bfloat16:
            named["OpenVINO bfloat16"] = {**vino, "dtype": "bfloat16"}
    if not static:  # random weights have no ranges to calibrate, and it costs what dynamic does
        del ways["int8 static"]
    for name, options in ways.items():
        print(quantize(whole, folder / name, **options), flush=True)
        named[name] = str(folder / name)
    products = folder / "int8, convolutions as products"
    named[products.name] = str(products)
    print(quantize(folder / "int8 dynamic", products, "int8_convolutions"), flush=True)
    both = quantize(folder / "int4", folder / "int4 and float16", "float16")
    named["int4 and float16"] = str(both.folder)
    if static:  # at full size the search for what suffers least would take an hour
        small = quantize_to_fit(whole, folder / "int8, a quarter")
        print(small, flush=True)
        named["int8, a quarter"] = str(small.folder)
        if has_openvino():
            named["OpenVINO int8 static"] = {**vino, "name_or_path": named["int8 static"]}
    return named


def smaller_forms(student: Path, folder: Path) -> dict[str, Any]:
    """mini and its student, as they are and as small as four bits make them."""
    from ptlab.export import export_onnx
    from ptlab.fit_size import quantize_to_fit
    from ptlab.quantize import OPERATORS, quantize

    whole = export_onnx("mini", folder / "mini")
    fewer = export_onnx(student, folder / "student")
    eighth = whole.size_bytes / 8 / fewer.size_bytes
    made = {
        "mini": whole,
        "mini, a quarter": quantize_to_fit(whole, folder / "quarter", 0.25),
    }
    for name, method in (("nearest", "int4"), ("GPTQ", "int4_gptq")):
        small = quantize(whole, folder / method, method, operators=OPERATORS, block_size=256)
        stored = quantize(small, folder / name, "int8_weights")
        made[f"mini, all in 4 bits, {name}"] = stored
    made |= {
        "student": fewer,
        "student, an eighth of mini": quantize_to_fit(fewer, folder / "eighth", eighth),
    }
    print(*made.values(), sep="\n", flush=True)
    return {name: str(export.folder) for name, export in made.items()}


def measure(section: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Costs of all forms of a model; for mini and its student, what they write as well."""
    from ptlab.data import load_corpus
    from ptlab.machine import this_machine
    from ptlab.models import load_model
    from ptlab.runtimes import MARGIN, compare_runtimes, measure_costs

    bfloat16 = bool({"avx512_bf16", "amx_bf16", "bf16"} & set(this_machine().flags))
    model = given.student or "mini"
    if section == "full":
        model = save_xlsr_53(folder / "xlsr-53", tiny=given.quick)
    models = (
        smaller_forms(model, folder) if section == "student"
        else forms(model, folder, bfloat16=bfloat16, static=section == "mini")
    )  # fmt: skip
    options = {"lengths_s": given.lengths, "threads": given.threads, "rounds": given.rounds}
    found = about_here()
    if section != "full":
        test = load_corpus("test")
        clips = test.filter(id=list(test.frame.id[: 4 if given.quick else None]))
        margin = STUDENT_MARGIN if section == "student" else MARGIN
        compared = compare_runtimes(models, clips, margin=margin, **options)
        costs, found["margin"] = compared.costs, compared.margin
        found["quality"] = compared.quality.reset_index().to_dict("records")
        found["clips"] = len(clips)
    else:
        costs = measure_costs(models, **options)
    print(f"{costs if section == 'full' else compared}\n", flush=True)
    return found | {
        "parameters": load_model(model, device="cpu").num_parameters,
        "models": costs.models.reset_index().to_dict("records"),
        "speeds": costs.speeds.to_dict("records"),
        "rounds": costs.rounds,
    }


def keep(path: Path, section: str, found: dict[str, Any]) -> None:
    """Put a part into the file of results."""
    parts = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    write_results(path, parts | {section: found})


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--student", type=Path, help="a model folder; only it is measured then")
    parser.add_argument("--lengths", nargs="+", type=float, default=[2, 5, 15, 30])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only whether it works; keeps nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    given = options()
    if given.quick:
        given.lengths, given.threads, given.rounds = [0.5], [1], 1
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        print(f"beware: the load is {os.getloadavg()[0]:.1f}, and speeds are worth nothing then")
    for section in ["student"] if given.student else given.only:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(section, Path(folder), given)
        if not given.quick:
            keep(given.out, section, found)
        print(f"{section}: {time.perf_counter() - start:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
