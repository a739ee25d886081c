"""Surfaces of the lesions, and of the skull around them, as STL and GLB files.

Triangles lie where the voxels lie: through the scan's own geometry, tilted and unevenly spaced series too, and nothing
is resampled. STL is in millimetres, RAS+ (x to the patient's right, y to the front, z up), like NIfTI. GLB follows
glTF: metres, y up, and the patient looks along +z, so that a viewer shows the face.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.marks.lesion import Lesion
from ichseg.measures.landmarks import LEAST_SHARE
from ichseg.measures.surface import surface_mesh
from ichseg.measures.volume import volume_ml
from ichseg.scan.limits import SOLID_BONE_HU
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    import trimesh

Floats = npt.NDArray[np.float64]

#: Most triangles of the page's 3D view: some 24 bytes each with their vertices, so that it stays under 2 MB.
SKULL_FACES, LESION_FACES = 40_000, 30_000

#: Pixels of the skull are averaged to about this size first: it is there for orientation.
_SKULL_PIXEL_MM = 2.0
_SKULL_COLOUR = (226, 222, 212, 56)
_CLEAR_ALPHA = 110
_VOLUME_TOLERANCE, _MOST_STEPS = 1e-3, 30
_RAS_TO_GLTF = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]) / 1000


def stl_bytes(labels_zyx: npt.ArrayLike, volume: CTVolume, lesions: Sequence[Lesion]) -> bytes:
    """All lesions as one binary STL in millimetres, RAS+; the header states unit, axes and the notice.

    ``labels_zyx`` is [z, y, x] of the scan's shape; each lesion's voxels have its number. The surface of each is
    closed, lightly smoothed, and holds its voxels' volume (``lesion_mesh``). Raises InputError for an empty mask.
    """
    import trimesh

    meshes = [mesh for _, mesh in _lesion_meshes(labels_zyx, volume, lesions)]
    content = trimesh.util.concatenate(meshes).export(file_type="stl")
    # 80 bytes are the most, and it must not begin with "solid": of warnings there is room to say that there are some.
    doubt = ", WARNED" if volume.warnings else ""
    return f"{NOTICE} mm, RAS{doubt}".encode().ljust(80) + content[80:]


def glb_bytes(
    labels_zyx: npt.ArrayLike,
    volume: CTVolume,
    lesions: Sequence[Lesion],
    *,
    skull: bool = False,
    most_faces: int | None = None,
    clear: Collection[int] = (),
) -> bytes:
    """The lesions as GLB in metres, a node each with its name and colour; oedema is translucent.

    Args:
        labels_zyx: [z, y, x] of the scan's shape; each lesion's voxels have its number.
        volume: the scan.
        lesions: what the numbers stand for; those without a voxel are left out.
        skull: also the bone, translucent and coarse, as a node "Skull"; left out where the scan shows none.
        most_faces: of all lesions together; more are decimated. None keeps them all.
        clear: numbers of lesions that are translucent, too.

    Raises:
        InputError: an empty mask.

    """
    import trimesh

    meshes = [
        (one.name, mesh, _colour(one, one.id in clear))
        for one, mesh in _lesion_meshes(labels_zyx, volume, lesions)
    ]
    total = sum(len(mesh.faces) for _, mesh, _ in meshes)
    if most_faces is not None and total > most_faces:
        share = most_faces / total
        meshes = [
            (name, _decimated(mesh, int(len(mesh.faces) * share)), colour)
            for name, mesh, colour in meshes
        ]
    bone = skull_mesh(volume) if skull else None
    if bone is not None:
        meshes.append(("Skull", bone, _SKULL_COLOUR))
    scene = trimesh.Scene()
    for name, mesh, (red, green, blue, alpha) in meshes:
        mesh.vertices = mesh.vertices @ _RAS_TO_GLTF.T
        material = trimesh.visual.material.PBRMaterial(
            baseColorFactor=(red, green, blue, alpha),
            alphaMode="OPAQUE" if alpha == 255 else "BLEND",
            doubleSided=True,
            metallicFactor=0.0,
            roughnessFactor=0.8,
        )
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        node = name if name not in scene.geometry else f"{name} ({len(scene.geometry) + 1})"
        scene.add_geometry(mesh, node_name=node, geom_name=node)

    def add_notice(tree: dict[str, Any]) -> None:
        tree["asset"]["copyright"] = NOTICE
        tree["asset"]["extras"] = {
            "notice": NOTICE,
            "unit": "metre",
            "axes": "x left, y up, z front",
            "scan_sha256": volume.sha256,
            "warnings": list(volume.warnings),
        }

    return bytes(scene.export(file_type="glb", include_normals=True, tree_postprocessor=add_notice))


def view_glb(
    labels_zyx: npt.ArrayLike,
    volume: CTVolume,
    lesions: Sequence[Lesion],
    clear: Collection[int] = (),
) -> bytes:
    """What the page's 3D view shows: the lesions in the translucent skull, under 2 MB (``glb_bytes``)."""
    return glb_bytes(labels_zyx, volume, lesions, skull=True, most_faces=LESION_FACES, clear=clear)


