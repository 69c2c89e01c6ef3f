"""How `make reference` turns docstrings and pages into HTML; every warning is an error."""

import importlib

from sphinx.domains.python import PyObject, PythonDomain

import ptlab

project, release = "ptlab", ptlab.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "ptlab reference"
html_copy_source = False

default_role = "py:obj"  # a name in single backticks is a link
nitpicky = True
nitpick_ignore_regex = [
    ("py:(class|exc)", ".*"),  # types in words: "ndarray (frames, vocab)"
    ("py:obj", r"ray\..*"),  # an extra that need not be installed
]
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_default_options = {
    "members": True,  # of a room: those of its __all__
    "no-value": True,  # of a constant: its docstring says it
}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True


def find_name(app, env, node, shown):
    """Find `ptlab.embed` in its room; a name that stands in no page must at least exist."""
    if node.get("refdomain") != "py":
        return None
    first, *rest = node["reftarget"].removeprefix("ptlab.").split(".")
    room = ptlab._ROOM_OF.get(first)
    if room is not None:
        name = ".".join(["ptlab", room, first, *rest])
        python: PythonDomain = env.domains["py"]
        found = python.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, shown)
        if found is not None:
            return found
    return shown if exists(node["reftarget"], node.get("py:module")) else None


def exists(name, room):
    """Whether a dotted name can be imported, or is one of the room's, of a class's or Python's."""
    for start in (name, f"{room}.{name}", f"builtins.{name}"):
        parts = start.split(".")
        for length in range(len(parts), 0, -1):
            try:
                thing = importlib.import_module(".".join(parts[:length]))
                for part in parts[length:]:
                    thing = getattr(thing, part)
                return True
            except (ImportError, AttributeError):
                continue
    return False


def skip_inherited(app, what, name, thing, skip, options):
    """Leave out what other libraries add to our classes, such as scikit-learn's routing."""
    return skip or getattr(thing, "__module__", None) == "sklearn.utils._metadata_requests"


def setup(app):
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # as our docstrings call them
    app.connect("missing-reference", find_name)
    app.connect("autodoc-skip-member", skip_inherited)
