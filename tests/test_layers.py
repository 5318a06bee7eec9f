"""The house stands: floors, who owns which library, no circles, and what a quick start must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ns_video"

# Floor of each room; a folder's modules share one. See the drawing in README and CONTRIBUTING.
FLOORS = {
    **dict.fromkeys(
        ("errors", "frame", "record", "resources", "prefetch", "journal", "jpeg_tables", "machine", "places"), 0
    ),
    **dict.fromkeys(("declared", "stage", "version"), 0),
    **dict.fromkeys(
        (
            "align",
            "belief",
            "cells",
            "collage",
            "conditioning",
            "constraint",
            "color",
            "tile",
            "networks",
            "quality",
            "preset",
            "cards",
            "upload",
        ),
        1,
    ),
    **dict.fromkeys(("media", "weights", "estimate"), 2),
    **dict.fromkeys(("device", "enhance", "score", "recommend", "flow"), 3),
    **dict.fromkeys(("pipeline", "report", "training", "bench"), 4),
    "cli": 5,
    **dict.fromkeys(("__init__", "__main__"), 6),
}
# Rooms of one floor that may see each other (one way): a stage runs on a device, a run writes its report, neighbours
# are measured by the blocks that frames are. On floor 0, plain values may use each other.
NEIGHBOURS = {("enhance", "device"), ("pipeline", "report"), ("align", "belief")}
NEIGHBOURS |= {(room, "upload") for room in ("conditioning", "constraint", "color")}

OWNERS = {
    "av": {"media"},
    "PIL": {"media"},
    "cv2": {"media"},
    "click": {"cli"},
    "tqdm": {"cli"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "safetensors": {"weights"},
    "spandrel": {"weights"},
    "torchvision": {"networks"},
    "torch.utils.tensorboard": {"training"},
}


def module_name(path: Path) -> str:
    """`media.probe` of ns_video/media/probe.py; a package's own name of its __init__."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Dotted names that a file imports; without `lazy` only those that run when the module is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                module = child.module or ""
                found.update(f"{module}.{alias.name}" for alias in child.names)
            elif not lazy and (
                isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
                or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            ):
                continue
            walk(child)

    walk(tree)
    return found


def own_targets(path: Path, *, lazy: bool = True) -> set[str]:
    """Modules of the package that a file imports."""
    out: set[str] = set()
    for name in imports(path, lazy=lazy):
        if name != "ns_video" and not name.startswith("ns_video."):
            continue
        rest = name.removeprefix("ns_video").lstrip(".")
        while rest and rest not in MODULES:
            rest = rest.rpartition(".")[0]
        out.add(rest or "__init__")
    return out


def room(module: str) -> str:
    """The folder, or the module itself."""
    return module.partition(".")[0]


def test_every_module_has_a_floor() -> None:
    assert {room(m) for m in MODULES} == set(FLOORS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    mine = FLOORS[room(module)]
    for target in own_targets(MODULES[module]):
        if room(target) == room(module) or target == "version":
            continue
        below = FLOORS[room(target)] < mine or (mine == 0 and FLOORS[room(target)] == 0)
        assert below or (room(module), room(target)) in NEIGHBOURS, f"{module} (floor {mine}) imports {target}"


def test_each_library_has_one_owner() -> None:
    seen: set[str] = set()
    for module, path in MODULES.items():
        for name in imports(path):
            owned = {library for library in OWNERS if f"{name}.".startswith(f"{library}.")}
            assert all(room(module) in OWNERS[library] for library in owned), f"{module} imports {name}"
            seen |= owned
    assert seen == set(OWNERS)


def test_the_ground_floor_stands_on_the_standard_library_and_numpy() -> None:
    for module, path in MODULES.items():
        if FLOORS[room(module)] == 0:
            foreign = {n.partition(".")[0] for n in imports(path)} - set(sys.stdlib_module_names)
            assert foreign <= {"numpy", "ns_video", "__future__"}, f"{module} imports {foreign}"


def test_only_the_command_line_prints() -> None:
    for module, path in MODULES.items():
        if room(module) == "cli":
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], f"{module} prints"


def test_modules_load_without_circles() -> None:
    graph = {m: own_targets(p, lazy=False) - {m, "__init__"} for m, p in MODULES.items() if m != "__init__"}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done:
            return
        for target in graph.get(module, set()):
            visit(target, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())
    assert len(done) > 40


HEAVY = ("torch", "av", "cv2", "PIL", "numpy", "torchvision", "spandrel", "jinja2")


@pytest.mark.parametrize(
    "statement",
    [
        "import ns_video",
        "import ns_video; ns_video.__version__, ns_video.RunRecord, dir(ns_video)",
        "from ns_video.cli import run; run(['--help'])",
        "from ns_video.cli import run; run(['restore', '--help'])",
        "from ns_video.cli import run; run(['--version'])",
    ],
)
def test_a_quick_start_imports_nothing_heavy(statement: str, environment: dict[str, str]) -> None:
    code = f"import sys; {statement}; print('\\nHEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"
