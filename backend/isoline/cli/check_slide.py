"""What `isoline check` says of a slide or a picture."""

from __future__ import annotations

from collections.abc import Iterator

from isoline.sources.source import ImageInfo


def rows_of(info: ImageInfo) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each property."""
    spacing, bounds = info.spacing_um, info.bounds
    yield "reader", info.reader
    yield "kind", info.kind
    yield "size", "{} x {} px".format(*info.size)
    levels = ("{} x {} (1:{:g})".format(*level.size, level.downsample.x) for level in info.levels)
    yield "levels", ", ".join(levels)
    if bounds is not None:
        yield "scanned", f"{bounds.width} x {bounds.height} px from {bounds.x0}, {bounds.y0}"
    yield "spacing", f"{spacing.x:.4g} x {spacing.y:.4g} um" if spacing else "unknown"
    yield "channels", ", ".join(info.channels) + f" ({info.dtype})"
    yield "z planes", str(info.z_planes)
    for index, image in enumerate(info.series):
        size = "{} x {} px".format(*image.size)
        name = f" ({image.name})" if image.name else ""
        yield f"series {index}", f"{size}{name}{', read' if index == info.taken else ''}"
    yield "fingerprint", info.fingerprint
