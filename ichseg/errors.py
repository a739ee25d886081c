"""What a person can put right: every error here is one sentence of rule, value received and remedy."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input. The text is shown to people as it is, on the page and on the command line."""


class VolumeError(InputError):
    """A scan or a mask that cannot be read, or cannot be written without misplacing voxels."""


class BoxError(InputError):
    """A box that does not lie on the slice it was given for."""


class WeightsError(InputError):
    """A weight file that is absent, or is not the one the manifest promises."""


class LesionError(InputError):
    """A lesion that is not there, that is locked, or that was given a property it cannot have."""


def refusal(name: str, rule: str, received: str, remedy: str) -> VolumeError:
    """One sentence for the person who gave the file ``name``: rule, value received, remedy."""
    return VolumeError(f"{name}: {rule}, but {received}; {remedy}.")
