"""Lists the colours of masks that no class file explains, and writes a class file to fill in."""

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

from petseg.conversion import masks
from petseg.conversion.class_file import show_colour
from petseg.conversion.sources.base import MaskRules, SourceExample, Unreadable
from petseg.data.picture_file import BadFile, open_picture
from petseg.errors import UserError, shown

Colour = tuple[int, int, int]

SURVEYED = 200  # masks
_TRIED = 8
_MOST_OF_ONE = 4096  # colours of one mask; a photograph has more
_MOST = 255  # colours of a class file
_NAMED = 12  # colours, in a message
_BLACK = (0, 0, 0)


@dataclasses.dataclass(frozen=True)
class ColourSurvey:
    """The colours of masks.

    Attributes:
      pixels: RGB -> number of pixels in all masks, the most frequent first.
      masks: Number of masks that were counted.
      is_complete: Whether each mask had few enough colours to count them, and all together.
    """

    pixels: dict[Colour, int]
    masks: int
    is_complete: bool

    def shares(self) -> dict[Colour, float]:
        """Returns RGB -> share of all counted pixels."""
        total = sum(self.pixels.values())
        return {colour: count / total for colour, count in self.pixels.items()}


def survey_colours(contents: Iterable[bytes]) -> ColourSurvey:
    """Counts the colours of masks; memory is bounded, whatever they hold.

    Args:
      contents: The bytes of mask files; what is no picture is left out.
    """
    pixels: collections.Counter[Colour] = collections.Counter()
    counted, is_complete = 0, True
    for content in contents:
        try:
            with open_picture(content, "mask") as picture:
                colours = picture.convert("RGB").getcolors(_MOST_OF_ONE)
        except BadFile:
            continue
        if colours is None or len(pixels) > _MOST:
            is_complete = False
            continue
        counted += 1
        pixels.update({colour: count for count, colour in colours})
    ordered = sorted(pixels.items(), key=lambda item: (-item[1], item[0]))
    return ColourSurvey(dict(ordered[:_MOST]), counted, is_complete and len(ordered) <= _MOST)


def class_file_of(survey: ColourSurvey) -> str:
    """Returns a class file with a line for each colour, to be given names."""
    shares = survey.shares()
    colours = sorted(shares, key=lambda colour: (colour != _BLACK, -shares[colour], colour))
    lines = [
        "# Give each class its name. Colours of one class have the same id and name.",
        f"# The shares are of the pixels of {survey.masks:,} masks.",
        "id,name,colour",
    ]
    for value, colour in enumerate(colours):
        name = "background" if colour == _BLACK else f"class_{value}"
        lines += [f"# {shares[colour]:.3%}", f"{value},{name},{show_colour(colour)}"]
    return "\n".join(lines) + "\n"


def check_colours_are_named(
    examples: Sequence[SourceExample], rules: MaskRules, output_dir: str
) -> None:
    """Looks at some masks before all are converted in vain.

    Args:
      examples: Some examples of a source, SURVEYED at most.
      rules: What masks may contain.
      output_dir: A class file may be written beside this folder.

    Raises:
      UserError: They are pictures of colours and the rules have none. The message lists the
        colours, and names a class file with them that was written.
    """
    if rules.values_of_colours or rules.threshold is not None:
        return
    coloured = False
    for content in _contents(examples, _TRIED):
        try:
            checked = masks.check_mask(content, rules, decode=False)
        except masks.NeedsColours:
            coloured = True
        except BadFile:
            continue
        else:
            if len(checked.pixels_per_label) != 1:
                return  # a mask of values; one that is black throughout may be either
    if coloured:
        raise UserError(_explained(survey_colours(_contents(examples, SURVEYED)), output_dir))


def _contents(examples: Sequence[SourceExample], most: int) -> Iterator[bytes]:
    """Yields the content of some masks, evenly spread."""
    step = -(-len(examples) // most) if examples else 1
    for example in examples[::step]:
        try:
            yield example.pair.read()[1]
        except Unreadable:
            continue


def _explained(survey: ColourSurvey, output_dir: str) -> str:
    first = itertools.islice(survey.shares().items(), _NAMED)
    listed = ", ".join(f"{show_colour(colour)} {share:.1%}" for colour, share in first)
    if more := len(survey.pixels) - _NAMED if len(survey.pixels) > _NAMED else 0:
        listed += f" and {more:,} more"
    what = "masks are pictures of colours, and --classes does not say which class each colour is"
    if not survey.is_complete:
        frequent = f"; the most frequent: {listed}" if listed else ""
        return (
            f"{what}; they hold more than {_MOST} colours, as photographs and smoothed edges do. "
            f"Save masks without smoothing, or list the true colours in --classes{frequent}"
        )
    found = f"{what}; the {len(survey.pixels):,} colours of {survey.masks:,} masks are {listed}"
    try:
        path = _write_beside(output_dir, class_file_of(survey))
    except OSError as error:
        return f"{found}; list them as 'id,name,#rrggbb' ({error.strerror or error})"
    return (
        f"{found}. {shown(path)} lists them: put the names in, and run the same command with "
        f"--classes={shown(path)}"
    )


def _write_beside(output_dir: str, text: str) -> str:
    """Writes a text to a new file beside a folder, or finds it there; returns its path."""
    base = output_dir if "://" in output_dir else os.path.abspath(output_dir)
    for number in itertools.count(1):
        suffix = f"-{number}" if number > 1 else ""
        path = epath.Path(f"{base.rstrip('/')}.classes{suffix}.csv")
        if not path.exists():
            with path.open("w") as file:
                file.write(text)
            return str(path)
        if path.is_file() and path.read_bytes() == text.encode():
            return str(path)
    raise AssertionError
