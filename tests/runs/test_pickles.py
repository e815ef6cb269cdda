"""Pickles: what of a program travels in them, and what comes out in another one."""

from __future__ import annotations

import base64
import enum
import fractions
import io
import pickle
import random
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mlxp_core.errors import ArtifactError, ArtifactTypeError
from mlxp_core.runs import pickles

# dill 0.4.1, Python 3.11: class Model with w = [1, 2] and total(), of main.py; {"schedule": lambda e: 0.5 ** e}
BY_DILL = base64.b64decode(
    "gASVLwMAAAAAAAB9lCiMBW1vZGVslIwKZGlsbC5fZGlsbJSMDF9jcmVhdGVfdHlwZZSTlChoAowKX2xvYWRfdHlwZZSTlIwEdHlwZZSFlFKUjAVN"
    "b2RlbJRoBowGb2JqZWN0lIWUUpSFlH2UKIwKX19tb2R1bGVfX5SMCF9fbWFpbl9flIwIX19pbml0X1+UaAKMEF9jcmVhdGVfZnVuY3Rpb26Uk5Qo"
    "aAKMDF9jcmVhdGVfY29kZZSTlChDAJRLAUsASwBLAUsCSwNDGJcAZAFkAmcCfABfAAAAAAAAAAAAZABTAJROSwFLAoeUjAF3lIWUjARzZWxmlIWU"
    "jCEvdG1wL3cvaTE4ZC10L3RtcGYzM2hvNzdmL21haW4ucHmUaBKMDk1vZGVsLl9faW5pdF9flEsEQxCAAKAhoFGgFpgEnAaYBpgGlGgXKSl0lFKU"
    "Y19fYnVpbHRpbl9fCl9fbWFpbl9fCmgSTk50lFKUfZR9lCiMD19fYW5ub3RhdGlvbnNfX5R9lIwMX19xdWFsbmFtZV9flGgfdYaUYowFdG90YWyU"
    "aBQoaBYoaBdLAUsASwBLAUsDSwNDKpcAdAEAAAAAAAAAAAAAfABqAQAAAAAAAAAApgEAAKsBAAAAAAAAAABTAJROhZSMA3N1bZRoGoaUaByFlGge"
    "aCuMC01vZGVsLnRvdGFslEsFQw+AAJ1DoASkBplLnEvQFSeUaBcpKXSUUpRjX19idWlsdGluX18KX19tYWluX18KaCtOTnSUUpR9lH2UKGgnfZRo"
    "KWgxdYaUYowHX19kb2NfX5ROjA1fX3Nsb3RuYW1lc19flF2UdXSUUpSMCGJ1aWx0aW5zlIwHc2V0YXR0cpSTlGg/aCloCoeUUjApgZR9lGgaXZQo"
    "SwFLAmVzYowIc2NoZWR1bGWUaBQoaBYoaBdLAUsASwBLAUsCSwNDDJcAZAF8AHoIAABTAJRORz/gAAAAAAAAhpQpjAFllIWUaB6MCDxsYW1iZGE+"
    "lGhMSwZDCoAAsDO4IbE4gACUaBcpKXSUUpRjX19idWlsdGluX18KX19tYWluX18KaExOTnSUUpR9lH2UaCd9lHOGlGJ1Lg=="
)


def dumps(artifact: Any) -> bytes:
    stream = io.BytesIO()
    pickles.dump(artifact, stream, "the/place")
    return stream.getvalue()


def loads(data: bytes, **options: Any) -> Any:
    return pickles.load(io.BytesIO(data), "the/place", **options)


def schedule(factor: float) -> Callable[[int], float]:
    return lambda epoch: factor**epoch


class LambdaLR:
    """As torch's: a state that holds the user's functions."""

    def __init__(self, function: Callable[[int], float]) -> None:
        self.lr_lambdas = [function]


class Transformation(NamedTuple):
    init: Callable[[int], int]
    update: Callable[[float], float]


