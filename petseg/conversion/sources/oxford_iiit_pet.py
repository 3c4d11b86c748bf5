"""The source `oxford_iiit_pet`: the Oxford-IIIT pets as folders or as their two archives.

Parkhi, Vedaldi, Zisserman and Jawahar, "Cats and Dogs", CVPR 2012.
"""

import dataclasses
import gzip
import tarfile
import zlib
from collections.abc import Mapping

from etils import epath

from petseg.conversion import annotation_hint, files, text_files
from petseg.conversion.files import StoredFile
from petseg.conversion.sources.base import (
    FilePair,
    MaskRules,
    Source,
    SourceExample,
    SourceListing,
    SourceOptions,
    check_fractions,
    hash_order,
    require_raw_dir,
    twins_finding,
)
from petseg.conversion.splits import wanted_splits, without_empty_splits
from petseg.data.manifest import Finding
from petseg.data.picture_file import picture_format
from petseg.errors import UserError, shown
from petseg.progress import Progress

RAW_LABELS = {1: "pet", 2: "background", 3: "border"}
# The label maps that the field uses for them, as data.label_map parses them.
THREE_CLASS = "pet=1; background=2; border=3"
BORDER_IGNORED = "pet=1; background=2; ignored=3"
BORDER_IS_PET = "pet=1,3; background=2"
ARCHIVES = ("images.tar.gz", "annotations.tar.gz")
_IMAGES, _TRIMAPS = "images", "annotations/trimaps"
_MIB = 1 << 20
_CHUNK_BYTES = 4 * _MIB


@dataclasses.dataclass(frozen=True)
class _ListedName:
    name: str
    class_id: int


def list_oxford_iiit_pet(options: SourceOptions) -> SourceListing:
    """Lists the official Oxford-IIIT pet data set.

    `raw_dir` contains either folders, images/NAME.jpg, annotations/trimaps/NAME.png and
    annotations/trainval.txt (and test.txt, if there is one) with lines 'NAME CLASS-ID
    SPECIES BREED-ID'; or images.tar.gz and annotations.tar.gz, which are gunzipped into
    `work_dir` once, because gzip cannot be read from the middle. `validation` is carved out
    of trainval: from each breed, the share `validation_fraction` of the listed names that
    come first in hash order. The listed names alone decide, so that a missing file moves no
    other one.

    Raises:
      UserError: A folder or list is missing or malformed, an archive is damaged, or no
        listed pair exists.
    """
    require_raw_dir(options, "oxford_iiit_pet")
    check_fractions(options.validation_fraction)
    raw_dir = options.raw_dir
    stored = _files_of(raw_dir, options.work_dir, options.show_progress)
    trainval, test = _read_list(stored, raw_dir, "trainval"), []
    if "annotations/test.txt" in stored:
        test = _read_list(stored, raw_dir, "test")
    if not trainval and not test:
        raise UserError(f"{raw_dir}/annotations/trainval.txt lists no image, nor does test.txt")
    splits = {**_carve_validation(trainval, options.validation_fraction), "test": test}
    class_names = _class_names(splits)
    images, masks = _by_stem(stored, _IMAGES, ".jpg"), _by_stem(stored, _TRIMAPS, ".png")

    examples, rejected, accepted = [], [], set()
    for split, listed in splits.items():
        for item in listed:
            if reason := _why_not(item.name, accepted, images, masks):
                rejected.append(Finding(item.name, split, reason))
                continue
            accepted.add(item.name)
            (image_path,), (mask_path,) = images[item.name], masks[item.name]
            pair = FilePair(stored[image_path], stored[mask_path], image_path.rpartition("/")[2])
            examples.append(
                SourceExample(
                    item.name, split, pair, item.class_id - 1, class_names[item.class_id - 1]
                )
            )
    if not examples:
        raise UserError(
            f"--raw_dir: of {len(rejected)} names in the lists of {raw_dir}/annotations not one "
            f"has both its files in {raw_dir}/{_IMAGES} and {raw_dir}/{_TRIMAPS}"
        )
    named = {item.name for listed in splits.values() for item in listed}
    rejected += _unlisted(stored, named, images, masks)
    return SourceListing(
        tuple(examples),
        tuple(rejected),
        MaskRules(RAW_LABELS),
        class_names,
        "the official lists",
        ("train", "validation") if options.validation_fraction else (),
    )


