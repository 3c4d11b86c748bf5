"""Turns one source example into one serialized record, or into the reason why not."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping

import google_crc32c

from petseg.conversion import decoded_pair, downscale, images, merged_masks
from petseg.conversion.decode_ahead import PAIRS_AT_ONCE, UNKNOWN, Decoded, decode_ahead
from petseg.conversion.sources.base import MaskRules, SeveralMasks, SourceExample, Unreadable
from petseg.data import picture_file, record, store_kinds
from petseg.data.image_range import ImageRange
from petseg.data.picture_file import BadFile

_MOST_BYTES_AT_ONCE = 8 << 20  # 8 MiB of files, before no further pair is read with them


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """What decides, together with its inputs, over a record's bytes.

    Attributes:
      masks: What masks may contain.
      validate: 'full' decodes every picture; 'header' trusts pictures that need no
        re-encoding, and counts no labels.
      short_side_px: Larger pictures are stored with this short side; 0 keeps them.
      jpeg_quality: Quality of images that are made smaller, 1-100.
      image_range: What becomes 0 and 255 in images of more than 8 bits, or None.
      store: How pictures are stored: one of store_kinds.STORES.
    """

    masks: MaskRules
    validate: str = "full"
    short_side_px: int = 0
    jpeg_quality: int = 95
    image_range: ImageRange | None = None
    store: str = store_kinds.ENCODED

    def spec(self) -> str:
        """Returns all options as one line; equal options give equal lines."""
        rules = self.masks
        colours = sorted([*c, v] for c, v in rules.values_of_colours.items())
        names = None if rules.names is None else sorted(rules.names)
        options = [names, colours, self.validate, self.short_side_px, self.jpeg_quality]
        options += [sorted(rules.stored_as.items()), rules.threshold, rules.is_lossy_read]
        options += [rules.ignored, self.image_range.spec() if self.image_range else None]
        if self.store != store_kinds.ENCODED:  # which data sets of before do not name
            options.append(self.store)
        return json.dumps(options)


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """One example after its checks.

    Attributes:
      example: The source example.
      inputs: One line that names its files, with their sizes and CRC-32C.
      serialized: The record; empty if the example is rejected.
      height: Height of the stored image, in pixels.
      width: Width of the stored image, in pixels.
      pixels_per_label: Raw value -> pixels of the stored mask; empty if it was not decoded.
      repairs: What was repaired, and how.
      rejected: Why there is no record, or None.
      encoded_bytes: Size of the JPEG and the PNG whose pixels are stored; 0 if they are stored
        themselves.
    """

    example: SourceExample
    inputs: str
    serialized: bytes = b""
    height: int = 0
    width: int = 0
    pixels_per_label: Mapping[int, int] = dataclasses.field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    rejected: str | None = None
    encoded_bytes: int = 0


def prepare_examples(
    examples: Iterable[SourceExample], options: RecordOptions
) -> Iterator[Prepared]:
    """Reads, checks and serializes examples, in order; a bad one comes as rejected."""
    for several in _read_several(examples):
        decoded = [UNKNOWN] * len(several)
        if options.validate == "full" and len(several) > 1:
            files = [() if isinstance(found, Unreadable) else found for *_, found in several]
            decoded = decode_ahead(files, options.masks)
        for (example, inputs, found), known in zip(several, decoded, strict=True):
            yield _prepare_example(example, inputs, found, known, options)


def prepare_example(example: SourceExample, options: RecordOptions) -> Prepared:
    """Prepares a single example; see prepare_examples."""
    (prepared,) = prepare_examples([example], options)
    return prepared


def _read_several(
    examples: Iterable[SourceExample],
) -> Iterator[list[tuple[SourceExample, str, tuple[bytes, ...] | Unreadable]]]:
    """Reads examples, and yields a few at a time; fewer of large ones, which bounds memory."""
    several, size_bytes = [], 0
    for example in examples:
        inputs, found = read_inputs(example)
        several.append((example, inputs, found))
        size_bytes += 0 if isinstance(found, Unreadable) else sum(map(len, found))
        if len(several) == PAIRS_AT_ONCE or size_bytes > _MOST_BYTES_AT_ONCE:
            yield several
            several, size_bytes = [], 0
    if several:
        yield several


def _prepare_example(
    example: SourceExample,
    inputs: str,
    found: tuple[bytes, ...] | Unreadable,
    known: Decoded,
    options: RecordOptions,
) -> Prepared:
    if isinstance(found, Unreadable):
        return Prepared(example, inputs, rejected=str(found))
    try:
        return _prepare(example, inputs, found, known, options)
    except BadFile as reason:
        return Prepared(example, inputs, rejected=str(reason))


def read_inputs(example: SourceExample) -> tuple[str, tuple[bytes, ...] | Unreadable]:
    """Returns an example's inputs line, and its files' contents or why they cannot be read."""
    facts = [example.name, example.split, example.class_label, example.class_text]
    facts.append(example.pair.image_name)
    if isinstance(example.pair, SeveralMasks):
        facts.append(example.pair.values)
    try:
        contents = example.pair.read()
    except Unreadable as reason:
        return json.dumps([*facts, str(reason)]), reason
    sizes_and_crcs = [(len(content), google_crc32c.value(content)) for content in contents]
    return json.dumps([*facts, sizes_and_crcs]), contents


def _prepare(
    example: SourceExample,
    inputs: str,
    contents: tuple[bytes, ...],
    known: Decoded,
    options: RecordOptions,
) -> Prepared:
    decode = options.validate == "full"
    image_file, *mask_files = contents
    for mask_file in mask_files:
        _compare_sizes(image_file, mask_file)
    image = images.check_image(
        image_file, decode=decode, value_range=options.image_range, small=known.image
    )
    mask = merged_masks.check_masks(
        example, mask_files, options.masks, decode=decode, known=known.mask
    )
    image = images.fit_to_mask(image, image_file, mask.height, mask.width, options.image_range)
    if options.short_side_px:
        image, mask = downscale.make_smaller(
            image, mask, options.masks, options.short_side_px, options.jpeg_quality
        )
    stored = record.Record(
        name=example.name,
        filename=example.pair.image_name,
        image=image.encoded,
        mask=mask.encoded,
        height=image.height,
        width=image.width,
        class_label=example.class_label,
        class_text=example.class_text,
    )
    encoded_bytes = 0
    if options.store == store_kinds.RAW:
        encoded_bytes = len(stored.image) + len(stored.mask)
        stored = decoded_pair.decode(stored, example.split)
    return Prepared(
        example,
        inputs,
        record.encode_record(stored),
        image.height,
        image.width,
        mask.pixels_per_label,
        tuple(repair for repair in (image.repair, mask.repair) if repair),
        encoded_bytes=encoded_bytes,
    )


def _compare_sizes(image_file: bytes, mask_file: bytes) -> None:
    """Raises BadFile if the headers tell, before anything is decoded, that sizes do not fit."""
    image, mask = map(picture_file.size_by_header, (image_file, mask_file))
    for what, size in (("image", image), ("mask", mask)):
        if size:
            picture_file.check_size(*size, what)
    # EXIF may ask to swap the sides.
    if image and mask and mask not in (image, image[::-1]):
        raise BadFile(f"mask is {mask[1]}x{mask[0]} px, its image {image[1]}x{image[0]}")
