"""Artifacts: saved whole, loaded by their type."""

from __future__ import annotations

import json
import math
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxp_core.errors import ArtifactError, ArtifactNotFoundError, ArtifactTypeError
from mlxp_core.recording.run import Run


@pytest.mark.parametrize(
    ("kind", "artifact"),
    [
        ("pickle", {"a": (1, 2)}),
        ("json", {"a": [1, 2]}),
        ("text", "ünï\r\nline"),
        ("numpy", np.arange(6).reshape(2, 3)),
    ],
)
def test_artifacts_come_back_as_they_were(run: Run, kind: str, artifact: object) -> None:
    """Bug: np.save adds .npy to the name; text mode changes line ends."""
    path = run.log_artifacts(artifact, "thing", kind)
    assert path == run.dir / "artifacts" / kind / "thing"
    assert os.listdir(path.parent) == ["thing"]
    np.testing.assert_equal(run.load_artifacts("thing"), artifact)


def test_arrays_by_name_come_back_by_name(run: Run) -> None:
    """Bug: a lazy NpzFile whose file is closed or stays open."""
    run.log_artifacts({"w": np.ones(3), "b": np.zeros(1)}, "weights", "numpy")
    loaded = run.load_artifacts("weights", "numpy")
    assert sorted(loaded) == ["b", "w"]
    np.testing.assert_array_equal(loaded["w"], np.ones(3))


def test_a_failed_save_leaves_the_earlier_artifact(run: Run) -> None:
    """Bug: open(path, "w") first, serialise afterwards."""
    run.log_artifacts({"a": 1}, "thing", "json")
    with pytest.raises(TypeError):
        run.log_artifacts({"a": object()}, "thing", "json")
    assert run.load_artifacts("thing") == {"a": 1}
    assert os.listdir(run.dir / "artifacts" / "json") == ["thing"]


def test_unknown_types_missing_artifacts_and_escapes_are_errors_that_say_what_there_is(run: Run) -> None:
    """Bug: KeyError: 'pickel'."""
    run.log_artifacts([1], "thing", "json")
    with pytest.raises(ArtifactError, match="known ones are pickle, json"):
        run.log_artifacts(1, "x", "pickel")
    with pytest.raises(FileNotFoundError, match="there are: json/thing"):
        run.load_artifacts("other")
    with pytest.raises(ArtifactError, match="outside"):
        run.log_artifacts(1, "../../../etc/x", "json")
    with pytest.raises(ArtifactNotFoundError, match="no checkpoint"):
        run.load_checkpoint()


def test_an_own_type_of_artifact_is_saved_and_loaded_by_its_functions(run: Run) -> None:
    """Bug: a type that only the saving process can find."""

    def save(text: str, path: str) -> None:
        Path(path).write_text(text.upper())

    run.register_artifact_type("shout", save, lambda path: Path(path).read_text() + "!")
    run.log_artifacts("hey", "x", "shout")
    assert run.load_artifacts("x") == "HEY!"


def save_pretrained(model: dict[str, Any], path: str) -> None:
    """As transformers does."""
    Path(path).mkdir(parents=True, exist_ok=True)
    Path(path, "config.json").write_text(json.dumps(model["config"]))
    if model["weights"] is None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    Path(path, "model.safetensors").write_bytes(model["weights"])


def from_pretrained(path: str, dtype: str = "float32") -> Any:
    return json.loads(Path(path, "config.json").read_text()), Path(path, "model.safetensors").read_bytes(), dtype


def test_a_model_that_is_a_folder_is_saved_whole_each_time(run: Run) -> None:
    """Bug: OSError: Directory not empty at the second save, and IsADirectoryError in the place of the saver's error."""
    run.register_artifact_type("model", save_pretrained, from_pretrained)
    for layers in (1, 2):
        path = run.log_artifacts({"config": {"layers": layers}, "weights": bytes([layers])}, "bert", "model")
        assert run.load_artifacts("bert") == ({"layers": layers}, bytes([layers]), "float32")
    with pytest.raises(RuntimeError, match=r"^CUDA error: an illegal"):
        run.log_artifacts({"config": {}, "weights": None}, "bert", "model")
    assert run.load_artifacts("bert", dtype="float16") == ({"layers": 2}, b"\2", "float16")
    assert sorted(os.listdir(path)) == ["config.json", "model.safetensors"]
    assert os.listdir(path.parent) == ["bert"]
    with pytest.raises(FileNotFoundError, match=r"there are: model/bert$"):
        run.load_artifacts("other")


def test_a_type_must_be_found_by_readers(run: Run) -> None:
    """Bug: artifacts of the type `.cache`, which no reader lists."""
    for name in ("", ".cache", "a/b"):
        with pytest.raises(ArtifactError, match="cannot be the name of a folder"):
            run.register_artifact_type(name, save_pretrained, from_pretrained)


NAMES = ["file", "allow_pickle", "args", "kwds", "self", "", "a b", "a/b", "a", "a.npy", "ü", "x" * 300]


