"""Findings of a data set: in its manifest while they are few, in a file of their own otherwise.

A manifest of 10^8 images must stay readable, so that what it holds is bounded by the number of
shards. findings.jsonl has one JSON object a line: 'what' ('rejected' or 'repaired'), 'name',
'split' and 'reason'.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator

import pydantic
from etils import epath

from petseg.data import json_file, shard_hashes
from petseg.data.json_file import STRICT
from petseg.data.manifest import Finding, FindingsFile, Manifest, Shard
from petseg.errors import UserError

FILE_NAME = "findings.jsonl"
MOST_IN_MANIFEST = 10_000
_REJECTED, _REPAIRED = "rejected", "repaired"


@pydantic.with_config(STRICT)
@dataclasses.dataclass(frozen=True)
class _Line:
    what: str
    name: str
    split: str
    reason: str


def rejected(data_dir: str, finished: Manifest) -> Iterator[Finding]:
    """Yields all inputs that are in no shard; first those that belong to none.

    Raises:
      UserError: findings.jsonl is missing or damaged.
    """
    return _read(data_dir, _REJECTED) if finished.findings else iter(finished.rejected)


def repaired(data_dir: str, finished: Manifest) -> Iterator[Finding]:
    """Yields all inputs that were re-encoded; see `rejected`."""
    return _read(data_dir, _REPAIRED) if finished.findings else iter(finished.repaired)


def fault(data_dir: str, finished: Manifest) -> str | None:
    """Returns what is wrong with findings.jsonl, if there should be one."""
    path = epath.Path(data_dir) / FILE_NAME
    if not finished.findings:
        return None
    if not path.exists():
        return f"{path} is missing"
    if shard_hashes.sha256_of_file(path) != finished.findings.sha256:
        return f"{path} differs from its manifest (SHA-256)"
    return None


def gather(
    output_dir: str, unplaced: Iterable[Finding], shards: Iterable[Shard]
) -> tuple[tuple[Finding, ...], list[Shard], FindingsFile | None]:
    """Collects the findings of a data set; writes them to findings.jsonl if they are many.

    Args:
      output_dir: The folder.
      unplaced: Rejected inputs that belong to no shard.
      shards: The metadata of all shards, in order, with their findings.

    Returns:
      What the manifest holds: unplaced inputs and shards, without their findings if these are
      in the file; and the file, or None.
    """
    few: list[tuple[str, Finding]] = []
    kept_unplaced: list[Finding] = []
    kept: list[Shard] = []
    with _Writer(output_dir) as file:

        def add(what: str, findings: Iterable[Finding]) -> None:
            for finding in findings:
                if file.is_open:
                    file.add(what, finding)
                    continue
                few.append((what, finding))
                if len(few) > MOST_IN_MANIFEST:
                    for one in few:
                        file.add(*one)

        for finding in unplaced:
            add(_REJECTED, (finding,))
            if not file.is_open:
                kept_unplaced.append(finding)
        for shard in shards:
            add(_REJECTED, shard.rejected)
            add(_REPAIRED, shard.repaired)
            kept.append(_without_findings(shard) if file.is_open else shard)
        if not file.is_open:
            (epath.Path(output_dir) / FILE_NAME).unlink(missing_ok=True)  # of an earlier try
            return tuple(kept_unplaced), kept, None
        return (), [_without_findings(shard) for shard in kept], file.finish()


def _without_findings(shard: Shard) -> Shard:
    has_any = shard.rejected or shard.repaired
    return dataclasses.replace(shard, rejected=(), repaired=()) if has_any else shard


class _Writer:
    """Writes findings.jsonl under a temporary name; the file is made with the first finding."""

    def __init__(self, output_dir: str):
        self._path = epath.Path(output_dir) / FILE_NAME
        self._file, self._digest = None, hashlib.sha256()
        self._counts = {_REJECTED: 0, _REPAIRED: 0}

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if self._file:
            self._file.close()
            if kind:
                self._temporary().unlink()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def _temporary(self) -> epath.Path:
        return self._path.with_name(f"{FILE_NAME}.tmp")

    def add(self, what: str, finding: Finding) -> None:
        self._file = self._file or self._temporary().open("wb")
        line = json.dumps({"what": what, **dataclasses.asdict(finding)}).encode() + b"\n"
        self._file.write(line)
        self._digest.update(line)
        self._counts[what] += 1

    def finish(self) -> FindingsFile:
        self._file.close()
        self._temporary().replace(self._path)
        return FindingsFile(sha256=self._digest.hexdigest(), **self._counts)


def _read(data_dir: str, what: str) -> Iterator[Finding]:
    path = epath.Path(data_dir) / FILE_NAME
    try:
        with shard_hashes.open_shard(path) as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json_file.parse(text, _Line)
                except ValueError as error:
                    raise UserError(f"{path}, line {number}, is damaged: {error}") from error
                if line.what == what:
                    yield Finding(line.name, line.split, line.reason)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def count(finished: Manifest) -> dict[str, int]:
    """Returns the number of repaired and of rejected inputs."""
    if finished.findings:
        return {_REPAIRED: finished.findings.repaired, _REJECTED: finished.findings.rejected}
    return {_REPAIRED: len(finished.repaired), _REJECTED: len(finished.rejected)}


def begin_with(found: Iterable[Finding], first: Iterable[Finding]) -> bool:
    """Whether findings begin with others, by name and split."""
    rest = iter(found)
    missing = Finding("", "", "")
    return all((f.name, f.split) == ((o := next(rest, missing)).name, o.split) for f in first)
