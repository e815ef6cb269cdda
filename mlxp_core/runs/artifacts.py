"""Artifacts and checkpoints: which types there are, and how each is saved and loaded.

The registry is code: a file in a log directory never says how it is to be loaded. Loading a ``pickle`` (or a torch
file) can run code that its writer put there, so it happens only when a caller asks for that artifact.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core.errors import ArtifactError, ArtifactTypeError
from mlxp_core.plain_values import PlainValueError, to_json
from mlxp_core.runs import pickles, strict_json
from mlxp_core.runs.artifact_place import artifact_place, shown
from mlxp_core.runs.layout import RunDir

Save = Callable[[Any, str], None]  # the object, and the path of a file or folder to make
Load = Callable[..., Any]  # the path, and keywords of the caller's

# endings that choose a format; "loss", "v1.2" and "epoch=3" have none and are PNG
_IMAGE_FORMATS = {"avif", "eps", "gif", "jpeg", "jpg", "pdf", "pgf", "png", "ps", "svg", "svgz", "tif", "tiff", "webp"}
_PNG = b"\x89PNG\r\n\x1a\n"


class ArtifactType(NamedTuple):
    """One way of putting an object into a file or a folder."""

    name: str
    save: Save
    load: Load


def _save_pickle(artifact: Any, path: str) -> None:
    with open(path, "wb") as file:  # noqa: PTH123
        pickles.dump(artifact, file, shown(path))


def _load_pickle(path: str, **options: Any) -> Any:
    with open(path, "rb") as file:  # noqa: PTH123
        return pickles.load(file, path, **options)


def _save_json(artifact: Any, path: str) -> None:
    try:
        plain = to_json(artifact)
    except PlainValueError as error:
        raise ArtifactTypeError(
            f"{shown(path)}: {error.place('artifact')}: {error}; save it as a pickle, or write what it holds as "
            "numbers, text, lists and mappings"
        ) from None
    Path(path).write_text(strict_json.strict(json.dumps(plain, indent=1)), encoding="utf-8")


def _load_json(path: str) -> Any:
    return strict_json.loads(Path(path).read_text(encoding="utf-8"))


def _save_text(artifact: Any, path: str) -> None:
    Path(path).write_text(artifact, encoding="utf-8", newline="")


def _load_text(path: str) -> str:
    return Path(path).read_bytes().decode()


def _save_numpy(artifact: Any, path: str) -> None:
    import numpy as np  # noqa: PLC0415

    with open(path, "wb") as file:  # noqa: PTH123  (a file object: numpy adds no suffix to its name)
        if not isinstance(artifact, dict):
            np.save(file, _plain_array(artifact, f"{shown(path)}"), allow_pickle=False)
            return
        # np.savez takes the names as keywords, of which "file" and "allow_pickle" are its own
        with zipfile.ZipFile(file, "w") as archive:
            for key, array in artifact.items():
                if not isinstance(key, str):
                    raise ArtifactTypeError(
                        f"{shown(path)}: arrays have names, and {key!r} is no text: use {str(key)!r}"
                    )
                plain = _plain_array(array, f"{shown(path)}, {key!r}")
                with archive.open(key + ".npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, plain, allow_pickle=False)


def _plain_array(values: Any, what: str) -> Any:
    """Make an array that comes back as it was, of numbers, text or times. Raises ArtifactTypeError for any other."""
    import numpy as np  # noqa: PLC0415

    if isinstance(values, np.ma.MaskedArray):
        raise ArtifactTypeError(
            f"{what}: numpy's files have no mask: save x.filled(…), or a dict of x.data and np.ma.getmaskarray(x)"
        )
    array = np.asanyarray(values)
    descriptor = None if array.dtype.hasobject or array.dtype.kind == "T" else np.lib.format.dtype_to_descr(array.dtype)
    if descriptor is None or np.lib.format.descr_to_dtype(descriptor) != array.dtype:
        raise ArtifactTypeError(
            f"{what}: numpy's files hold numbers, text and times; this {_kind(values)} is an array of {array.dtype}; "
            "save it as the type pickle, or x.astype(float) or x.astype(str)"
        )
    return array


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _load_numpy(path: str, **options: Any) -> Any:
    import numpy as np  # noqa: PLC0415

    try:
        loaded = np.load(path, **{"allow_pickle": False, **options})
        if not hasattr(loaded, "files"):
            return loaded
        with loaded:  # by the names in the archive: "a" and "a.npy" are two arrays
            return {name.removesuffix(".npy"): loaded[name] for name in loaded.zip.namelist()}
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ArtifactError(
            f"{path} holds Python objects, and loading them can run code: if you trust its writer, give the load "
            "allow_pickle=True"
        ) from error


def _save_torch(artifact: Any, path: str) -> None:
    import torch  # noqa: PLC0415

    try:
        torch.save(artifact, path)
    except (pickle.PicklingError, AttributeError):  # a local function, such as those of LambdaLR's state
        import cloudpickle  # noqa: PLC0415

        torch.save(artifact, path, pickle_module=cloudpickle)


def _load_torch(path: str, **options: Any) -> Any:
    import torch  # noqa: PLC0415

    return torch.load(path, **{"weights_only": False, "map_location": pickles.here_or_cpu, **options})


def _save_image(artifact: Any, path: str) -> None:
    if not hasattr(artifact, "savefig"):
        raise ArtifactTypeError(
            f"{shown(path)}: an image is a matplotlib figure, and this is {_kind(artifact)}: save an array as the type "
            "numpy, and others by a type of your own, with register_artifact_type"
        )
    ending = Path(path).suffix[1:].lower()
    artifact.savefig(path, bbox_inches="tight", format=ending if ending in _IMAGE_FORMATS else "png")


def _load_image(path: str) -> Any:
    from matplotlib import image  # noqa: PLC0415

    with open(path, "rb") as file:  # noqa: PTH123
        is_png = file.read(len(_PNG)) == _PNG
    try:
        return image.imread(path, format="png" if is_png else None)
    except (OSError, SyntaxError) as error:
        raise ArtifactError(f"{path} has no pixels that matplotlib can load ({error}): open the file itself") from error


ARTIFACT_TYPES: dict[str, ArtifactType] = {
    kind.name: kind
    for kind in (
        ArtifactType("pickle", _save_pickle, _load_pickle),
        ArtifactType("json", _save_json, _load_json),
        ArtifactType("text", _save_text, _load_text),
        ArtifactType("numpy", _save_numpy, _load_numpy),
        ArtifactType("torch", _save_torch, _load_torch),
        ArtifactType("image", _save_image, _load_image),
    )
}


def register_artifact_type(name: str, save: Save, load: Callable[[str], Any]) -> None:
    """Add a type of artifact for this process.

    ``save(object, path)`` makes a file or a folder, ``load(path)`` reads it. ``path`` ends in the artifact's own name;
    what is saved takes its place when ``save`` has returned, whole or not at all. ``load`` may have keywords, which
    ``load_artifacts`` and ``Artifact.load`` pass on.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ArtifactError(f"artifact_type={name!r} cannot be the name of a folder that readers look into")
    ARTIFACT_TYPES[name] = ArtifactType(name, save, load)


def artifact_type(name: str) -> ArtifactType:
    """Look a type up; ArtifactError lists the known ones."""
    try:
        return ARTIFACT_TYPES[name]
    except KeyError:
        known = ", ".join(ARTIFACT_TYPES)
        raise ArtifactError(
            f"there is no artifact type {name!r}: the known ones are {known}; "
            "more can be added with mlxp_core.artifacts.register_artifact_type"
        ) from None


def save_artifact(kind: ArtifactType, artifact: Any, run: RunDir, name: str) -> None:
    """Save beside the place, and replace what is there by it: an interrupted save leaves the earlier one as it was."""
    with artifact_place(run, kind.name, name) as temporary:
        kind.save(artifact, str(temporary))
