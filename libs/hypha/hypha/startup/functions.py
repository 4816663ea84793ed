from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hypha_common.errors import ConfigurationError

from .user_code import summary, tell

__all__ = ["StartupFunction", "load_functions"]


@dataclass(frozen=True, slots=True)
class StartupFunction:
    """A coroutine function that takes the server, and how the operator wrote it."""

    entrypoint: str  # ./file.py:function or module:function
    function: Callable[[Any], Awaitable[Any]]


def load_functions(entrypoints: Iterable[str]) -> list[StartupFunction]:
    """
    Import every startup function; files and modules are looked for in the working directory first.

    Raises ConfigurationError with a sentence; the traceback of a module that fails is printed to stderr.

    """
    if os.getcwd() not in sys.path:  # noqa: PTH109  # a console script has its own directory there instead
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    files: dict[Path, ModuleType] = {}  # one that is named twice is run once
    return [_load(entrypoint, files) for entrypoint in entrypoints]


def _load(entrypoint: str, files: dict[Path, ModuleType]) -> StartupFunction:
    place, _, name = entrypoint.rpartition(":")
    is_file = place.endswith(".py") or os.sep in place
    module = _file(entrypoint, Path(place), files) if is_file else _module(entrypoint, place)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
        if function is None:
            raise ConfigurationError(f"Startup function {entrypoint}: {place} has no function {name}")
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))):  # noqa: B004
        raise ConfigurationError(f"Entrypoint {name} is not a coroutine: {entrypoint} must be made with `async def`")
    return StartupFunction(entrypoint, function)


def _file(entrypoint: str, given: Path, files: dict[Path, ModuleType]) -> ModuleType:
    path = given.expanduser().absolute()
    if path in files:
        return files[path]
    if not path.is_file():
        raise ConfigurationError(f"Startup function {entrypoint}: there is no file {path}")
    directory = str(path.parent)
    if directory not in sys.path:
        sys.path.append(directory)  # what lies beside the file can be imported, and hides nothing that is installed
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"hypha_startup_{len(files)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"Startup function {entrypoint}: {path} is no Python file")
    files[path] = module = sys.modules[name] = importlib.util.module_from_spec(spec)
    loader = spec.loader
    _run(entrypoint, lambda: loader.exec_module(module))
    return module


def _module(entrypoint: str, name: str) -> ModuleType:
    module: ModuleType = _run(entrypoint, lambda: importlib.import_module(name))
    return module


def _run(entrypoint: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # noqa: BLE001  # whatever a user's module raises, its author has to see where
        tell(error)
        raise ConfigurationError(f"Startup function {entrypoint} cannot be imported: {summary(error)}") from None
