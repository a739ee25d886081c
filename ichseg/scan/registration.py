"""Where a follow-up lies on its baseline: a rigid motion, found on the skull, which blood does not move.

Both scans are read off at 2 mm for this alone; what is measured stays on each scan's own grid. From many poses the bone
of each is brought onto the other's (a chamfer distance, truncated). From the best of these Mattes' mutual information
of the skull and what lies along it is raised (SimpleITK; Mattes et al., IEEE Trans Med Imaging 2003;22:120).
How sure it is comes from the inner tables of the two skulls (``inner_table``): those of one head lie on each other,
those of two heads do not. All of it runs in one thread and from one seed, so that the same scans give the same motion.
"""

# mypy: disallow-untyped-calls=False
# SimpleITK ships types for the arguments of its functions, but not for what they return.
from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from ichseg.arrays import BoolArray, Float
from ichseg.errors import Cancelled, UnsureError, VolumeError, check_cancelled, refusal
from ichseg.scan.inner_table import InnerTable, Match
from ichseg.scan.limits import SOLID_BONE_HU, bone_above
from ichseg.scan.volume import CTVolume

_STEP_MM = 2.0
_AROUND_MM = 8.0
"""How far the skull's neighbourhood goes that mutual information is taken of."""
_LEAST_BONE = 400
"""Voxels of bone at 2 mm, about 3 mL: fewer are no skull."""
_LEAST_SHARE = 0.02
"""A connected component of less than this share of all bone is a table, a tube or calcium."""
_FAR_MM = 12.0
_ANGLES_DEGREES = (-16.0, 0.0, 16.0)
_RISES_MM = (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0)
_TRIES = 6
_LEAST_IN_VIEW = 0.25
"""Less of the smaller skull than this in view of the other is no overlap."""

SURE_MEDIAN_MM, SURE_P90_MM = 0.65, 2.1
"""Two inner tables of one head lie this near: docs/phantoms/registration.md has both groups' distances.

On pixels of up to ``_PIXEL_MM``; where they are larger, a table is found as much less exactly.
"""
_PIXEL_MM = 1.0
_LEAST_TABLE_CM2 = 60.0
"""Less of the inner table than this in view of both scans does not tell two heads apart."""


_ONE_THREAD = threading.Lock()
"""ITK's metric goes by the number of threads of the whole process, which one registration at a time sets."""


@dataclass(frozen=True, eq=False)
class Registration:
    """The rigid motion from a follow-up to its baseline, and how far the two skulls are apart under it.

    Attributes:
        matrix: 4 x 4, RAS+ mm of the follow-up -> RAS+ mm of the baseline; a rotation and a shift.
        match: of the two inner tables; None where neither scan has a closed ring of bone.

    """

    matrix: Float
    match: Match | None

    def to_baseline(self, points_mm: npt.ArrayLike) -> Float:
        """Places of the follow-up, RAS+ mm [n, 3], as places of the baseline.

        >>> turned = np.array([[0, -1, 0, 5.0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> Registration(turned, None).to_baseline([[1, 0, 0]]).tolist()
        [[5.0, 1.0, 0.0]]
        """
        return np.asarray(points_mm, dtype=np.float64) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def to_followup(self, points_mm: npt.ArrayLike) -> Float:
        """Places of the baseline, RAS+ mm [n, 3], as places of the follow-up."""
        return (np.asarray(points_mm, dtype=np.float64) - self.matrix[:3, 3]) @ self.matrix[:3, :3]

    @property
    def inverted(self) -> Registration:
        """The same with the two scans exchanged."""
        return Registration(np.asarray(np.linalg.inv(self.matrix)), self.match)

    @property
    def angle_degrees(self) -> float:
        """How far the head is turned, about whatever axis."""
        return float(np.degrees(Rotation.from_matrix(self.matrix[:3, :3]).magnitude()))

    @property
    def is_sure(self) -> bool:
        """Whether the skulls lie on each other as those of one head do."""
        match = self.match
        return (
            match is not None
            and match.area_cm2 >= _LEAST_TABLE_CM2
            and match.median_mm <= self._limits_mm[0]
            and match.p90_mm <= self._limits_mm[1]
        )

    @property
    def _limits_mm(self) -> tuple[float, float]:
        """What the median and the 90th percentile may be at most."""
        coarse = 1.0 if self.match is None else max(1.0, self.match.pixel_mm / _PIXEL_MM)
        return SURE_MEDIAN_MM * coarse, SURE_P90_MM * coarse

    def check_sure(self) -> None:
        """Raise UnsureError, with ``sentence``, where it is unsure."""
        if not self.is_sure:
            raise UnsureError(self.sentence)

    @property
    def sentence(self) -> str:
        """How sure it is, for people."""
        match = self.match
        if match is None or match.area_cm2 < _LEAST_TABLE_CM2:
            seen = 0 if match is None else match.area_cm2
            return (
                "The registration is unsure: both scans show the inner table of the skull on "
                f"{seen:.0f} cm2, and {_LEAST_TABLE_CM2:.0f} are needed; check by eye that the slices belong together."
            )
        how = f"{match.median_mm:.1f} mm apart in the median, and {match.p90_mm:.1f} mm at the 90th percentile"
        if self.is_sure:
            return f"The inner tables of the two skulls are {how}, over {match.area_cm2:.0f} cm2."
        limits = " and ".join(f"{limit:.2g}" for limit in self._limits_mm)
        return (
            f"The registration is unsure: the inner tables of the two skulls are {how}, and those of one head lie "
            f"within {limits} mm; check that both scans are of one person."
        )