def species_and_breed(filename: str, class_text: str) -> dict[str, str]:
    """Returns an image's groups; the file names of cats begin with a capital letter."""
    groups = {"species": "cat" if filename[:1].isupper() else "dog"}
    return {**groups, "breed": class_text} if class_text else groups


OXFORD_IIIT_PET = Source(
    list_examples=list_oxford_iiit_pet,
    default_name="pets",
    raw_labels=RAW_LABELS,
    groups_of=species_and_breed,
)


def _not_official(root: epath.Path, lacking: str) -> UserError:
    if (root / _IMAGES).is_dir() and (root / "masks").is_dir():
        return UserError(
            f"--raw_dir: {root} has images/ and masks/, which --source=folders reads; it has not "
            "the layout of the Oxford-IIIT pets"
        )
    return UserError(
        f"--raw_dir: {root / lacking} is not a folder; expected the layout of the Oxford-IIIT "
        "pets, images/*.jpg, annotations/trimaps/*.png, annotations/trainval.txt, or "
        f"{' and '.join(ARCHIVES)}; --source names other data, such as folders"
    )


def _files_of(raw_dir: str, work_dir: str, show_progress: bool) -> dict[str, StoredFile]:
    """Returns path within the data set -> file, for every file of the layout's folders."""
    root = epath.Path(raw_dir)
    if (root / ARCHIVES[0]).exists() and not (root / _IMAGES).exists():
        return _files_in_archives(root, epath.Path(work_dir), show_progress)
    stored = {}
    for folder in ("", _IMAGES, "annotations", _TRIMAPS):
        if not (root / folder).is_dir():
            raise annotation_hint.explained(_not_official(root, folder), raw_dir)
        if not folder:
            continue
        where = f"{root}/{folder}"
        for name in files.names_in(where):
            path = f"{where}/{name}"
            if files.is_picture_name(name) or not files.is_folder(path):
                stored[f"{folder}/{name}"] = files.stored_file(path)
    return stored


def _files_in_archives(
    root: epath.Path, work_dir: epath.Path, show_progress: bool
) -> dict[str, StoredFile]:
    stored = {}
    for name in ARCHIVES:
        if not (root / name).exists():
            raise UserError(f"--raw_dir: {root} has {ARCHIVES[0]} but no {name}")
        tar = work_dir / name.removesuffix(".gz")
        if not tar.exists():
            _gunzip(root / name, tar, show_progress)
        try:
            with tar.open("rb") as file, tarfile.open(fileobj=file) as archive:
                for member in archive:
                    if member.isfile():
                        path = member.name.removeprefix("./")
                        stored[path] = StoredFile(str(tar), member.size, member.offset_data)
        except tarfile.TarError as error:
            raise UserError(f"--raw_dir: {root / name} is no tar archive ({error})") from error
    return stored


def _gunzip(archive: epath.Path, tar: epath.Path, show_progress: bool) -> None:
    tar.parent.mkdir(parents=True, exist_ok=True)
    temporary = tar.with_name(tar.name + ".tmp")
    try:
        with (
            archive.open("rb") as compressed,
            Progress(
                0,
                archive.stat().length / _MIB,
                title=f"read {archive.name}",
                unit="MiB",
                is_silent=not show_progress,
            ) as progress,
            gzip.open(compressed) as source,
            temporary.open("wb") as target,
        ):
            while chunk := source.read(_CHUNK_BYTES):
                target.write(chunk)
                progress.advance(compressed.tell() / _MIB - progress.done)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        temporary.unlink()
        raise UserError(
            f"--raw_dir: {archive} is damaged or not complete ({error}); download it again"
        ) from error
    temporary.replace(tar)


