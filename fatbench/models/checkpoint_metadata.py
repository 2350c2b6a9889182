"""What a checkpoint of fatbench's own says about itself, so that nobody has to repeat it. No torch here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fatbench import models, record
from fatbench.errors import UsageError
from fatbench.io.safe_read import is_directory, open_file
from fatbench.record import Record
from fatbench.record.paths import WEIGHTS

_LARGEST = 2**24  # bytes of a safetensors header


def sha256_of(checkpoint: Path) -> str:
    """Return the sha256 of the file.

    Raises:
        UsageError: it cannot be read.
    """
    kind = "a folder" if is_directory(checkpoint) else "no checkpoint" if checkpoint.suffix == ".json" else ""
    if kind:
        weights = checkpoint.with_suffix("") / WEIGHTS if checkpoint.suffix == ".json" else checkpoint / WEIGHTS
        raise UsageError(f"{checkpoint} is {kind}: give the file of the weights, such as {weights}")
    with open_file(checkpoint, models.LARGEST) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(f"cannot read {checkpoint}: {error.strerror or error}") from None


def known_settings(checkpoint: Path) -> dict[str, Any]:
    """Return the settings that the record beside the checkpoint holds, else the model that its header names, else {}.

    A model that is code of the user's own is not among them: what runs is what she names, not what a file names.
    """
    beside = _record_beside(checkpoint)
    if beside is None:
        model = _metadata(checkpoint).get("model")
        return {"model": model} if model in models.names() else {}
    spec = beside.spec
    # Noise is drawn batch by batch: with another size the scores would be of other noise.
    known = {"dataset": spec.dataset, "norm": spec.norm, "eps": spec.eps, "eval_batch_size": spec.eval.batch_size}
    return known | ({"model": spec.model} if spec.model in models.names() else {})


def merged_settings(known: dict[str, Any], given: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return what the checkpoint tells, changed by what the user says.

    Raises:
        UsageError: neither says which model, or which dataset.
    """
    if given.get("norm", known.get("norm")) != known.get("norm"):
        known.pop("eps", None)  # a radius means little in another norm
    settings = known | given
    for name in ("model", "dataset"):
        if name not in settings:
            raise UsageError(f"which {name}? {checkpoint} does not tell: give --{name}")
    return settings


def _record_beside(checkpoint: Path) -> Record | None:
    """The record at ID.json whose artefact the file ID/NAME is."""
    folder = checkpoint.absolute().parent
    try:
        found = record.load(folder.parent / f"{folder.name}.json")
    except UsageError:
        return None
    return found if f"{folder.name}/{checkpoint.name}" in found.artefacts.values() else None


def _metadata(checkpoint: Path) -> dict[str, Any]:
    """What the header of a safetensors file says besides its tensors; {} for other files."""
    if checkpoint.suffix != ".safetensors":
        return {}
    with open_file(checkpoint, models.LARGEST) as file:
        size = int.from_bytes(file.read(8), "little")
        content = file.read(size) if size <= _LARGEST else b""
    try:
        header = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError(f"{checkpoint} is no safetensors file, or is cut short: copy or download it again") from None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else {}
