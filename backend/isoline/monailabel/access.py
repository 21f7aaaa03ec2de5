"""Which routes answer without a token."""

from __future__ import annotations

import ipaddress

from werkzeug.wrappers import Request

from isoline.config import MonaiLabel


def is_open(request: Request, settings: MonaiLabel) -> bool:
    """Return whether `request` needs no token.

    Clients ask without one whether they need one and how to get it. MONAI Label's client sends none
    with /infer/wsi, so addresses that the administrator trusts may go without; what a proxy says of
    an address is never believed.
    """
    if not settings.enabled:
        return False
    path = request.path.removeprefix(settings.prefix.rstrip("/"))
    if path in ("/auth/", "/auth/token"):
        return True
    return path.startswith("/infer/wsi/") and _is_trusted(request.remote_addr, settings.trusted)


def _is_trusted(address: str | None, trusted: tuple[str, ...]) -> bool:
    try:
        caller = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    return any(caller in ipaddress.ip_network(network) for network in trusted)
