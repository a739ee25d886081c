"""LiteMedSAM laid out for use alone: what ``litemedsam.py`` computes, in fewer and larger steps.

Built from a network whose adapter is merged; nothing here is trained. The identities used are exact, so that only
rounding differs, and a test holds each part to the network it was built from:

- A batch norm folds into its convolution, a layer norm's gain and offset into the linear layer behind it.
- A zero-padded token of a window has the norm's offset as its key and value. An offset that all keys share moves all of
  a query's weights alike, so softmax does not see it; one that all values share is added to every answer. The keys
  need no bias then, the values' goes into the output projection, and padding may follow ``qkv``, not precede it.
- In the mask decoder few tokens attend to 4,096 places of the image, and these to the tokens. Each head's
  projection of the image is moved to the tokens' side: image (W k) in place of (image W) k, 7 tokens x 8 heads = 56
  columns in place of 128, and nothing per head is laid out anew.
- A transposed convolution whose kernel is its stride is a linear layer; its pixels are put in place at the very end.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ichseg.methods.network.box_network import BoxNetwork
from ichseg.methods.network.litemedsam import LiteMedSAM
from ichseg.methods.network.mask_decoder import NUM_HEADS as HEADS
from ichseg.methods.network.mask_decoder import Attention, MaskDecoder, TwoWayBlock
from ichseg.methods.network.prompt_encoder import GRID_SIZE
from ichseg.methods.network.tiny_vit import AttentionStage, LayerNorm2d, TinyViTBlock


class InferenceNetwork(BoxNetwork):
    """LiteMedSAM from the weights that it has now, which stay its own; embeddings are [n, 4096, 256], channels last."""

    def __init__(self, network: LiteMedSAM) -> None:
        super().__init__()
        with torch.no_grad():
            folded = copy.deepcopy(network).fold_batch_norm()
            self.first, self.rest = Stem(folded), Body(folded)
            self.decoder = Decoder(folded)
        self.eval().requires_grad_(False)

    def pixels(self, images: Tensor, contents_yx: Sequence[tuple[int, int]]) -> Tensor:
        """Images [n, y, x] in [0, 1] as they are: the stem knows that the three channels are one."""
        del contents_yx
        return images

    def stem(self, pixels: Tensor) -> Tensor:
        """[n, 256, 256] in [0, 1] to [n, 128, 128, 128] (channels, y, x)."""
        features: Tensor = self.first(pixels)
        return features

    def body(self, features: Tensor) -> Tensor:
        """The stem's output to the embedding [n, 4096, 256]."""
        embedding: Tensor = self.rest(features)
        return embedding

    def decode(self, embedding: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [n or 1, 4096, 256] and boxes [n, 4] to logits [n, 1, 256, 256] and IoU [n, 1]."""
        logits, iou = self.decoder(embedding, boxes_xyxy)
        return logits[:, None], iou[:, None]

    def parts(self) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
        """The parts that can be compiled apart, by name, each with an example of its inputs."""
        boxes = torch.tensor([[32.0, 32.0, 64.0, 64.0], [64.0, 64.0, 128.0, 128.0]])
        return {
            "stem": (self.first, (torch.zeros(1, 256, 256),)),
            "body": (self.rest, (torch.zeros(1, 128, 128, 128),)),
            "decoder": (self.decoder, (torch.zeros(2, GRID_SIZE**2, 256), boxes)),
        }


class Stem(nn.Module):
    """The encoder's first stage on grey images: [n, 256, 256] in [0, 1] to [n, 128, 128, 128] (channels, y, x).

    It has no attention, hence nothing that an adapter changes.
    """

    def __init__(self, network: LiteMedSAM) -> None:
        """Take parts of a network whose batch norms are folded."""
        super().__init__()
        encoder = network.image_encoder
        colour = cast(nn.Conv2d, encoder.patch_embed.seq[0].get_submodule("c"))
        assert colour.bias is not None
        self.first = nn.Conv2d(1, colour.out_channels, kernel_size=1)
        # The three channels are one and the same.
        grey = {"weight": colour.weight.sum(dim=1, keepdim=True), "bias": colour.bias}
        self.first.load_state_dict(grey)
        self.rest = encoder.patch_embed.seq[1:]
        self.stage = encoder.layers[0]

    def forward(self, images: Tensor) -> Tensor:
        images = images[:, None].to(memory_format=torch.channels_last)
        features: Tensor = self.stage(self.rest(self.first(images)))
        return features


class WindowAttention(nn.Module):
    """Attention within windows on [n, y, x, dim], with the residual."""

    bias: Tensor

    def __init__(self, block: TinyViTBlock) -> None:
        super().__init__()
        attention = block.attn
        self.window, self.heads = block.window, attention.num_heads
        dim = attention.qkv.in_features
        # The checkpoint has a head's q, k and v beside each other; here all heads' q come first.
        weight = attention.qkv.weight.view(self.heads, 3, -1, dim).transpose(0, 1).flatten(0, 2)
        bias = attention.qkv.bias.view(self.heads, 3, -1).transpose(0, 1).flatten()
        weight, bias = _after_norm(attention.norm, weight, bias)
        scale = (dim // self.heads) ** -0.5
        value_bias = bias[2 * dim :].clone()
        bias[dim:] = 0
        weight[:dim] *= scale
        bias[:dim] *= scale
        proj = attention.proj
        self.qkv = _linear(weight, bias)
        self.proj = _linear(proj.weight, proj.bias + proj.weight @ value_bias)
        self.register_buffer("bias", attention.attention_biases[:, attention.offsets][None].clone())

    def forward(self, x: Tensor) -> Tensor:
        n, rows, columns, dim = x.shape
        side = self.window
        qkv = self.qkv(F.layer_norm(x, (dim,)))
        qkv = F.pad(qkv, (0, 0, 0, -columns % side, 0, -rows % side))
        down, across = qkv.shape[1] // side, qkv.shape[2] // side
        parts = qkv.reshape(n, down, side, across, side, 3, self.heads, dim // self.heads)
        parts = parts.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(
            3, -1, self.heads, side * side, dim // self.heads
        )
        out = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], self.bias, scale=1.0)
        out = out.reshape(n, down, across, self.heads, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
        out = out.reshape(n, down * side, across * side, dim)[:, :rows, :columns]
        return x + self.proj(out)


class Block(nn.Module):
    """A TinyViTBlock: [n, y, x, dim] in and out."""

    def __init__(self, block: TinyViTBlock) -> None:
        super().__init__()
        self.attention = WindowAttention(block)
        self.local_conv = block.local_conv.get_submodule("c")
        mlp = block.mlp
        self.fc1 = _linear(*_after_norm(mlp.norm, mlp.fc1.weight, mlp.fc1.bias))
        self.fc2 = mlp.fc2

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.fc2(F.gelu(self.fc1(F.layer_norm(x, x.shape[-1:]))))


class Stage(nn.Module):
    """An AttentionStage: [n, channels, y, x] in and out."""

    def __init__(self, stage: AttentionStage) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(cast(TinyViTBlock, block)) for block in stage.blocks))
        self.downsample = stage.downsample or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class Body(nn.Module):
    """The rest of the encoder: the stem's output to the embedding, float32 [n, 4096, 256], place by place."""

    def __init__(self, network: LiteMedSAM) -> None:
        """Take parts of a network whose batch norms are folded."""
        super().__init__()
        encoder = network.image_encoder
        self.stages = nn.Sequential(
            *(Stage(cast(AttentionStage, stage)) for stage in encoder.layers[1:])
        )
        self.neck = encoder.neck

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.neck(self.stages(features))
        return embedding.float().permute(0, 2, 3, 1).flatten(1, 2)


class Decoder(nn.Module):
    """Embeddings [n or 1, 4096, 256] and boxes [n, 4] in the frame to logits [n, 256, 256] and IoU [n], in float32."""

    learned: Tensor
    blank: Tensor
    position: Tensor

    def __init__(self, network: LiteMedSAM) -> None:
        super().__init__()
        decoder, prompts = network.mask_decoder, network.prompt_encoder
        self.prompts = prompts
        learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.register_buffer("learned", learned.detach().clone())
        self.register_buffer("blank", prompts.dense().detach().flatten()[None, None].clone())
        position = prompts.grid_encoding().detach().flatten(2).transpose(1, 2)
        self.register_buffer("position", position.contiguous())
        transformer = decoder.transformer
        self.layers = nn.ModuleList(
            [TwoWay(cast(TwoWayBlock, layer)) for layer in transformer.layers]
        )
        self.last_look = TokensToImage(transformer.final_attn_token_to_image)
        self.last_norm = transformer.norm_final_attn
        self.upscaling = Upscaling(decoder)
        self.weights, self.iou = decoder.output_hypernetworks_mlps[0], decoder.iou_prediction_head

    def forward(self, embedding: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        prompts = self.prompts.boxes(boxes_xyxy)
        learned = self.learned[None].expand(prompts.shape[0], -1, -1)
        start = tokens = torch.cat([learned, prompts], dim=1)
        image = embedding + self.blank
        for layer in self.layers:
            tokens, image = layer(tokens, image, start, self.position)
        tokens = tokens + self.last_look(tokens + start, image + self.position, image)
        tokens = self.last_norm(tokens)
        logits = self.upscaling(image, self.weights(tokens[:, 1]))
        return logits, self.iou(tokens[:, 0])[:, 0]


class TwoWay(nn.Module):
    """A TwoWayBlock; the image [n or 1, 4096, 256] becomes one a box in the first."""

    def __init__(self, block: TwoWayBlock) -> None:
        super().__init__()
        self.first = block.first
        self.itself = block.self_attn
        self.norms = nn.ModuleList([block.norm1, block.norm2, block.norm3])
        self.tokens_to_image = TokensToImage(block.cross_attn_token_to_image)
        self.mlp = block.mlp
        self.image_to_tokens = ImageToTokens(block.cross_attn_image_to_token)
        self.image_norm = block.norm4

    def forward(
        self, tokens: Tensor, image: Tensor, start: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.itself(tokens, tokens, tokens)
        else:
            tokens = tokens + self.itself(tokens + start, tokens + start, tokens)
        tokens = self.norms[0](tokens)
        placed = image + position
        tokens = self.norms[1](tokens + self.tokens_to_image(tokens + start, placed, image))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        image = image + self.image_to_tokens(placed, tokens + start, tokens)
        return tokens, self.image_norm(image)


class TokensToImage(nn.Module):
    """Tokens [n, t, 256] attend to the image's places [n or 1, 4096, 256]: the answer to the tokens."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.q_proj, self.out_proj = attention.q_proj, attention.out_proj
        self.inner = attention.q_proj.out_features // HEADS
        # The keys' bias adds the same to all weights of a query, which softmax does not see.
        self.register_buffer("key", _by_head(attention.k_proj.weight))
        self.register_buffer(
            "value", _by_head(attention.v_proj.weight).transpose(1, 2).contiguous()
        )
        self.register_buffer("value_bias", attention.v_proj.bias.detach().view(1, HEADS, 1, -1))

    def forward(self, q: Tensor, placed: Tensor, image: Tensor) -> Tensor:
        n, count, _ = q.shape
        heads = self.q_proj(q).view(n, count, HEADS, self.inner).transpose(1, 2) * self.inner**-0.5
        asked = (heads @ self.key).flatten(1, 2)  # [n, heads * t, 256]
        weights = (asked @ placed.transpose(1, 2)).softmax(dim=-1)
        seen = (weights @ image).view(n, HEADS, count, -1)
        out = seen @ self.value + self.value_bias
        return self.out_proj(out.transpose(1, 2).flatten(2))


class ImageToTokens(nn.Module):
    """The image's places [n or 1, 4096, 256] attend to tokens [n, t, 256]: the answer to the places [n, 4096, 256]."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        self.inner = attention.q_proj.out_features // HEADS
        scale = self.inner**-0.5
        self.register_buffer("query", _by_head(attention.q_proj.weight) * scale)
        self.register_buffer(
            "query_bias", attention.q_proj.bias.detach().view(1, HEADS, -1, 1) * scale
        )
        out = attention.out_proj
        self.register_buffer("out", out.weight.detach().T.reshape(HEADS, self.inner, -1).clone())
        self.register_buffer("out_bias", out.bias.detach().clone())

    def forward(self, placed: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, count, _ = k.shape
        keys = self.k_proj(k).view(n, count, HEADS, self.inner).transpose(1, 2)
        values = self.v_proj(v).view(n, count, HEADS, self.inner).transpose(1, 2)
        asked = (keys @ self.query).flatten(1, 2)  # [n, heads * t, 256]
        weights = asked @ placed.transpose(1, 2) + (keys @ self.query_bias).flatten(1, 2)
        # A softmax over few tokens is quick where the places lie side by side in memory.
        weights = weights.view(n, HEADS, count, -1).softmax(dim=2).flatten(1, 2)
        told = (values @ self.out).flatten(1, 2)
        return weights.transpose(1, 2) @ told + self.out_bias


class Upscaling(nn.Module):
    """The image [n, 4096, 256] and a box's weights [n, 32] to logits [n, 256, 256]."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        first, norm, _, second, _ = decoder.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        self.first, self.second = (_patches(cast(nn.ConvTranspose2d, c)) for c in (first, second))
        self.norm = nn.LayerNorm(norm.weight.numel(), eps=norm.eps)
        self.norm.load_state_dict(norm.state_dict())

    def forward(self, image: Tensor, weights: Tensor) -> Tensor:
        n = image.shape[0]
        x = self.first(image).view(n, 4 * GRID_SIZE**2, -1)
        x = F.gelu(self.second(F.gelu(self.norm(x)))).view(n, 16 * GRID_SIZE**2, -1)
        logits = (x @ weights[..., None]).view(n, GRID_SIZE, GRID_SIZE, 2, 2, 2, 2)
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(n, 4 * GRID_SIZE, 4 * GRID_SIZE)


def _patches(conv: nn.ConvTranspose2d) -> nn.Linear:
    """A transposed 2 x 2 convolution of stride 2 as a linear layer to [y, x, channels] of each pixel's four."""
    assert conv.bias is not None
    weight = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 2)
    return _linear(weight, conv.bias.detach().repeat(4))


def _by_head(weight: Tensor) -> Tensor:
    """A projection's weight [heads * inner, 256] to [heads, inner, 256]."""
    return weight.detach().view(HEADS, -1, weight.shape[1]).clone()


def _after_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A linear layer's weight and bias with the gain and offset of the norm before it worked in."""
    weight = weight.detach()
    return weight * norm.weight.detach(), bias.detach() + weight @ norm.bias.detach()


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
