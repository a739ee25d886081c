"""Surfaces: their volume by the divergence theorem, their place, and files opened by other libraries."""

from __future__ import annotations

from typing import Any

import meshio
import numpy as np
import numpy.typing as npt
import phantoms
import pygltflib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.files import mesh
from ichseg.marks.lesion import Lesion
from ichseg.measures.volume import volume_ml
from ichseg.scan.volume import CTVolume

Floats = npt.NDArray[np.float64]
LESIONS = (Lesion(1, type="IPH"), Lesion(2, "Ventricle", type="IVH"), Lesion(3, type="oedema"))


def enclosed_mm3(points: Floats, faces: npt.NDArray[np.integer[Any]]) -> float:
    """Volume within a closed surface whose normals look outwards, by the divergence theorem."""
    a, b, c = (points[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def is_closed(faces: npt.NDArray[np.integer[Any]]) -> bool:
    """Whether every edge is that of two triangles, which run along it in opposite ways."""
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2).astype(np.int64)
    one_way, other_way = (ends @ weights for weights in ([1, ends.max() + 1], [ends.max() + 1, 1]))
    alone = len(np.unique(one_way)) == len(one_way)
    return alone and np.array_equal(np.sort(one_way), np.sort(other_way))


def a_ball(
    radius_mm: float, spacing_mm: tuple[float, float, float], tilt_degrees: float = 0.0
) -> tuple[CTVolume, npt.NDArray[np.bool_]]:
    """The voxels whose centres lie in a ball, in true millimetres, and their scan."""
    shape = [int(2.4 * radius_mm / step) + 6 for step in spacing_mm]
    volume = phantoms.scan(
        np.arange(shape[0]) * spacing_mm[0], (shape[1], shape[2]), spacing_mm[1:], tilt_degrees
    )
    geometry = volume.geometry
    z, y, x = np.indices(shape)
    places = (
        geometry.origins_mm[z]
        + y[..., None] * geometry.y_step_mm
        + x[..., None] * geometry.x_step_mm
    )
    centre = places[tuple(size // 2 for size in shape)]
    return volume, np.linalg.norm(places - centre, axis=-1) < radius_mm


GRIDS = [
    ((1.0, 1.0, 1.0), 0.0),
    ((5.0, 0.5, 0.5), 0.0),
    ((2.5, 0.45, 0.9), 0.0),
    ((5.0, 0.5, 0.5), 18.5),
]


@pytest.mark.parametrize(("spacing", "tilt"), GRIDS)
@pytest.mark.parametrize("radius_mm", [8.0, 16.0])
def test_a_ball_is_closed_and_holds_its_voxels_volume(
    radius_mm: float, spacing: tuple[float, float, float], tilt: float
) -> None:
    volume, ball = a_ball(radius_mm, spacing, tilt)
    found = mesh.lesion_mesh(ball, volume)
    points, faces = np.asarray(found.vertices), np.asarray(found.faces)
    assert is_closed(faces)
    assert enclosed_mm3(points, faces) == pytest.approx(1000 * volume_ml(ball, volume), rel=1e-3)
    # A ball of the same middle: on every side the surface is within a slice's reach of its radius.
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    distances = np.linalg.norm(points - middle, axis=1)
    assert distances.mean() == pytest.approx(radius_mm, rel=0.06)
    assert np.abs(distances - radius_mm).max() < 0.6 * max(spacing) + 0.5


def test_on_an_uneven_tilted_series_it_lies_where_the_slices_lie() -> None:
    positions = [0.0, 4, 8, 12, 19, 26, 33]
    volume = phantoms.scan(positions, (40, 40), (0.6, 0.5), tilt_degrees=-18.5)
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    mask[1:6, 10:30, 12:28] = True
    found = mesh.lesion_mesh(mask, volume)
    points = np.asarray(found.vertices)
    assert enclosed_mm3(points, found.faces) == pytest.approx(
        1000 * volume_ml(mask, volume), rel=1e-3
    )
    geometry = volume.geometry
    corners = np.array(
        [
            geometry.origins_mm[k] + y * geometry.y_step_mm + x * geometry.x_step_mm
            for k in (1, 5)
            for y in (9.5, 29.5)
            for x in (11.5, 27.5)
        ]
    )
    along = corners @ geometry.normal
    heights = points @ geometry.normal
    assert along.min() - 3 < heights.min() < along.min() - 1
    assert along.max() + 2 < heights.max() < along.max() + 4.5
    # Along a row nothing is tilted: the sides are the box's, but for the offset that keeps the volume.
    assert points[:, 0].min() == pytest.approx(corners[:, 0].min(), abs=0.4)
    assert points[:, 0].max() == pytest.approx(corners[:, 0].max(), abs=0.4)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.02, 0.9),
    st.sampled_from([(0.0, 5, 10, 15), (0.0, 4, 8, 15)]),
    st.floats(-25, 25),
)
def test_any_mask_keeps_its_volume(
    seed: int, share: float, positions: tuple[float, ...], tilt: float
) -> None:
    """Also of single voxels, holes and components that touch at a corner."""
    volume = phantoms.scan(positions, (9, 11), (0.5, 0.7), tilt)
    mask = np.random.default_rng(seed).random(volume.shape_zyx) < share
    mask[0, 0, 0] = True
    found = mesh.lesion_mesh(mask, volume)
    held = enclosed_mm3(np.asarray(found.vertices), np.asarray(found.faces))
    assert held == pytest.approx(1000 * volume_ml(mask, volume), rel=2e-3)


def three_lesions() -> tuple[CTVolume, npt.NDArray[np.uint8]]:
    volume = phantoms.scan(np.arange(8) * 4.0, (60, 60), (0.8, 0.8), tilt_degrees=12)
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[2:6, 10:30, 10:30] = 3
    labels[2:6, 14:26, 14:26] = 1
    labels[3:5, 40:50, 30:50] = 2
    return volume, labels


def test_stl_opens_in_another_library_in_millimetres(tmp_path: Any) -> None:
    volume, labels = three_lesions()
    content = mesh.stl_bytes(labels, volume, LESIONS)
    assert content[:80].decode().rstrip() == f"{NOTICE} mm, RAS"
    path = tmp_path / "hematoma.stl"
    path.write_bytes(content)
    read = meshio.read(path)
    (cells,) = read.cells
    total = sum(1000 * volume_ml(labels == lesion.id, volume) for lesion in LESIONS)
    assert enclosed_mm3(read.points, cells.data) == pytest.approx(total, rel=1e-3)
    right, left = read.points[:, 0].max(), read.points[:, 0].min()
    assert right == pytest.approx(-10 * 0.8, abs=1) and left == pytest.approx(-50 * 0.8, abs=1)


def gltf_points(read: pygltflib.GLTF2, accessor: int) -> npt.NDArray[Any]:
    """An accessor's values, decoded here."""
    one = read.accessors[accessor]
    view = read.bufferViews[one.bufferView]
    kind = {5126: np.float32, 5125: np.uint32}[one.componentType]
    width = {"VEC3": 3, "SCALAR": 1}[one.type]
    start = (view.byteOffset or 0) + (one.byteOffset or 0)
    return np.frombuffer(read.binary_blob(), kind, one.count * width, start).reshape(-1, width)


def gltf_meshes(read: pygltflib.GLTF2) -> dict[str, tuple[Any, Any, Any]]:
    """Points, faces and material of each node."""
    found = {}
    for node in read.nodes:
        if node.mesh is not None:
            assert node.matrix is None or np.allclose(np.reshape(node.matrix, (4, 4)), np.eye(4))
            (part,) = read.meshes[node.mesh].primitives
            points = gltf_points(read, part.attributes.POSITION)
            faces = gltf_points(read, part.indices).reshape(-1, 3)
            found[node.name] = points, faces, read.materials[part.material]
    return found


def opened(content: bytes) -> pygltflib.GLTF2:
    return pygltflib.GLTF2.load_from_bytes(content)


def test_glb_opens_in_another_library_in_metres_with_a_coloured_node_a_lesion() -> None:
    volume, labels = three_lesions()
    read = opened(mesh.glb_bytes(labels, volume, LESIONS))
    assert read.asset.copyright == NOTICE
    found = gltf_meshes(read)
    assert found.keys() == {"Lesion 1", "Ventricle", "Lesion 3"}
    for lesion in LESIONS:
        points, faces, material = found[lesion.name]
        wanted = volume_ml(labels == lesion.id, volume)
        assert enclosed_mm3(points * 1000, faces) == pytest.approx(1000 * wanted, rel=1e-3)
        rgb = np.array(material.pbrMetallicRoughness.baseColorFactor[:3]) * 255
        np.testing.assert_allclose(rgb, list(bytes.fromhex(lesion.colour[1:])), atol=1)
        assert material.alphaMode == ("BLEND" if lesion.type == "oedema" else "OPAQUE")
    # The patient's left is +x, up is +y, the front +z: of the slices' centre, the ventricle is left and behind.
    iph, ivh = (found[name][0].mean(axis=0) for name in ("Lesion 1", "Ventricle"))
    assert ivh[0] - iph[0] == pytest.approx(0.016, abs=0.001)
    assert ivh[2] - iph[2] == pytest.approx(-0.020, abs=0.001)


def test_lesions_of_one_name_are_two_nodes() -> None:
    volume, labels = three_lesions()
    twins = [Lesion(1, "Clot"), Lesion(2, "Clot")]
    assert gltf_meshes(opened(mesh.glb_bytes(labels, volume, twins))).keys() == {"Clot", "Clot (2)"}


def a_head() -> tuple[CTVolume, npt.NDArray[np.uint8]]:
    """A usual head CT's size: a skull, open at the neck, with an irregular hematoma, and a headrest of metal dust."""
    shape, spacing = (40, 512, 512), (4.0, 0.45, 0.45)
    hu = np.full(shape, -1000, dtype=np.int16)
    centre = (60.0, 115.0, 115.0)
    hu[phantoms.ellipsoid(shape, spacing, centre, (95, 95, 80))] = 1200
    hu[phantoms.ellipsoid(shape, spacing, centre, (88, 88, 73))] = phantoms.BRAIN_HU
    hu[5, 500:503, 250:253] = 2000
    labels = np.zeros(shape, dtype=np.uint8)
    labels[phantoms.ellipsoid(shape, spacing, (60, 100, 140), (25, 30, 20))] = 1
    labels[phantoms.ellipsoid(shape, spacing, (80, 110, 120), (15, 12, 8))] = 2
    hu[labels > 0] = phantoms.BLOOD_HU
    volume = CTVolume(hu, phantoms.geometry(np.arange(40) * 4.0, (0.45, 0.45)), name="head")
    return volume, labels


def test_the_pages_view_is_small_and_has_the_skull() -> None:
    volume, labels = a_head()
    content = mesh.view_glb(labels, volume, LESIONS)
    assert len(content) < 2e6
    found = gltf_meshes(opened(content))
    assert found.keys() == {"Lesion 1", "Ventricle", "Skull"}
    points, faces, material = found["Skull"]
    assert material.alphaMode == "BLEND" and material.pbrMetallicRoughness.baseColorFactor[3] < 0.4
    assert len(faces) <= mesh.SKULL_FACES
    # The outer table, in metres and without the dust behind the head.
    np.testing.assert_allclose(points[:, 0].min(), (115 - 80) / 1000, atol=0.0015)
    np.testing.assert_allclose(points[:, 0].max(), (115 + 80) / 1000, atol=0.0015)
    np.testing.assert_allclose(points[:, 2].min(), -(115 + 95) / 1000, atol=0.0015)
    np.testing.assert_allclose(points[:, 2].max(), -(115 - 95) / 1000, atol=0.0015)
    # Decimation leaves the lesions' volumes.
    for lesion in LESIONS[:2]:
        points, faces, _ = found[lesion.name]
        wanted = volume_ml(labels == lesion.id, volume)
        assert enclosed_mm3(points * 1000, faces) == pytest.approx(1000 * wanted, rel=0.01)


def test_a_scan_without_bone_has_a_view_all_the_same() -> None:
    volume, labels = three_lesions()
    assert mesh.skull_mesh(volume) is None
    assert "Skull" not in gltf_meshes(opened(mesh.view_glb(labels, volume, LESIONS)))


def test_an_empty_mask_is_refused() -> None:
    volume, labels = three_lesions()
    for write in (mesh.stl_bytes, mesh.glb_bytes):
        with pytest.raises(InputError, match="the mask is empty; draw a box first"):
            write(labels * 0, volume, LESIONS)
