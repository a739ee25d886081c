"""SAM and MedSAM (ViT-B, 1024 x 1024) through transformers' SamModel: what LiteMedSAM is a small version of.

SAM's way in and out is that of transformers' SamProcessor, MedSAM's that of its authors' own inference code
(github.com/bowang-lab/MedSAM, MedSAM_Inference.py), whatever a preprocessor_config.json on the hub says. Both start
from the window of 30 to 100 HU that every method here is given, in place of a photograph's 8 bits. Images are
interpolated linearly, where MedSAM's authors use cubic splines: one geometry serves every network here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import SamConfig, SamModel

from ichseg.errors import WeightsError
from ichseg.methods.frame import PAPER, FloatArray, SliceFrame, Window
from ichseg.methods.network import BoxNetwork
from ichseg.methods.weights import hub_repo, sha256, unlisted_weights

#: Of the red, green and blue of ImageNet, in [0, 1]: what SAM's input is normalised by.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_SD = (0.229, 0.224, 0.225)


class Sam(SamModel, BoxNetwork):  # type: ignore[misc]  # SamModel is not typed
    """SAM: the longer side fills the frame, ImageNet's mean and spread are taken off, the padding is zero."""

    # Attention over 64 x 64 patches takes most of a gigabyte an image.
    images_at_once: ClassVar[int | None] = 1
    # One convolution, and 13 MB to keep.
    stem_is_costly: ClassVar[bool] = False

    vision_encoder: Any
    prompt_encoder: Any
    mask_decoder: Any

    def __init__(self, config: SamConfig) -> None:
        super().__init__(config)
        self.image_size = config.vision_config.image_size
        # The decoder doubles the grid of patches twice.
        self.logits_size = 4 * self.image_size // config.vision_config.patch_size

    def pixels(self, images: Tensor, contents_yx: Sequence[tuple[int, int]]) -> Tensor:
        mean, sd = (images.new_tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_SD))
        normalised = (images[:, None] - mean) / sd
        for one, (rows, columns) in zip(normalised, contents_yx, strict=True):
            one[:, rows:] = 0
            one[:, :, columns:] = 0
        return normalised

    def stem(self, pixels: Tensor) -> Tensor:
        """[n, 3, 1024, 1024] to patches with their places [n, 64, 64, 768]."""
        encoder = self.vision_encoder
        patches = encoder.patch_embed(pixels)
        return patches if encoder.pos_embed is None else patches + encoder.pos_embed

    def body(self, features: Tensor) -> Tensor:
        """The stem's patches to the embedding [n, 256, 64, 64]."""
        for layer in self.vision_encoder.layers:
            features = layer(features)
        return self.vision_encoder.neck(features)

    def decode(self, embedding: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [n or 1, 256, 64, 64] and boxes [n, 4] to logits [n, 1, 256, 256] and IoU [n, 1]."""
        # transformers has images in the first place and the boxes of one image in the second.
        boxes = boxes_xyxy[None] if len(embedding) == 1 else boxes_xyxy[:, None]
        with torch.autocast(boxes.device.type, enabled=False):  # too high frequencies for 16 bits
            sparse, dense = self.prompt_encoder(None, None, boxes.float(), None)
            position = SamModel.get_image_wide_positional_embeddings(self)
        logits, iou = self.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=position.expand(len(embedding), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits.flatten(0, 1), iou.flatten(0, 1)


class MedSam(Sam):
    """MedSAM: both sides fill the frame, the slice's own range becomes [0, 1], a mask is cut at a chance of a half."""

    stretch: ClassVar[bool] = True

    def window(self, slice_hu: npt.NDArray[np.number]) -> Window:
        """The part of 30 to 100 HU that the slice takes up, which is what scaling it from least to most comes to.

        A head slice has air and bone, hence both ends; the range is the whole slice's in a refinement, too.
        """
        low, high = np.clip([slice_hu.min(), slice_hu.max()], PAPER.low, PAPER.high)
        if high <= low:
            return PAPER
        return Window(width=float(high - low), level=float(high + low) / 2)

    def pixels(self, images: Tensor, contents_yx: Sequence[tuple[int, int]]) -> Tensor:
        return BoxNetwork.pixels(self, images, contents_yx)

    def mask(self, frame: SliceFrame, logits: FloatArray) -> npt.NDArray[np.bool_]:
        chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return frame.positive((chance - 0.5).astype(np.float32))


NETWORKS: dict[str, type[Sam]] = {"sam": Sam, "medsam": MedSam}


def load_sam(name: str) -> tuple[Sam, dict[str, str]]:
    """``sam`` or ``medsam`` in float32 on the CPU, in evaluation mode, and {file: sha256} of its weights.

    The file is safetensors in transformers' layout or, from medsam_vit_b.pth, in the original's. A config.json beside
    it says what it is a network of; without one it is ViT-B at 1024 x 1024.

    Raises:
        WeightsError: the file is absent, or is not of that network.

    """
    path = unlisted_weights(name)
    has_config = (path.parent / "config.json").is_file()
    config = SamConfig.from_pretrained(path.parent) if has_config else SamConfig()
    config.name_or_path = hub_repo(name)  # what peft writes into an adapter as its base
    with torch.device("meta"):
        network = NETWORKS[name](config)
    state = {key: tensor.float() for key, tensor in to_transformers(load_file(path)).items()}
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"The weights of {name} have every tensor of its network and no other; {name}/{path.name} "
            f"does not ({str(error).splitlines()[1].strip()[:200]}); fetch the file again."
        ) from error
    SamModel.tie_weights(network)  # the position encoding, which is stored twice, is one again
    return network.eval(), {f"{name}/{path.name}": sha256(path)}


# Where a part of the network has another name in transformers: the original's as a pattern, and what it becomes.
_RENAMED = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.blocks\.", ".layers."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    # The two heads are three linear layers, of which transformers counts the middle one alone (so 0 goes before 1).
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.0\.", r"\1.proj_in."),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
    (r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
)
#: The position encoding stands in transformers' layout twice.
_POSITION = (
    "prompt_encoder.shared_embedding.positional_embedding",
    "shared_image_embedding.positional_embedding",
)


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of SAM in the layout of segment-anything (medsam_vit_b.pth) or of transformers, in the latter.

    Names after github.com/facebookresearch/segment-anything and transformers' own conversion script. Where only one
    of the two copies of the position encoding is stored, it is given to both.
    """
    out = dict(state)
    if any(name.startswith("image_encoder.") for name in state):
        out = {_renamed(name): tensor for name, tensor in state.items()}
    for one, other in (_POSITION, _POSITION[::-1]):
        if one in out:
            out.setdefault(other, out[one])
    return out


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
