"""What an administrator sets in Girder: where the isoline server is and how it knows us."""

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
    """Make the settings known to Girder."""
    SettingDefault.defaults.update(_DEFAULTS)
    setting_utilities.validator(URL)(_check_url)
    setting_utilities.validator(TOKEN)(_check_token)
    setting_utilities.validator(NAME)(_check_name)


def url() -> str:
    """Return the address of the isoline server."""
    return str(Setting().get(URL))


def token() -> str:
    """Return what the isoline server wants to hear, "" for nothing."""
    return str(Setting().get(TOKEN))


def server() -> Server:
    """Return the isoline server."""
    return Server(url(), token())


def name() -> str:
    """Return what the isoline server calls this Girder: NAME of its section [girder.NAME]."""
    return str(Setting().get(NAME))


def _check_url(doc: dict[str, Any]) -> None:
    doc["value"] = str(doc["value"] or "").strip().rstrip("/")
    parts = urlsplit(doc["value"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValidationException("The address begins with http:// or https://", "value")


def _check_token(doc: dict[str, Any]) -> None:
    doc["value"] = str(doc["value"] or "").strip()
    if not doc["value"].isascii() or not doc["value"].isprintable():
        raise ValidationException("The token holds characters that no header can carry", "value")


def _check_name(doc: dict[str, Any]) -> None:
    doc["value"] = str(doc["value"] or "").strip()
    if not doc["value"] or "/" in doc["value"]:
        raise ValidationException("The name is one word without '/'", "value")
