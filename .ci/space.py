"""Upload the demo to a Hugging Face Space: ``make space SPACE=owner/name [--dry-run]``.

Only files that git tracks are uploaded, so that no scan or key left in the checkout is ever
published. The upload goes through ``huggingface_hub``, since a Space's plain git refuses files over
10 MB; it uses the login of ``hf auth login``, or the token in ``HF_TOKEN``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What the page needs and no more: a Space runs no test, no training and no benchmark.
FILES = ("README.md", "LICENSE", "NOTICE", "app.py", "requirements.txt", "docs/screenshot.png")
FOLDERS = ("ichseg/", "weights/")
REQUIRED = ("README.md", "app.py", "requirements.txt", "weights/manifest.json")


def space_files(root: Path = ROOT) -> list[str]:
    """The tracked files under ``root`` that belong on the Space, as sorted POSIX paths."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        raise ValueError(
            "The files to upload are those that git tracks; got a folder without git, "
            f"{root.name}; run it from a clone."
        )
    tracked = [name for name in listing.stdout.split("\0") if name and (root / name).is_file()]
    chosen = sorted(name for name in tracked if name in FILES or name.startswith(FOLDERS))
    if missing := [name for name in REQUIRED if name not in chosen]:
        raise ValueError(
            f"A Space needs {', '.join(REQUIRED)}; got no {', '.join(missing)}; "
            "commit what is missing."
        )
    return chosen


def upload(space: str, files: list[str], root: Path = ROOT) -> str:
    """Make the Space if it is not there, upload ``files`` in one commit, and return its address.

    Files of an earlier upload that are no longer among ``files`` are removed from our own folders.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    address = api.create_repo(space, repo_type="space", space_sdk="gradio", exist_ok=True)
    api.upload_folder(
        repo_id=space,
        repo_type="space",
        folder_path=root,
        allow_patterns=files,
        delete_patterns=[f"{folder}*" for folder in FOLDERS],
        commit_message="Upload the demo",
    )
    return str(address)


def space_name(text: str) -> str:
    """Return ``text`` when it reads owner/name; ValueError otherwise."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        raise ValueError(
            f"A Space is named owner/name; got '{text}'; say e.g. make space SPACE=jane/head-ct."
        )
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make space", description="Upload the demo to a Space.")
    parser.add_argument("space", metavar="SPACE=owner/name", nargs="?", default="")
    parser.add_argument("--dry-run", action="store_true", help="list the files, upload nothing")
    options = parser.parse_args(arguments)
    try:
        space, files = space_name(options.space), space_files()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    size_mb = sum((ROOT / name).stat().st_size for name in files) / 1e6
    if options.dry_run:
        print("\n".join(f"{(ROOT / name).stat().st_size:>12,}  {name}" for name in files))
        print(f"{len(files)} files, {size_mb:.1f} MB, would go to {space}; nothing was uploaded.")
        return 0
    try:
        address = upload(space, files)
    except Exception as error:  # the hub's login, HTTP and network errors share no base class
        reason = str(error).strip().splitlines()[0]
        print(
            f"The upload to {space} needs the internet and a login that may write there; "
            f"got: {reason}; run 'hf auth login' and try again.",
            file=sys.stderr,
        )
        return 1
    print(f"{len(files)} files, {size_mb:.1f} MB, are at {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
