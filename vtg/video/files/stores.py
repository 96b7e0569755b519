"""Object stores (S3, Google Cloud Storage, https) through fsspec: opening, retries, and what their errors mean."""

import sys
import time
from typing import Any

from vtg.errors import ConfigError
from vtg.video.clip import DecodeError
from vtg.video.files import address

# Packages that fsspec needs for these addresses.
EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}

# Pauses of 0.5 and 2 s: for a momentary failure. Waiting longer for a store that is down only delays the error.
ATTEMPTS, PAUSE_S = 3, 0.5

# Errors of stores that are no OSErrors, by module; looked up only in modules that are loaded, so none is imported.
_STORE_ERRORS = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
}


def file_system(name: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it: the one place where a name reaches fsspec.

    Raises:
        ConfigError: it needs a package that is not installed. DecodeError: such addresses are not opened.
    """
    if fault := address.fault(name):
        raise DecodeError(fault)
    import fsspec

    scheme = name.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        # A server may redirect its clients into the private network of a cluster.
        from vtg.video.files.redirects import guarded_client

        options["get_client"] = guarded_client
    try:
        return fsspec.core.url_to_fs(name, **options)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        advice = f"pip install 'vtg[stores]', or {extra} alone" if extra else str(error)
        raise ConfigError(f"{name}: addresses with {scheme}:// need another package: {advice}") from error
    except ValueError as error:
        raise DecodeError(f"{name}: not an address of a store ({error}); check it") from error


def store_errors() -> tuple[type[Exception], ...]:
    """What stores raise when something goes wrong with an object; not all of them are OSErrors."""
    kinds: list[type[Exception]] = [OSError]
    for module, names in _STORE_ERRORS.items():
        if module in sys.modules:
            kinds += [getattr(sys.modules[module], name) for name in names]
    return tuple(kinds)


def with_retries(name: str, read: Any) -> Any:
    """What `read()` returns, tried up to `ATTEMPTS` times.

    Raises:
        DecodeError: it failed every time, or there is no such object.
    """
    for attempt in range(ATTEMPTS):
        try:
            return read()
        # A second try changes nothing about these.
        except (FileNotFoundError, PermissionError) as error:
            raise fetch_error(name, error) from error
        except store_errors() as error:
            if attempt == ATTEMPTS - 1:
                raise fetch_error(name, error) from error
            time.sleep(PAUSE_S * 4**attempt)
    raise AssertionError("unreachable")


def fetch_error(name: str, error: Exception) -> DecodeError:
    """What to raise of a store's error."""
    # fsspec reports an object that it may not see as one that does not exist.
    if isinstance(error.__cause__, PermissionError):
        error = error.__cause__
    reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]
    if isinstance(error, FileNotFoundError):
        return DecodeError(
            f"{name}: no such object in the store; check the address, and data.video_dir if rows name videos in it"
        )
    return DecodeError(
        f"{name}: cannot be fetched ({type(error).__name__}: {reason}); check the network and your rights"
    )