def lesion_mesh(mask_zyx: npt.ArrayLike, volume: CTVolume) -> trimesh.Trimesh | None:
    """One lesion's closed surface, RAS+ mm; None for an empty mask.

    ``surface.surface_mesh``, its normals outwards. That one is lightly smoothed and ends in a wedge between two slices,
    and so holds less than its voxels do: 6 % on the sample, up to 30 % of a lesion of three slices. It is moved along
    its normals, by 0.3 mm on the sample, until it holds their volume within 0.1 % (tests/test_mesh.py).
    """
    import trimesh

    found = surface_mesh(mask_zyx, volume)
    if found is None:
        return None
    mesh = trimesh.Trimesh(*found, process=False)
    if mesh.volume < 0:
        mesh.invert()
    wanted_mm3 = 1000 * volume_ml(mask_zyx, volume)
    most_mm = 0.2 * min(
        volume.geometry.spacing_yx_mm
    )  # a step; a single voxel begins as a mere speck
    for _ in range(_MOST_STEPS):
        missing_mm3 = wanted_mm3 - mesh.volume
        if abs(missing_mm3) < _VOLUME_TOLERANCE * wanted_mm3:
            break
        mesh.vertices += mesh.vertex_normals * np.clip(missing_mm3 / mesh.area, -most_mm, most_mm)
    return mesh


def skull_mesh(volume: CTVolume, most_faces: int = SKULL_FACES) -> trimesh.Trimesh | None:
    """The bone of a scan as a coarse surface, RAS+ mm, open where the scan ends; None where it shows none.

    For orientation, not for measuring: pixels are averaged to about 2 mm and triangles decimated to ``most_faces``.
    """
    import trimesh
    from skimage.measure import marching_cubes

    dy, dx = volume.geometry.spacing_yx_mm
    fy, fx = (max(1, round(_SKULL_PIXEL_MM / step)) for step in (dy, dx))
    depth, rows, columns = (
        size // f for size, f in zip(volume.shape_zyx, (1, fy, fx), strict=True)
    )
    blocks = volume.hu_zyx[:, : rows * fy, : columns * fx].reshape(depth, rows, fy, columns, fx)
    hu = np.pad(
        blocks.mean(axis=(2, 4), dtype=np.float32), ((0, 0), (1, 1), (1, 1)), constant_values=-1000
    )
    components, _ = ndimage.label(hu >= SOLID_BONE_HU, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    if not sizes.any():
        return None
    kept = np.isin(components, np.flatnonzero(sizes >= LEAST_SHARE * sizes.sum()))
    # Within a pixel of the bone the HU themselves place the surface; beyond, headrest and calcium are left out.
    hu[~ndimage.binary_dilation(kept, np.ones((3, 3, 3)))] = -1000
    points, faces, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
        np.clip(hu, -200, 800), level=SOLID_BONE_HU
    )
    scale, shift = (1, fy, fx), (0, (fy - 1) / 2, (fx - 1) / 2)
    places = volume.geometry.to_mm(*((points - (0, 1, 1)) * scale + shift).T)
    mesh = trimesh.Trimesh(places, faces, process=False)
    return _decimated(mesh, most_faces) if len(faces) > most_faces else mesh


def _lesion_meshes(
    labels_zyx: npt.ArrayLike, volume: CTVolume, lesions: Sequence[Lesion]
) -> Iterator[tuple[Lesion, trimesh.Trimesh]]:
    labels, found = np.asarray(labels_zyx), False
    for lesion in lesions:
        mesh = lesion_mesh(labels == lesion.id, volume)
        if mesh is not None:
            found = True
            yield lesion, mesh
    if not found:
        raise InputError(
            "A surface is that of one lesion or more; the mask is empty; draw a box first."
        )


def _colour(lesion: Lesion, clear: bool) -> tuple[int, int, int, int]:
    return *lesion.rgb, _CLEAR_ALPHA if clear or not lesion.is_blood else 255


def _decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    return mesh.simplify_quadric_decimation(face_count=max(faces, 4))
