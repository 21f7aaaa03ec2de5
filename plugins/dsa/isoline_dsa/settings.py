"""The settings in Girder: the isoline server's address, its token, and its name for this Girder."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from girder.exceptions import ValidationException
from girder.models.setting import Setting
from girder.settings import SettingDefault
from girder.utility import setting_utilities

from isoline_dsa.server import Server

URL = "isoline.url"
TOKEN = "isoline.token"
NAME = "isoline.name"

_DEFAULTS = {URL: "http://127.0.0.1:8765", TOKEN: "", NAME: "girder"}


def register() -> None:
    """Register the settings with Girder."""
    SettingDefault.defaults.update(_DEFAULTS)
    setting_utilities.validator(URL)(_check_url)
    setting_utilities.validator(TOKEN)(_check_token)
    setting_utilities.validator(NAME)(_check_name)


def url() -> str:
    """Return the address of the isoline server."""
    return str(Setting().get(URL))


def token() -> str:
    """Return the access token for the isoline server, "" for none."""
    return str(Setting().get(TOKEN))


def server() -> Server:
    """Return the isoline server."""
    return Server(url(), token())


def name() -> str:
    """Return the isoline server's name for this Girder: NAME of its section [girder.NAME]."""
    return str(Setting().get(NAME))


def _check_url(doc: dict[str, Any]) -> None:
    doc["value"] = str(doc["value"] or "").strip().rstrip("/")
    parts = urlsplit(doc["value"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValidationException("The address must begin with http:// or https://", "value")


def _check_token(doc: dict[str, Any]) -> None:
    doc["value"] = str(doc["value"] or "").strip()
    if not doc["value"].isascii() or not doc["value"].isprintable():
        raise ValidationException(
            "The token has characters that cannot be sent in an HTTP header", "value"
        )


def _check_name(doc: dict[str, Any]) -> None:
    doc["value"] = str(doc["value"] or "").strip()
    if not doc["value"] or "/" in doc["value"]:
        raise ValidationException("The name must not be empty or contain '/'", "value")