def register(
    baseline: CTVolume,
    followup: CTVolume,
    *,
    progress: Callable[[float], None] | None = None,
) -> Registration:
    """Find where a follow-up lies on its baseline.

    Args:
        baseline: the scan whose frame stays.
        followup: the other one, turned by up to 20 degrees and moved by up to some 60 mm.
        progress: called with the share that is done, 0 to 1, never falling.

    It ends where ``check_cancelled`` says so.

    Raises:
        VolumeError: a scan with hardly any bone, or none.

    """
    say = progress or (lambda share: None)
    own, other = _Head.of(baseline), _Head.of(followup)
    say(0.1)
    start = _chamfer(own, other)
    say(0.4)
    refined = _mutual_information(own, other, start, lambda share: say(0.4 + 0.4 * share))
    tables = []
    for one in (baseline, followup):
        check_cancelled()
        tables.append(InnerTable.of(one))
    say(0.9)
    check_cancelled()
    # What blurs a base or crops a vault may lead one of the two astray: the skulls say which.
    found = [
        Registration(motion, tables[0].match(tables[1], motion)) for motion in (refined, start)
    ]
    best = min(found, key=lambda one: np.inf if one.match is None else one.match.median_mm)
    say(1.0)
    return best


@dataclass(frozen=True, eq=False)
class _Head:
    """A scan at 2 mm, [z, y, x] along RAS+'s axes reversed: x to the right, y to the front, z up."""

    hu: npt.NDArray[np.float32]
    seen: BoolArray
    bone: BoolArray
    origin_mm: Float
    """RAS+ mm of voxel 0, 0, 0, as (x, y, z)."""

    @classmethod
    def of(cls, volume: CTVolume) -> _Head:
        where, hu = volume.geometry, volume.hu_zyx
        steps = [max(1, round(_STEP_MM / mm)) for mm in where.spacing_yx_mm]
        rows, columns = (size // step for size, step in zip(hu.shape[1:], steps, strict=True))
        cut = hu[:, : rows * steps[0], : columns * steps[1]]
        blocks = cut.reshape(len(hu), rows, steps[0], columns, steps[1]).mean((2, 4), np.float32)
        limit = bone_above(SOLID_BONE_HU, float(hu.max()))
        middles = [(step - 1) / 2 for step in steps]
        places = np.argwhere(blocks >= limit)
        if len(places) < 10:
            raise _no_skull(volume)
        bone_mm = where.to_mm(
            places[:, 0], *(places[:, i + 1] * steps[i] + middles[i] for i in (0, 1))
        )
        low, high = bone_mm.min(axis=0) - _AROUND_MM, bone_mm.max(axis=0) + _AROUND_MM
        axes = [np.arange(a, b + _STEP_MM, _STEP_MM) for a, b in zip(low, high, strict=True)]
        shape = tuple(len(axis) for axis in axes[::-1])
        z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
        index = where.to_index(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)).T
        ends = np.array([len(hu), *hu.shape[1:]])[:, None] - 0.5
        seen = ((index >= -0.5) & (index <= ends)).all(axis=0).reshape(shape)
        for i in (0, 1):
            index[i + 1] = (index[i + 1] - middles[i]) / steps[i]
        values = ndimage.map_coordinates(blocks, index, order=1, mode="nearest").reshape(shape)
        values[~seen] = -1000
        labels, _ = ndimage.label(values >= limit, np.ones((3, 3, 3), dtype=bool))
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        bone = np.isin(labels, np.flatnonzero(sizes >= max(1.0, _LEAST_SHARE * sizes.sum())))
        if np.count_nonzero(bone) < _LEAST_BONE:
            raise _no_skull(volume)
        # Bone, and what is nearly as dense as the skull's blurred rim, in the same numbers on every scan.
        return cls(np.clip(values, -200, 1500), np.asarray(seen), bone, low)

    @property
    def points_mm(self) -> Float:
        """The middles of bone's voxels, RAS+ mm [n, 3]."""
        return np.argwhere(self.bone)[:, ::-1] * _STEP_MM + self.origin_mm

    def distance(self) -> Callable[[Float], tuple[Float, BoolArray]]:
        """A function from RAS+ mm [n, 3] to the distance from bone, at most ``_FAR_MM``, and whether it is in view."""
        reach = int(np.ceil(_FAR_MM / _STEP_MM))
        free = np.pad(~self.bone, reach, constant_values=True)
        far = np.minimum(ndimage.distance_transform_edt(free, sampling=_STEP_MM), _FAR_MM)
        far = far.astype(np.float32)
        # Beside the image nothing hides bone; above and below the last slice it may go on.
        seen = np.pad(self.seen, reach, mode="edge")
        heights = np.arange(len(free))
        seen &= ((heights >= reach) & (heights < reach + len(self.bone)))[:, None, None]
        corner = self.origin_mm - reach * _STEP_MM
        limits = np.array(free.shape) - 1

        def at(points_mm: Float) -> tuple[Float, BoolArray]:
            index = ((points_mm - corner) / _STEP_MM)[:, ::-1].T
            near = np.clip(np.rint(index).astype(np.intp), 0, limits[:, None])
            inside = seen[tuple(near)] & ((index[0] >= 0) & (index[0] <= limits[0]))
            return ndimage.map_coordinates(far, index, order=1, mode="nearest"), inside

        return at


