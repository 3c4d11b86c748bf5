import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image, ImageDraw

from petseg.visualization import charts, fonts, pictures

WATER, UNSEEN = "\u6c34\u9053", "\u9f98"  # CJK; the last in none of the fonts
CONFUSION = np.array([[5, 1], [2, 3]])


@pytest.fixture
def no_cjk(monkeypatch):
    """A machine whose only fonts are matplotlib's own."""
    manager = font_manager.fontManager
    own = [entry for entry in manager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(manager, "ttflist", own)
    _forget()
    yield
    _forget()


@pytest.fixture
def cjk(no_cjk, tmp_path):
    """A machine with a font that has the characters of WATER, and draws triangles for them."""
    names = ["water", "way", "a"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, f"{WATER}a"), names, strict=True)))
    pen = TTGlyphPen(None)
    for move, point in (("moveTo", (0, 0)), ("lineTo", (400, 900)), ("lineTo", (800, 0))):
        getattr(pen, move)(point)
    pen.closePath()
    glyph = pen.glyph()
    builder.setupGlyf(dict.fromkeys([".notdef", *names], glyph))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (900, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Toy CJK", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "toy.ttf")
    font_manager.fontManager.addfont(str(tmp_path / "toy.ttf"))
    _forget()


def _forget():
    fonts._pillow_font.cache_clear()
    fonts._font_with.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


def test_names_that_a_font_has_are_left_as_they_are():
    names = ["stra\u00dfe", "\u03b1", "\u0436\u0443\u043a", "a $b$"]
    assert fonts.fit(names) == (names, ["DejaVu Sans"])


def test_an_installed_font_is_found_for_names_that_the_first_lacks(cjk):
    assert fonts.fit([WATER, "a"]) == ([WATER, "a"], ["DejaVu Sans", "Toy CJK"])
    assert fonts.fit([WATER + UNSEEN])[0] == [WATER + "\\u9f98"]


def test_characters_of_no_font_are_escaped(no_cjk):
    assert fonts.fit([f"a{WATER}"]) == (["a\\u6c34\\u9053"], ["DejaVu Sans"])


@pytest.mark.filterwarnings("error")  # matplotlib's: a glyph is missing
@pytest.mark.parametrize("machine", ["cjk", "no_cjk"])
def test_charts_draw_no_box_for_a_missing_character(machine, request):
    request.getfixturevalue(machine)
    names = [WATER, f"a{UNSEEN}"]
    for figure in (
        charts.confusion_matrix(CONFUSION, names),
        charts.curves({name: {0: 0.1, 1: 0.2} for name in names}, "step", "IoU"),
    ):
        charts.to_pixels(figure)
        charts.to_svg(figure)


@pytest.mark.parametrize("machine", ["cjk", "no_cjk"])
def test_pictures_draw_no_box_for_a_missing_character(machine, request):
    request.getfixturevalue(machine)

    def drawn(text):
        canvas = Image.new("RGB", (200, 20), "white")
        draw = ImageDraw.Draw(canvas)
        fonts.write(draw, (2, 2), text)
        left, top, right, bottom = fonts.box(draw, (2, 2), text)
        assert right - left <= fonts.width(draw, text) + 2
        assert 0 <= top < bottom < 20
        return np.asarray(canvas)

    assert (drawn("\u00fc") != drawn("\u00e9")).any()  # Pillow's default has neither
    if machine == "cjk":
        # Its triangles, and not the escapes' text.
        assert (drawn(WATER) != drawn("\\u6c34\\u9053")).any()
    else:
        assert fonts._pillow_font(WATER)[0] == "\\u6c34\\u9053"
    assert fonts._pillow_font(UNSEEN)[0] == "\\u9f98"
    assert fonts._pillow_font("road (7)") == ("road (7)", None)  # as it was drawn before


def test_a_panel_of_classes_with_such_names_is_drawn(no_cjk):
    image, ids = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    table = pictures.colours(2, {})
    panels = [
        pictures.panel([image], [ids], [ids], ["a", name], table, [(name, "")])
        for name in (WATER, "\u9053\u6c34", "\\u9053\\u6c34")
    ]
    assert (panels[0] != panels[1]).any()  # boxes would be alike


@pytest.mark.parametrize("is_end_kept", [False, True])
def test_a_text_is_cut_to_its_room_and_no_further(is_end_kept):
    draw = ImageDraw.Draw(Image.new("RGB", (9, 9)))
    text = "american_pit_bull_terrier_191"
    full = fonts.width(draw, text)
    for room in (full, full / 2, 30, 1):
        cut = fonts.shortened(draw, text, room, is_end_kept=is_end_kept)
        kept = cut.strip("\u2026")
        assert (cut == text) == (room == full)
        assert (text.endswith if is_end_kept else text.startswith)(kept)
        assert len(kept) == 1 or fonts.width(draw, cut) <= room
        if cut != text:
            more = text[-len(kept) - 1 :] if is_end_kept else text[: len(kept) + 1]
            assert fonts.width(draw, f"\u2026{more}") > room
