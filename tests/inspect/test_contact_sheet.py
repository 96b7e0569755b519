import numpy as np
import pytest
from PIL import Image

from vtg.inspect.contact_sheet import GAP, GROUND, contact_sheet

COLOURS = np.array([[255, 255, 255], [0, 0, 0], [250, 40, 40], [40, 250, 40], [40, 40, 250]], dtype=np.uint8)


def flat(count: int, *, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    return np.broadcast_to(COLOURS[np.arange(count) % 5][:, :, None, None], (count, 3, *size)).copy()


def test_every_frame_has_its_cell_in_order():
    sheet = np.asarray(contact_sheet(flat(5), [0.0, 1.0, 2.0, 3.0, 4.0], columns=3, width=640))
    cell_w = (640 - GAP) // 3 - GAP
    cell_h = round(cell_w * 90 / 160)
    assert sheet.shape == (GAP + 2 * (cell_h + GAP), 640, 3)
    for at in range(5):
        x, y = GAP + at % 3 * (cell_w + GAP), GAP + at // 3 * (cell_h + GAP)
        assert (sheet[y + cell_h - 1, x + cell_w - 1] == COLOURS[at]).all()
    assert (sheet[-GAP - 1, -GAP - 1] == GROUND).all()  # no sixth frame


def test_a_free_number_of_columns_makes_a_sheet_near_to_four_by_three():
    for count, size in ((1, (90, 160)), (12, (90, 160)), (40, (90, 160)), (16, (160, 90))):
        sheet = contact_sheet(flat(count, size=size), np.arange(count))
        assert sheet.width == 1280
        if count > 1:
            assert 0.8 < sheet.width / sheet.height < 2.2


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("at", range(5))
def test_the_times_are_legible_on_any_background(at, width):
    frames = np.repeat(flat(5)[at][None], 6, axis=0)
    sheet = np.asarray(contact_sheet(frames, [12.34] * 6, columns=3, width=width))
    corner = sheet[GAP : GAP + width // 3 // 6, GAP : GAP + width // 3 // 5]
    is_ink, is_shade = (corner > 220).all(axis=2), (corner < 30).all(axis=2)
    assert is_shade.mean() > 0.2 and is_ink.mean() > 0.02
    assert (corner[0, : corner.shape[1] // 2] < 60).all()  # the text has shade around it


def test_the_time_is_the_only_thing_that_tells_two_sheets_apart():
    frames = flat(2)
    one, same, other = (np.asarray(contact_sheet(frames, times)) for times in ([1.0, 2.0], [1.04, 2.0], [1.0, 2.1]))
    assert np.array_equal(one, same)  # "1.0 s" both times
    differs = (one != other).any(axis=(1, 2))
    assert differs.any() and not differs[: len(one) // 2].any()  # the second frame stands below the first


def test_long_times_stay_inside_their_cells():
    sheet = np.asarray(contact_sheet(np.full((20, 3, 60, 80), 120, dtype=np.uint8), [12345.6] * 20, columns=20))
    cell_w = (1280 - GAP) // 20 - GAP
    gap = sheet[:, GAP + cell_w : GAP + cell_w + GAP]
    assert (gap == GROUND).all()


def test_what_makes_no_sheet_is_said():
    for frames, words in (
        (flat(2)[:0], "T >= 1"),
        (flat(2)[0], "must be"),
        (flat(2).astype(np.float32), "uint8"),
    ):
        with pytest.raises(ValueError, match=words):
            contact_sheet(frames, [0.0] * len(frames))
    with pytest.raises(ValueError, match="3 times for 2 frames"):
        contact_sheet(flat(2), [0.0, 1.0, 2.0])
    for settings in ({"columns": 0}, {"columns": 100, "width": 640}):
        with pytest.raises(ValueError, match="columns = "):
            contact_sheet(flat(2), [0.0, 1.0], **settings)


def test_the_sheet_is_an_rgb_picture():
    assert isinstance(contact_sheet(list(flat(3)), [0, 1, 2]), Image.Image)
