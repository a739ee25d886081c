"""The TinyViT image encoder of LiteMedSAM: 256 x 256 pixels in, a 64 x 64 x 256 embedding out.

After Wu et al., TinyViT (ECCV 2022), as LiteMedSAM varies it: the patch embedding keeps the full
resolution, the first two stages halve it, the last two stay at 64 x 64. Module and parameter names are
those of the public checkpoint. Features travel as [n, y, x, channels], which a convolution in
channels-last memory takes without a copy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBED_DIMS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
NUM_HEADS = (2, 4, 5, 10)
WINDOW_SIZES = (7, 7, 14, 7)
EMBEDDING_DIM = 256


class ConvNorm(nn.Sequential):
    """A convolution without bias and its batch norm, named ``c`` and ``bn`` in the checkpoint."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.add_module("c", conv)
        self.add_module("bn", nn.BatchNorm2d(dim_out))

    @torch.no_grad()
    def fold(self) -> None:
        """Work the batch norm's running statistics into the convolution, once and for good."""
        conv, norm = self.get_submodule("c"), self.get_submodule("bn")
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        conv.weight.mul_(gain[:, None, None, None])
        conv.bias = nn.Parameter(norm.bias - norm.running_mean * gain, requires_grad=False)
        self.bn = nn.Identity()


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of a [n, channels, y, x] tensor."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """Two pixel-wise convolutions; despite the name, no patches: LiteMedSAM keeps every pixel."""

    def __init__(self, dim_out: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, dim_out // 2), nn.GELU(), ConvNorm(dim_out // 2, dim_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class MBConv(nn.Module):
    """An inverted residual block: widen by 4, mix 3 x 3 within channels, narrow, add."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 4 * dim)
        self.conv2 = ConvNorm(4 * dim, 4 * dim, kernel=3, groups=4 * dim)
        self.conv3 = ConvNorm(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """From one stage to the next: change the channels and, with stride 2, halve the resolution."""

    def __init__(self, dim_in: int, dim_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim_in, dim_out)
        self.conv2 = ConvNorm(dim_out, dim_out, kernel=3, stride=stride, groups=dim_out)
        self.conv3 = ConvNorm(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Multi-head self-attention within a window, with a learned bias for each (|dy|, |dx|)."""

    offsets: Tensor

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        y, x = y.flatten(), x.flatten()
        offsets = (y[:, None] - y[None]).abs() * window + (x[:, None] - x[None]).abs()
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [windows, tokens, dim], the same out."""
        windows, tokens, dim = x.shape
        qkv = self.qkv(self.norm(x)).view(windows, tokens, self.num_heads, -1).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)
        # Spelled out, as windows are small: on a CPU the fused kernel's backward takes more than twice as long.
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        weights = weights + self.attention_biases[:, self.offsets].to(q.dtype)
        out = weights.softmax(dim=-1).to(v.dtype) @ v
        return self.proj(out.transpose(1, 2).reshape(windows, tokens, dim))


class Mlp(nn.Module):
    """Norm, widen by 4, GELU, narrow."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, a 3 x 3 depth-wise convolution, and an MLP; [n, y, x, dim] in and out."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, num_heads, window)
        self.local_conv = ConvNorm(dim, dim, kernel=3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)

    def _attend(self, x: Tensor) -> Tensor:
        """Cut into windows (zero-padded to whole ones), attend within each, and join again."""
        n, rows, columns, dim = x.shape
        side = self.window
        x = F.pad(x, (0, 0, 0, -columns % side, 0, -rows % side))
        padded = x.shape
        x = x.view(n, padded[1] // side, side, padded[2] // side, side, dim)
        x = x.transpose(2, 3)
        grid = x.shape
        x = self.attn(x.reshape(-1, side * side, dim)).view(grid).transpose(2, 3)
        return x.reshape(padded)[:, :rows, :columns]


class ConvStage(nn.Module):
    """The first stage: inverted residual blocks, then merging to half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([MBConv(EMBED_DIMS[0]) for _ in range(DEPTHS[0])])
        self.downsample = PatchMerging(EMBED_DIMS[0], EMBED_DIMS[1], stride=2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)


class AttentionStage(nn.Module):
    """A later stage: attention blocks, then merging where another stage follows."""

    def __init__(self, stage: int) -> None:
        super().__init__()
        dim = EMBED_DIMS[stage]
        self.blocks = nn.ModuleList(
            [TinyViTBlock(dim, NUM_HEADS[stage], WINDOW_SIZES[stage]) for _ in range(DEPTHS[stage])]
        )
        self.downsample: nn.Module | None = None
        if stage + 1 < len(EMBED_DIMS):
            stride = 2 if stage == 1 else 1  # the last two stages share 64 x 64
            self.downsample = PatchMerging(dim, EMBED_DIMS[stage + 1], stride)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [n, channels, y, x], the same out."""
        x = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """The whole encoder, in two halves: ``stem`` (no attention, so nothing to adapt) and ``body``.

    The stem's output of a slice never changes while adapters train, which makes it worth keeping.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(EMBED_DIMS[0])
        self.layers = nn.ModuleList([ConvStage(), *(AttentionStage(i) for i in (1, 2, 3))])
        self.neck = nn.Sequential(
            nn.Conv2d(EMBED_DIMS[-1], EMBEDDING_DIM, kernel_size=1, bias=False),
            LayerNorm2d(EMBEDDING_DIM),
            nn.Conv2d(EMBEDDING_DIM, EMBEDDING_DIM, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_DIM),
        )

    def stem(self, image: Tensor) -> Tensor:
        """[n, 3, 256, 256] in [0, 1] to [n, 128, 128, 128] (channels, y, x)."""
        return self.layers[0](self.patch_embed(image.to(memory_format=torch.channels_last)))

    def body(self, features: Tensor) -> Tensor:
        """The stem's output to the embedding [n, 256, 64, 64]."""
        for layer in self.layers[1:]:
            features = layer(features)
        return self.neck(features)

    def forward(self, image: Tensor) -> Tensor:
        """[n, 3, 256, 256] in [0, 1] to the embedding [n, 256, 64, 64]."""
        return self.body(self.stem(image))
