"""SAM's mask decoder: a two-way transformer between prompt tokens and the image embedding.

After Kirillov et al., Segment Anything (2023). Only the single-mask output is computed, as LiteMedSAM is
trained for a box; the other three mask tokens are kept because the checkpoint has them and the
tokens attend to each other.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ichseg.methods.network.tiny_vit import EMBEDDING_DIM, LayerNorm2d

NUM_HEADS = 8
NUM_MASK_TOKENS = 4
MLP_DIM = 2048
LAYERS = 2


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the tokens'."""

    def __init__(self, inner_dim: int = EMBEDDING_DIM) -> None:
        super().__init__()
        self.q_proj = nn.Linear(EMBEDDING_DIM, inner_dim)
        self.k_proj = nn.Linear(EMBEDDING_DIM, inner_dim)
        self.v_proj = nn.Linear(EMBEDDING_DIM, inner_dim)
        self.out_proj = nn.Linear(inner_dim, EMBEDDING_DIM)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[n, tokens, 256] each; the result has the query's tokens."""
        heads = [
            projected.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)
            for projected in (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        ]
        out = F.scaled_dot_product_attention(*heads)
        attended: Tensor = self.out_proj(out.transpose(1, 2).flatten(-2))
        return attended


class TokenMlp(nn.Module):
    """The transformer's MLP on the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(EMBEDDING_DIM, MLP_DIM)
        self.lin2 = nn.Linear(MLP_DIM, EMBEDDING_DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the image; then the image attends to the tokens."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention()
        self.norm1 = nn.LayerNorm(EMBEDDING_DIM)
        self.cross_attn_token_to_image = Attention(EMBEDDING_DIM // 2)
        self.norm2 = nn.LayerNorm(EMBEDDING_DIM)
        self.mlp = TokenMlp()
        self.norm3 = nn.LayerNorm(EMBEDDING_DIM)
        self.norm4 = nn.LayerNorm(EMBEDDING_DIM)
        self.cross_attn_image_to_token = Attention(EMBEDDING_DIM // 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_position: Tensor, image_position: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_position
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_position
        tokens = tokens + self.cross_attn_token_to_image(
            tokens + token_position, placed_image, image
        )
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(
            placed_image, tokens + token_position, tokens
        )
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Two two-way blocks and a last look of the tokens at the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayBlock(first=i == 0) for i in range(LAYERS)])
        self.final_attn_token_to_image = Attention(EMBEDDING_DIM // 2)
        self.norm_final_attn = nn.LayerNorm(EMBEDDING_DIM)

    def forward(
        self, image: Tensor, image_position: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Image and its position [n, y * x, 256], tokens [n, t, 256]; returns (tokens, image)."""
        position = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, position, image_position)
        tokens = tokens + self.final_attn_token_to_image(
            tokens + position, image + image_position, image
        )
        return self.norm_final_attn(tokens), image


class Mlp(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, dim_out: int) -> None:
        super().__init__()
        dims = (EMBEDDING_DIM, EMBEDDING_DIM, EMBEDDING_DIM, dim_out)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(dims)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](x)))))


class MaskDecoder(nn.Module):
    """An embedding and prompt tokens to mask logits at 256 x 256 and the predicted IoU."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, EMBEDDING_DIM)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, EMBEDDING_DIM)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(EMBEDDING_DIM, EMBEDDING_DIM // 4, kernel_size=2, stride=2),
            LayerNorm2d(EMBEDDING_DIM // 4),
            nn.GELU(),
            nn.ConvTranspose2d(EMBEDDING_DIM // 4, EMBEDDING_DIM // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            [Mlp(EMBEDDING_DIM // 8) for _ in range(NUM_MASK_TOKENS)]
        )
        self.iou_prediction_head = Mlp(NUM_MASK_TOKENS)

    def forward(
        self, embedding: Tensor, position: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode n prompts.

        ``embedding`` [n or 1, 256, 64, 64]; ``position`` [1, 256, 64, 64]; ``sparse`` [n, tokens, 256];
        ``dense`` [n or 1, 256, 64, 64] or [1, 256, 1, 1]. Returns logits [n, 1, 256, 256] and IoU [n, 1].
        """
        n = sparse.shape[0]
        learned = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([learned.expand(n, -1, -1), sparse.to(learned.dtype)], dim=1)
        image = (embedding + dense).expand(n, -1, -1, -1)
        side = image.shape[-1]
        tokens, image = self.transformer(
            image.flatten(2).transpose(1, 2),
            position.to(image.dtype).flatten(2).transpose(1, 2),
            tokens,
        )
        image = image.transpose(1, 2).unflatten(2, (side, side))
        upscaled = self.output_upscaling(image)
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1])
        logits = torch.einsum("nc,ncyx->nyx", weights, upscaled)[:, None]
        return logits, self.iou_prediction_head(tokens[:, 0])[:, :1]