def transformation(rate: float) -> Transformation:
    """As optax has them: a named tuple of local functions, one of which calls itself."""

    def init(depth: int) -> int:
        return 0 if depth == 0 else 1 + init(depth - 1)

    return Transformation(init, lambda gradient: -rate * gradient)


def local_class() -> Any:
    class Local:
        """Calls its base, which needs the cell of its class."""

        def __init__(self) -> None:
            super().__init__()
            self.w = 3

        def double(self) -> int:
            return 2 * self.w

    return Local()


@pytest.mark.parametrize(
    ("artifact", "use", "expected"),
    [
        (schedule(0.5), lambda found: found(2), 0.25),
        (LambdaLR(lambda epoch: 0.9**epoch), lambda found: found.lr_lambdas[0](2), 0.81),
        (transformation(0.1), lambda found: (found.init(3), found.update(2.0)), (3, -0.2)),
        (local_class(), lambda found: found.double(), 6),
        (enum.Enum("Phase", "TRAIN TEST"), lambda found: [one.name for one in found], ["TRAIN", "TEST"]),
        ({"a": 1}.keys(), list, ["a"]),
        (np, lambda found: found.zeros(1)[0], 0.0),
        (partial(lambda x, y: x - y, 3), lambda found: found(1), 2),
    ],
)
def test_what_pickle_refuses_travels_by_value(artifact: Any, use: Callable[[Any], Any], expected: Any) -> None:
    """Bug: AttributeError: Can't pickle local object, at the first checkpoint of a training."""
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(artifact)
    assert use(loads(dumps(artifact))) == pytest.approx(expected)


@pytest.mark.parametrize(
    "artifact",
    [
        {"epoch": 3, "loss": [0.5, float("inf")], "name": "a", "none": None, "raw": b"x"},
        {"w": np.arange(6).reshape(2, 3), "seed": np.int64(3)},
        [fractions.Fraction(1, 3), random.Random(0), Path("a"), len, fractions.Fraction, LambdaLR(len)],
        ["__main__", "a text that only looks like the program"],
    ],
)
def test_what_modules_hold_is_a_plain_pickle(artifact: Any) -> None:
    """Bug: a state_dict that only who has cloudpickle can read; another protocol, with a copy of each array."""
    assert dumps(artifact) == pickle.dumps(artifact, protocol=5)


def program(monkeypatch: pytest.MonkeyPatch, source: str, file: str | None = "/copy/main.py") -> types.ModuleType:
    """Have a program's source be ``__main__``."""
    module = types.ModuleType("__main__")
    if file is not None:
        module.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(source, vars(module))
    return module


SOURCE = """
import enum, dataclasses, abc
class Phase(enum.Enum):
    TRAIN = 1
class Base(abc.ABC):
    pass
@dataclasses.dataclass
class Trainer(Base):
    step: int = 0
    phase: Phase = Phase.TRAIN
    class Inner:
        pass
    def version(self):
        return VERSION
def relu(x):
    return max(x, 0)
def local():
    class Trainer:
        here = "local"
    return Trainer
def state():
    trainer = Trainer(3)
    return {"trainer": trainer, "phase": Phase.TRAIN, "relu": relu, "inner": Trainer.Inner(), "bound": trainer.version}
"""


@pytest.mark.parametrize("file", ["/copy/main.py", None])
def test_a_resumed_program_finds_its_own_classes_and_functions(
    monkeypatch: pytest.MonkeyPatch, file: str | None
) -> None:
    """Bug: isinstance is False, an enum is unequal to itself, and a mended method runs as it was before."""
    before = program(monkeypatch, "VERSION = 1" + SOURCE, file)
    data = dumps(before.state())
    after = program(monkeypatch, "VERSION = 2" + SOURCE, file and "/copy/of/another/version/main.py")
    found = loads(data)
    assert type(found["trainer"]) is after.Trainer
    assert (found["trainer"], found["trainer"].version(), found["bound"]()) == (after.Trainer(3), 2, 2)
    assert found["phase"] is after.Phase.TRAIN
    assert found["relu"] is after.relu
    assert type(found["inner"]) is after.Trainer.Inner


