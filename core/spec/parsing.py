"""Strict conversion between plain data and frozen attrs objects, through cattrs: no unknown keys, no type coercion.

All mistakes are collected, each with its path; a type error does not hide an out-of-range value elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from accomp.core.names import nearest

Where = tuple[str | int, ...]
"""Keys and indices of the path to a value."""


class Problems(Exception):
    """All mistakes in a value: pairs of the path from that value and the description."""

    def __init__(self, found: list[tuple[Where, str]]):
        super().__init__("; ".join(text for _, text in found))
        self.found = found


def strict_converter() -> cattrs.Converter:
    """Create a cattrs converter for attrs classes, numbers, str, bool, Path, Literal, Enum, unions, tuples, lists,
    dicts.

    Its `structure` raises Problems, never anything else, for data that does not fit a supported type.
    """
    converter = cattrs.Converter()

    def hook(applies: Callable[[Any], bool], build: Callable[[Any, Any], Any]) -> None:
        converter.register_structure_hook_func(applies, _with_problems(build))

    def inside(steps: Iterable[tuple[str | int, Any, Any]]) -> list[Any]:
        """Structure (key, value, type) one by one and collect the problems of all."""
        done, found = [], []
        for key, value, kind in steps:
            try:
                done.append(converter.structure(value, kind))
            except Problems as problems:
                found += [((key, *path), text) for path, text in problems.found]
        if found:
            raise Problems(found)
        return done

    def sequence(value: Any, kind: Any) -> Any:
        origin, args = get_origin(kind), get_args(kind)
        if not isinstance(value, list | tuple):
            raise TypeError(f"expected a list, got {_show(value)}")
        if origin is tuple and args[-1] is not Ellipsis and len(args) != len(value):
            raise TypeError(f"expected a list of {len(args)}, got {len(value)}: {value!r}")
        kinds = args if origin is tuple and args[-1] is not Ellipsis else (args[0],) * len(value)
        return origin(inside(zip(range(len(value)), value, kinds, strict=True)))

    def mapping(value: Any, kind: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected a table, got {_show(value)}")
        return dict(zip(value, inside((key, item, get_args(kind)[1]) for key, item in value.items()), strict=True))

    def union(value: Any, kind: Any) -> Any:
        members = [member for member in get_args(kind) if member is not NoneType]
        if value is None and len(members) < len(get_args(kind)):
            return None
        if len(members) == 1:
            return converter.structure(value, members[0])
        for member in members:
            try:
                return converter.structure(value, member)
            except Problems as problems:
                inside_it = any(path for path, _ in problems.found)
                if inside_it or type(value) is member:  # the right type with an invalid content
                    raise
        raise TypeError(f"expected {' or '.join(map(_kind_name, members))}, got {_show(value)}")

    hook(attrs.has, lambda value, cls: structure_fields(converter, value, cls))
    hook(lambda kind: get_origin(kind) in (tuple, list), sequence)
    hook(lambda kind: get_origin(kind) is dict, mapping)
    hook(lambda kind: get_origin(kind) in (Union, UnionType), union)
    hook(lambda kind: get_origin(kind) is Literal, lambda value, kind: _choose(value, get_args(kind)))
    hook(lambda kind: isinstance(kind, type) and issubclass(kind, Enum), _enum)
    for cls in (int, float, str, bool):
        converter.register_structure_hook(cls, _with_problems(_primitive))
    converter.register_structure_hook(Path, _with_problems(lambda value, _: Path(_primitive(value, str))))
    return converter


def structure_fields(converter: cattrs.Converter, data: Any, cls: type, hints: Mapping[str, Any] | None = None) -> Any:
    """Build an attrs object from a table. `hints` overrides the annotated types of its fields.

    Raises Problems: unknown and missing keys, wrong types, and every validator that fails.
    """
    if not isinstance(data, Mapping):
        raise Problems([((), f"expected a table, got {_show(data)}")])
    types = get_type_hints(cls, include_extras=True) | dict(hints or {})
    fields = {a.name: a for a in attrs.fields(cls) if a.init}
    found: list[tuple[Where, str]] = [
        ((), f"unknown key {key!r}{nearest(key, fields, what='known keys')}") for key in data if key not in fields
    ]
    values = {}
    for name, a in fields.items():
        if name in data:
            try:
                values[name] = converter.structure(data[name], types[name])
            except Problems as problems:
                found += [((name, *path), text) for path, text in problems.found]
        elif a.default is attrs.NOTHING:
            found.append(((), f"missing {_key_or_section(name, types[name])}"))
    found += _failing_validators(fields, values)
    if found:
        raise Problems(found)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:  # from __attrs_post_init__ or a field's converter
        raise Problems([((), _words(error))]) from error


def plain(value: Any) -> Any:
    """Convert attrs objects to dicts without None fields, tuples to lists, paths to text: ready for JSON and TOML."""
    if attrs.has(type(value)):
        items = ((a.name, getattr(value, a.name)) for a in attrs.fields(type(value)) if a.init)
        return {name: plain(item) for name, item in items if item is not None}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _with_problems(build: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def structure(value: Any, kind: Any) -> Any:
        try:
            return build(value, kind)
        except (TypeError, ValueError, OverflowError) as error:
            raise Problems([((), str(error))]) from error

    return structure


def _failing_validators(fields: Mapping[str, attrs.Attribute], values: Mapping[str, Any]) -> list[tuple[Where, str]]:
    """Run each field's validator by itself, since a constructor stops at the first that fails."""
    defaults = {name: a.default for name, a in fields.items() if not isinstance(a.default, attrs.Factory)}  # type: ignore[arg-type]
    instance = SimpleNamespace(**(defaults | dict(values)))  # for validators that compare two fields
    found: list[tuple[Where, str]] = []
    for name, value in values.items():
        if validator := fields[name].validator:
            try:
                validator(instance, fields[name], value)
            except (TypeError, ValueError) as error:
                found.append(((name,), _words(error)))
            except AttributeError:
                continue  # it reads an invalid field; the constructor runs it again
    return found


def _words(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__  # args of attrs errors hold more than the message


def _key_or_section(name: str, kind: Any) -> str:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return f"section [{name}]" if attrs.has(bare) else f"key {name!r}"


def _primitive(value: Any, cls: type) -> Any:
    if cls is float and type(value) in (float, int):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"expected a finite number, got {number}")
        return number
    if type(value) is cls:
        return value
    raise TypeError(f"expected {cls.__name__}, got {_show(value)}")


def _choose(value: Any, options: Collection[Any]) -> Any:
    for option in options:
        if value == option and type(value) is type(option):
            return option
    hint = nearest(value, options, what="expected") if isinstance(value, str) else f"; expected {list(options)}"
    raise ValueError(f"{_show(value)} is not among the choices{hint}")


def _enum(value: Any, kind: type[Enum]) -> Enum:
    return kind(_choose(value, [member.value for member in kind]))


def _kind_name(kind: Any) -> str:
    return "a list" if get_origin(kind) in (tuple, list) else getattr(kind, "__name__", str(kind))


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a table with the keys {', '.join(map(str, value)) or '(none)'}"
    return f"{type(value).__name__} {value!r}"
