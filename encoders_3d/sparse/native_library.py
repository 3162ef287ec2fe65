"""The compiled part of the native engine: built once into a cache directory, loaded where it is there."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from xscene.errors import NotFound, PreconditionFailed

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-Wno-psabi")
DEFAULT_CACHE_DIR = Path(__file__).parents[2] / "var" / "native"
DEFAULT_BUILD_TIMEOUT_S = 300.0
LAST_LINES = 5


def library_path(cache_dir: Path = DEFAULT_CACHE_DIR) -> Path:
    """Where the library of this source, these flags and this machine's kind lies."""
    text = "\0".join((SOURCE.read_text(), *FLAGS, platform.system(), platform.machine()))
    return cache_dir / f"native-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"


def compiler_name() -> str:
    """The C++ compiler that torch's extensions use: CXX, else the system's."""
    # It needs setuptools, which only a machine that builds has to have.
    from torch.utils import cpp_extension

    name: str = cpp_extension.get_cxx_compiler()  # type: ignore[no-untyped-call]
    return name


def compiler() -> str | None:
    """Where that compiler is, if it is installed."""
    return shutil.which(compiler_name())


def build(cache_dir: Path = DEFAULT_CACHE_DIR, *, timeout_s: float = DEFAULT_BUILD_TIMEOUT_S) -> Path:
    """Compile the library unless it is there; the file appears whole or not at all."""
    path = library_path(cache_dir)
    if path.is_file():
        return path
    command = compiler()
    if command is None:
        raise NotFound(f"no C++ compiler: {compiler_name()} is not installed")
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        made = Path(folder) / path.name
        arguments = [command, *FLAGS, "-o", str(made), str(SOURCE)]
        try:
            result = subprocess.run(  # noqa: S603
                arguments, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise PreconditionFailed(f"{command} did not finish within {timeout_s} s") from None
        if result.returncode:
            last = " | ".join(result.stderr.strip().splitlines()[-LAST_LINES:])
            raise PreconditionFailed(f"{command} could not build the native engine: {last}")
        made.replace(path)
    return path


def load(cache_dir: Path = DEFAULT_CACHE_DIR) -> ctypes.CDLL:
    """The library; NotFound where it is not built, PreconditionFailed where it cannot run here."""
    path = library_path(cache_dir)
    if not path.is_file():
        raise NotFound("not built, python -m encoders_3d.sparse build makes it")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise PreconditionFailed(f"the native engine cannot be loaded: {error}") from error
    pointer: Any = ctypes.c_void_p
    number: Any = ctypes.c_int64
    library.xscene_instruction_set.argtypes = []
    library.xscene_instruction_set.restype = number
    for function, arguments in (
        (library.xscene_product, [pointer, number]),
        (library.xscene_weight_gradient, [pointer, number]),
        (library.xscene_count_pairs, [pointer, number, pointer]),
        (library.xscene_fill_pairs, [pointer, number, pointer, number, pointer]),
    ):
        function.argtypes = arguments
        function.restype = None
    return library
