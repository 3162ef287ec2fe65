"""A real Triton with the toy models, from the wheel of nvidia-pytriton in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from tests.contract.tree import ROOT
from tests.service.toy_models import SIGNATURES
from xscene.serving.models import TensorSpec

REQUIREMENTS = ("nvidia-pytriton==0.7.0", "numpy<2")
ENVIRONMENT = ROOT / "var/venvs/pytriton"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
MODEL = Path(__file__).with_name("triton_model.py")
START_S = 120


class TritonMissingError(Exception):
    """Triton cannot run on this machine; the message says why."""


def install() -> Path:
    """The environment's packages, installed when they are not there yet."""
    packages = ENVIRONMENT / f"lib/python{PYTHON}/site-packages"
    if not (packages / "pytriton").is_dir():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        pip = [ENVIRONMENT / "bin/python", "-m", "pip", "install", "-q", *REQUIREMENTS]
        if subprocess.run(pip, check=False).returncode:
            raise TritonMissingError("nvidia-pytriton cannot be installed on this machine")
    return packages


def data_type(spec: TensorSpec) -> str:
    return "TYPE_" + {"BYTES": "STRING"}.get(spec.datatype, spec.datatype)


def tensor(spec: TensorSpec, *, is_input: bool) -> str:
    optional = " optional: true" if is_input and spec.optional else ""
    return f'{{ name: "{spec.name}" data_type: {data_type(spec)} dims: {list(spec.shape)}{optional} }}'


def config(name: str) -> str:
    inputs, outputs, _ = SIGNATURES[name]
    return (
        f'name: "{name}" backend: "python" max_batch_size: 0\n'
        f"input [{', '.join(tensor(spec, is_input=True) for spec in inputs)}]\n"
        f"output [{', '.join(tensor(spec, is_input=False) for spec in outputs)}]\n"
        "instance_group [{ kind: KIND_CPU }]\n"
    )


def write_repository(folder: Path) -> Path:
    for name in SIGNATURES:
        version = folder / name / "1"
        version.mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config(name))
        shutil.copy(MODEL, version / "model.py")
    return folder


def write_backends(packages: Path, folder: Path) -> Path:
    """Triton's backends with the stub for this Python."""
    server = packages / "pytriton/tritonserver"
    shutil.copytree(server / "backends", folder)
    shutil.copy(server / f"python_backend_stubs/{PYTHON}/triton_python_backend_stub", folder / "python")
    return folder


def command(packages: Path, folder: Path, port: int) -> list[str]:
    return [
        str(packages / "pytriton/tritonserver/bin/tritonserver"),
        f"--model-repository={write_repository(folder / 'models')}",
        f"--backend-directory={write_backends(packages, folder / 'backends')}",
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--backend-config=python,shm-region-prefix-name=xscene-{os.getpid()}-",
        "--backend-config=python,shm-default-byte-size=4194304",
        "--allow-http=false",
        "--allow-metrics=false",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
    ]


def environment(packages: Path) -> dict[str, str]:
    """Triton finds its own libraries, libpython, and the packages of the Python that comes first."""
    libraries = (sysconfig.get_config_var("LIBDIR"), packages / "nvidia_pytriton.libs")
    return os.environ | {
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "PATH": os.pathsep.join((str(ENVIRONMENT / "bin"), os.environ["PATH"])),
    }


@contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    """Triton's address; the process ends with the block."""
    packages = install()
    log = folder / "triton.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(packages, folder, port), cwd=ROOT, env=environment(packages), stdout=out, stderr=out
        )
    try:
        address = f"127.0.0.1:{port}"
        wait(process, address, log)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Until the server takes calls; it listens only when its models are loaded."""
    with grpc.insecure_channel(address) as channel:
        ready = grpc.channel_ready_future(channel)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if process.poll() is not None:
                raise TritonMissingError(f"Triton ended with {process.returncode}: {log.read_text()[-500:]}")
            try:
                ready.result(timeout=0.2)
            except grpc.FutureTimeoutError:
                continue
            return
    raise TritonMissingError(f"Triton did not listen within {START_S} s")