def test_arrays_have_any_names(run: Run) -> None:
    """Bug: TypeError: savez() got multiple values for argument 'file'; or of "a" and "a.npy" the wrong one."""
    arrays = {name: np.array(number) for number, name in enumerate(NAMES)}
    path = run.log_artifacts(arrays, "weights", "numpy")
    assert {name: int(value) for name, value in run.load_artifacts("weights").items()} == {
        name: number for number, name in enumerate(NAMES)
    }
    with np.load(path) as loaded:  # by numpy itself
        assert (int(loaded["file"]), int(loaded["allow_pickle"])) == (0, 1)
    assert run.load_artifacts("weights", allow_pickle=True)["file"] == 0


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "ü"]),
        np.array([b"a"]),
        np.array(["2024-01-01"], "datetime64[ns]"),
        np.array([(1, 2.0)], [("a", "<i4"), ("b", ">f8")]),
        np.array([1 + 2j, np.nan]),
        np.zeros((0, 3), "f2"),
        np.array(True),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
    ],
)
def test_arrays_of_numbers_text_and_times_come_back_with_their_type(run: Run, array: Any) -> None:
    """Bug: what is refused below takes these along."""
    run.log_artifacts(array, "x", "numpy")
    run.log_artifacts({"x": array}, "by name", "numpy")
    for loaded in (run.load_artifacts("x"), run.load_artifacts("by name")["x"]):
        np.testing.assert_array_equal(loaded, array)
        assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.array([{1: 2}, None], dtype=object), "an array of object"),
        (np.array([(1, None)], [("a", "i4"), ("b", "O")]), "an array of "),
        ([None, 1], "this list is an array of object"),
        ({"nested": {"w": np.ones(2)}}, "'nested': .* this dict is an array of object"),
        (np.ma.masked_greater([1, 9], 5), "no mask"),
        ({3: np.ones(2)}, "3 is no text: use '3'"),
    ],
)
def test_what_a_numpy_file_cannot_hold_is_refused_when_it_is_saved(run: Run, array: Any, why: str) -> None:
    """Bug: saved, and then: Object arrays cannot be loaded; a masked value that comes back as a number."""
    with pytest.raises(ArtifactTypeError, match=rf"artifacts/numpy/x.*{why}"):
        run.log_artifacts(array, "x", "numpy")
    with pytest.raises(ArtifactTypeError, match=rf"artifacts/numpy/x.*{why}"):
        run.log_artifacts(array if isinstance(array, dict) else {"a": array}, "x", "numpy")
    assert os.listdir(run.dir / "artifacts" / "numpy") == []


def test_object_arrays_of_others_are_loaded_when_the_caller_says_so(run: Run) -> None:
    """Bug: ValueError, of a file that an earlier version has written without a word; or a pickle run unasked."""
    run.log_artifacts(1, "x", "numpy")
    objects = np.array([{1: 2}], dtype=object)
    for save in (lambda file: np.save(file, objects), lambda file: np.savez(file, a=objects)):
        with run.layout.artifact_file("numpy", "x").open("wb") as file:
            save(file)
        with pytest.raises(ArtifactError, match=r"numpy/x holds Python objects, .*: if you trust its writer"):
            run.load_artifacts("x")
    assert run.load_artifacts("x", allow_pickle=True)["a"][0] == {1: 2}


def strictly(text: str) -> Any:
    """JSON as the standard has it."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_what_is_not_finite_survives(run: Run) -> None:
    """Bug: a bare NaN, which jq, browsers and most languages refuse; or a text that comes back as a number."""
    tricky = ['"NaN"', "NaN", 'x"NaN', "\\", '\\"NaN\\"', "Infinity", "-Infinity", "NaN: 1", 'NaN":', ", NaN,"]
    report = {"loss": [float("nan"), math.inf, -math.inf, 1e400, 0.1], "NaN": {"Infinity": "NaN"}, "texts": tricky}
    path = run.log_artifacts(report, "report", "json")
    strict = strictly(path.read_text())
    assert strict["loss"] == ["NaN", "Infinity", "-Infinity", "Infinity", 0.1]
    assert (strict["texts"], strict["NaN"]) == (tricky, {"Infinity": "NaN"})
    loaded = run.load_artifacts("report")
    assert math.isnan(loaded["loss"][0])
    assert loaded["loss"][1:] == [math.inf, -math.inf, math.inf, 0.1]
    assert (loaded["texts"], loaded["NaN"]) == (tricky, {"Infinity": "NaN"})
    path.write_text('{"loss": NaN, "of an earlier version": [-Infinity]}')
    assert str(run.load_artifacts("report")) == "{'loss': nan, 'of an earlier version': [-inf]}"


PNG = b"\x89PNG\r\n\x1a\n"


class Figure:
    """What matplotlib 3.11's figure does with a path and a format."""

    def savefig(self, path: str, *, bbox_inches: str, format: str | None = None) -> None:  # noqa: A002
        ending = format or Path(path).suffix[1:] or "png"
        if ending not in {"png", "jpg", "jpeg", "pdf", "svg", "svgz"}:
            raise ValueError(f"Format {ending!r} is not supported")
        if not format and not Path(path).suffix:
            path += ".png"
        Path(path).write_bytes(PNG if ending == "png" else ending.encode())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("loss", PNG),
        ("loss.png", PNG),
        ("loss.PNG", PNG),
        ("v1.2", PNG),
        ("lr=0.1", PNG),
        ("epoch.3", PNG),
        ("a.b/c", PNG),
        ("loss.", PNG),
        ("loss.pdf", b"pdf"),
        ("loss.JPEG", b"jpeg"),
        ("v1.2.svg", b"svg"),
    ],
)
def test_a_figure_has_the_format_that_its_name_ends_in_and_else_is_png(run: Run, name: str, content: bytes) -> None:
    """Bug: the last plot of a training ends it: Format '3f2a' is not supported, a part of a name of ours."""
    path = run.log_artifacts(Figure(), name, "image")
    assert path == run.dir / "artifacts" / "image" / name
    assert path.read_bytes() == content


