"""What this machine and this environment are: facts only, gathered without stopping at anything that is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import attrs
from attrs import frozen

from accomp.core.cli.distributions import Unmet, installed_version, missing_extras, unmet_requirements
from accomp.core.compute.compilers import cpp_compiler, python_headers
from accomp.core.compute.cores import cores
from accomp.core.errors import PluginError, UserError
from accomp.core.registry import Registry

DISTRIBUTION = "accomp"


@frozen
class Part:
    """One registered plugin, tried. `error` is "" where it works; `optional`: it lacks a library or weights."""

    kind: str
    name: str
    error: str = ""
    optional: bool = False


@frozen
class Machine:
    """The facts `accomp doctor` judges. Texts are empty and numbers None where something could not be found out.

    Attributes:
        python, system: versions.
        torch: version of torch; torch_error, why it does not import.
        cuda_build: the CUDA version torch was built for; "" for a CPU build.
        devices: what torch can compute on, with memory and precision, the CPU last.
        nvidia: an NVIDIA driver answers, whatever torch was built for.
        cores, threads: cores this process may use; threads torch will use.
        compiler: path of a C++ compiler; python_headers: Python.h is there.
        free: bytes free on the disk of the working folder.
        companions: torchaudio and torchvision, where installed: name -> why the import fails ("" where it works).
        extensions: torchaudio's compiled files.
        logging_error: why TensorBoard's writer does not import.
        unmet: requirements of accomp, and of what it requires, that are not met.
        extras: extra -> its distributions that are missing.
        parts: every registered plugin; broken: provider -> why the plugin package could not be used.
        providers: third-party packages that add plugins.
    """

    python: str = ""
    system: str = ""
    torch: str = ""
    torch_error: str = ""
    cuda_build: str = ""
    devices: tuple[str, ...] = ()
    nvidia: bool = False
    cores: int | None = None
    threads: int | None = None
    compiler: str = ""
    python_headers: bool = False
    free: int | None = None
    companions: dict[str, str] = attrs.field(factory=dict)
    extensions: tuple[Path, ...] = ()
    logging_error: str = ""
    unmet: tuple[Unmet, ...] = ()
    extras: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    parts: tuple[Part, ...] = ()
    broken: dict[str, str] = attrs.field(factory=dict)
    providers: tuple[str, ...] = ()


def survey(registry: Registry) -> Machine:
    """Look at everything; imports torch and every plugin, which takes some seconds. Raises nothing of its own."""
    torch_error = import_error("torch")
    facts = _torch_facts() if not torch_error else {"torch_error": torch_error}
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        nvidia=_nvidia_driver(),
        cores=cores(),
        compiler=cpp_compiler(),
        python_headers=python_headers(),
        free=shutil.disk_usage(Path.cwd()).free,
        companions={name: import_error(name) for name in ("torchaudio", "torchvision") if installed_version(name)},
        extensions=tuple(_compiled_files("torchaudio")),
        logging_error=import_error("torch.utils.tensorboard") if not torch_error else "",
        unmet=tuple(unmet_requirements(DISTRIBUTION)),
        extras=missing_extras(DISTRIBUTION),
        parts=tuple(_try_parts(registry)),
        broken=dict(registry.broken),
        providers=tuple(sorted({part.provider for part in registry.components() if "built in" not in part.provider})),
        **facts,
    )


def import_error(module: str) -> str:
    """Why `module` does not import, in one line; empty where it does."""
    return _error_of(lambda: importlib.import_module(module))


def _torch_facts() -> dict[str, object]:
    import torch

    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        precision = "32-true, bf16-mixed, 16-mixed" if properties.major >= 8 else "32-true, 16-mixed"
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        devices.append(f"cuda:{index} {properties.name}, {memory}; precision {precision}")
    if torch.backends.mps.is_available():
        devices.append("mps (Apple GPU); precision 32-true, 16-mixed")
    devices.append(
        f"cpu; precision 32-true{', bf16-mixed' if _cpu_has_bfloat16() else ' (bfloat16 would be emulated)'}"
    )
    return {
        "torch": torch.__version__,
        "cuda_build": torch.version.cuda or "",
        "devices": tuple(devices),
        "threads": torch.get_num_threads(),
    }


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def _nvidia_driver() -> bool:
    command = shutil.which("nvidia-smi")
    try:
        return command is not None and subprocess.run([command, "-L"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _try_parts(registry: Registry) -> Iterator[Part]:
    """Load every plugin; build tokenizers with their defaults, which finds their weights or names the remedy."""
    for component in registry.components():
        part = Part(component.kind, component.name)
        loaded = None
        try:
            with _quiet():
                loaded = component.load()
                if component.kind == "tokenizer":
                    _refuse_without_defaults(loaded.Config)
                    loaded(loaded.Config())
        except UserError as error:
            lacks_extra = bool(component.extra) and f"[{component.extra}]" in str(error)
            part = attrs.evolve(part, error=str(error), optional=loaded is not None or lacks_extra)
        except Exception as error:  # third-party code may fail in any way; it is reported
            part = attrs.evolve(part, error=f"{type(error).__name__}: {error}")
        yield part


def _refuse_without_defaults(config: type) -> None:
    fields = attrs.fields(config) if attrs.has(config) else ()
    if needed := [field.name for field in fields if field.default is attrs.NOTHING]:
        raise PluginError(
            f"no {' and no '.join(needed)} by default; a spec that names it says so (docs/guides/codec.md)"
        )


def _error_of(action: Callable[[], object]) -> str:
    try:
        with _quiet():
            action()
    except Exception as error:  # broken libraries raise anything at import
        first_line = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {first_line}"
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what libraries print while they are imported off the terminal."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield


def _compiled_files(distribution: str) -> list[Path]:
    files = importlib.metadata.files(distribution) or [] if installed_version(distribution) else []
    paths = [Path(str(file.locate())) for file in files if file.suffix in {".so", ".pyd", ".dylib"}]
    return [path for path in paths if path.exists()]