def test_a_class_of_another_program_is_not_taken_for_one_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the `Trainer` of eval.py, or of this function, in the place of the one that was saved."""
    saved = program(monkeypatch, "VERSION = 1" + SOURCE)
    data, of_function = dumps(saved.state()), dumps(saved.local())
    assert loads(of_function).here == "local"
    other = program(monkeypatch, "VERSION = 2" + SOURCE, "/copy/eval.py")
    found = loads(data)
    assert not isinstance(found["trainer"], other.Trainer)
    assert (found["trainer"].step, found["trainer"].version(), found["phase"].name) == (3, 1, "TRAIN")
    assert (found["relu"](-1), found["relu"] is other.relu) == (0, False)


def test_functions_of_another_python_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: byte code of Python 3.11 in 3.13 ends the process, or the whole checkpoint cannot be loaded for it."""
    here = "{}.{}".format(*sys.version_info[:2])
    module = program(monkeypatch, "VERSION = 1" + SOURCE)
    data = dumps([module.state(), schedule(0.5)]).replace(f"@{here}".encode(), b"@2.99")
    resumed = program(monkeypatch, "VERSION = 2" + SOURCE)
    state, function = loads(data)
    assert (state["relu"], state["trainer"].version()) == (resumed.relu, 2)
    with pytest.raises(
        ArtifactError, match=rf"schedule.<locals>.<lambda> was saved by Python 2.99 .* {here} cannot run"
    ):
        function(2)


def test_a_load_leaves_the_live_classes_of_its_own_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: looking at the best checkpoint sets each class back to what it was when that was saved."""
    module = program(monkeypatch, "VERSION = 1" + SOURCE)
    local = module.local()
    data = dumps([module.Trainer(), local()])
    module.Trainer.count, local.here = 5, "changed"
    trainer, other = loads(data)
    assert (type(trainer), type(other)) == (module.Trainer, local)
    assert (module.Trainer.count, local.here) == (5, "changed")


def test_a_spawned_worker_is_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a worker calls the program `__mp_main__`, which no other process has."""
    worker = types.ModuleType("__mp_main__")
    worker.__file__ = "/copy/main.py"
    for name in ("__main__", "__mp_main__"):
        monkeypatch.setitem(sys.modules, name, worker)
    exec("VERSION = 1" + SOURCE, vars(worker))
    data = dumps(worker.state())
    monkeypatch.delitem(sys.modules, "__mp_main__")
    resumed = program(monkeypatch, "VERSION = 2" + SOURCE)
    assert type(loads(data)["trainer"]) is resumed.Trainer
    program(monkeypatch, "", "/copy/eval.py")
    assert loads(data)["trainer"].version() == 1


def test_a_class_that_uses_what_no_pickle_holds_is_saved_by_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a lock at the top of main.py, and checkpoints that worked with pickle are refused."""
    source = "import threading\nlock = threading.Lock()\nclass Model:\n    def step(self):\n        with lock: return 4"
    module = program(monkeypatch, source)
    stream = io.BytesIO(b"before")
    stream.seek(6)
    pickles.dump(module.Model(), stream, "logs/7/artifacts/pickle/last")
    assert stream.getvalue()[6:] == pickle.dumps(module.Model(), protocol=5)
    assert "only a program that defines its classes can load logs/7/artifacts/pickle/last" in caplog.text
    assert "cannot pickle '_thread.lock' object" in caplog.text
    program(monkeypatch, "", "/copy/eval.py")
    with pytest.raises(
        ArtifactError, match="the/place names Model of the program that wrote it, and this program has none"
    ):
        loads(stream.getvalue()[6:])


def test_a_dataset_that_a_method_uses_is_said_to_travel_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: gigabytes at the top of main.py are in every checkpoint, and nobody knows why."""
    module = program(monkeypatch, "class Trainer:\n    def step(self):\n        return data, small")
    module.data, module.small = np.zeros(2**25, np.int16), np.zeros(3)
    for _ in range(2):
        assert len(dumps(module.Trainer())) > 2**26
    (message,) = caplog.messages
    assert message.startswith("Trainer.step is saved with data of its module, which it uses: 67 MB in each pickle")


