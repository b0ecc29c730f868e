"""The two packages' sources in, broken import rules out; the picture of the rules is the README's.

types, errors, config <- leaf stages <- enhancer <- train, evaluate, bench <- realtime
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.leaf_edges import LEAF_EDGES

CORE, RUNTIME, LONGEST_FILE = "cagface_core", "realtime", 400

GROUND = {"types", "errors", "config"}
COMPOSITION = {"state", "watch", "heatmaps", "enhancer"}
ENTRY_ROOMS = {"train", "evaluate", "bench"}
"""Everything else in cagface_core is a leaf stage: it imports the ground, and by `LEAF_EDGES`."""

COMMAND_LINE = re.compile(r"realtime\.(cli|commands|setup_commands)\b")
"""The only modules that start training, evaluation and the bench."""

BACKEND_LIBRARIES = {"av", "fastapi", "pydantic", "pyvirtualcam", "starlette", "uvicorn"}
BACKENDS = {
    "camera",
    "devices",
    "images",
    "preview",
    "video",
    "video_in",
    "video_out",
    "virtualcam",
}

BARE_MODULES = (
    "attention",
    "bisenet",
    "cagface",
    "checkpoint",
    "consistency",
    "engine",
    "fold",
    "paths",
    "resnet18",
)
"""These and the entry rooms import where there is no detector, video or virtual camera."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import: ``target`` is a dotted module, ``names`` what is taken from it.

    ``late`` ones stand in a function: they make no cycle, the other rules bind them too.
    """

    target: str
    names: tuple[str, ...]
    line: int
    late: bool


Tree = dict[str, list[Import]]


def sources(root: Path) -> dict[str, Path]:
    """Every module of the two packages by dotted name."""
    found: dict[str, Path] = {}
    for package in (CORE, RUNTIME):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def read_imports(root: Path) -> Tree:
    """Every import of every module, those inside functions and TYPE_CHECKING too."""
    modules = sources(root)
    return {name: list(_imports_of(name, path, modules)) for name, path in modules.items()}


def _imports_of(module: str, path: Path, modules: Mapping[str, Path]) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, id(node) in late)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = (base if node.level else []) + ([node.module] if node.module else [])
            target = ".".join(parts)
            names = tuple(alias.name for alias in node.names)
            # `from package import module` is an import of that module.
            submodules = [name for name in names if f"{target}.{name}" in modules]
            for name in submodules:
                yield Import(f"{target}.{name}", (), node.lineno, id(node) in late)
            if rest := tuple(name for name in names if name not in submodules):
                yield Import(target, rest, node.lineno, id(node) in late)


def exported(root: Path) -> set[str]:
    """The names in cagface_core's ``__all__``."""
    tree = ast.parse((root / CORE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return set(ast.literal_eval(node.value))
    return set()


def violations(root: Path) -> list[str]:
    """Every broken rule as one line: where, what, which rule."""
    tree = read_imports(root)
    names = exported(root)
    found: list[str] = []
    for module, imports in tree.items():
        for item in imports:
            if reason := _broken(module, item, names, tree):
                found.append(f"{module}:{item.line} imports {item.target}: {reason}")
    loaded = reached(tree, f"{RUNTIME}.loop")
    found += [f"the loop loads a backend: {name}" for name in loaded if _is_backend(name, tree)]
    return found + [f"import cycle: {' -> '.join(cycle)}" for cycle in cycles(tree)]


def _broken(module: str, item: Import, names: set[str], tree: Tree) -> str:
    top, _, target = item.target.partition(".")
    if top not in (CORE, RUNTIME) and module != f"{RUNTIME}.loop":
        return ""
    if module.split(".")[0] == CORE:
        return _broken_in_core(module, top, target)
    if module == f"{RUNTIME}.loop" and _is_backend(item.target, tree):
        return "the loop sees Protocols, never a backend"
    if top != CORE:
        return ""
    room = target.split(".")[0]
    if room in ENTRY_ROOMS and COMMAND_LINE.match(module):
        return ""
    if target or not item.names:
        return "realtime takes names from cagface_core itself, not from its modules"
    if unknown := set(item.names) - names:
        return f"not in cagface_core.__all__: {', '.join(sorted(unknown))}"
    return ""


def _broken_in_core(module: str, top: str, target: str) -> str:
    here, there = module.partition(".")[2].split(".")[0], target.split(".")[0]
    if top == RUNTIME:
        return "the core knows nothing of the runtime"
    if not here:
        return "" if there not in ENTRY_ROOMS else "only the command line starts these"
    if not there:
        return "inside the core, import from the module that defines it"
    if here in ENTRY_ROOMS or here == there:
        return ""
    if there in ENTRY_ROOMS:
        return "nothing in the core imports train, evaluate or bench"
    if there in GROUND:
        return ""
    if here in GROUND:
        return "types, errors and config import nothing above them"
    if here in COMPOSITION:
        return ""
    if there in COMPOSITION:
        return "a leaf stage does not know the enhancer"
    if (here, there) in LEAF_EDGES:
        return ""
    return "leaf stages do not import each other (LEAF_EDGES names the exceptions)"


def _is_backend(target: str, tree: Tree) -> bool:
    top, _, name = target.partition(".")
    if top != RUNTIME:
        return top in BACKEND_LIBRARIES
    uses = {item.target.split(".")[0] for item in tree.get(target, [])}
    return name in BACKENDS or bool(uses & BACKEND_LIBRARIES)


def _loads(tree: Tree) -> dict[str, list[str]]:
    """What each module loads of the two packages while it is itself imported."""
    return {
        module: sorted(
            {item.target for item in imports if item.target in tree and not item.late} - {module}
        )
        for module, imports in tree.items()
    }


def reached(tree: Tree, start: str) -> set[str]:
    """The runtime's modules that are loaded when ``start`` is imported."""
    graph = _loads(tree)
    todo, found = [start], set[str]()
    while todo:
        module = todo.pop()
        if module not in found and module.startswith(RUNTIME):
            found.add(module)
            todo += graph.get(module, [])
    return found


def cycles(tree: Tree) -> list[list[str]]:
    """Each import cycle once, as the modules from its first back to its first."""
    graph = _loads(tree)
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
        elif module not in done:
            for target in graph[module]:
                visit(target, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return found


def test_the_import_rules_hold(repository):
    assert violations(repository) == []


def test_every_module_is_seen(repository):
    modules = sources(repository)
    assert {f"{CORE}.types", f"{CORE}.errors", RUNTIME} <= set(modules)
    assert any(imports for imports in read_imports(repository).values())


def test_no_exception_is_left_over(repository):
    tree = read_imports(repository)
    edges = {
        (here, item.target.partition(".")[2].split(".")[0])
        for module, imports in tree.items()
        for item in imports
        if (here := module.partition(".")[2].split(".")[0]) and item.target.startswith(CORE)
    }
    modules = {module.partition(".")[2].split(".")[0] for module in tree}
    assert {edge for edge in LEAF_EDGES if set(edge) <= modules} <= edges


def test_files_are_short(repository):
    folders = (CORE, RUNTIME, "tests", "tools", "plugins")
    lengths = {
        str(path.relative_to(repository)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in (repository / folder).rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n >= LONGEST_FILE} == {}


def _bare_modules(root: Path) -> list[str]:
    return [
        module
        for module in sources(root)
        if module.startswith(CORE) and module.count(".")
        if (room := module.split(".")[1]) in BARE_MODULES or room in ENTRY_ROOMS
        if not module.endswith("__main__")
    ]


def test_networks_engine_and_training_need_no_devices(repository):
    lines = [
        "import sys, threading",
        "sys.modules.update(dict.fromkeys(['mediapipe', 'av', 'pyvirtualcam']))",
        *(f"import {module}" for module in _bare_modules(repository)),
        "assert threading.active_count() == 1, threading.enumerate()",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


GOOD = {
    "cagface_core/__init__.py": "from cagface_core.enhancer import run\n__all__ = ['run']\n",
    "cagface_core/types.py": "import numpy\n",
    "cagface_core/crop.py": "from cagface_core.types import Crop\n",
    "cagface_core/cagface.py": "from .types import Crop\n",
    "cagface_core/fold.py": "from cagface_core import cagface\n",
    "cagface_core/enhancer.py": "from cagface_core.crop import cut\n",
    "cagface_core/train/__init__.py": "",
    "cagface_core/train/run.py": "from cagface_core.enhancer import run\n",
    "realtime/__init__.py": "",
    "realtime/video.py": "import av\n",
    "realtime/source.py": "def f():\n    from realtime.video import V\n",
    "realtime/loop.py": "from cagface_core import run\nfrom realtime.source import Source\n",
    "realtime/cli.py": "def f():\n    from cagface_core.train.run import main\n",
}

BAD = {
    "leaf to leaf": ("cagface_core/crop.py", "from cagface_core.fold import f", "each other"),
    "relative": ("cagface_core/crop.py", "from .cagface import Net", "each other"),
    "in a function": ("cagface_core/crop.py", "def f():\n    from . import fold", "each other"),
    "ground to leaf": ("cagface_core/types.py", "import cagface_core.crop", "nothing above"),
    "leaf to enhancer": ("cagface_core/fold.py", "from .enhancer import x", "enhancer"),
    "enhancer to train": ("cagface_core/enhancer.py", "from .train import run", "train"),
    "core to runtime": ("cagface_core/crop.py", "import realtime.loop", "runtime"),
    "core to its front": ("cagface_core/crop.py", "from cagface_core import run", "defines it"),
    "runtime to a module": ("realtime/video.py", "from cagface_core.crop import cut", "itself"),
    "runtime to a package": ("realtime/video.py", "import cagface_core", "itself"),
    "not exported": ("realtime/video.py", "from cagface_core import cut", "__all__: cut"),
    "loop to a backend": ("realtime/loop.py", "from realtime.video import V", "Protocols"),
    "loop to a library": ("realtime/loop.py", "import pyvirtualcam", "Protocols"),
    "loop to training": ("realtime/loop.py", "from cagface_core.train import run", "itself"),
    "loop to a loader": ("realtime/source.py", "import realtime.video", "loop loads a backend"),
    "cycle": ("realtime/source.py", "import realtime.loop", "import cycle: "),
}


def _plant(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_a_good_tree_passes(tmp_path):
    _plant(tmp_path, GOOD)
    assert violations(tmp_path) == []


@pytest.mark.parametrize("case", BAD)
def test_a_bad_tree_is_caught(tmp_path, case):
    path, text, expected = BAD[case]
    _plant(tmp_path, GOOD | {path: text + "\n"})
    assert any(expected in line for line in violations(tmp_path)), violations(tmp_path)
