"""Fork processes that have imported Hydra and the product: the parent of those that client.py asks for.

    server.py SOCKET PYTHON

PYTHON is what forks take for their interpreter. Ends with its standard input, and its forks with it.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import inspect
import io
import marshal
import os
import pkgutil
import re
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
import types
import warnings
from importlib.machinery import BuiltinImporter, SourceFileLoader
from typing import Any, cast

# programs rather than modules, what needs a package that is not there, and what programs and jobs do without
_LEFT_OUT = re.compile(r"tests|__main__|local_queue|launcher_shim|optuna.*_impl|mlxp_core\.reader")
# within functions, by launches, jobs and commands
_IMPORTED_LATE = ("git", "filelock", "orjson", "typer._adapters", "rich.table", "rich.console", "cloudpickle")
_TAKEN_BY_LIBC = {32, 33}


def preload() -> None:
    """Import what programs, jobs and commands import, and fill the caches that any program of Hydra's fills."""
    from hydra import compose, initialize
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.plugins import Plugins
    from hydra.core.singleton import Singleton

    Plugins.instance()  # first: its search runs modules that are there already again, and classes would come twice
    known = set(Singleton._instances)
    for package in ("hydra._internal", "hydra.core", "hydra.plugins", "hydra_plugins", "mlxp_core"):
        top = importlib.import_module(package)
        for module in pkgutil.walk_packages(top.__path__, f"{package}."):
            if not _LEFT_OUT.search(module.name):
                importlib.import_module(module.name)
    for name in _IMPORTED_LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with initialize(version_base=None):
        compose(
            overrides=["+a.b=1", "+c=[1,'x y',{d: null}]", "hydra/launcher=mlxp_local", "~a"], return_hydra_config=True
        )
    OverridesParser.create().parse_overrides(["a=1,2", "b=range(1,3)", "hydra.run.dir='a\\'b'"])
    for kind in set(Singleton._instances) - known:
        del Singleton._instances[kind]
    inspect.stack()


