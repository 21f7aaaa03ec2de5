"""Which routes answer without a token, and which change what is kept."""

from __future__ import annotations

import ipaddress

from flask import Request

from isoline.config.settings import MonaiLabel

_PUBLIC = frozenset(("monailabel.enabled", "monailabel.log_in"))
_WITHOUT_TOKEN = "monailabel.infer_wsi"
_KEEPING = frozenset(
    f"monailabel.{name}"
    for name in (
        *("add_image", "remove_image", "note_image"),
        *("save_label", "remove_label", "note_label", "start_batch"),
    )
)


def is_open(request: Request, settings: MonaiLabel) -> bool:
    """Return whether `request` needs no token.

    Clients ask without one whether they need one and how to get it. MONAI Label's client sends none
    with /infer/wsi, so addresses that the administrator trusts may go without; what a proxy says of
    an address is never believed.
    """
    if request.endpoint in _PUBLIC:
        return True
    may_go = request.endpoint == _WITHOUT_TOKEN
    return may_go and _is_trusted(request.remote_addr, settings.trusted)


def keeps(request: Request) -> bool:
    """Return whether `request` changes the datastore; sessions pass and need no such right."""
    return request.endpoint in _KEEPING


def _is_trusted(address: str | None, trusted: tuple[str, ...]) -> bool:
    try:
        caller = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    return any(caller in ipaddress.ip_network(network) for network in trusted)