def _read_list(stored: Mapping[str, StoredFile], raw_dir: str, name: str) -> list[_ListedName]:
    path = f"annotations/{name}.txt"
    where = f"{raw_dir}/{path}"
    if path not in stored:
        raise UserError(f"--raw_dir: {where} not found; it lists the images, one per line")
    listed = []
    for number, line in enumerate(text_files.to_lines(stored[path].read()), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2 or not fields[1].isdecimal() or int(fields[1]) < 1:
            raise UserError(
                f"{where}, line {number}: {line!r} is not 'NAME CLASS-ID SPECIES BREED-ID'"
            )
        if "/" in fields[0] or "\\" in fields[0]:
            raise UserError(f"{where}, line {number}: the name {fields[0]!r} must not be a path")
        listed.append(_ListedName(fields[0], int(fields[1])))
    return listed


def _carve_validation(trainval: list[_ListedName], fraction: float) -> dict[str, list[_ListedName]]:
    breeds: dict[int, set[str]] = {}
    for item in trainval:
        breeds.setdefault(item.class_id, set()).add(item.name)
    validation = set()
    for names in breeds.values():
        ordered = sorted(names, key=hash_order)
        validation.update(ordered[: round(fraction * len(ordered))])
    splits = {i.name: "validation" if i.name in validation else "train" for i in trainval}
    # Few images of each breed may round to none, or to all.
    splits = without_empty_splits(splits, wanted_splits(fraction, 0))
    return {
        split: [item for item in trainval if splits[item.name] == split]
        for split in ("train", "validation")
    }


def _class_names(splits: Mapping[str, list[_ListedName]]) -> tuple[str, ...]:
    """Returns the breeds by class id; a name is a breed and a number, as in 'Abyssinian_100'."""
    by_id = {
        item.class_id: item.name.rpartition("_")[0] or item.name
        for listed in splits.values()
        for item in listed
    }
    return tuple(by_id.get(i, f"class_{i}") for i in range(1, max(by_id) + 1))


def _by_stem(stored: Mapping[str, StoredFile], folder: str, suffix: str) -> dict[str, list[str]]:
    """Returns stem -> paths of a folder's files with a suffix, in upper or lower case."""
    by_stem: dict[str, list[str]] = {}
    for path in sorted(stored):
        parent, _, name = path.rpartition("/")
        if parent == folder and name.lower().endswith(suffix) and not files.is_twin(name):
            by_stem.setdefault(name[: -len(suffix)], []).append(path)
    return by_stem


def _why_not(
    name: str, accepted: set[str], images: Mapping[str, list], masks: Mapping[str, list]
) -> str | None:
    if name in accepted:
        return "listed more than once; the first listing counts"
    lacking = [what for what, there in (("image", images), ("trimap", masks)) if name not in there]
    if lacking:
        return f"{' and '.join(lacking)} missing"
    for what, there in (("images", images), ("trimaps", masks)):
        if len(there[name]) > 1:
            names = ", ".join(path.rpartition("/")[2] for path in there[name])
            return f"{len(there[name])} {what} of one name: {names}"
    return None


def _unlisted(
    stored: Mapping[str, StoredFile],
    named: set[str],
    images: Mapping[str, list],
    masks: Mapping[str, list],
) -> list[Finding]:
    """Returns a finding for each file that no list names."""
    findings = []
    for folder, suffix, pictures in ((_IMAGES, ".jpg", images), (_TRIMAPS, ".png", masks)):
        inside = {p for p in stored if p.rpartition("/")[0] == folder}
        if twins := [p for p in inside if files.is_twin(p.rpartition("/")[2])]:
            findings.append(twins_finding(len(twins), folder))
        listed = {path for name in named for path in pictures.get(name, ())}
        for path in sorted(inside - listed - set(twins)):
            reason = "in no official list"
            if not path.lower().endswith(suffix):
                reason = f"no {suffix} file"
            elif (kind := _format_of(stored[path])) != suffix[1:].upper().replace("JPG", "JPEG"):
                reason += f" (and really of format {kind})"
            findings.append(Finding(shown(path.rpartition("/")[2]), "", reason))
    return findings


def _format_of(file: StoredFile) -> str:
    try:
        return picture_format(dataclasses.replace(file, bytes=16).read()[:16])
    except OSError:
        return "unreadable"
