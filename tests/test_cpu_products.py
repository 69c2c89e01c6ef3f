"""Products by oneDNN: the same numbers as torch's own, and only where nothing else is asked for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from ptlab._speech import cpu_products as room
from ptlab._speech.cpu_products import cpu_products
from ptlab.machine import Machine
from ptlab.models import load_model

pytestmark = pytest.mark.skipif(not room.has_onednn(), reason="this torch has no oneDNN")
LONG = room.ATTENTION_FRAMES + 5  # not a whole number of columns
BATCH, HEADS, WIDTH = 2, 3, 16


def processor(name, patch):
    patch.setattr(room, "this_machine", lambda: Machine(name, 2))
    room._is_faster.cache_clear()


@pytest.fixture(autouse=True)
def amd(monkeypatch):
    """Whatever the tests run on, it passes for a processor of AMD's, and not for longer."""
    processor("AMD EPYC", monkeypatch)
    yield
    room._is_faster.cache_clear()  # or the tests after these would go on believing it


def mask(kind):
    """The second clip ends 40 frames before the first."""
    shown = torch.ones(BATCH, 1, LONG, LONG, dtype=torch.bool)
    shown[1, ..., -40:] = False
    return shown if kind is bool else torch.zeros(shown.shape).masked_fill_(~shown, -1e9)


def attention(**options):
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(BATCH, LONG, HEADS, WIDTH, generator=draw) for _ in range(3)]
    return lambda: F.scaled_dot_product_attention(*(p.transpose(1, 2) for p in parts), **options)


def layer(module, *shape):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draw)
    return lambda: module(x)


torch.manual_seed(0)
LAYERS = {
    "linear": layer(torch.nn.Linear(48, 46), 2, 99, 48),
    "linear without bias": layer(torch.nn.Linear(48, 46, bias=False), 99, 48),
    "convolution with stride": layer(torch.nn.Conv1d(8, 16, 3, stride=2), 2, 8, 99),
    "convolution with padding and groups": layer(
        torch.nn.Conv1d(16, 16, 128, padding=64, groups=4), 2, 16, 99
    ),
    "attention": attention(),
    "attention with its own scale": attention(scale=0.5),
    "attention with a mask": attention(attn_mask=mask(bool)),
    "attention with a mask of numbers": attention(attn_mask=mask(float)),
}


def by_onednn(compute):
    """The result, and whether oneDNN computed it and torch's other library nothing."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen, cpu_products():
        result = compute()
    names = {event.key for event in seen.key_averages()}
    return result, any("mkldnn" in n for n in names) and not names & {
        "aten::addmm", "aten::mm", "aten::bmm", "aten::_scaled_dot_product_flash_attention_for_cpu"
    }  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_layer_gives_stays_the_same(name):
    with torch.inference_mode():
        usual = LAYERS[name]()
    result, moved = by_onednn(LAYERS[name])
    assert moved
    torch.testing.assert_close(result, usual, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: F.linear(torch.ones(4, 48), torch.ones(48, 46).t()),
        lambda: torch.nn.Linear(8, 4).double()(torch.ones(2, 8, dtype=torch.float64)),
        lambda: torch.nn.Linear(8, 4)(torch.ones(0, 8)),
        lambda: F.scaled_dot_product_attention(*[torch.ones(1, 2, LONG, 16)] * 3, is_causal=True),
    ],
    ids=["weight by columns", "float64", "nothing", "causal attention"],
)
def test_what_onednn_does_worse_or_not_at_all_stays_with_torch(compute):
    with torch.inference_mode():
        usual = compute().shape
    result, moved = by_onednn(compute)
    assert result.shape == usual and not moved


def test_processors_of_others_are_left_alone(monkeypatch):
    processor("Intel Xeon Processor", monkeypatch)
    assert not by_onednn(LAYERS["linear"])[1]


def test_gradients_still_flow():
    weight = torch.ones(4, 8, requires_grad=True)
    with cpu_products():
        F.linear(torch.ones(2, 8), weight).sum().backward()
    assert weight.grad.eq(2).all()


def test_it_ends_with_its_block():
    linear = LAYERS["linear"]
    with cpu_products(), torch.inference_mode():
        pass
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
        linear()
    assert "aten::addmm" in {event.key for event in seen.key_averages()}


def test_a_padded_batch_of_mini_is_what_its_module_gives_alone():
    model = load_model("mini", device="cpu")
    draw = np.random.default_rng(0)
    waves = [draw.standard_normal(seconds * 16_000).astype("float32") for seconds in (5, 4)]
    found = model.log_probs(waves, batch_size=2)
    for wave, matrix in zip(waves, found, strict=True):
        inputs = model.processor(wave, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.inference_mode():
            alone = model.model(inputs).logits.log_softmax(-1)[0]
        np.testing.assert_allclose(matrix, alone, atol=1e-3)
        assert matrix.shape == alone.shape