def test_an_image_is_loaded_by_what_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a PNG without its ending comes back as bytes of 0 to 255, and with it as floats of 0 to 1."""

    def imread(path: str, format: str | None = None) -> str:  # noqa: A002
        if Path(path).suffix == ".pdf":
            raise OSError("cannot identify image file")
        return f"{Path(path).name} as {format}"

    monkeypatch.setitem(sys.modules, "matplotlib", types.SimpleNamespace(image=types.SimpleNamespace(imread=imread)))
    for name in ("v1.2", "loss.jpg", "loss.pdf"):
        run.log_artifacts(Figure(), name, "image")
    assert run.load_artifacts("v1.2") == "v1.2 as png"
    assert run.load_artifacts("loss.jpg") == "loss.jpg as None"
    with pytest.raises(ArtifactError, match=r"image/loss.pdf has no pixels .* open the file itself"):
        run.load_artifacts("loss.pdf")


def test_what_is_no_figure_is_refused(run: Run) -> None:
    """Bug: AttributeError: 'numpy.ndarray' object has no attribute 'savefig'."""
    with pytest.raises(ArtifactTypeError, match=r"artifacts/image/x: .* this is numpy.ndarray: .* the type numpy"):
        run.log_artifacts(np.zeros((2, 2)), "x", "image")


def test_torch_loads_where_the_file_says_or_the_caller(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: RuntimeError on each machine without that GPU. What the default does: tests/runs/test_pickles.py."""

    def save(artifact: Any, path: str) -> None:
        Path(path).write_text(str(artifact))

    def load(path: str, **options: Any) -> Any:
        return Path(path).read_text(), options

    def restore(storage: str, location: str) -> str:
        if location != "cuda:0":
            raise RuntimeError("not here")
        return f"{storage} on {location}"

    torch = types.SimpleNamespace(
        save=save, load=load, serialization=types.SimpleNamespace(default_restore_location=restore)
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    run.log_artifacts("w", "v1.2", "torch")
    content, options = run.load_artifacts("v1.2")
    assert (content, options["weights_only"]) == ("w", False)
    assert options["map_location"]("w", "cuda:0") == "w on cuda:0"
    assert options["map_location"]("w", "cuda:3") == "w"
    assert run.load_artifacts("v1.2", map_location="cuda:1", mmap=True)[1] == {
        "weights_only": False,
        "map_location": "cuda:1",
        "mmap": True,
    }


def test_torch_saves_local_functions_by_cloudpickle(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a scheduler with a lambda is refused as a torch file and taken as a pickle."""
    saved = []

    def save(artifact: Any, path: str, pickle_module: Any = None) -> None:
        if pickle_module is None:
            raise AttributeError("Can't pickle local object")
        Path(path).touch()
        saved.append(pickle_module.__name__)

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(save=save))
    run.log_artifacts(1, "x", "torch")
    assert saved == ["cloudpickle"]


def test_a_json_artifact_holds_what_its_values_are(run: Run) -> None:
    """Bug: `Object of type ndarray is not JSON serializable`; the token NaN, which is no JSON; one of two keys gone."""
    path = run.log_artifacts(
        {"a": np.arange(3), "b": np.float32(0.5), "c": {2, 1}, "d": Path("x"), "e": [math.nan, -math.inf], True: None},
        "values",
        "json",
    )

    def no_json(token: str) -> None:
        raise AssertionError(token)

    written = json.loads(path.read_text(), parse_constant=no_json)
    assert written == {
        "a": [0, 1, 2],
        "b": 0.5,
        "c": [1, 2],
        "d": "x",
        "e": ["NaN", "-Infinity"],
        "true": None,
    }
    loaded = run.load_artifacts("values")
    assert math.isnan(loaded["e"][0])
    assert loaded["e"][1] == -math.inf
    with pytest.raises(
        ArtifactError, match=r"artifact\['a'\]\[0\]: <object .* has no words in JSON; save it as a pickle"
    ):
        run.log_artifacts({"a": [object()]}, "values", "json")
    with pytest.raises(ArtifactError, match="the keys 1 and '1' are both written '1'"):
        run.log_artifacts({1: "a", "1": "b"}, "values", "json")
    assert json.loads(path.read_text()) == written
