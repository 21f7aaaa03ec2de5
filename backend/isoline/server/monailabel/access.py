"""Which addresses may run models without a token: MONAI Label's client sends none for slides."""

from __future__ import annotations

import ipaddress

MAX_PASSWORD_BYTES = 1 << 16
"""The longest form that somebody logs in with."""


def is_trusted(address: str, networks: tuple[str, ...]) -> bool:
    """Return whether `address` is one that the administrator trusts.

    What a proxy says of an address is never believed.
    """
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(caller in ipaddress.ip_network(network) for network in networks)
