"""Weight files: where they are, what their hashes must be, and how absent ones are fetched.

Each entry of weights/manifest.json lists files with their hashes. A file is looked for in ``weights/``, then in the
hub's cache, then on the hub. Every file that the manifest lists is hashed before it is read, and only safetensors are
read, never a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ichseg.errors import WeightsError
from ichseg.replace_file import write_whole


def _weights_dir() -> Path:
    """ICHSEG_WEIGHTS, else the folder inside the installed package, else the one beside it in a checkout."""
    given = os.environ.get("ICHSEG_WEIGHTS")
    package = Path(__file__).resolve().parents[1]
    inside = package / "weights"
    return Path(given) if given else inside if inside.is_dir() else package.parent / "weights"


#: Where the weights are; ICHSEG_WEIGHTS names another folder of the same layout.
WEIGHTS_DIR = _weights_dir()

#: Beside a model's weights: how it was trained, how it is run, and how it scored.
TRAINING_FILE = "training.json"
#: Beside a model's weights: how far its volumes are off on phantoms (``tools.phantom score --part held-out``).
PHANTOMS_FILE = "phantoms.json"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest() -> dict[str, Any]:
    """weights/manifest.json: {entry: its files with their hashes, and where they come from}."""
    path = WEIGHTS_DIR / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def record_weights(name: str, files: Iterable[Path], *, source: str, licence: str) -> None:
    """Write a model's files with their hashes into weights/manifest.json."""
    entries = manifest()
    entries[name] = {
        "files": [
            {
                "path": path.relative_to(WEIGHTS_DIR).as_posix(),
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
            }
            for path in files
        ],
        "source": source,
        "licence": licence,
        "hub_repo": entries.get(name, {}).get("hub_repo"),
    }
    text = json.dumps(entries, indent=2, sort_keys=True) + "\n"
    write_whole(WEIGHTS_DIR / "manifest.json", text.encode())


def verified_folder(name: str, title: str) -> Path:
    """The folder of an entry, every file of it present and verified.

    Args:
        name: the entry.
        title: what people call the model, for an error.

    Raises:
        WeightsError: no such entry; a file that is absent, or whose hash is not the manifest's.

    """
    entry = manifest().get(name)
    if entry is None:
        raise WeightsError(
            f"The weights of {title} are listed in weights/manifest.json; there is no entry '{name}'; "
            "train and export them as the README says, or choose another model."
        )
    paths = []
    for file in entry["files"]:
        path = local(name, file["path"]) or _from_hub(name, file["path"])
        got = sha256(path)
        if got != file["sha256"]:
            raise WeightsError(
                f"Weights are used only when their hash is the manifest's: expected {file['sha256']} for "
                f"{file['path']}, got {got}; delete the file and fetch it again."
            )
        paths.append(path)
    return paths[0].parent


def unlisted_weights(name: str) -> Path:
    """The weights file of ``sam`` or ``medsam``, in weights/, in the hub's cache or fetched from the hub.

    The manifest has no hash of it, as the file has never been read where the manifest is written; what keeps a wrong
    one out is that each of its tensors must be in place, and its own hash goes into every record.
    """
    path = _unlisted(name)
    return local(name, path) or _from_hub(name, path)


def local(name: str, relative: str) -> Path | None:
    """A file of an entry in weights/ or in the hub's cache, without the network; None where it is in neither."""
    path = WEIGHTS_DIR / relative
    if path.is_file():
        return path
    entry = manifest()[name]
    if entry.get("hub_repo"):
        from huggingface_hub import try_to_load_from_cache

        for revision in _revisions(entry):
            cached = try_to_load_from_cache(
                entry["hub_repo"], Path(relative).name, revision=revision
            )
            if isinstance(cached, str):
                return Path(cached)
    return None


def hub_repo(name: str) -> str:
    """Where an entry's weights are on the hub."""
    return str(manifest()[name]["hub_repo"])


def missing(names: Iterable[str], title: str) -> str:
    """A sentence on what is absent here of a model's entries; empty where all of it is here."""
    for name in names:
        entry = manifest().get(name)
        if entry is None:
            return f"The weights of {title} are not published yet."
        for path in _paths(name, entry):
            if local(name, path) is None:
                told = f"{path}{_origin(entry)}"
                return f"The weights of {title} are not on this machine ({told})."
    return ""


def fetch_entries(names: Iterable[str], tqdm_class: type[Any] | None = None) -> None:
    """Bring what is absent of some entries from the hub into its cache.

    Raises WeightsError for a file that is not on the hub, or a hub that cannot be reached.
    """
    for name in names:
        for path in _paths(name, manifest().get(name, {"files": []})):
            if local(name, path) is None:
                _from_hub(name, path, tqdm_class)


def has_place_on_hub(names: Iterable[str]) -> bool:
    """Whether each entry of which something is absent here says where on the hub its weights are."""
    entries = manifest()
    for name in names:
        entry = entries.get(name, {"files": []})
        absent = name not in entries or not all(local(name, path) for path in _paths(name, entry))
        if absent and not entry.get("hub_repo"):
            return False
    return True


def _paths(name: str, entry: dict[str, Any]) -> list[str]:
    return [file["path"] for file in entry["files"]] or [_unlisted(name)]


def _unlisted(name: str) -> str:
    """The place in weights/ of a file that the manifest cannot list with its hash."""
    return f"{name}/model.safetensors"


def _origin(entry: dict[str, Any]) -> str:
    """Size and place of weights that are not part of the repository, for a sentence."""
    if "megabytes" not in entry:
        return ""
    return f", about {entry['megabytes']} MB, from {entry['hub_repo']} on the Hugging Face hub"


def _revisions(entry: dict[str, Any]) -> list[str | None]:
    """The revisions of a hub repository to look at, in turn; None is its main branch."""
    return list(entry.get("hub_revisions", [None]))


def _ask_hub(repo: str) -> None:
    """Ask the hub for a repository, for three seconds at most; raises what its client does."""
    from huggingface_hub import HfApi

    HfApi().model_info(repo, timeout=3.0)


def _from_hub(name: str, relative: str, tqdm_class: type[Any] | None = None) -> Path:
    entry = manifest().get(name, {})
    repo = entry.get("hub_repo")
    if not repo:
        raise WeightsError(
            f"The weights of {name} are needed as weights/{relative}, which is not there and has no place on the "
            "hub yet; restore it from the repository."
        )
    from huggingface_hub import hf_hub_download

    for revision in _revisions(entry):
        try:
            _ask_hub(repo)  # a download would try a hub that cannot be reached for half a minute
            file = Path(relative).name
            return Path(hf_hub_download(repo, file, revision=revision, tqdm_class=tqdm_class))
        except (
            Exception
        ) as error:  # the hub's own errors are many; what the person can do is one thing
            failure = error
    raise WeightsError(
        f"The weights of {name}{_origin(entry)}, as {Path(relative).name} ({repo}), could not be fetched "
        f"({type(failure).__name__}; a pickle is never read in its place); connect, or put the file at "
        f"weights/{relative} (weights/README.md says how)."
    ) from failure
