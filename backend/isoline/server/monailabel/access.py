"""Addresses that may run models without a token, since MONAI Label's client sends none for
slides."""

from __future__ import annotations

import ipaddress

MAX_PASSWORD_BYTES = 1 << 16
"""Size limit of a login form."""


def is_trusted(address: str, networks: tuple[str, ...]) -> bool:
    """Return whether the administrator trusts `address`.

    Forwarding headers of proxies are never trusted.
    """
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(caller in ipaddress.ip_network(network) for network in networks)
