"""`accomp doctor`: what this machine can do, what is missing or does not fit together, and the cure for each."""

from __future__ import annotations

import json
import shlex
from typing import Literal

import attrs
from attrs import frozen

from accomp.core.cli.environment import DISTRIBUTION, Machine, survey
from accomp.core.console import say
from accomp.core.registry import Registry

ROOM_FOR_A_RUN = 5 * 10**9
"""Bytes that a corpus of an hour, its tokens and a run with a few checkpoints take, with room to spare."""
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"

Level = Literal["ok", "note", "problem"]
MARKS: dict[Level, str] = {"ok": "  ", "note": "- ", "problem": "! "}


@frozen
class Finding:
    """One finding. A "note" costs an ability, a "problem" stops work; `cure` is the remedy."""

    level: Level
    subject: str
    state: str
    cure: str = ""


def doctor(registry: Registry, *, as_json: bool = False) -> int:
    """Examine this machine and print the findings. Returns 1 where there is a problem, else 0."""
    findings = diagnose(survey(registry))
    healthy = all(finding.level != "problem" for finding in findings)
    if as_json:
        say(json.dumps({"healthy": healthy, "findings": [attrs.asdict(finding) for finding in findings]}, indent=2))
    else:
        say(letter(findings))
    return 0 if healthy else 1


