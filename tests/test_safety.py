"""Nothing here runs code that came with data, and nothing asks for a network by itself."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parents[1]
MODULES = [*(ROOT / "ptlab").rglob("*.py"), *(ROOT / "data" / "recipes").glob("*.py")]
NOTEBOOKS = list((ROOT / "notebooks").rglob("*.ipynb"))

# Modules that run code while they read, and the names of them that do not.
UNPICKLERS = {"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
HARMLESS = {
    "pickle.UnpicklingError",  # to tell a damaged file
    "joblib.Parallel",  # between processes of one run; no file is read
    "joblib.delayed",
}
READERS = {"read_pickle", "to_pickle", "unsafe_load", "full_load"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
MUST_BE_FALSE = {"trust_remote_code", "allow_pickle"}


def dangers(source: str) -> Iterator[str]:
    """What in a piece of code could run code out of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{a.name}" for a in node.names}
            if node.module.split(".")[0] in UNPICKLERS and names - HARMLESS:
                yield f"imports {', '.join(sorted(names - HARMLESS))}"
        elif isinstance(node, ast.Import):
            yield from (
                f"imports {a.name} by another name"
                for a in node.names
                if a.asname and a.name.split(".")[0] in UNPICKLERS
            )
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name.split(".")[0] in UNPICKLERS and name not in HARMLESS:
                yield f"uses {name}"
            if node.attr in READERS:
                yield f"uses {name}"
        elif isinstance(node, ast.Call):
            yield from _of_call(node)
        elif isinstance(node, ast.Dict):
            yield from _options([
                (k.value, v) for k, v in zip(node.keys, node.values, strict=True)
                if isinstance(k, ast.Constant)
            ])  # fmt: skip


def _of_call(node: ast.Call) -> Iterator[str]:
    function = ast.unparse(node.func)
    if function in BUILT_IN:
        yield f"calls {function}"
    options = {k.arg: k.value for k in node.keywords}
    yield from _options(list(options.items()))
    if function.endswith("torch.load") and not _is(options.get("weights_only"), True):
        yield "calls torch.load without weights_only=True"


def _options(options: list[tuple[object, ast.expr]]) -> Iterator[str]:
    for name, value in options:
        if name in MUST_BE_FALSE and not _is(value, False):
            yield f"sets {name}"
        if name == "weights_only" and not _is(value, True):
            yield "sets weights_only"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def code_of(path: Path) -> str:
    """Code of a module, or of all cells of a notebook, as plain Python."""
    if path.suffix == ".py":
        return path.read_text("utf-8")
    plain = TransformerManager()
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(plain.transform_cell(c.source) for c in cells if c.cell_type == "code")


@pytest.mark.parametrize("path", [*MODULES, *NOTEBOOKS], ids=lambda p: p.stem)
def test_no_file_that_is_read_can_run_code(path: Path) -> None:
    assert list(dangers(code_of(path))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(file)",
        "import pickle as p",
        "from pickle import loads",
        "import joblib\njoblib.load('a')",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "numpy.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "frame.to_pickle(path)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "where = {'trust_remote_code': trusted}",
        "eval(text)",
        "exec(compile(downloaded, 'x', 'exec'))",
    ],
)
def test_code_that_could_is_found(source: str) -> None:
    assert list(dangers(source))


def test_what_only_looks_like_it_is_left_alone() -> None:
    source = """
import pickle
from joblib import Parallel, delayed
broken = (OSError, pickle.UnpicklingError)
network.eval()
re.compile("a")
torch.load(path, weights_only=True)
np.load(path, mmap_mode="r", allow_pickle=False)
where = {"trust_remote_code": False}
"""
    assert list(dangers(source)) == []


OFFLINE = """
import socket
def closed(*arguments, **options):
    raise SystemExit(f"asked for a network: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = closed
socket.create_connection = closed
"""


def test_import_and_first_text_ask_for_no_network() -> None:
    """All of ptlab is imported, and a clip is transcribed, by a Python without sockets."""
    code = (
        f"{OFFLINE}\nimport ptlab\nfor name in ptlab.__all__: getattr(ptlab, name)\n"
        "print(len(ptlab.transcribe(ptlab.load_corpus('dev').audio(0)).text) > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "True", done.stderr


ADDRESS = ("192.0.2.1", 80)  # of nobody: RFC 5737


def test_a_test_that_asks_for_the_network_is_told(asked_outside: list[str]) -> None:
    with pytest.raises(OSError, match="Tests have no network"):
        socket.create_connection(ADDRESS, timeout=1)
    with socket.socket() as one, pytest.raises(OSError, match=r"192\.0\.2\.1 was asked for"):
        one.connect_ex(ADDRESS)
    with pytest.raises(OSError, match=r"example\.org was asked for"):
        socket.getaddrinfo("example.org", 443)
    assert asked_outside == ["192.0.2.1", "192.0.2.1", "example.org"]  # else this test would fail
    asked_outside.clear()


def test_this_machine_is_closed_too(asked_outside: list[str]) -> None:
    with pytest.raises(OSError, match="Tests have no network"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    asked_outside.clear()


@pytest.mark.localhost
def test_a_marked_test_may_ask_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
            peer, (asked_by, _) = server.accept()
            peer.close()
            assert asked_by == "127.0.0.1"