def test_what_both_refuse_is_refused_with_the_place_and_the_reason() -> None:
    """Bug: TypeError: cannot pickle '_thread.lock' object, of which checkpoint nobody knows; half a pickle."""
    stream = io.BytesIO()
    with pytest.raises(
        ArtifactTypeError, match=r"the/place cannot be saved as a pickle: .*'_thread.lock' object. Save what"
    ):
        pickles.dump({"lock": threading.Lock()}, stream, "the/place")
    with pytest.raises(TypeError):
        dumps(x for x in "ab")


class Refuses:
    def __reduce__(self) -> Any:
        raise KeyError("of the user's own")


def test_other_errors_come_through() -> None:
    """Bug: an error of the user's __reduce__, or a full disk, taken for a refusal of pickle's."""
    with pytest.raises(KeyError, match="of the user's own"):
        dumps([Refuses()])

    class Full(io.BytesIO):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.errors = [error]

        def write(self, _: Any) -> int:
            if self.errors:  # there is room once, for whoever tries again
                raise self.errors.pop()
            return 0

    for error in (OSError(28, "No space left on device"), MemoryError("none left")):
        with pytest.raises(type(error), match="left"):
            pickles.dump([1], Full(error), "the/place")


def test_a_stream_stands_at_the_end_of_what_was_written_and_of_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: what follows a pickle of the other kind is overwritten, or read as a part of it."""
    module = program(monkeypatch, "VERSION = 1" + SOURCE)
    for artifact in ([1], module.Trainer(1), schedule(0.5)):
        stream = io.BytesIO()
        pickles.dump(artifact, stream, "the/place")
        stream.write(b"\n{}")
        stream.seek(0)
        pickles.load(stream, "the/place")
        assert stream.read() == b"\n{}"


def test_a_pickle_of_dills_says_what_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: No module named '__builtin__'; install what its writer had."""
    monkeypatch.setitem(sys.modules, "dill", None)
    with pytest.raises(ArtifactError, match=r"the/place was written by dill, as MLXP 1.0 does, .*`pip install dill`"):
        loads(BY_DILL)
    with pytest.raises(ArtifactError, match="dill"):
        loads(b"\x80\x04c__builtin__\n__main__\n.")


def test_where_dill_is_it_loads_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: dill is installed, and its pickles are loaded by pickle all the same; or from where that has stopped."""

    class Unpickler(pickle.Unpickler):
        """What dill adds for these."""

        def find_class(self, module: str, name: str) -> Any:
            return vars(sys.modules["__main__"]) if module == "__builtin__" else super().find_class(module, name)

    monkeypatch.setitem(sys.modules, "dill", types.SimpleNamespace(Unpickler=Unpickler))
    stream = io.BytesIO(b"before\x80\x04]c__builtin__\n__main__\na.after")
    stream.seek(6)
    assert pickles.load(stream, "the/place") == [vars(sys.modules["__main__"])]
    assert stream.read() == b"after"


def test_dill_loads_what_it_has_written() -> None:
    """Bug: the stand-in above does it, and dill does not."""
    pytest.importorskip("dill")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the byte code in it is of Python 3.11")
    found = loads(BY_DILL)
    assert (found["model"].total(), found["schedule"](1)) == (3, 0.5)


def test_a_pickle_of_python_2_needs_no_dill() -> None:
    """Bug: its `__builtin__` is Python's own, and pickle knows that."""
    assert loads(b"\x80\x02c__builtin__\nset\n]K\x01a\x85R.") == {1}


