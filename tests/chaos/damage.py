"""Damages the files of a node that does not run, as sick disks do: flipped bits, zeroed pages, files cut short."""

import random
import shutil
from pathlib import Path

PAGE = 4096
# RocksDB's own text log, and locks: of no meaning for what is stored.
IGNORED = ("LOG", "LOCK", "IDENTITY")


def files(data):
    """The store's files that hold something, by kind."""
    kinds = {"wal": [], "table": [], "blob": [], "manifest": []}
    store = Path(data) / "store"
    for path in sorted([*store.iterdir(), *(store / "log").iterdir()]):
        if not path.is_file() or path.stat().st_size == 0 or path.name.startswith(IGNORED):
            continue
        # RocksDB has empty files of the same suffix; the log's are in a directory of their own.
        kind = {".sst": "table", ".blob": "blob"}.get(path.suffix)
        if path.suffix == ".log" and path.parent != store:
            kind = "wal"
        if kind is None and path.name.startswith("MANIFEST"):
            kind = "manifest"
        if kind is not None:
            kinds[kind].append(path)
    return {kind: paths for kind, paths in kinds.items() if paths}


def written(path):
    """How many bytes of a file are not the zeros that were reserved at its end."""
    return len(path.read_bytes().rstrip(b"\0"))


def flip(path, dice):
    """One bit, somewhere."""
    at = dice.randrange(max(1, written(path)))
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << dice.randrange(8))]))
    return f"bit flipped at {at} of {written(path)} in {path.name}"


def zero_page(path, dice):
    """A page of zeros where there was something."""
    at = dice.randrange(max(1, written(path))) // PAGE * PAGE
    length = min(PAGE, path.stat().st_size - at)
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes(length))
    return f"page at {at} zeroed in {path.name}"


def cut(path, dice):
    """The end is missing."""
    size = written(path)
    keep = dice.randrange(max(1, size))
    with open(path, "r+b") as file:
        file.truncate(keep)
    return f"{path.name} cut from {size} to {keep} bytes"


def vanish(path, dice):
    """The file is gone."""
    path.unlink()
    return f"{path.name} removed"


WAYS = (flip, flip, zero_page, cut, vanish)


def damage(data, seed):
    """Does one thing to one file and says what."""
    dice = random.Random(seed)
    kinds = files(data)
    kind = dice.choice(sorted(kinds))
    return f"{kind}: {dice.choice(WAYS)(dice.choice(kinds[kind]), dice)}"


def copy(data, target):
    """Keeps the store as it is."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(Path(data) / "store", target)


def restore(data, source):
    """Puts it back."""
    shutil.rmtree(Path(data) / "store")
    shutil.copytree(source, Path(data) / "store")
