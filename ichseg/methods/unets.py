"""U-Nets without a prompt, small enough to train on a CPU: U-Net, Residual Attention U-Net and DR-UNet.

They are one network with three kinds of block. Plain torch: MONAI has such blocks, but takes seconds to import, and
what is needed of it is written below in fewer lines than its configuration.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ichseg.errors import WeightsError
from ichseg.methods.frame import SliceFrame
from ichseg.methods.predictor import as_slice
from ichseg.methods.torch_backend import pick_device
from ichseg.methods.whole_slice import WholeSlicePredictor

#: Channels from the full 256 x 256 down to the coarsest level. The published networks are four times as wide.
CHANNELS = (16, 32, 64, 128, 256)
#: The log odds of blood that an untrained network gives every pixel: blood is about one in a hundred.
PRIOR_LOGIT = -4.6


class ConvUnit(nn.Sequential):
    """Convolution, batch normalisation and ReLU, at the same size."""

    def __init__(self, channels_in: int, channels: int, size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, size, padding=size // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class DoubleConv(nn.Sequential):
    """Two convolutions of 3 x 3: U-Net's block (Ronneberger 2015), with the batch normalisation of today."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(ConvUnit(channels_in, channels), ConvUnit(channels, channels))


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)) (He 2016); the shortcut is 1 x 1 where the number of channels changes."""

    def __init__(self, body: nn.Module, channels_in: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(body, nn.BatchNorm2d(channels))
        self.shortcut = (
            nn.Identity()
            if channels_in == channels
            else nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels_in, y, x] to [n, channels, y, x]."""
        return F.relu(self.body(x) + self.shortcut(x))


class ResidualBlock(Residual):
    """Two convolutions of 3 x 3 past a shortcut."""

    def __init__(self, channels_in: int, channels: int) -> None:
        body = nn.Sequential(
            ConvUnit(channels_in, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        super().__init__(body, channels_in, channels)


class ReducedUnit(Residual):
    """A residual unit of reduced dimension: 1 x 1 to half of the channels, 3 x 3 among those, 1 x 1 to all."""

    def __init__(self, channels_in: int, channels: int) -> None:
        reduced = channels // 2
        body = nn.Sequential(
            ConvUnit(channels_in, reduced, size=1),
            ConvUnit(reduced, reduced),
            nn.Conv2d(reduced, channels, 1, bias=False),
        )
        super().__init__(body, channels_in, channels)


class DoubleReducedUnit(nn.Sequential):
    """Two reduced residual units, so that a level sees as far as U-Net's two convolutions do."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(ReducedUnit(channels_in, channels), ReducedUnit(channels, channels))


class ConvUp(nn.Sequential):
    """Convolution and up-sampling: 3 x 3 at the coarse size, then twice the size by linear interpolation."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(
            ConvUnit(channels_in, channels),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        )


class LearnedUp(nn.ConvTranspose2d):
    """U-Net's own way up: a transposed convolution of 2 x 2 in steps of 2."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels_in, channels, kernel_size=2, stride=2)


class AttentionGate(nn.Module):
    """Additive attention (Oktay 2018): what comes from below says where the skip connection is of use.

    skip * sigmoid(psi(relu(a(skip) + b(below)))), all of them 1 x 1 convolutions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.of_skip = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        )
        self.of_below = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        )
        self.psi = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Both [n, channels, y, x]; the skip connection, dimmed."""
        weight: Tensor = self.psi(F.relu(self.of_skip(skip) + self.of_below(below))).sigmoid()
        return skip * weight


class UNet(nn.Module):
    """An encoder that halves, a decoder that doubles, and skip connections between like sizes (Ronneberger 2015).

    The levels are linked by 2 x 2 max pooling on the way down. The sides of its input are multiples of
    2 ** (levels - 1).
    """

    def __init__(
        self,
        block: type[nn.Module],
        up: type[nn.Module],
        decoder: type[nn.Module],
        *,
        attention: bool = False,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(
            block(before, own) for before, own in zip((1, *channels[:-1]), channels, strict=True)
        )
        self.up = nn.ModuleList(up(below, own) for own, below in pairs)
        self.gates = nn.ModuleList(AttentionGate(own) for own, _ in pairs if attention)
        self.decoder = nn.ModuleList(decoder(2 * own, own) for own, _ in pairs)
        self.head = nn.Conv2d(channels[0], 1, 1)
        nn.init.constant_(self.head.bias, PRIOR_LOGIT)  # type: ignore[arg-type]  # it has a bias

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 1, y, x] in [0, 1] to the logits of blood [n, 1, y, x]."""
        x, skips = images, []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](x)
            skip = self.gates[level](skips[level], x) if self.gates else skips[level]
            x = self.decoder[level](torch.cat([skip, x], dim=1))
        return self.head(x)


def build(architecture: str, channels: Sequence[int] = CHANNELS) -> UNet:
    """A network with fresh weights.

    ``unet``
        U-Net as published (Ronneberger 2015) but for batch normalisation and padding, which keeps the size.
    ``resattunet``
        Residual Attention U-Net as Guo, Law, Park 2024 describe it: residual blocks and max pooling down,
        convolution and up-sampling up, an attention module at each concatenation.
    ``drunet``
        Dimension-reduction U-Net after Yu 2021: U-Net whose blocks are residual units of reduced dimension. The
        widths within a unit are not given in the paper reproduced here, and are half of the level's.

    Raises:
        WeightsError: another name.

    """
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"A network without a prompt is one of {', '.join(ARCHITECTURES)}; got '{architecture}'; "
            "export it again with train export."
        )
    return ARCHITECTURES[architecture](channels=channels)


#: By name: the network of given channels.
ARCHITECTURES: dict[str, Callable[..., UNet]] = {
    "unet": partial(UNet, DoubleConv, LearnedUp, DoubleConv),
    "resattunet": partial(UNet, ResidualBlock, ConvUp, ConvUnit, attention=True),
    "drunet": partial(UNet, DoubleReducedUnit, LearnedUp, DoubleReducedUnit),
}


class UNetPredictor(WholeSlicePredictor):
    """A network without a prompt: the slice in the paper's window at 256 x 256, its logits back at native size."""

    def __init__(
        self,
        network: UNet,
        name: str,
        title: str,
        weights_sha256: Mapping[str, str],
        *,
        device: str = "auto",
    ) -> None:
        self.name = name
        self.title = title
        self.weights_sha256 = dict(weights_sha256)
        self.device = pick_device(device)
        self._network = network.to(self.device).eval()
        self._lock = threading.Lock()

    @property
    def computed_by(self) -> str:
        return f"torch {self.device.type} float32"

    @property
    def packages(self) -> tuple[str, ...]:
        return (*super().packages, "torch")

    @classmethod
    def from_folder(
        cls, folder: Path, name: str, title: str, weights_sha256: Mapping[str, str], device: str
    ) -> UNetPredictor:
        """Open what ``train baseline`` wrote: config.json names the architecture, model.safetensors has the weights."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        network = build(config["architecture"], config["channels"])
        tensors = {
            key: value.float() if value.is_floating_point() else value
            for key, value in load_file(folder / "model.safetensors").items()
        }
        network.load_state_dict(tensors, strict=True)
        return cls(network, name, title, weights_sha256, device=device)

    def find(self, slice_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        rows, columns = as_slice(slice_hu).shape
        frame = SliceFrame((rows, columns))
        image = torch.from_numpy(frame.image(slice_hu))[None, None]
        with self._lock, torch.inference_mode():
            logits = self._network(image.to(self.device))[0, 0].float().cpu().numpy()
        return frame.positive(logits)
