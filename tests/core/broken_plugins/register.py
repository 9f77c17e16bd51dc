"""Where broken plugins register under the promise that each breaks."""

from collections.abc import Callable

BROKEN: list[tuple[str, str, str]] = []
"""(kind, module:name, how the property that fails begins)."""


def breaks(kind: str, promise: str) -> Callable[[type], type]:
    """Registers the class or function below as one that breaks `promise`."""

    def register(cls: type) -> type:
        BROKEN.append((kind, f"{cls.__module__}:{cls.__name__}", promise))
        cls.__doc__ = cls.__doc__ or "Breaks a promise."
        return cls

    return register
