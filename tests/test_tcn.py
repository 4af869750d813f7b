"""The networks that imitate channels and devices: sizes, what they hear, gradients, and the same samples in pieces."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import error_db
from torch.nn.functional import conv1d, pad

from mixtools.errors import ParameterError
from mixtools.nets import inference
from mixtools.nets.emulator import KINDS, Spec
from mixtools.nets.followers import HIGHEST, KNOTS, LOWEST, followed
from mixtools.nets.hyper_strip import FRAME, TAP_SCALE, HyperStrip, Responses, Shape, filtered, minimum_phase
from mixtools.nets.inference import WaveUNetStream, stream_of
from mixtools.nets.tcn import TCN
from mixtools.nets.wave_u_net import ConditionedWaveUNet

RATE = 44100


def size(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def shaken(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """A network in which nothing is at its beginning any more: statistics, gains, learned responses."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(0.0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
            if isinstance(module, Responses):
                module.coefficients.normal_(generator=generator)
        for parameter in net.parameters():
            if parameter.ndim == 0:
                parameter.fill_(0.7)
    return net.eval()


@pytest.mark.parametrize(("stacks", "published", "milliseconds"), [(1, 290, 324.8), (2, 528, 649.5), (3, 764, 974.3)])
def test_tcns_are_as_large_and_hear_as_far_as_published(stacks, published, milliseconds):
    net = TCN(25, stacks)
    assert abs(size(net) / 1000 - published) < 1.0
    assert net.receptive_field / RATE * 1000 == pytest.approx(milliseconds, abs=0.05)
    assert size(TCN(31)) // 1000 == 291


@pytest.mark.parametrize(("channels", "kernel", "millions", "milliseconds"), [(32, 8, 23, 216.6), (16, 16, 9, 464.3)])
def test_wave_u_nets_are_as_large_and_hear_as_far_as_published(channels, kernel, millions, milliseconds):
    net = ConditionedWaveUNet(25, 1, channels, kernel)
    assert round(size(net) / 1e6) == millions
    heard = 1 + sum((kernel - 1) * 4**k for k in range(6))
    assert heard / RATE * 1000 == pytest.approx(milliseconds, abs=0.1)
    assert net(torch.zeros(1, 1, 5000), torch.zeros(1, 25)).shape == (1, 1, 5000)


def test_ours_has_no_more_parameters_than_it_may():
    for long in ((False, True), (True, True)):
        assert size(Spec("strip", 32, ((18, 5),), 2, long=long).network()) <= 800_000


