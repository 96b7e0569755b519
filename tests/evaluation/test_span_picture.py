import numpy as np
import pytest
from PIL import Image

from vtg.evaluation.span_picture import draw_predictions


def row(qid, prediction, sentence="a man sits down", timestamp=(2.0, 8.0)):
    return {"qid": qid, "duration": 10.0, "timestamp": list(timestamp), "sentence": sentence, "prediction": prediction}


def colours(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(pixel) for pixel in np.unique(pixels, axis=0).tolist()}


BLUE, ORANGE = (0x1F, 0x77, 0xB4), (0xF0, 0x93, 0x2B)


def test_a_picture_shows_base_and_tuned_predictions(tmp_path):
    rows = [row(i, [[i, 8.0]]) for i in range(5)]
    draw_predictions(rows, tmp_path / "new" / "p.png", base=[row("0", [[1.0, 3.0]])], title="five $amples")
    assert {BLUE, ORANGE} <= colours(tmp_path / "new" / "p.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.png"]


def test_without_base_only_one_colour_of_prediction_is_drawn(tmp_path):
    draw_predictions([row(1, [[3.0, 8.0]])], tmp_path / "p.png")
    assert BLUE in colours(tmp_path / "p.png")
    assert ORANGE not in colours(tmp_path / "p.png")


def test_odd_predictions_and_sentences_can_be_drawn(tmp_path):
    rows = [
        row(1, []),
        row(2, None, sentence="$x_{$ costs $5 " * 20),
        row(3, [[float("nan"), 3.0]], sentence=""),
        row(4, [[9.0, 2.0]], sentence="a" * 300),
        row(5, [[5.0, 1e9]], timestamp=([1.0, 2.0], [3.0, 4.0])),
    ]
    draw_predictions(rows, tmp_path / "p.png", title="odd")
    assert Image.open(tmp_path / "p.png").size[0] > 1000


@pytest.mark.filterwarnings("error")
def test_letters_that_the_font_lacks_are_told_once(tmp_path, caplog):
    # A private character, which no font has, and many of them.
    draw_predictions([row(at, [[2.0, 8.0]], sentence=f"\ue123 {at} \ue124") for at in range(3)], tmp_path / "p.png")
    (said,) = caplog.messages
    assert said.startswith("letters are boxes in the picture (") and "no font" in said
    assert BLUE in colours(tmp_path / "p.png")


def test_where_there_is_no_moment_the_lane_says_so(tmp_path):
    def picture(name, **fields):
        draw_predictions([row(1, [], timestamp=()) | fields], tmp_path / name)
        return np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)

    none, unread = picture("none.png", status="none"), picture("unread.png", status="malformed")
    one = picture("one.png", status="malformed", timestamp=[2.0, 8.0])
    timelines = (slice(None), slice(0, 1200))
    # The truth's words in one, a band in the other; and of the two without a moment one more answer in blue.
    assert (unread != one)[timelines].any() and (none != unread)[timelines].any()


def test_the_picture_grows_with_the_samples_up_to_the_limit(tmp_path):
    heights = []
    for count in (10, 20, 40):
        draw_predictions([row(i, [[1.0, 8.0]]) for i in range(count)], tmp_path / "p.png", limit=20)
        heights.append(Image.open(tmp_path / "p.png").size[1])
    assert heights[0] < heights[1] == heights[2]


def test_no_rows_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="no predictions to draw"):
        draw_predictions([], tmp_path / "p.png")
    assert not list(tmp_path.iterdir())
