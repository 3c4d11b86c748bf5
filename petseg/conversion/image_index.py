"""Finds the images that annotations name, wherever below a folder they lie."""

import collections
from collections.abc import Collection

from etils import epath

from petseg.conversion import files
from petseg.conversion.pairing import composed
from petseg.conversion.sources.base import twins_finding
from petseg.conversion.splits import split_of_folder
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

AMBIGUOUS = "several images have the name that the annotations give"  # a reason
IMAGE_MISSING = "image that the annotations name is missing"  # a reason
SECOND_ANNOTATION = "image is annotated a second time; the first annotation counts"  # a reason


class ImageIndex:
    """The pictures below a folder, or of a pattern.

    Attributes:
      paths: All of them, sorted.
      findings: What is no picture, though it is called like one.
    """

    def __init__(self, pattern: str, flag: str):
        """Lists a folder, or a pattern; raises UserError if it has no picture."""
        self.root = files.fixed_part(pattern)
        if not epath.Path(self.root).is_dir():
            raise UserError(f"--{flag}: {self.root} is not a folder")
        listed = sorted(path for _, path in files.list_pictures(pattern))
        listed = [path for path in listed if files.is_picture_name(path)]
        self.paths = [path for path in listed if not files.is_twin(_name(path))]
        self.findings: list[Finding] = []
        if twins := len(listed) - len(self.paths):
            self.findings.append(twins_finding(twins, f"--{flag}"))
        if not self.paths:
            suffixes = ", ".join(files.PICTURE_SUFFIXES)
            raise UserError(f"--{flag}: no picture lies in {pattern} ({suffixes})")
        self._by_name: dict[str, list[str]] = collections.defaultdict(list)
        for path in self.paths:
            self._by_name[composed(_name(path))].append(path)
        self._by_stem: dict[str, list[str]] | None = None  # made when it is needed
        stems = collections.Counter(self._stem(path) for path in self.paths)
        self._doubled = {stem for stem, count in stems.items() if count > 1}

    def find(self, name: str, folder: str = "", split: str = "") -> tuple[str | None, str]:
        """Finds the image that an annotation names.

        Where several have that name, it is the one whose path ends with all of `name`, that
        lies in `folder`, or in a folder of that split.

        Args:
          name: A file name or path, as annotation tools write it on any system.
          folder: The folder of the annotations.
          split: The split of the annotations; empty if it is unknown.

        Returns:
          The path, or None; why there is none.
        """
        name = composed(name.replace("\\", "/")).removeprefix("./")
        found = self._by_name.get(_name(name), [])
        if not found:
            return None, IMAGE_MISSING
        tests = (
            lambda path: composed(path).endswith(f"/{name}"),
            lambda path: composed(path) == f"{composed(folder)}/{name}",
            lambda path: split and split in map(split_of_folder, self._relative(path).split("/")),
        )
        for test in tests:
            found = [path for path in found if test(path)] or found
        if len(found) == 1:
            return found[0], ""
        return None, f"{AMBIGUOUS}: {len(found)}"

    def find_stem(self, stem: str, folder: str) -> str | None:
        """Returns the only image of a name without its suffix, one in that folder before others."""
        if self._by_stem is None:
            self._by_stem = collections.defaultdict(list)
            for path in self.paths:
                self._by_stem[composed(_name(path).rpartition(".")[0])].append(path)
        found = self._by_stem.get(composed(stem), [])
        found = [path for path in found if path.rpartition("/")[0] == folder] or found
        return found[0] if len(found) == 1 else None

    def key_of(self, path: str) -> str:
        """Returns the name of an image's example: its path below the root, without suffix."""
        stem = self._stem(path)
        return self._relative(path) if stem in self._doubled else stem

    def unused(self, used: Collection[str]) -> list[Finding]:
        """Returns a finding for each image that no annotation names."""
        reason = "image that no annotation names"
        return [Finding(shown(self.key_of(p)), "", reason) for p in self.paths if p not in used]

    def _relative(self, path: str) -> str:
        return path.removeprefix(self.root).lstrip("/")

    def _stem(self, path: str) -> str:
        return self._relative(path).rpartition(".")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