def _no_skull(volume: CTVolume) -> VolumeError:
    return refusal(
        volume.name,
        "a registration goes by the skull",
        f"hardly any of this scan is bone (over {SOLID_BONE_HU:g} HU)",
        "take a head CT that shows some of the skull",
    )


def _chamfer(baseline: _Head, followup: _Head) -> Float:
    """The motion, follow-up to baseline, that brings either bone nearest to the other; 4 x 4."""
    own, other = baseline.points_mm, followup.points_mm
    here, there = baseline.distance(), followup.distance()
    middles = [points.mean(axis=0) for points in (own, other)]
    least = min(len(own), len(other))

    def cost(pose: Float, count: int) -> float:
        check_cancelled()
        matrix = _motion(pose, *middles)
        rotation, shift = matrix[:3, :3], matrix[:3, 3]
        a = other[:: max(1, len(other) // count)]
        b = own[:: max(1, len(own) // count)]
        far_a, seen_a = here(a @ rotation.T + shift)
        far_b, seen_b = there((b - shift) @ rotation)
        pairs = seen_a.sum() + seen_b.sum()
        in_view = min(seen_a.mean() * len(other), seen_b.mean() * len(own)) / least
        if in_view < _LEAST_IN_VIEW:
            return 2 * _FAR_MM - in_view
        mean = float((far_a[seen_a].sum() + far_b[seen_b].sum()) / pairs)
        # Less in view is less to be wrong on: what leaves the view costs a little.
        return mean + 1.0 * (1 - in_view)

    turns = itertools.product(_ANGLES_DEGREES, repeat=3)
    poses = [
        np.array([*turn, 0.0, forward, rise])
        for turn in turns
        for forward in (-15.0, 0.0, 15.0)
        for rise in _RISES_MM
    ]
    costs = np.array([cost(pose, 150) for pose in poses])
    best: list[tuple[float, Float]] = []
    for start in np.argsort(costs, kind="stable")[:_TRIES]:
        best.append(_descended(lambda pose: cost(pose, 1000), poses[start], 8.0, 250))
    best.sort(key=lambda one: one[0])
    _, pose = _descended(lambda pose: cost(pose, 3000), best[0][1], 2.0, 120)
    return _motion(pose, *middles)


def _descended(
    cost: Callable[[Float], float], start: Float, step: float, most: int
) -> tuple[float, Float]:
    """The least cost from a start on, and where it is (Nelder and Mead)."""
    simplex = np.concatenate([start[None], start + step * np.eye(len(start))])
    found = optimize.minimize(
        cost,
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": simplex,
            "xatol": 0.02,
            "fatol": 1e-4,
            "maxfev": most,
            "adaptive": True,
        },
    )
    return float(found.fun), np.asarray(found.x)


def _motion(pose: Float, own_middle: Float, other_middle: Float) -> Float:
    """4 x 4 of three angles in degrees about x, y and z of the follow-up's middle, and a shift in mm from there."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", pose[:3], degrees=True).as_matrix()
    matrix[:3, 3] = own_middle + pose[3:] - matrix[:3, :3] @ other_middle
    return matrix


def _mutual_information(
    baseline: _Head, followup: _Head, start: Float, progress: Callable[[float], None]
) -> Float:
    """The motion, 4 x 4, follow-up to baseline, with the most mutual information near a start."""
    import SimpleITK as sitk

    images = []
    for head in (baseline, followup):
        check_cancelled()
        image = sitk.GetImageFromArray(head.hu)
        image.SetSpacing([_STEP_MM] * 3)
        image.SetOrigin(head.origin_mm.tolist())
        images.append(image)
    around = [
        ndimage.distance_transform_edt(~head.bone, sampling=_STEP_MM) <= _AROUND_MM
        for head in (baseline, followup)
    ]
    masks = []
    for head, near, image in zip((baseline, followup), around, images, strict=True):
        of = near & head.seen if head is baseline else head.seen
        mask = sitk.GetImageFromArray(of.astype(np.uint8))
        mask.CopyInformation(image)
        masks.append(mask)
    # ITK's transform goes from the fixed image, the baseline, to the moving one.
    inverse = np.linalg.inv(start)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(baseline.points_mm.mean(axis=0).tolist())
    transform.SetMatrix(inverse[:3, :3].ravel().tolist(), 1e-6)
    centre = np.array(transform.GetCenter())
    transform.SetTranslation((inverse[:3, :3] @ centre + inverse[:3, 3] - centre).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(
        1
    )  # sums of several threads differ in their last digits from run to run
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    method.SetMetricSamplingStrategy(sitk.ImageRegistrationMethod.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)  # even samples are moved about by chance: a seed
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=0.01, numberOfIterations=60, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)

    def step() -> None:
        progress(min(1.0, method.GetOptimizerIteration() / 60))
        try:
            check_cancelled()
        except Cancelled:  # which cannot pass through the library: it is raised again below
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, step)
    with _ONE_THREAD:  # sums of several threads differ in their last digits from run to run
        before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        try:
            method.SetNumberOfThreads(1)
            method.Execute(*images)
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    check_cancelled()
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    forward = np.eye(4)
    forward[:3, :3] = rotation
    forward[:3, 3] = centre + np.array(transform.GetTranslation()) - rotation @ centre
    return np.asarray(np.linalg.inv(forward))
