"""The processes of a run: how each is started, and the end of all of them."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from deploy.bench import cases, workloads
from deploy.bench.cases import Choice
from deploy.bench.processes import Child, Program, accounting
from deploy.stack import free_port
from xscene.errors import PreconditionFailed

LISTEN_TIMEOUT_S = 120.0
# These listen nowhere: they are told their jobs over standard input.
PIPED = {cases.CLIENT, cases.REFERENCE}
DISTRIBUTIONS = {"pytriton": "nvidia-pytriton", "mosec": "mosec"}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Directories of a run."""

    bundle: Path
    backbones: Path
    venvs: Path
    work: Path


class Fleet:
    """Starts what the chosen cases need; leaving the context ends it all."""

    def __init__(self, choice: Choice, places: Places, window_ms: float) -> None:
        self._places = places
        self._window_ms = window_ms
        self._children: dict[str, Child] = {}
        self._names = sorted(cases.programs(choice))
        self._ports = {name: free_port() for name in self._names if name not in PIPED}
        addresses = {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}
        self.choice = replace(choice, addresses=addresses, token=secrets.token_urlsafe(32))

    def __enter__(self) -> Fleet:
        accounting()
        self._places.work.mkdir(parents=True, exist_ok=True)
        try:
            for name in self._names:
                self._children[name] = Child(self._program(name), self._places.work / f"{name}.log")
            for child in self._children.values():
                if child.program.port:
                    child.wait_until_listening(LISTEN_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Child:
        """A running process by its name."""
        return self._children[name]

    def stop(self) -> None:
        """End every process, the last one first."""
        for child in reversed(self._children.values()):
            child.stop()
        self._children.clear()

    def _program(self, name: str) -> Program:
        port = self._ports.get(name, 0)
        makers = {
            cases.CLIENT: lambda: [sys.executable, "-m", "deploy.bench.load"],
            cases.REFERENCE: lambda: [sys.executable, "-m", "deploy.bench.bare_process", self._setups()],
            cases.ECHO: lambda: [sys.executable, "-m", "deploy.bench.echo", str(port)],
            cases.RUNTIME: self._runtime,
            cases.SERVED: self._served,
            cases.IMAGE_SERVER: self._served_image,
            "pytriton": self._pytriton,
            "mosec": self._mosec,
        }
        # PyTriton's backend looks for the interpreter's own library.
        library = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))} if name == "pytriton" else {}
        return Program(name=name, command=makers[name](), port=port, environment=library)

    def _setup(self) -> str:
        """The text model as the service has it by default, for processes that are not the service."""
        from encoders_1d.app import Settings
        from encoders_1d.model import Limits

        given = Settings()
        limits = {each.name: getattr(given, each.name) for each in fields(Limits)}
        return self._described(limits)

    def _described(self, limits: Mapping[str, object]) -> str:
        directories = {"bundle": str(self._places.bundle), "backbones": str(self._places.backbones)}
        return json.dumps({**directories, "limits": limits})

    def _setups(self) -> str:
        """Each model as its service has it."""
        from encoders_2d.app import Settings, limits

        image = limits(Settings(max_batch_images=workloads.MAX_BATCH_IMAGES))
        return json.dumps({cases.TEXT: self._setup(), cases.IMAGE: self._described(asdict(image))})

    def _runtime(self) -> list[str]:
        digest = hashlib.sha256(self.choice.token.encode()).hexdigest()
        entry = {"sha256": digest, "tenant": "bench", "role": "admin", "expires": None}
        tokens = self._places.work / "tokens.json"
        tokens.write_text(json.dumps([entry]))
        bundles = self._places.work / "bundles"
        (bundles / workloads.NULL_MODEL).mkdir(parents=True, exist_ok=True)
        flags = {
            "tokens": tokens,
            "bundles-dir": bundles,
            "bundles": workloads.NULL_MODEL,
            "shared-memory": "true",
            "shared-memory-prefix": workloads.REGION_PREFIX,
        }
        return [sys.executable, "-m", "deploy.bench.null", *self._flags(cases.RUNTIME, flags)]

    def _served(self) -> list[str]:
        return [sys.executable, "-m", "encoders_1d", *self._encoder(cases.SERVED, {})]

    def _served_image(self) -> list[str]:
        flags = {"max-batch-images": workloads.MAX_BATCH_IMAGES}
        return [sys.executable, "-m", "encoders_2d", *self._encoder(cases.IMAGE_SERVER, flags)]

    def _encoder(self, name: str, more: Mapping[str, object]) -> list[str]:
        flags = {
            "bundles-dir": self._places.bundle.parent,
            "bundles": self._places.bundle.name,
            "backbones-dir": self._places.backbones,
            "allow-untrained": "true",
            "window-ms": self._window_ms,
            "num-threads": 1,
            "device": "cpu",
            **more,
        }
        return self._flags(name, flags)

    def _flags(self, name: str, flags: Mapping[str, object]) -> list[str]:
        every = {"port": self._ports[name], "metrics-port": free_port(), **flags}
        return [word for flag, value in every.items() for word in (f"--{flag}", str(value))]

    def _pytriton(self) -> list[str]:
        ports = [str(self._ports["pytriton"]), str(free_port()), str(free_port())]
        numbers = [*ports, str(self.choice.max_batch), str(self._window_ms)]
        return [*self._peer("pytriton"), self._setup(), *numbers]

    def _mosec(self) -> list[str]:
        own = [self._setup(), str(self.choice.max_batch), str(round(self._window_ms))]
        flags = ["--port", str(self._ports["mosec"]), "--address", "127.0.0.1", "--log-level", "warning"]
        return [*self._peer("mosec"), *own, *flags]

    def _peer(self, name: str) -> list[str]:
        return [str(interpreter(self._places.venvs, name)), "-m", f"deploy.bench.{name}_text"]


def interpreter(venvs: Path, peer: str) -> Path:
    """The Python of a peer's own environment."""
    path = venvs.absolute() / peer / "bin" / "python"
    if not path.exists():
        raise PreconditionFailed(f"{peer}: no environment {path.parent.parent}; make bench makes it")
    return path


def peer_versions(venvs: Path, peers: Sequence[str]) -> dict[str, str]:
    """What is installed of each peer, with the torch it computes with."""
    found = {}
    for peer in peers:
        names = f"'{DISTRIBUTIONS[peer]}', 'torch', 'numpy'"
        code = f"from importlib.metadata import version as v; [print(n, v(n)) for n in ({names})]"
        command = [str(interpreter(venvs, peer)), "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if result.returncode:
            raise PreconditionFailed(f"{peer}: its environment is not complete; make bench completes it")
        found[peer] = ", ".join(result.stdout.splitlines())
    return found
