"""Who asks for what, and which of it is not there: `pip check` for one distribution, its extras and all they need."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from attrs import frozen
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

NOT_FOR_USERS = frozenset({"all", "test", "dev"})
"""Extras that bring no ability of their own."""


@frozen
class Unmet:
    """`who` asks for `wanted` ("name>=1"); installed is version `here`, "" for not at all."""

    who: str
    wanted: str
    here: str = ""


def unmet_requirements(distribution: str) -> Iterator[Unmet]:
    """Unmet requirements of `distribution` and of those of its requirements that are installed.

    Its own extras count where they are complete: a version that does not fit is then reported, as for any requirement.
    """
    todo = [(distribution, extra) for extra in ("", *_complete_extras(distribution))]
    seen = set(todo)
    while todo:
        name, extra = todo.pop(0)
        for requirement in requirements(name, extra):
            here = installed_version(requirement.name)
            if not here or not requirement.specifier.contains(here, prereleases=True):
                yield Unmet(name, f"{requirement.name}{requirement.specifier}", here)
            follow = {(canonicalize_name(requirement.name), part) for part in ("", *requirement.extras)}
            todo += sorted(follow - seen)
            seen |= follow


def missing_extras(distribution: str) -> dict[str, tuple[str, ...]]:
    """Extra -> distributions it asks for that are not installed; a complete extra has an empty tuple."""
    extras = [extra for extra in offered_extras(distribution) if extra not in NOT_FOR_USERS]
    return {extra: tuple(_missing(distribution, extra)) for extra in extras}


def _complete_extras(distribution: str) -> list[str]:
    return [extra for extra in offered_extras(distribution) if not any(_missing(distribution, extra))]


def _missing(distribution: str, extra: str) -> Iterator[str]:
    return (asked.name for asked in requirements(distribution, extra) if not installed_version(asked.name))


def offered_extras(distribution: str) -> list[str]:
    """Names of the extras of an installed distribution; none where it is not installed."""
    if not installed_version(distribution):
        return []
    return importlib.metadata.metadata(distribution).get_all("Provides-Extra") or []


def requirements(distribution: str, extra: str = "") -> Iterator[Requirement]:
    """What an installed distribution asks for on this machine: always, or only with `extra`."""
    if not installed_version(distribution):
        return
    for text in importlib.metadata.requires(distribution) or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # old metadata that pip cannot read either
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        asked = requirement.marker is not None and requirement.marker.evaluate({"extra": extra}) and not always
        made_of_extras = canonicalize_name(requirement.name) == canonicalize_name(distribution)
        if (asked if extra else always) and not made_of_extras:
            yield requirement


def installed_version(distribution: str) -> str:
    """Version of a distribution, "" where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
