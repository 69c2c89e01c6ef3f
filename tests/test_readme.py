"""README and the pages of the reference: what they say of commands, names and figures is so."""

import ast
import doctest
import importlib.util
import inspect
import json
import re
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import ptlab
from ptlab.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "notebooks" / "reference").glob("*.md"))
RECIPES = sorted((ROOT / "notebooks" / "recipes").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.M | re.S)


def named(path):
    return path.stem


@pytest.fixture(scope="module")
def renew():
    """The program that writes what the README shows of mini."""
    spec = importlib.util.spec_from_file_location(
        "renew_readme", ROOT / "notebooks" / "reference" / "renew_readme.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_models_card(renew):
    found = doctest.testmod(renew)
    assert found.failed == 0 and found.attempted
    begin, end = renew.MARKS
    shown = README.read_text("utf-8").partition(begin)[2].partition(end)[0].strip()
    metrics = json.loads(renew.METRICS.read_text("utf-8"))
    assert shown == renew.table(metrics), "The weights have changed: run `make readme`."
    card = (renew.METRICS.parent / "README.md").read_text("utf-8")
    wer, low, high = metrics["test"]["wer"]
    assert f"{wer} [{low}, {high}]" in card


def test_the_picture_shows_what_the_model_writes(renew):
    sound, _ = renew.first_native_clip()
    picture = Image.open(renew.PICTURE)
    written = ptlab.transcribe(sound, model="mini").text
    assert picture.info["Description"] == written, "Run `make readme`."
    assert 600 <= picture.width <= 1200
    assert renew.PICTURE.stat().st_size < 200_000


def test_the_readme_is_read_in_two_or_three_minutes():
    prose = BLOCK.sub("", README.read_text("utf-8"))
    prose = "\n".join(line for line in prose.splitlines() if line[:1] not in ("|", "!", "<"))
    assert 300 < len(re.sub(r"\]\(\S*\)", "]", prose).split()) <= 600


def test_the_course_is_listed_with_its_minutes():
    listed = re.findall(r"^\| `(\d\d_\w+)` \| (\d+) \|", README.read_text("utf-8"), re.M)
    assert [name for name, _ in listed] == [path.stem for path in NOTEBOOKS]
    for name, minutes in listed:
        book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        assert f"**Time:** {minutes} minutes" in book.cells[0].source, name


@pytest.mark.parametrize("page", [README, *PAGES], ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def names_and_calls(code):
    """Dotted names of ptlab in a piece of code, and the calls of its functions."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "ptlab":
            yield node.attr, ()
        if isinstance(node, ast.Call) and getattr(getattr(node.func, "value", None), "id", "") == (
            "ptlab"
        ):
            yield node.func.attr, [word.arg for word in node.keywords if word.arg]


@pytest.mark.parametrize("page", [README, *PAGES, *RECIPES], ids=named)
def test_code_uses_what_there_is(page):
    text = page.read_text("utf-8")
    code = (
        text
        if page.suffix == ".py"
        else "".join(c for k, c in BLOCK.findall(text) if k == "python")
    )
    for name, keywords in names_and_calls(code):
        assert name in ptlab.__all__, name
        if keywords:
            parameters = inspect.signature(getattr(ptlab, name)).parameters
            open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            known = {
                *parameters,
                *(ptlab.FinetuneSettings.__dataclass_fields__ if open_ended else ()),
            }
            assert set(keywords) <= known, (name, keywords)
    for name in re.findall(r"`ptlab\.(\w+)", text):
        assert name in ptlab.__all__ or name in ptlab._ROOMS, name


@pytest.mark.parametrize("page", [README, *PAGES], ids=named)
def test_commands_exist(page, capsys):
    text = page.read_text("utf-8")
    rules = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make (\w+)$|`make (\w+)`", text, re.M):
        assert re.search(rf"^{''.join(target)}:", rules, re.M), target
    for command in set(re.findall(r"(?:^|`|\| )ptlab ([a-z]+)\b", text, re.M)):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0
        told = capsys.readouterr().out
        for line in re.findall(rf"ptlab {command}\b([^`\n]*)", text):
            for option in re.findall(r"--[a-z-]+", line):
                assert option in told or option == "--help", (command, option)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named_extras = set(re.findall(r"(?:ptlab|\.)\[(\w+)\]", text))
    assert named_extras <= set(extras["optional-dependencies"])


def test_every_command_is_in_the_reference(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z]+)\b", capsys.readouterr().out, re.M)
    page = (ROOT / "notebooks" / "reference" / "command.md").read_text("utf-8")
    assert re.findall(r"^\| `ptlab ([a-z]+)", page, re.M) == commands


def test_the_first_example_runs(tmp_path, monkeypatch, capsys):
    code = next(code for kind, code in BLOCK.findall(README.read_text("utf-8")) if kind == "python")
    clip = ptlab.load_corpus("test").row(0)["file"]
    shutil.copy(clip, tmp_path / "entrevista.mp3")
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(compile(code, "README.md", "exec"), space)
    assert capsys.readouterr().out.strip() == ptlab.transcribe(clip).text == space["result"].text
    columns = space["result"].to_frame().columns.tolist()
    assert columns == ["text", "start_s", "end_s", "confidence"]


# -- the reference


def test_every_room_has_its_place_in_the_reference():
    shown = [
        room
        for page in PAGES
        for room in re.findall(r"^\.\. automodule:: ptlab\.(\w+)$", page.read_text("utf-8"), re.M)
    ]
    assert sorted(shown) == sorted(ptlab._ROOMS)


def test_every_recipe_is_in_the_reference():
    page = (ROOT / "notebooks" / "reference" / "recipes.md").read_text("utf-8")
    shown = re.findall(r"\{literalinclude\} \.\./recipes/(\w+)\.py", page)
    assert sorted(shown) == [path.stem for path in RECIPES]


@pytest.mark.parametrize("room", sorted(ptlab._ROOMS))
def test_a_room_opens_with_an_example(room):
    """The doctests of the room run it; here, that it stands there, and uses what users use."""
    text = ast.get_docstring(ast.parse((ROOT / "ptlab" / f"{room}.py").read_text("utf-8")))
    _, example, *_ = text.split("\n\n")
    assert example.startswith(">>> ")
    used = {name for name, _ in names_and_calls(doctest.script_from_examples(text))}
    assert used & {*ptlab._ROOMS[room], *ptlab._ROOMS["transcribe"]}