class Server:
    """Forks for whoever connects, and tells them how the fork has ended."""

    def __init__(self, place: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(place)
        self._listening.listen(64)
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wakes, False)
        signal.set_wakeup_fd(self._wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for file in (self._listening, self._woken, 0):
            self._selector.register(file, selectors.EVENT_READ)
        self._clients: dict[socket.socket, int] = {}  # and the process of each

    def serve(self) -> dict[str, Any]:
        """Return in the forks alone, with the request."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    self._end()
                elif key.fileobj == self._woken:
                    os.read(self._woken, 4096)
                elif key.fileobj is self._listening:
                    if request := self._accept():
                        return request
                elif key.fileobj in self._clients:  # it was killed, and stands for its fork
                    client = cast("socket.socket", key.fileobj)
                    self._selector.unregister(client)
                    os.kill(self._clients[client], signal.SIGKILL)
            self._reap()

    def _accept(self) -> dict[str, Any] | None:
        """Fork for a client; None here, and the request in the fork."""
        client, _ = self._listening.accept()
        request, files = receive(client)
        if request is None:
            client.close()
            return None
        pid = os.fork()
        if pid == 0:
            self._leave(client)
            for number, file in enumerate(files):
                os.dup2(file, number)
        for file in files:
            os.close(file)
        if pid == 0:
            return request
        self._clients[client] = pid
        self._selector.register(client, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # it has gone, which select says too
            client.sendall(pid.to_bytes(4, "big"))
        return None

    def _leave(self, client: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in (self._listening, client, *self._clients, self._selector):
            file.close()
        os.close(self._woken)
        os.close(self._wakes)

    def _reap(self) -> None:
        processes = {pid: client for client, pid in self._clients.items()}
        while self._clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            client = processes[pid]
            del self._clients[client]
            with contextlib.suppress(KeyError):  # where the client went first
                self._selector.unregister(client)
            with contextlib.suppress(OSError):
                client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
            client.close()

    def _end(self) -> None:
        for pid in self._clients.values():
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def receive(client: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Read a request and the files that come with it."""
    size, extra, _, _ = client.recvmsg(4, socket.CMSG_SPACE(12))
    if not extra:
        return None, []
    files = array.array("i")
    files.frombytes(extra[0][2])
    left = int.from_bytes(size, "big")
    pieces = []
    while left and (piece := client.recv(left)):
        pieces.append(piece)
        left -= len(piece)
    return (None if left else marshal.loads(b"".join(pieces))), list(files)


def become(request: dict[str, Any], python: str) -> None:
    """Take on what the client is."""
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["directory"])
    os.umask(request["umask"])
    take_on_settings()
    take_on_signals(request["ignored"])
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "MLXP_SUB" in os.environ:  # for which the plugin's configuration looks when it is imported
        importlib.import_module("hydra_plugins.mlxp._mlxpsub_hooks").watch()
    importlib.invalidate_caches()
    sys.executable = python
    sys.orig_argv = [python, *request["arguments"]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    main.__loader__ = BuiltinImporter  # type: ignore[assignment]
    if "__mp_main__" in sys.modules:  # which multiprocessing makes of it when it is imported
        sys.modules["__mp_main__"] = main


def take_on_settings() -> None:
    """Do what the interpreter does for the variables that it reads when it starts."""
    warnings._processoptions(os.environ.get("PYTHONWARNINGS", "").split(","))  # type: ignore[attr-defined]
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if os.environ.get("PYTHONUNBUFFERED"):
        for stream in (sys.stdout, sys.stderr):
            cast("io.TextIOWrapper", stream).reconfigure(write_through=True)


def take_on_signals(ignored: list[int]) -> None:
    """Have the signals that the client ignores ignored, and the others as a new interpreter has them."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - _TAKEN_BY_LIBC:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else usual)


def start(command: str, arguments: list[str]) -> None:
    """Run what a command line says, with the sys.argv and sys.path that it gives."""
    main = sys.modules["__main__"]
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = [*map(os.path.abspath, inherited), *sys.path[1:]]
    if command == "python" and arguments[0] == "-c":
        sys.argv, sys.path[:] = ["-c", *arguments[2:]], ["", *path]
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
        return
    if command == "python" and arguments[0] == "-m":
        sys.argv, sys.path[:] = ["-m", *arguments[2:]], [os.getcwd(), *path]
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
        return
    sys.argv = arguments if command == "python" else [command, *arguments]
    file = os.path.abspath(sys.argv[0])
    sys.path[:] = [os.path.dirname(os.path.realpath(file)), *path]
    main.__file__ = file
    main.__loader__ = SourceFileLoader("__main__", file)
    with open(file, "rb") as program:
        text = program.read()
    exec(compile(text, file, "exec"), main.__dict__)


def execute(command: str, arguments: list[str]) -> int:
    """Run the program and what the interpreter runs at its end, but for taking down modules; give its exit code.

    Taking down what was imported before the fork would copy all of the server's memory.
    """
    exit_code = 0
    names = sys.modules["__main__"].__dict__
    try:
        start(command, arguments)
    except SystemExit as error:
        exit_code = exit_code_of(error.code)
    except BaseException as error:  # noqa: BLE001  (as the interpreter does)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        exit_code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    names.clear()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    return exit_code


def exit_code_of(code: object) -> int:
    """What the interpreter makes of the argument of sys.exit."""
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def main() -> None:
    """Serve; in a fork, be the program that was asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    gc.collect()
    gc.freeze()
    server = Server(sys.argv[1])
    os.write(1, b"!")
    os.dup2(2, 1)
    python = sys.argv[2]
    request = server.serve()
    become(request, python)
    exit_code = execute(request["command"], request["arguments"])
    if exit_code < 0:
        signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    os._exit(exit_code)


if __name__ == "__main__":
    main()