class Torch(types.ModuleType):
    """What torch does of tensors in a pickle, on a machine with a CPU and `cuda:0`."""

    OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})

    def __init__(self) -> None:
        super().__init__("torch")
        self.serialization = types.SimpleNamespace(default_restore_location=self.restore)
        self.storage = types.ModuleType("torch.storage")
        vars(self.storage)["_load_from_bytes"] = lambda data: self.load(io.BytesIO(data), weights_only=False)
        self.storage._load_from_bytes.__module__ = "torch.storage"
        self.storage._load_from_bytes.__qualname__ = "_load_from_bytes"

    def restore(self, storage: str, location: str) -> str:
        if location == "cuda:0/full":
            raise self.OutOfMemoryError("CUDA out of memory")
        if location not in {"cpu", "cuda:0"}:
            raise RuntimeError(f"Attempting to deserialize object on {location}")
        return f"{storage} on {location}"

    def load(self, stream: Any, *, map_location: Any = None, weights_only: bool = True) -> str:
        assert not weights_only
        storage, location = stream.read().decode().split(" of ")
        if callable(map_location):
            found = map_location(f"{storage} on cpu", location)
            return found.replace("on cpu on", "on")
        return f"{storage} on {map_location}" if map_location else self.restore(storage, location)


class Tensor:
    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        return (sys.modules["torch.storage"]._load_from_bytes, (self.text.encode(),))


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Torch:
    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.storage", torch.storage)
    return torch


@pytest.mark.parametrize(
    ("location", "options", "found"),
    [
        ("cpu", {}, "w on cpu"),
        ("cuda:0", {}, "w on cuda:0"),
        ("cuda:3", {}, "w on cpu"),
        ("xpu", {}, "w on cpu"),
        ("cuda:3", {"map_location": "cuda:0"}, "w on cuda:0"),
    ],
)
def test_tensors_of_a_device_that_is_not_here_come_to_the_cpu(
    torch: Torch, location: str, options: dict[str, Any], found: str
) -> None:
    """Bug: a checkpoint of a GPU cannot be looked at on a laptop; or all tensors are on the CPU, always."""
    assert loads(dumps([Tensor(f"w of {location}")]), **options) == [found]


def test_a_gpu_that_is_full_is_not_one_that_is_absent(torch: Torch) -> None:
    """Bug: a training that goes on, on the CPU, a hundred times slower."""
    with pytest.raises(torch.OutOfMemoryError):
        loads(dumps([Tensor("w of cuda:0/full")]))


def test_another_process_loads_the_classes_of_the_program(tmp_path: Path) -> None:
    """Bug: Can't get attribute 'Model' on <module '__main__'>, in every notebook that looks at a run."""
    (tmp_path / "main.py").write_text(
        "from mlxp_core.runs import pickles\n"
        "SCALE = 10\n"
        "class Base:\n    def __init__(self): self.w = 4\n"
        "class Model(Base):\n    def __init__(self):\n        super().__init__()\n"
        "    def forward(self, x): return SCALE * self.w + x\n"
        "if __name__ == '__main__':\n"
        "    with open('model', 'wb') as file: pickles.dump(Model(), file, 'model')\n"
    )
    (tmp_path / "eval.py").write_text("import pickle\nprint(pickle.load(open('model', 'rb')).forward(2))\n")
    subprocess.run([sys.executable, "main.py"], cwd=tmp_path, check=True, timeout=60)
    found = subprocess.run([sys.executable, "eval.py"], cwd=tmp_path, check=True, timeout=60, stdout=subprocess.PIPE)
    assert found.stdout == b"42\n"
    with (tmp_path / "model").open("rb") as file:
        assert pickles.load(file, "model").forward(2) == 42
