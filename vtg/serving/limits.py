"""How much a server takes on."""

from dataclasses import dataclass

from vtg.errors import ConfigError

MB = 10**6


@dataclass(frozen=True)
class Limits:
    """What one client may ask, and all of them together.

    Attributes:
        upload_bytes: of one video that is sent, or fetched from an address.
        kept_bytes: of all videos that clients have sent and that are not removed yet.
        video_s: seconds of one clip, of the part that is asked about where that is said.
        queries: about one video in one request.
        waiting: requests that wait or are answered; further ones are refused.
        readers: clips that are decoded at once, and as many are held ready for the model.
        timeout_s: for one answer, waiting included.

    Raises:
        ConfigError: one is not above 0.
    """

    upload_bytes: int = 200 * MB
    kept_bytes: int = 4000 * MB
    video_s: float = 3600.0
    queries: int = 32
    waiting: int = 32
    readers: int = 2
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"{name} = {value}: must be above 0")
