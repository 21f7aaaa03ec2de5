"""Executing a bundle's configuration, only if the administrator allows it to run code."""

from __future__ import annotations

from typing import Any

from isoline.errors import Broken
from isoline.models.bundles.files import JSON, Bundle


def evaluated(bundle: Bundle) -> dict[str, JSON]:
    """Return the inference configuration with its `$expressions` evaluated.

    Values that JSON cannot represent (a transform, a device) stay expressions. Raises Broken.
    """
    parser = _parser(bundle)
    inference = bundle.inference()
    return {key: _values(value, key, parser) for key, value in inference.items()}


def network(bundle: Bundle) -> Any:
    """Return the module that the configuration builds, with weights loaded. Raises Broken."""
    import torch

    try:
        module = _parser(bundle).get_parsed_content("network_def")
        state = torch.load(bundle.weights, map_location="cpu", weights_only=True)
        module.load_state_dict(state.get("model", state))
    except Exception as error:  # third-party code may raise anything
        raise Broken(f"the network of {bundle.path.name} cannot be built: {error}") from error
    return module


def _parser(bundle: Bundle) -> Any:
    assert bundle.run_code
    try:
        from monai.bundle import ConfigParser
    except ImportError as error:
        raise Broken(
            f"the configuration of {bundle.path.name} needs MONAI",
            "run `pip install 'isoline[bundles]'`",
        ) from error
    parser = ConfigParser(bundle.inference())
    parser["bundle_root"] = str(bundle.path)
    return parser


def _values(value: JSON, where: str, parser: Any) -> JSON:
    if isinstance(value, dict):
        return {key: _values(each, f"{where}::{key}", parser) for key, each in value.items()}
    if isinstance(value, list):
        return [_values(each, f"{where}::{n}", parser) for n, each in enumerate(value)]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    try:
        found = parser.get_parsed_content(where)
    except Exception:  # if the value is needed, the code that reads it reports the error
        return value
    return _json(found, value)


def _json(found: object, otherwise: JSON) -> JSON:
    if isinstance(found, tuple | list):
        return [_json(each, otherwise) for each in found]
    return found if isinstance(found, bool | int | float | str) else otherwise
