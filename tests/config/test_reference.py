"""docs/settings.md is what the command makes, and names every setting."""

import subprocess
import sys
from pathlib import Path

from vtg.config.programs import DoctorConfig
from vtg.config.reference import reference
from vtg.config.setting import settings
from vtg.entry import conf_dir

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"


def test_the_page_of_settings_is_what_the_command_makes():
    done = subprocess.run(
        [sys.executable, "-m", "vtg.config.reference"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert PAGE.read_text(encoding="utf-8") == done.stdout, "python -m vtg.config.reference > docs/settings.md"


def test_every_setting_has_a_row_with_whether_it_may_change_on_resume():
    page = reference(conf_dir())
    for key, _, known in settings(DoctorConfig):
        if key not in ("trainer", "rl"):  # which are mappings of names
            assert f"| `{key}` | " in page
            assert known.help.split("|")[0].split("<")[0] in page
    assert "| `video.decoder` | str | `auto` | may change | what decodes: auto" in page
    assert "| `video.fps` | float | `2.0` | fixed | frames a second" in page
