"""The synthetic data sets that settings can name: made on first use, before their rows are read."""

from vtg.config.data_settings import DataConfig
from vtg.demo.demo_dataset import ensure_demo
from vtg.demo.gym_dataset import ensure_gym


def ensure_synthetic(data: DataConfig) -> None:
    """Makes the data set of `data.demo` or `data.gym` in `data.video_dir`, where either is set and not there yet; of a
    mixture those of its sources.

    Raises:
        ConfigError: the folder exists and holds anything else.
    """
    for rows in (data, *data.sources.values()):
        if rows.demo is not None:
            assert rows.video_dir is not None
            ensure_demo(rows.video_dir, rows.demo)
        if rows.gym is not None:
            assert rows.video_dir is not None
            ensure_gym(rows.video_dir, rows.gym)
