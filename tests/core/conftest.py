"""Fixtures of the core's tests."""

import os
import sys

import pytest
import torch

if not torch.cuda.is_available():  # Triton reads it when it is imported: kernels run in Python then, on the CPU
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with an entry point in the group "accomp" on the path, as pip would.

    install(name, source) writes its module too; install(name, module=...) points to one that is already importable.
    """
    folder = tmp_path / "site"
    folder.mkdir()

    def add(name, source=None, module=None):
        module = module or name.replace("-", "_")
        if source is not None:
            (folder / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[accomp]\n{module} = {module}\n")
        monkeypatch.syspath_prepend(folder)  # also forgets what was cached about the folder
        return folder

    return add


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The tiny experiment, trained: not to be changed, `copy` it."""
    import tiny

    return tiny.trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def generated(trained, tmp_path_factory):
    """The tiny experiment with its takes: not to be changed, `copy` it."""
    from accomp.core.generation.generate import generate

    made = trained.copy(tmp_path_factory.mktemp("generated") / "run")
    generate(made.spec(), made.registry, made.run)
    return made


@pytest.fixture(scope="session")
def music(tmp_path_factory):
    """The tiny experiment's corpus."""
    import tiny

    return tiny.corpus(tmp_path_factory.mktemp("music") / "corpus")


@pytest.fixture(scope="session")
def ran(music, tmp_path_factory):
    """A folder with a grid of the tiny experiment that has been run: not to be changed."""
    import grids

    folder = tmp_path_factory.mktemp("ran")
    assert grids.run_inline(grids.write_grid(folder, music)) == 0
    return folder


@pytest.fixture
def kept_steps(tmp_path, monkeypatch):
    """An empty place for kept steps; torch keeps what is its own where it always does."""
    from accomp.core.streaming import kept_step

    monkeypatch.setattr(kept_step, "torch_cache", lambda: tmp_path / "torch")
    return tmp_path / "torch" / kept_step.FOLDER
