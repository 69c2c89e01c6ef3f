"""A fast CPU forward of ``Wav2Vec2ForCTC`` for training, on the model's own parameters.

The HF module stays the truth: this file computes the same function, for the layer-norm
feature encoder and the stable layer norm only, in the order (batch, time, channels), so that
every convolution of the feature encoder is a matrix product on a strided view. It exists because on
CPU the plain module spends most of its time in convolution backward, GELU and copies.
``tests/test_recipes.py`` holds that both give the same log-probs.

In `mixed_precision` everything between two products is bf16 too, and attention is two plain
products around a softmax. Measured forward and backward on one core: ``torch.compile`` of the same
blocks was 2.5 times slower for the feature encoder (436 against 171 ms for 24 s of sound), torch's
fused attention 1.7 to 3 times slower for a whole layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptlab._speech.devices import cpu_has_bfloat16


def mixed_precision() -> torch.autocast:
    """bf16 where the CPU multiplies it, elsewhere float32: bf16 in software takes 19 times as long.

    (A step of mini on 40 s of sound, one core that has AVX2 and no more: 34 against 1.8 s.)
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bfloat16())


def conv_by_matmul(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve ``(batch, time, in)`` with a ``(out, in, kernel)`` weight: ``(batch, frames, out)``.

    The kernel is cut into pieces of one stride; each piece is one matrix product on a view.
    """
    batch, time, width = x.shape
    out, _, kernel = weight.shape
    frames = (time - kernel) // stride + 1
    kernels = weight.permute(2, 1, 0).reshape(kernel * width, out)
    y = None
    for start in range(0, kernel, stride):
        taps = min(stride, kernel - start)
        last = start + (frames - 1) * stride + taps
        if taps == stride:
            piece = x[:, start : start + frames * stride].reshape(batch, frames, taps * width)
        else:
            piece = x[:, start:last].unfold(1, taps, stride).transpose(2, 3)
            piece = piece.reshape(batch, frames, taps * width)
        term = piece @ kernels[start * width : (start + taps) * width]
        y = term if y is None else y + term
    return y if bias is None else y + bias


def layer_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Over the last axis, in the type of ``x`` (statistics in float32)."""
    with torch.autocast("cpu", enabled=False):
        return F.layer_norm(x, (x.shape[-1],), gain, shift)


def conv_layer(
    x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, stride: int
) -> Tensor:
    """One layer of the feature encoder: convolution, layer norm over channels, GELU."""
    return F.gelu(layer_norm(conv_by_matmul(x, weight, bias.to(x.dtype), stride), gain, shift))


def between(x: Tensor, places: Tensor) -> Tensor:
    """Read ``(batch, time, channels)`` at places that need not be whole numbers (batch, frames)."""
    before = places.floor().long().clamp(0, x.shape[1] - 2)
    share = (places - before).unsqueeze(-1).to(x.dtype)
    rows = torch.arange(len(x))[:, None]
    return torch.lerp(x[rows, before], x[rows, before + 1], share)


def drop_channels(x: Tensor, share: float) -> Tensor:
    """Dropout of whole channels of a clip ``(batch, frames, channels)``: few random numbers."""
    if not share:
        return x
    kept = torch.rand(x.shape[0], 1, x.shape[2]) >= share
    return x * (kept / (1 - share)).to(x.dtype)


def transformer_layer(
    x: Tensor, bias: Tensor | None, heads: int, dropout: float, *p: Tensor
) -> Tensor:
    """One pre-norm layer on ``(batch, frames, hidden)``; ``p`` as `layer_parameters` gives them."""
    (g1, b1, wqkv, bqkv, wo, bo, g2, b2, w1, c1, w2, c2) = p
    batch, frames, hidden = x.shape
    qkv = F.linear(layer_norm(x, g1, b1), wqkv, bqkv)
    q, k, v = qkv.view(batch, frames, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
    scores = (q * (hidden // heads) ** -0.5) @ k.transpose(-1, -2)
    scores = scores if bias is None else scores + bias.to(scores.dtype)
    y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, frames, hidden)
    x = x + drop_channels(F.linear(y, wo, bo), dropout)
    y = F.gelu(F.linear(layer_norm(x, g2, b2), w1, c1))
    return x + F.linear(drop_channels(y, dropout), w2, c2)


def layer_parameters(layer: nn.Module) -> tuple[Tensor, ...]:
    """The parameters of one HF encoder layer, query, key and value joined."""
    a, f = layer.attention, layer.feed_forward
    qkv = (a.q_proj, a.k_proj, a.v_proj)
    return (
        layer.layer_norm.weight,
        layer.layer_norm.bias,
        torch.cat([m.weight for m in qkv]),
        torch.cat([m.bias for m in qkv]),
        a.out_proj.weight,
        a.out_proj.bias,
        layer.final_layer_norm.weight,
        layer.final_layer_norm.bias,
        f.intermediate_dense.weight,
        f.intermediate_dense.bias,
        f.output_dense.weight,
        f.output_dense.bias,
    )


class FastForward:
    """Compute logits of a ``Wav2Vec2ForCTC`` and one inner layer; hold no parameters.

    Parameters
    ----------
    model
        The HF model; its parameters are used in place, gradients land in them.
    inner_layer
        The transformer layer (from 1) whose output is returned for an auxiliary loss.
    dropout
        Share of the channels that are dropped, of the features and in every layer.
    """

    def __init__(self, model: nn.Module, inner_layer: int, dropout: float = 0.0):
        self.model, self.inner_layer, self.dropout = model, inner_layer, dropout

    def features(self, waveforms: Tensor) -> Tensor:
        """``(batch, samples)`` to ``(batch, frames, channels)``."""
        x = waveforms.unsqueeze(-1)
        for layer in self.model.wav2vec2.feature_extractor.conv_layers:
            conv, norm = layer.conv, layer.layer_norm
            x = conv_layer(x, conv.weight, conv.bias, norm.weight, norm.bias, conv.stride[0])
        return x

    def __call__(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits ``(batch, frames, vocab)`` and the inner layer ``(batch, frames, hidden)``.

        ``lengths`` are valid frames; ``mask`` (batch, frames) marks frames that SpecAugment hides.
        With a mask (and lengths) for a multiple of the batch, every waveform is seen so often, each
        time behind another mask: rows ``batch`` apart are the same waveform. ``places`` (batch,
        frames) plays the features at another pace: see `between`.
        """
        features = self.features(waveforms)
        features = features if places is None else between(features, places)
        last, inner = self.encode(features, lengths, mask)
        return self.model.lm_head(last), inner

    def encode(
        self, features: Tensor, lengths: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The last layer, normalised, and the inner one, of ``(batch, frames, channels)``."""
        w = self.model.wav2vec2
        x, _ = w.feature_projection(features)
        x = x.repeat(len(lengths) // len(x), 1, 1)
        x = drop_channels(x, self.dropout)
        if mask is not None:
            x = torch.where(mask.unsqueeze(-1), w.masked_spec_embed.to(x.dtype), x)
        valid = torch.arange(x.shape[1]) < lengths[:, None]
        x = x * valid.unsqueeze(-1)
        x = x + w.encoder.pos_conv_embed(x)
        bias = None
        if not bool(valid.all()):
            bias = torch.zeros(valid.shape, dtype=x.dtype).masked_fill(~valid, -1e4)[:, None, None]
        inner = x
        for index, layer in enumerate(w.encoder.layers, 1):
            heads = layer.attention.num_heads
            x = transformer_layer(x, bias, heads, self.dropout, *layer_parameters(layer))
            inner = x if index == self.inner_layer else inner
        return w.encoder.layer_norm(x), inner
