"""Checks that a hub model can be fetched or is cached, in one short attempt, before anything heavy is imported.

transformers would try every file of a model five times, waiting in between, and fall back to its cache only then.
"""

import json
import logging
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from vtg.errors import ConfigError
from vtg.models.checkpoint import check_model_type, resolve_base

log = logging.getLogger("vtg")

# For one HEAD request: a slow link answers it within this, and a machine without a network waits no longer.
HUB_TIMEOUT_S = 5.0

# Values of HF_HUB_OFFLINE that huggingface_hub takes for true.
OFFLINE_VALUES = ("1", "ON", "YES", "TRUE")


def find_model(path: str, *, key: str = "model.path") -> None:
    """Makes sure that the weights of a model path, or of the base of an adapter, are here or can be fetched.

    Raises:
        ConfigError: for a hub name that was not fetched and cannot be: says how to; or a folder that holds a model of
            a type that vtg was not tried with.
    """
    where = resolve_base(path)
    if Path(where).is_dir():
        file = Path(where) / "config.json"
        if file.is_file():
            check_model_type(path, _model_type(file))
        return
    find_in_hub(where, path=path, key=key)


def find_in_hub(where: str, *, path: str, key: str) -> None:
    """Makes sure that a hub name was fetched to this machine, or can be.

    Where the hub does not respond, HF_HUB_OFFLINE is set, so that Hugging Face's libraries use their cache at once.

    Args:
        path: what the user gave for it, under the setting `key`.

    Raises:
        ConfigError: says how to fetch it.
    """
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in OFFLINE_VALUES
    if not is_offline and responds(_endpoint()):
        return
    os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported, which reads it then
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(where, "config.json"), str):
        if not is_offline:
            log.warning("%s does not answer: %s is used as it was fetched before", _endpoint(), where)
        return
    why = "HF_HUB_OFFLINE is set" if is_offline else f"{_endpoint()} does not answer (HF_HUB_OFFLINE=1: do not ask it)"
    raise ConfigError(
        f"{key} = {path!r}: neither a folder nor a model that was fetched to this machine, and {why}; fetch it where "
        f"there is a network (hf download {where} --local-dir FOLDER) and give that folder: {key}=FOLDER"
    )


def _model_type(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise ConfigError(f"{file}: not the config of a model (a JSON object); fetch or save the model again") from None


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def responds(address: str) -> bool:
    """Whether the address responds, be it with an HTTP error; proxies of the environment are used."""
    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "vtg"})
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # a certificate that Hugging Face's client may know
    except (OSError, ValueError):
        return False
    return True