def letter(findings: list[Finding]) -> str:
    """The findings as text: a line each, the cure below it, a verdict at the end."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.level]}{finding.subject.ljust(width)}  {finding.state}")
        if finding.cure:
            lines.append(f"  {' ' * width}  -> {finding.cure}")
    problems = sum(finding.level == "problem" for finding in findings)
    verdict = f"{problems} problem(s), marked with '!'." if problems else "In working order."
    return "\n".join([*lines, "", verdict])


def diagnose(machine: Machine) -> list[Finding]:
    """What the facts mean, in a fixed order: the machine, torch and its companions, libraries, plugins."""
    return [
        Finding("ok", "python", f"{machine.python}, {machine.system}"),
        *_torch(machine),
        *_companions(machine),
        *_compiler(machine),
        *_disk(machine),
        *_logging(machine),
        *_requirements(machine),
        *_extras(machine),
        *_plugins(machine),
    ]


def _torch(machine: Machine) -> list[Finding]:
    if machine.torch_error:
        return [Finding("problem", "torch", f"does not import: {machine.torch_error}", "pip install torch==2.13.0")]
    build = f"built for CUDA {machine.cuda_build}" if machine.cuda_build else "CPU build"
    findings = [Finding("ok", "torch", f"{machine.torch}, {build}")]
    if machine.nvidia and not machine.cuda_build:
        findings.append(
            Finding(
                "note",
                "torch",
                "an NVIDIA GPU is here, which this CPU build cannot use",
                f"pip install --force-reinstall torch=={machine.torch.partition('+')[0]} torchaudio "
                "(in a checkout: make setup TORCH=cuda)",
            )
        )
    if machine.cuda_build and machine.nvidia and not any(name.startswith("cuda") for name in machine.devices):
        findings.append(
            Finding(
                "problem",
                "torch",
                f"the NVIDIA driver answers, but torch built for CUDA {machine.cuda_build} finds no device",
                "update the driver (nvidia-smi shows the newest CUDA it can run), "
                "or install the torch build for that CUDA version: https://pytorch.org/get-started/locally",
            )
        )
    findings += [Finding("ok", "device", device) for device in machine.devices]
    cores, threads = machine.cores, machine.threads
    if cores and threads and threads > cores:
        cure = f"export OMP_NUM_THREADS={cores}, or threads = {cores} under [run] in the spec"
        findings.append(Finding("note", "threads", f"torch would use {threads} threads on {cores} core(s)", cure))
    else:
        findings.append(Finding("ok", "threads", f"{threads} on {cores} core(s)"))
    return findings


def _companions(machine: Machine) -> list[Finding]:
    """torchaudio and torchvision carry compiled code that fits one build of torch only."""
    findings = []
    for name, error in machine.companions.items():
        if not error:
            findings.append(Finding("ok", name, "loads"))
            continue
        cpu_build = bool(machine.torch) and not machine.cuda_build
        why = f"its compiled code was built for CUDA, torch is a CPU build ({error})" if cpu_build else error
        if name == "torchaudio" and machine.extensions:
            files = " ".join(sorted({f"{shlex.quote(str(path.parent))}/*{path.suffix}" for path in machine.extensions}))
            cure = f"rm {files}   (without them it works in Python, which does all that is needed here)"
        elif cpu_build:
            cure = f"pip install --force-reinstall --no-deps --index-url {CPU_BUILDS} {name}  (or pip uninstall {name})"
        else:
            cure = f"pip install --upgrade {name}   (takes the torch that it fits along; or pip uninstall {name})"
        findings.append(Finding("problem", name, f"does not load: {why}", cure))
    return findings


def _compiler(machine: Machine) -> list[Finding]:
    if machine.compiler and machine.python_headers:
        return [Finding("ok", "compiler", machine.compiler)]
    lacking = [] if machine.compiler else ["a C++ compiler"]
    lacking += [] if machine.python_headers else ["Python's headers"]
    state = f"{' and '.join(lacking)} missing: torch.compile cannot build for the CPU, models run uncompiled"
    return [
        Finding(
            "note", "compiler", state, "Debian, Ubuntu: apt-get install g++ python3-dev; macOS: xcode-select --install"
        )
    ]


def _disk(machine: Machine) -> list[Finding]:
    if machine.free is None:
        return []
    state = f"{machine.free / 1e9:.1f} GB free in the working folder"
    if machine.free < ROOM_FOR_A_RUN:
        cure = f"make room: corpus, tokens and a run take up to {ROOM_FOR_A_RUN / 1e9:.0f} GB"
        return [Finding("note", "disk", state, cure)]
    return [Finding("ok", "disk", state)]


def _logging(machine: Machine) -> list[Finding]:
    if machine.torch_error:
        return []
    if not machine.logging_error:
        return [Finding("ok", "logging", "TensorBoard")]
    cure = 'pip install --upgrade tensorboard protobuf   (or logger = "none" under [run] in the spec)'
    return [Finding("problem", "logging", f"TensorBoard does not load: {machine.logging_error}", cure)]


def _requirements(machine: Machine) -> list[Finding]:
    """Unmet requirements: of accomp a problem; of libraries among each other a note, since loading is what counts."""
    findings = []
    strangers: dict[str, list[str]] = {}
    for unmet in machine.unmet:
        state = f"has {unmet.here}" if unmet.here else "has none"
        if unmet.who == DISTRIBUTION:
            cure = f"pip install {shlex.quote(unmet.wanted)}"
            findings.append(Finding("problem", "libraries", f"{unmet.who} wants {unmet.wanted}, {state}", cure))
        else:
            strangers.setdefault(unmet.who, []).append(f"{unmet.wanted} ({state})")
    if strangers:
        state = "; ".join(f"{who} wants {', '.join(wants)}" for who, wants in strangers.items())
        cure = f"nothing while the plugins below are ready; else: pip install '{DISTRIBUTION}[all]'"
        findings.append(Finding("note", "libraries", state, cure))
    return findings or [Finding("ok", "libraries", "every requirement is met")]


def _extras(machine: Machine) -> list[Finding]:
    whole = ", ".join(extra for extra, missing in machine.extras.items() if not missing)
    findings = [Finding("ok", "extras", f"complete: {whole}")] if whole else []
    return findings + [
        Finding(
            "note", "extras", f"{extra}: {', '.join(missing)} not installed", f"pip install '{DISTRIBUTION}[{extra}]'"
        )
        for extra, missing in machine.extras.items()
        if missing
    ]


def _plugins(machine: Machine) -> list[Finding]:
    findings = []
    working = [part for part in machine.parts if not part.error]
    third_party = f", also from {', '.join(machine.providers)}" if machine.providers else ""
    findings.append(Finding("ok", "plugins", f"{len(working)} of {len(machine.parts)} ready{third_party}"))
    for part in machine.parts:
        subject = f"{part.kind} {part.name}"
        if part.kind == "tokenizer" and not part.error:
            findings.append(Finding("ok", subject, "loads, with weights"))
        elif part.error:
            findings.append(Finding("note" if part.optional else "problem", subject, part.error))
    for provider, why in machine.broken.items():
        name = provider.partition(" ")[0]
        cure = f"pip uninstall {name}, or ask its authors for a version that fits accomp"
        findings.append(Finding("problem", "plugins", f"those of {provider} cannot be used: {why}", cure))
    return findings
