"""Fill the virtual environment whose Python runs this script. `make setup` calls it; pip alone would not do, because

- three audio libraries pin protobuf < 3.20 or numpy < 2 and work without: everything is installed as listed in
  run.txt, dev.txt and docs.txt, with no dependency resolution (what they need is in the lists);
- plain `torch` on Linux brings several GB of CUDA packages, which a machine without an NVIDIA GPU has no use for:
  it gets the CPU build, from pip's own sources or else from PyTorch's index of CPU builds;
- torchaudio's wheels are built for CUDA and refuse to load beside a CPU torch. Without its extension files it falls
  back to Python by design (resampling, filters and mel spectrograms are complete there), so they are removed.

Its last step imports what is most likely to fail. librosa compiles itself then, into a cache that two processes which
do so at once would leave broken: each later one would end in a segmentation fault.

A stamp in the environment makes a second run return at once unless a list, pyproject.toml or this script changed.

    python requirements/install.py [--torch auto|cpu|cuda] [--run-only] [--check]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
LISTS = (HERE / "run.txt", HERE / "dev.txt", HERE / "docs.txt")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", choices=("auto", "cpu", "cuda"), default="auto", help="which build (default: auto)")
    parser.add_argument("--run-only", action="store_true", help="without what tests, lint and documentation need")
    parser.add_argument("--check", action="store_true", help="only say whether there is anything to do (exit 1 if so)")
    arguments = parser.parse_args()
    if sys.prefix == sys.base_prefix:
        print("This is not a virtual environment; run `make setup`, which makes one in .venv.", file=sys.stderr)
        return 2

    lists = LISTS[:1] if arguments.run_only else LISTS
    build = arguments.torch if arguments.torch != "auto" else ("cuda" if has_cuda() else "cpu")
    stamp = Path(sys.prefix) / "accomp-setup.txt"
    wanted = fingerprint(build, lists)
    if stamp.exists() and stamp.read_text().strip() == wanted:
        return 0
    if arguments.check:
        return 1

    stamp.unlink(missing_ok=True)
    if importlib.util.find_spec("pip") is None:  # left out when the making of the environment was interrupted
        subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    install_torch(build)
    print("Installing the pinned libraries ...", flush=True)
    pip("install", "--quiet", "--no-deps", *(word for path in lists for word in ("-r", str(path))))
    removed = remove_unloadable_torchaudio_extension()
    if removed:
        print(f"torch is a CPU build: took torchaudio's {len(removed)} CUDA extension files out.")
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(PROJECT))
    subprocess.run([sys.executable, "-c", "import torch, torchaudio, librosa"], check=True)  # see the top
    stamp.write_text(wanted + "\n")
    folder, torch = Path(sys.prefix), importlib.metadata.version("torch")
    print(f"Ready: {folder} (torch {torch}). Try `{folder.name}/bin/accomp doctor`.")
    return 0


def has_cuda() -> bool:
    """True where the NVIDIA driver answers."""
    command = shutil.which("nvidia-smi")
    return command is not None and subprocess.run([command, "-L"], capture_output=True).returncode == 0


def fingerprint(build: str, lists: tuple[Path, ...]) -> str:
    """Hash of everything that decides what is installed, hex."""
    digest = hashlib.sha256(f"{build} {sys.version} {PROJECT}".encode())
    for path in (HERE / "torch.txt", *lists, PROJECT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install_torch(build: str) -> None:
    """The listed torch, as a CPU build (which Linux keeps under a version of its own) or as the index has it."""
    pin = (HERE / "torch.txt").read_text().split()[0]
    if build == "cuda" or sys.platform != "linux":
        print(f"Installing {pin} ...", flush=True)
        pip("install", "--quiet", pin, "-c", str(LISTS[0]))
        return
    print(f"Installing {pin}, CPU build ...", flush=True)
    quiet = ("install", "--quiet", "--no-deps", f"{pin}+cpu")
    if subprocess.run([sys.executable, "-m", "pip", *quiet], capture_output=True).returncode:
        pip(*quiet, "--index-url", CPU_INDEX)


def remove_unloadable_torchaudio_extension() -> list[Path]:
    """Delete torchaudio's compiled files where torch is a CPU build; what was deleted (nothing the second time)."""
    question = [sys.executable, "-c", "import torch; print(torch.version.cuda or '')"]
    if subprocess.run(question, check=True, capture_output=True, text=True).stdout.strip():
        return []
    files = importlib.metadata.files("torchaudio") or []
    extension = [Path(str(file.locate())) for file in files if file.parts[:2] == ("torchaudio", "lib")]
    extension = [path for path in extension if path.suffix in {".so", ".pyd", ".dylib"} and path.exists()]
    for path in extension:
        path.unlink()
    return extension


def pip(*arguments: str) -> None:
    """Run pip of this environment; what it prints goes to the terminal."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments])
    if done.returncode:
        sys.exit(f"pip could not finish (see above); the command was: pip {' '.join(arguments)}")


if __name__ == "__main__":
    sys.exit(main())