@pytest.mark.parametrize("causal", [False, True])
def test_a_tcn_is_the_thesis_s_chain_of_equations(causal):
    net = shaken(TCN(3, 1, 2, causal, dilations=(1, 4), kernel=5))
    x, controls = torch.randn(2, 1, 60), torch.rand(2, 3)
    condition = net.condition(2.0 * controls - 1.0)
    y, skips = x, []
    for block in net.blocks:
        before = y
        y = conv1d(before, block.conv.weight, block.conv.bias, dilation=block.conv.dilation)
        y = (y - block.norm.running_mean[:, None]) / torch.sqrt(block.norm.running_var[:, None] + block.norm.eps)
        y = block.film.scale(condition)[..., None] * y + block.film.shift(condition)[..., None]
        y = torch.where(y > 0, y, block.activation.weight * y)
        lost = before.shape[-1] - y.shape[-1]
        start = lost if causal else lost // 2
        y = y + 0.7 * before[..., start : start + y.shape[-1]]
        skips.append(y)
    n = y.shape[-1]
    cut = [s[..., s.shape[-1] - n :] if causal else s[..., (s.shape[-1] - n) // 2 :][..., :n] for s in skips]
    expected = conv1d(sum(cut) / 2, net.out.weight, net.out.bias)
    assert n == 60 - net.before - net.after
    assert torch.allclose(net(x, controls), expected, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_a_tcn_hears_what_it_says(causal):
    net = shaken(TCN(2, 1, 1, causal))
    n = net.before + net.after + 100
    x = torch.randn(1, 1, n, requires_grad=True)
    net(x, torch.zeros(1, 2))[0, 0, 40].backward()
    heard = torch.nonzero(x.grad[0, 0])[:, 0]
    assert heard.min() == 40
    assert heard.max() == 40 + net.before + net.after
    assert net.after == (0 if causal else net.before)


def in_pieces(net, units, x, sizes):
    stream, made, at = stream_of(net, units, len(x)), [], 0
    x = pad(x, (net.before, net.after))
    for n in sizes:
        made.append(stream.feed(x[:, at : at + n]))
        at += n
    made += [stream.feed(x[:, at:]), stream.finish()]
    return torch.cat(made, dim=-1).numpy()


@pytest.mark.parametrize(("kind", "causal"), [("tcn-10", False), ("tcn-10", True), ("tcn-20", False), ("strip", False)])
def test_a_sound_in_pieces_is_the_sound_as_a_whole(kind, causal):
    torch.manual_seed(1)
    net = shaken(Spec(kind, 26, ((18, 5),), 2, causal=causal, taps=4096).network())
    x, units = 0.1 * torch.randn(1, 40000), torch.rand(26)
    with torch.inference_mode():
        whole = net(pad(x[None], (net.before, net.after)), units[None])[0].numpy()
    assert error_db(in_pieces(net, units, x, []), whole) < -100
    assert error_db(in_pieces(net, units, x, [1, 700, 12345, 20000]), whole) < -100


def test_a_wave_u_net_in_windows_is_one_as_a_whole(monkeypatch):
    torch.manual_seed(1)
    net = shaken(ConditionedWaveUNet(4, 2, channels=2))
    x, units = 0.1 * torch.randn(1, 120_000), torch.rand(4)
    one = torch.cat([(stream := WaveUNetStream(net, units, 1)).feed(x), stream.finish()], dim=-1).numpy()
    monkeypatch.setattr(inference, "WINDOW", 1 << 14)
    assert one.shape == (2, 120_000)
    assert error_db(in_pieces(net, units, x, [1, 50_000, 30_000]), one) < -100


@pytest.mark.parametrize("kind", ["tcn-10", "strip"])
def test_stereo_is_each_channel_s_own_side(kind):
    torch.manual_seed(1)
    net = shaken(Spec(kind, 26, ((18, 5),), 2, taps=4096).network())
    if kind == "strip":
        # Followers that do not move: otherwise the louder channel sets the gain of both.
        torch.nn.init.zeros_(net.gain.out.weight)
    x, units = 0.1 * torch.randn(2, 20000), torch.rand(26)
    both = in_pieces(net, units, x, [])
    for side in range(2):
        assert error_db(both[side], in_pieces(net, units, x[side : side + 1], [])[side]) < -100


def test_reduced_precision_errs_as_it_says():
    net = shaken(Spec("tcn-10", 3).network())
    x, units = 0.1 * torch.randn(1, 20000), torch.rand(3)
    exact, reduced = (
        stream_of(net, units, 1, precision).feed(pad(x, (net.before, net.after))).numpy()
        for precision in ("float32", "bfloat16")
    )
    esr = 10 * np.log10(np.sum((reduced - exact) ** 2) / np.sum(exact**2))
    assert -70 < esr < -40
    with pytest.raises(ParameterError, match="precision is int8; give one of float32, bfloat16"):
        stream_of(net, units, 1, "int8")


def followers_by_loop(level, curves, rise, fall, states):
    total = torch.zeros_like(level)
    for f in range(curves.shape[1]):
        h = states[:, f]
        for i in range(level.shape[1]):
            place = (level[:, i] - LOWEST) * (KNOTS - 1) / (HIGHEST - LOWEST)
            k = place.detach().long().clamp(0, KNOTS - 2)
            here, there = (curves[torch.arange(len(curves)), f, k + j] for j in (0, 1))
            wanted = here + (place - k) * (there - here)
            h = h + torch.where(wanted > h, rise[:, f], fall[:, f]) * (wanted - h)
            total[:, i] = total[:, i] + h
    return total


def test_followers_and_their_gradients_are_those_of_a_plain_loop():
    rng = torch.Generator().manual_seed(3)
    inputs = [
        LOWEST - 2.0 + 22.0 * torch.rand(2, 60, generator=rng, dtype=torch.float64),
        torch.randn(2, 3, KNOTS, generator=rng, dtype=torch.float64),
        *(0.01 + 0.5 * torch.rand(2, 3, generator=rng, dtype=torch.float64) for _ in range(2)),
        torch.randn(2, 3, generator=rng, dtype=torch.float64),
    ]
    weights = torch.randn(2, 60, generator=rng, dtype=torch.float64)
    found, expected = [], []
    for function, into in ((lambda *x: followed(*x)[0], found), (followers_by_loop, expected)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        total = function(*leaves)
        (total * weights).sum().backward()
        into += [total.detach(), *(leaf.grad for leaf in leaves)]
    for one, other in zip(found, expected, strict=True):
        assert error_db(one.numpy(), other.numpy()) < -110


def test_filters_and_their_gradients_are_convolutions():
    x, h = (torch.randn(2, c, n, dtype=torch.float64, requires_grad=True) for c, n in ((1, 50), (2, 30)))
    torch.autograd.gradcheck(filtered, (x, h))
    expected = np.stack([[np.convolve(x[b, 0].detach(), h[b, c].detach())[:50] for c in (0, 1)] for b in (0, 1)])
    assert error_db(filtered(x, h).detach().numpy(), expected) < -200


def test_least_phase_comes_first():
    """A one-zero filter inside the unit circle is what its magnitude alone says."""
    response = np.array([1.0, -0.8])
    nepers = torch.from_numpy(np.log(np.abs(np.fft.rfft(response, 4096))))
    found = minimum_phase(nepers).numpy()
    assert error_db(found[:2], response) < -100
    assert np.abs(found[2:]).max() < 1e-6


def test_learned_responses_are_whatever_is_to_be_learned():
    """The lapped transform spans every response: the coefficients that are its projection give it back."""
    rng = np.random.default_rng(1)
    wanted = rng.standard_normal(4 * FRAME) * np.exp(-np.arange(4 * FRAME) / 200)
    responses = Responses(1, 1, 4 * FRAME)
    columns = []
    with torch.no_grad():
        for k in range(4 * FRAME):
            responses.coefficients.zero_().view(-1)[k] = 1.0 / TAP_SCALE
            columns.append(responses()[0, 0].double().numpy())
    basis = np.array(columns).T
    found, *_ = np.linalg.lstsq(basis, wanted, rcond=None)
    # All but the very end, where half a frame laps over nothing.
    inside = slice(0, 4 * FRAME - FRAME // 2)
    assert error_db((basis @ found)[inside], wanted[inside]) < -80


def test_a_strip_learns_a_filter_and_a_level():
    """A channel with one control, a tilt, and a gain of 6 dB: learned from noise in a moment."""
    torch.manual_seed(0)
    net = HyperStrip(Shape(1, taps=FRAME, width=32, layers=2), RATE)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    errors = []
    for _ in range(80):
        x, controls = 0.1 * torch.randn(8, 1, 1024), torch.rand(8, 1)
        tilt = (controls[:, :, None] - 0.5).expand(-1, -1, 1)
        target = 2.0 * filtered(x, torch.cat([torch.ones_like(tilt), tilt], dim=-1))
        error = (net(x, controls) - target).square().mean() / target.square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert np.mean(errors[-10:]) < 0.05 < errors[0]


def test_groups_of_controls_draw_what_adds_up():
    """What one group does to a response is the same wherever another one stands; a column in none is heard by all."""
    torch.manual_seed(0)
    net = HyperStrip(Shape(5, groups=((0, 1), (2, 3)), taps=FRAME, width=8, layers=2), RATE).eval()
    one, other = torch.rand(2, 5)

    def drawn(*parts):
        return net.tone(
            torch.cat([x[part] for x, part in zip(parts, (slice(2), slice(2, 4), slice(4, 5)), strict=True)])[None]
        )

    moved = [drawn(other, x, one) - drawn(one, x, one) for x in (one, other)]
    torch.testing.assert_close(moved[0], moved[1])
    shared = [drawn(other, x, x) - drawn(one, x, x) for x in (one, other)]
    assert not torch.allclose(shared[0], shared[1], rtol=1e-3, atol=1e-7)


def test_specs_are_what_files_hold():
    for kind in KINDS:
        spec = Spec(kind, 7, ((2, 3),), 2, 48000, groups=((0, 1), (2, 3, 4)))
        assert Spec.of(spec.plain(), "x") == spec
    plain = Spec("tcn-10", 7).plain()
    for change, words in (
        ({"kind": "tcn-99"}, "x.kind is tcn-99; give tcn-"),
        ({"controls": 10**9}, "x.controls is 1000000000; give a whole number, 0 to 256"),
        ({"taps": 100}, "x.taps is 100; give a whole number, 128 to"),
        ({"rate": True}, "x.rate is true; give"),
        ({"choices": [[5, 9]]}, "x.choices holds 5, 9; give columns of the controls"),
        ({"choices": 5}, "x.long, choices or groups is no list"),
        ({"groups": [[0], [7]]}, "x.groups does not hold columns of the controls"),
        ({"groups": [[0], [1, 0]]}, "x.groups holds a column twice"),
        ({"groups": [3]}, "x.groups does not hold lists"),
        ({"long": [1, 2]}, "x.long is not two truth values"),
        ({"kind": "strip", "causal": True}, "x.causal is true"),
        ({"outputs": math.nan}, "x.outputs is nan"),
        ({"other": 1}, "x does not hold kind,"),
    ):
        with pytest.raises(ParameterError) as error:
            Spec.of({**plain, **change}, "x")
        assert words in str(error.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps pages")
def test_pages_are_kept():
    """The second time, large pieces are where the first ones were."""
    script = (
        "import resource, numpy as np\n"
        "from mixtools.nets.allocation import keep_pages\n"
        "assert keep_pages()\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): np.ones(1 << 21)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults()\n"
        "print(faults())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # 16 MB are 4096 pages, each of the twenty times.
    assert int(done.stdout) < 8192
