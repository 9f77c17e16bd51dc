"""What is built and installed is the tree, all of it, under the name accomp and no other."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ("core", "plugins", "zarr_store", "specs")
FACE = "accomp"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LISTS = [ROOT / "requirements" / name for name in ("torch.txt", "run.txt", "dev.txt", "docs.txt")]


def house_files() -> set[str]:
    """Every file that belongs to the installed packages, relative to the project folder, slashes between."""
    found = (path for folder in (*HOUSE, FACE) for path in (ROOT / folder).rglob("*") if path.is_file())
    kept = (path for path in found if "__pycache__" not in path.parts and not path.name.startswith("."))
    return {path.relative_to(ROOT).as_posix() for path in kept}


def test_the_packages_listed_are_the_folders_of_the_tree():
    folders = {Path(name).parent.as_posix() for name in house_files() if name.endswith(".py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {installed(folder).replace("/", ".") for folder in folders}


def installed(name: str) -> str:
    """Where a file of the tree lies once it is installed: the face's own folder is the package."""
    return name if name.partition("/")[0] == FACE else f"accomp/{name}"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, made from a copy of the tree, and the wheel, made from the sdist: what a release goes through."""
    work = tmp_path_factory.mktemp("build")
    source = work / "source"
    for folder in (*HOUSE, FACE):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "registry.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(work / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (sdist,) = (work / "dist").glob("*.tar.gz")
    (wheel,) = (work / "dist").glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_the_tree_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == set(map(installed, house_files()))


def test_the_registry_is_a_link_here_and_a_file_once_installed(built):
    assert (ROOT / FACE / "registry.toml").is_symlink()
    with zipfile.ZipFile(built[1]) as wheel:
        assert wheel.read("accomp/registry.toml") == (ROOT / "registry.toml").read_bytes()
        assert "accomp/py.typed" in wheel.namelist()


def test_nothing_else_lands_in_site_packages(built):
    with zipfile.ZipFile(built[1]) as wheel:
        top = {name.partition("/")[0] for name in wheel.namelist()}
    assert top == {"accomp", f"accomp-{PROJECT['project']['version']}.dist-info"}


def test_the_source_archive_holds_the_tree(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert house_files() | {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_every_registered_target_exists():
    """By reading the source, so that no optional library is needed."""
    kinds = tomllib.loads((ROOT / "registry.toml").read_text())
    assert kinds
    del kinds["retired"]
    missing = []
    for kind, rows in kinds.items():
        for name, row in rows.items():
            module, _, attribute = row["target"].partition(":")
            path = ROOT.joinpath(*module.split(".")[1:])
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if not file.is_file() or attribute not in defined_names(file):
                missing.append(f"{kind}.{name}: {row['target']}")
    assert not missing


def defined_names(file: Path) -> set[str]:
    body = ast.parse(file.read_text()).body
    defined = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    imported = {alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assigned = {
        name.id for node in body if isinstance(node, ast.Assign) for name in node.targets if isinstance(name, ast.Name)
    }
    return defined | imported | assigned


def test_every_registered_extra_exists():
    kinds = tomllib.loads((ROOT / "registry.toml").read_text())
    extras = {row.get("extra", "") for rows in kinds.values() for row in rows.values()}
    assert extras <= {"", *PROJECT["project"]["optional-dependencies"]}


def pins() -> dict[str, Version]:
    """Distribution -> its pinned version, of all lists. Each is pinned once, to exactly one version."""
    found: dict[str, Version] = {}
    for path in LISTS:
        for line in path.read_text().splitlines():
            if text := line.partition("#")[0].strip():
                requirement = Requirement(text)
                (only,) = requirement.specifier
                assert only.operator == "==", f"{path.name}: {text}"
                name = canonicalize_name(requirement.name)
                assert name not in found, f"{path.name}: {text} is pinned twice"
                found[name] = Version(only.version)
    return found


UNPINNED = {"live", "wandb", "cloud"}
"""Extras that `make setup` does not bring."""


def test_the_pinned_lists_fit_what_pyproject_asks_for():
    pinned = pins()
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(line for name, lines in extras.items() if name not in UNPINNED for line in lines),
    ]
    for requirement in map(Requirement, wanted):
        if requirement.name != "accomp":
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), str(requirement)


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "requirements" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_set_up_is_repeated_when_what_it_reads_changes_and_only_then(install, tmp_path, monkeypatch):
    for name in ("torch.txt", "run.txt", "dev.txt"):
        shutil.copy(ROOT / "requirements" / name, tmp_path)
    monkeypatch.setattr(install, "HERE", tmp_path)
    lists = (tmp_path / "run.txt", tmp_path / "dev.txt")
    first = install.fingerprint("cpu", lists)
    assert install.fingerprint("cpu", lists) == first
    assert len({first, install.fingerprint("cuda", lists), install.fingerprint("cpu", lists[:1])}) == 3
    with (tmp_path / "run.txt").open("a") as file:
        file.write("one-more==1.0\n")
    assert install.fingerprint("cpu", lists) != first


def test_torchaudio_loses_its_extension_beside_a_cpu_torch_only(install, tmp_path, monkeypatch):
    library = tmp_path / "torchaudio" / "lib"
    library.mkdir(parents=True)
    (library / "_torchaudio.abi3.so").write_bytes(b"")
    (library / "__init__.py").write_text("")
    record = tmp_path / "torchaudio-2.11.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: torchaudio\nVersion: 2.11.0\n")
    (record / "RECORD").write_text("torchaudio/lib/_torchaudio.abi3.so,,\ntorchaudio/lib/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)

    def torch_of(build: str):
        return lambda *arguments, **more: subprocess.CompletedProcess(arguments, 0, stdout=f"{build}\n")

    monkeypatch.setattr(install.subprocess, "run", torch_of("13.0"))
    assert install.remove_unloadable_torchaudio_extension() == []
    monkeypatch.setattr(install.subprocess, "run", torch_of(""))
    assert install.remove_unloadable_torchaudio_extension() == [library / "_torchaudio.abi3.so"]
    assert install.remove_unloadable_torchaudio_extension() == []
    assert [path.name for path in library.iterdir()] == ["__init__.py"]
