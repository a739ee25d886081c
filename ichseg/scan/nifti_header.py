"""Where a NIfTI header puts its voxels, when its three statements of a voxel's size differ.

A header may say it three times: ``pixdim``, the ``qform`` (a rotation, whose size is that of ``pixdim``) and the
``sform`` (an affine of its own). The standard (nifti1.h, "3D image (volume) orientation and location in space") ranks
none of the two forms above the other. nibabel, FSL and FreeSurfer go by a coded sform; ITK, and with it 3D Slicer and
ITK-SNAP, takes the size from ``pixdim`` always, and the directions from the sform or the qform; dcm2niix writes all
three alike. So a file in which they differ is shown at two sizes by two programs. The rule here:

1. A coded sform is used where its size agrees with ``pixdim``: each column's length within 1 %, or, where its columns
   are not perpendicular (a tilted gantry), the voxel's volume, its determinant against the product, within 1 %.
2. A coded sform whose columns are all 1 mm long, beside another ``pixdim``, is a writer's default, or holds directions
   alone. The size is that of ``pixdim``: by the qform where it is coded (a note), else along the sform's directions
   (a warning).
3. A ``pixdim`` of 1 x 1 x 1 beside another sform is a writer's default; the sform is used (a note, but a warning where
   a coded qform states the 1 mm as well).
4. Otherwise nothing in the header tells which is right: the sform is used, with a warning that gives both sizes. Where
   by the sform the scan would be no head, and by the other statement it is one, ``volume`` takes that, with a warning.
5. Without a coded sform the qform is used, and without either ``pixdim`` along the axes.

Distances in metres or micrometres (``xyzt_units``, which ITK heeds and nibabel does not) are taken as such where that
gives the voxel of a head CT, and as millimetres where only that does.
"""

# mypy: disallow-untyped-calls=False
# nibabel ships types for only some of its functions.
from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from ichseg.arrays import Float
from ichseg.errors import refusal

_SAME_SIZE = 0.01
_UNIT_SIZE = 1e-3
_PERPENDICULAR = 1e-3
_LEAST_INDEPENDENCE = 0.1
_UNITS_MM = {1: ("metre", 1000.0), 3: ("micrometre", 0.001)}
_CT_VOXEL_MM = (0.05, 20.0)
"""Distances between the voxels of any CT of a head: a factor of 1,000 leads out of it."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a header puts its voxels.

    Attributes:
        affine: float64 4 x 4, (x, y, z) index of the file -> RAS+ mm; the one to use.
        others: the affines that another program may take from the same header.
        notes: sentences to say to the user.
        warnings: sentences that make a millilitre doubtful.

    """

    affine: Float
    others: tuple[Float, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def place_voxels(name: str, header: nib.nifti1.Nifti1Header) -> Placement:
    """Choose among a header's statements of where its voxels lie, by the rule above.

    Args:
        name: the file, for the error's text.
        header: a NIfTI-1 or NIfTI-2 header.

    Raises:
        VolumeError: no statement gives every voxel a place of its own.

    """
    found = _choose(name, header)
    unit, factor = _UNITS_MM.get(int(header["xyzt_units"]) & 7, ("", 1.0))
    scale, notes = np.eye(4), found.notes
    if unit:
        scale[:3, :3] *= factor
        said = voxel_size_mm(found.affine)
        if _is_ct_voxel(said) and not _is_ct_voxel(said * factor):
            notes += (
                f"The header's unit is the {unit}, which would make voxels of {size_text(said * factor)}: its distances"
                " were taken as millimetres. ITK programs take the unit at its word.",
            )
            others = (scale @ found.affine, *found.others)
            return Placement(found.affine, others, notes, found.warnings)
        notes += (
            f"The header's unit is the {unit}: its voxels are {size_text(said * factor)}. Programs that pass over the"
            " unit, such as those that read with nibabel, show other distances.",
        )
    others = tuple(scale @ other for other in found.others if not _fault(other))
    raw = (found.affine,) if unit else ()
    return Placement(scale @ found.affine, (*others, *raw), notes, found.warnings)


def voxel_size_mm(affine: Float) -> Float:
    """Lengths of an affine's three columns, float64 [3]."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def _choose(name: str, header: nib.nifti1.Nifti1Header) -> Placement:
    """The rule for the forms, in the header's own unit."""
    sform, qform = header.get_sform(coded=True)[0], _qform(name, header)
    pixdim = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if sform is None:
        affine = qform if qform is not None else _affine_of_pixdim(name, header)
        if fault := _fault(affine):
            raise _refused(name, fault)
        return Placement(affine, (), () if qform is not None else (_NO_SIDES,))
    if fault := _fault(sform):
        if sform[:3].any() or qform is None or _fault(qform):
            raise _refused(name, fault)
        return Placement(qform, (), ("The file's sform is empty: the qform was used.",))
    directions = _direction_notes(sform, qform)
    stated = bool(np.isfinite(pixdim).all() and pixdim.min() > 0)
    if not stated or _agree(sform, pixdim):
        return Placement(sform, () if qform is None else (qform,), directions)
    size = voxel_size_mm(sform)
    scaled = sform.copy()
    scaled[:3, :3] *= pixdim / size
    if _is_unit(size):
        return _unit_sform(sform, scaled, qform, pixdim)
    others = (scaled,) if qform is None else (scaled, qform)
    if _is_unit(pixdim) and qform is None:
        note = (
            f"The header's pixdim is 1 x 1 x 1, a writer's default, beside an sform of {size_text(size)}: the sform was"
            " used. ITK programs, such as 3D Slicer, show it at 1 mm."
        )
        return Placement(sform, others, (note,))
    warning = (
        f"The header gives two voxel sizes, {size_text(size)} (sform) and {size_text(pixdim)} (pixdim), and nothing in"
        f" it tells which is right: the first was used. {_by_the_other(pixdim, sform)}"
    )
    return Placement(sform, others, directions, (warning,))


def _unit_sform(sform: Float, scaled: Float, qform: Float | None, pixdim: Float) -> Placement:
    """The placement where the sform's columns are all 1 mm long, and pixdim says otherwise."""
    if qform is not None and not _fault(qform):
        note = (
            f"The sform's voxels are 1 x 1 x 1 mm, a writer's default; qform and pixdim say {size_text(pixdim)}: the"
            " qform was used, as ITK programs do. Programs that go by the sform, such as those that read with"
            " nibabel, show scan and mask alike, but with other distances."
        )
        return Placement(qform, (sform, scaled), (note,))
    warning = (
        f"The header gives two voxel sizes, 1 x 1 x 1 mm (sform, as a writer's default) and {size_text(pixdim)}"
        f" (pixdim): the second was used, as ITK programs do. {_by_the_other(np.ones(3), scaled)}"
    )
    return Placement(scaled, (sform,), (), (warning,))


_NO_SIDES = "The file does not say which side is which: left and right may be swapped."


def _direction_notes(sform: Float, qform: Float | None) -> tuple[str, ...]:
    """What to say where the sform's axes and the qform's run along different directions of the patient."""
    if qform is None or _fault(qform):
        return ()
    same = nib.aff2axcodes(sform) == nib.aff2axcodes(qform)
    note = "The file's sform and qform name different directions: the sform was used."
    return () if same else (note,)


def _qform(name: str, header: nib.nifti1.Nifti1Header) -> Float | None:
    """The coded qform; None where there is none, or a damaged one beside an sform that is there."""
    try:
        return header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError) as error:
        if header["sform_code"] > 0:
            return None
        raise _refused(name, f"its qform is damaged ({error})") from error


