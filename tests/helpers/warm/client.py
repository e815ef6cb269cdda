"""Stand in for ``python``, or a command that pip made: have the warm server fork a process that has imported Hydra.

    client.py SOCKET PYTHON STATE COMMAND ARGUMENTS…

COMMAND is ``python``, or the path of a command of the environment. PYTHON itself runs what a fork cannot be: other
options of the interpreter, a terminal, another user, other limits or namespaces (STATE has the server's), inherited
files. Signals are handed on, and who kills this process kills the fork. Imports what the interpreter has built in, and
nothing else: this is what a start costs.
"""

import _signal
import _socket
import marshal
import posix
import sys

_HANDED_ON = {
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGCONT,
}
# variables that the interpreter, or its libraries, read when they start; but for those that a fork can take on
_READ_AT_START = ("PYTHON", "LC_", "LANG", "COVERAGE_", "LD_", "MALLOC")
_TAKEN_ON = {"PYTHONPATH", "PYTHONWARNINGS", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
_OWN = {"sitecustomize.py", "usercustomize.py", "hydra_plugins"}  # what a folder may hold that is imported at the start
_UTF8 = {"", "C", "POSIX", "C.UTF-8", "C.utf8"}  # https://peps.python.org/pep-0538/


def state(environment: "dict[str, str]") -> str:
    """What a fork takes over from the server, and must be the same here."""
    settings = sorted(
        (name, value)
        for name, value in environment.items()
        if name.startswith(_READ_AT_START) and name not in _TAKEN_ON and not (name[0] == "L" and value in _UTF8)
    )
    with open("/proc/self/limits") as file:
        limits = file.read()
    namespaces = [posix.readlink(f"/proc/self/ns/{name}") for name in sorted(posix.listdir("/proc/self/ns"))]
    user = [posix.getresuid(), posix.getresgid(), posix.getgroups(), posix.nice(0), sorted(posix.sched_getaffinity(0))]
    return repr([settings, limits, namespaces, user])


def can_be_forked(command: str, arguments: "list[str]", environment: "dict[str, str]") -> bool:
    """Tell whether this is a file, a module or a text, without options and inherited files."""
    files = set(posix.listdir("/proc/self/fd"))
    if not {"0", "1", "2"} <= files or len(files) > 4:  # one is that of the listing
        return False
    if any(map(posix.isatty, (0, 1, 2))):  # it asks for the foreground of its terminal, where a fork is not
        return False
    if command == "python" and (not arguments or (arguments[0][:1] == "-" and arguments[0] not in {"-c", "-m"})):
        return False
    script = arguments[0] if command == "python" and arguments[0][0] != "-" else ""
    folders = [*environment.get("PYTHONPATH", "").split(":"), script.rpartition("/")[0] or "."]
    return not any(_OWN & set(listing(folder)) for folder in folders)


def listing(folder: str) -> "list[str]":
    """Names in a folder; none where there is no such folder."""
    try:
        return posix.listdir(folder) if folder else []
    except OSError:
        return []


def ask(server: "_socket.socket", command: str, arguments: "list[str]", environment: "dict[str, str]") -> None:
    """Send what the fork is to be."""
    umask = posix.umask(0)
    posix.umask(umask)
    request = {
        "command": command,
        "arguments": arguments,
        "environment": environment,
        "directory": posix.getcwd(),
        "umask": umask,
        "ignored": [int(number) for number in _signal.valid_signals() if _signal.getsignal(number) == _signal.SIG_IGN],
    }
    data = marshal.dumps(request)
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    server.sendmsg([len(data).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    server.sendall(data)


def hand_on(fork: int) -> None:
    """Have the fork get the signals that come here, but for those that are ignored."""

    def send(number: int, _: object) -> None:
        try:  # noqa: SIM105  (nothing is imported here)
            posix.kill(fork, number)
        except ProcessLookupError:
            pass

    for number in _HANDED_ON:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, send)


def main() -> None:
    """Have the server fork, and end as the fork ends; or be the interpreter."""
    place, python, servers_state, command, *arguments = sys.argv[1:]
    environment = {
        name.decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
        for name, value in posix.environ.items()
    }
    real = [python, *arguments] if command == "python" else [command, *arguments]
    if not can_be_forked(command, arguments, environment) or state(environment) != servers_state:
        posix.execv(real[0], real)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _HANDED_ON)
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        server.connect(place)
    except OSError:  # it has gone
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _HANDED_ON)
        posix.execv(real[0], real)
    ask(server, command, arguments, environment)
    hand_on(int.from_bytes(server.recv(4), "big"))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _HANDED_ON)
    answer = server.recv(4)
    code = int.from_bytes(answer, "big", signed=True) if answer else -_signal.SIGKILL
    if code < 0:
        if code != -_signal.SIGKILL:
            _signal.signal(-code, _signal.SIG_DFL)
        posix.kill(posix.getpid(), -code)
    posix._exit(code)


if __name__ == "__main__":
    main()