def _affine_of_pixdim(name: str, header: nib.nifti1.Nifti1Header) -> Float:
    try:
        return np.asarray(header.get_base_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise _refused(name, f"its pixdim is damaged ({error})") from error


def _fault(affine: Float) -> str:
    """Why an affine does not give every voxel a place of its own, or an empty string."""
    if not np.isfinite(affine).all():
        return "it holds NaN or infinite numbers"
    size = voxel_size_mm(affine)
    if size.min() == 0:
        return f"the voxel spacing is {size_text(size)}"
    independence = abs(np.linalg.det(affine[:3, :3] / size))
    if independence < _LEAST_INDEPENDENCE:
        return f"its axes are not independent (det {independence:.2g})"
    return ""


def _refused(name: str, received: str) -> Exception:
    rule = "the affine must give every voxel its place"
    return refusal(name, rule, received, "correct the header or export the scan again")


def _agree(affine: Float, pixdim: Float) -> bool:
    """Whether an affine and pixdim state one voxel size (rule 1)."""
    size = voxel_size_mm(affine)
    if np.allclose(size, pixdim, rtol=_SAME_SIZE, atol=0):
        return True
    cosines = affine[:3, :3] / size
    sheared = np.abs(cosines.T @ cosines - np.eye(3)).max() > _PERPENDICULAR
    volume_ratio = abs(np.linalg.det(affine[:3, :3])) / pixdim.prod()
    return bool(sheared and abs(volume_ratio - 1) <= _SAME_SIZE)


def _is_unit(size_mm: Float) -> bool:
    return bool(np.allclose(size_mm, 1.0, rtol=0, atol=_UNIT_SIZE))


def _is_ct_voxel(size_mm: Float) -> bool:
    least, most = _CT_VOXEL_MM
    return bool(size_mm.min() >= least and size_mm.max() <= most)


def _by_the_other(other_mm: Float, used: Float) -> str:
    ratio = other_mm.prod() / abs(np.linalg.det(used[:3, :3]))
    return f"By the other a volume would be {ratio:.3g} times this one."


def size_text(size_mm: Float) -> str:
    """A voxel's size as it is written for people, such as ``0.45 x 0.45 x 5 mm``."""
    return " x ".join(f"{length:.4g}" for length in size_mm) + " mm"
