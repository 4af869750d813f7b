"""Reverse engineering a mix by gradient descent: Colonel & Reiss 2021, sections III B to E.

A strip is EQ, gain, pan and reverb. All of it is linear and time-invariant, so a strip is two transfer functions, and a
step costs one product per strip with spectra that are computed once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.fft
import torch
from torch.autograd.function import once_differentiable
from torch.fft import irfft, rfft

from mixtools.controls import EFFECTS, ROOMS, SEND, SILENCE_DB
from mixtools.diff.losses import TOWARDS
from mixtools.dsp.graphic_eq import band_firs, usable_bands
from mixtools.dsp.pan import balance_gains, pan_gains
from mixtools.dsp.source import ArraySource, PlacedSource
from mixtools.mix import Bus, Insert, Track
from mixtools.tasks.fit.gain import balance_for, decibels

ARCHITECTURES = "stereo-bus", "individual-bus", "eq"

RATES = (1e-3, 1e-4, 1e-5)

PATIENCE = 50
"""Steps without progress that make a plateau; the paper leaves its early stopping criterion open."""

PROGRESS = 5e-3
"""What counts as progress: a loss lower by this part of itself."""

STEPS = 5000
"""Most steps where none are asked for."""

SLOPE = 0.5
"""Of the gain's leaky rectifier below 0, the paper's b."""

SMALLEST_BITS = 16
"""Of a transform's size: smaller ones cost more in calls than they save."""

REVERB = "reverb"
"""The shared reverb's bus, and the key of its response."""

_BAND = EFFECTS["graphic_eq"].controls[0]


class Descent:
    """A differentiable mix of stems on its way to a target.

    `stems` are (1 or 2, m) and `target` is (2, n) at `rate`; the target's first sample lies at the stems' sample
    `lead`, and what they hold before and after it is heard through reverbs and equalisers. Side c of a stereo stem
    feeds side c of the mix. `taps` is the length of the impulse responses, `loss` a name or a function of an estimate
    and a target (2, n). Parameters begin as in the paper, from
    `seed`, or where `start` has them: tracks (one per stem), buses and responses as `tracks` gives them; whatever of
    equaliser, level, send and response a track has is then refined, and what it has not stays away.
    """

    def __init__(
        self,
        stems: Sequence[np.ndarray],
        target: np.ndarray,
        rate: float,
        architecture: str = "stereo-bus",
        taps: int = 44100,
        seed: int = 0,
        device: str = "auto",
        loss: str | Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = "mss",
        bypass: bool = True,
        start: tuple[Sequence[Track], Mapping[str, Bus], Mapping[str, np.ndarray]] | None = None,
        lead: int = 0,
        dtype: torch.dtype = torch.float32,
    ):
        if architecture not in ARCHITECTURES:
            raise ValueError(f"the architecture is {architecture}; give one of {', '.join(ARCHITECTURES)}")
        self.device = torch.device(chosen_device(device))
        self.rate = rate
        self._loss = loss
        self.best: float | None = None
        self.steps = 0
        self._lead = lead
        self._stereo = [len(stem) == 2 for stem in stems]
        if start is None:
            generator = torch.Generator().manual_seed(seed)
            self._strips: _Strips = _FreshStrips(architecture, self._stereo, rate, taps, generator, bypass)
        else:
            tracks, buses, responses = start
            stems = [_placed(stem, track, rate) for stem, track in zip(stems, tracks, strict=True)]
            self._strips = _GivenStrips(tracks, buses, responses, self._stereo, rate)
        self._strips.to(self.device, dtype)
        self._target = torch.from_numpy(np.ascontiguousarray(target)).to(self.device, dtype)
        self._load(stems, dtype)

    def run(
        self,
        steps: int | None = None,
        progress: Callable[[float], None] = lambda share: None,
        mask: np.ndarray | None = None,
        rates: Sequence[float] = RATES,
        patience: int = PATIENCE,
    ) -> None:
        """Descend with Adam, at the next lower of the learning rates after each plateau, for at most so many steps.

        Where the reverb is bypassed, the first plateau only lets it in, at the first rate: the paper's proposal for
        its individual buses (section V), which leaves open whether the rate then falls as well. A third of the steps
        without a plateau lets it in too, or a short run would never hear it. Samples that `mask`
        (n,) does not hold are silenced in both mixes. The best parameters met stay, when interrupted too.
        """
        most = STEPS if steps is None else steps
        strips, target = self._strips, self._target
        gate = 1.0 if mask is None else torch.from_numpy(np.asarray(mask)).to(target)
        loss_of = self.loss_to(target * gate)
        best, state, done = math.inf, strips.state(), 0
        try:
            adam = torch.optim.Adam(strips.parameters(), lr=rates[0])
            stages = [rates[0], *rates] if strips.bypassed else list(rates)
            for stage, speed in enumerate(stages):
                if stage:
                    strips.load(state)
                    strips.bypassed = False
                for group in adam.param_groups:
                    group["lr"] = speed
                mark, waited = math.inf, 0
                last = most // 3 if strips.bypassed else most
                while True:
                    loss = loss_of(self._mix() * gate)
                    value = float(loss.detach())
                    if value < best:
                        best, state = value, strips.state()
                    mark, waited = (value, 0) if value < mark * (1.0 - PROGRESS) else (mark, waited + 1)
                    if waited >= patience or done >= last:
                        break
                    adam.zero_grad(set_to_none=True)
                    loss.backward()
                    adam.step()
                    done += 1
                    progress(done / most)
                if done >= most:
                    break
        finally:
            strips.load(state)
            self.best, self.steps = (best if math.isfinite(best) else None), self.steps + done
        progress(1.0)

    def loss_to(self, target: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """The loss as a function of the mix alone."""
        loss = self._loss
        return TOWARDS[loss](target) if isinstance(loss, str) else lambda mix: loss(mix, target)

    def mix(self) -> np.ndarray:
        """The mix as the parameters stand, (2, n)."""
        with torch.no_grad():
            return self._mix().cpu().numpy()

    def tracks(
        self, files: Sequence[str] | None = None, channels: Sequence[str] | None = None, law: str = "linear"
    ) -> tuple[list[Track], dict[str, Bus], dict[str, np.ndarray]]:
        """The parameters as console strips, their buses, and the impulse responses, float32 (2, taps), by key.

        `files` and `channels` are the tracks' own, one per stem; without them those of `start`. `law` is the pan's:
        `linear`, which is the paper's, or `balance`.
        """
        with torch.no_grad():
            return self._strips.tracks(files, channels, law)

    def _load(self, stems: Sequence[np.ndarray], dtype: torch.dtype) -> None:
        """Transform the stems in overlapping blocks, and the equaliser's bands at the same size."""
        firs = band_firs(self.rate)
        middle = firs.shape[1] // 2
        n, before = self._target.shape[1], self._strips.taps - 1 + middle
        self._size, self._step = _block(n, before + middle)
        self._before, self._frames = before, n
        kept: dict[int, torch.Tensor] = {}
        for stem in stems:
            if id(stem) not in kept:
                kept[id(stem)] = self._spectra(stem, dtype)
        self._stems = [kept[id(stem)] for stem in stems]
        padded = np.zeros((len(firs), self._size))
        padded[:, : firs.shape[1]] = firs
        bands = scipy.fft.rfft(np.roll(padded, -middle, axis=1)).real
        self._bands = torch.from_numpy(np.ascontiguousarray(bands)).to(self.device, dtype)

    def _spectra(self, stem: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        """A stem's blocks as (channels, blocks, bins): each begins `before` samples before the part it is for."""
        blocks = -(-self._frames // self._step)
        first = self._lead - self._before
        padded = np.zeros((len(stem), (blocks - 1) * self._step + self._size), np.float32)
        if dtype == torch.float64:
            padded = padded.astype(np.float64)
        used = stem[:, max(first, 0) : first + padded.shape[1]]
        padded[:, max(-first, 0) : max(-first, 0) + used.shape[1]] = used
        framed = torch.from_numpy(padded).unfold(1, self._size, self._step)
        return rfft(framed.to(self.device))

    def _mix(self) -> torch.Tensor:
        blocks = irfft(_Sum.apply(self._transfer(), self._stems), self._size)
        used = blocks[..., self._before : self._before + self._step]
        return used.reshape(2, -1)[:, : self._frames]

    def _transfer(self) -> torch.Tensor:
        """Every strip's transfer functions, complex (stems, 2, bins)."""
        amplitudes, sides, dry, sends, shared, own = self._strips.controls()
        curves = sides[..., None] * (amplitudes @ self._bands)[:, None]
        if shared is None and own is None:
            return torch.complex(curves, torch.zeros_like(curves)) * dry[:, None, None]
        through = dry[:, None, None].to(torch.complex64 if curves.dtype == torch.float32 else torch.complex128)
        if shared is not None:
            through = through + sends[:, None, None] * rfft(shared, self._size)
        if own is not None:
            which, responses = own
            through = through.expand(len(sides), 2, curves.shape[-1])
            through = through.index_add(0, which, rfft(responses, self._size))
        return curves * through


class _Sum(torch.autograd.Function):
    """Sums stems (1 or 2, blocks, bins) through transfer functions (stems, 2, bins): (2, blocks, bins), all complex.

    A product per stem would keep as many copies of the song for the way back; only the stems themselves are needed.
    """

    @staticmethod
    def forward(ctx: Any, transfer: torch.Tensor, stems: list[torch.Tensor]) -> torch.Tensor:
        ctx.stems = stems
        total = transfer.new_zeros(2, *stems[0].shape[1:])
        for functions, stem in zip(transfer, stems, strict=True):
            total.addcmul_(functions[:, None], stem)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.stack([torch.sum(gradient * stem.conj(), dim=1) for stem in ctx.stems]), None


class _Strips(ABC):
    """The parameters of all strips; `bypassed` leaves the reverb away."""

    def __init__(self, rate: float, taps: int, stereo: Sequence[bool]):
        self.rate, self.taps, self.bypassed = rate, taps, False
        self.stereo = torch.tensor(stereo)
        self.theta: dict[str, torch.Tensor] = {}

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.stereo = self.stereo.to(device)
        self.theta = {name: value.to(device, dtype).requires_grad_() for name, value in self.theta.items()}

    def parameters(self) -> list[torch.Tensor]:
        return list(self.theta.values())

    def state(self) -> tuple[bool, dict[str, torch.Tensor]]:
        return self.bypassed, {name: value.detach().clone() for name, value in self.theta.items()}

    def load(self, state: tuple[bool, dict[str, torch.Tensor]]) -> None:
        self.bypassed = state[0]
        with torch.no_grad():
            for name, value in state[1].items():
                self.theta[name].copy_(value)

    @abstractmethod
    def controls(self) -> tuple[Any, ...]:
        """What the strips do, as amplitudes: of the bands (stems, bands), of the sides (stems, 2), dry and of the send
        (stems,); the shared response (2, taps) or None; the strips with one of their own (k,) and these (k, 2, taps),
        or None.
        """

    @abstractmethod
    def tracks(self, files: Any, channels: Any, law: str) -> tuple[list[Track], dict[str, Bus], dict[str, np.ndarray]]:
        """The strips as console entries, their buses and responses."""


class _FreshStrips(_Strips):
    """The paper's parameters and where they begin."""

    def __init__(
        self,
        architecture: str,
        stereo: Sequence[bool],
        rate: float,
        taps: int,
        generator: torch.Generator,
        bypass: bool,
    ):
        reverb = architecture != "eq"
        super().__init__(rate, taps if reverb else 1, stereo)
        self.bypassed = bypass and reverb
        self._individual = architecture == "individual-bus"

        def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
            return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

        def small(*shape: int) -> torch.Tensor:
            # Normal, of variance 1e-6.
            return 1e-3 * torch.randn(shape, generator=generator, dtype=torch.float64)

        count = len(stereo)
        self.theta = {
            "eq": uniform(-1.0, 1.0, count, len(usable_bands(rate))),
            "gain": uniform(0.9, 1.1, count),
            "pan": small(count),
        }
        if architecture == "stereo-bus":
            self.theta["send"] = uniform(-0.3, 0.3, count)
        if reverb:
            self.theta["response"] = small(*((count, 2, taps) if self._individual else (2, taps)))

    def _levels(self) -> tuple[torch.Tensor, ...]:
        """Amplitudes of the bands (stems, bands), gains (stems,) and pans (stems,), 0 left and 1 right."""
        # Equation 4 prints 1 - sigma(theta), which is sigma(-theta): the same curves and the same beginnings. The "-6
        # to -1 dB" that the paper gives for them are decibels of power, 10 log10.
        amplitudes = torch.sigmoid(self.theta["eq"])
        gains = torch.nn.functional.leaky_relu(self.theta["gain"], SLOPE)
        # Equation 8 gives the left side 0.5 + 0.5 tanh(theta), and the right one the rest of 1.
        return amplitudes, gains, 0.5 - 0.5 * torch.tanh(self.theta["pan"])

    def controls(self) -> tuple[Any, ...]:
        amplitudes, gains, pans = self._levels()
        sides = torch.where(self.stereo[:, None], balance_gains(pans, "linear"), pan_gains(pans, "linear"))
        sides = gains[:, None] * sides
        dry = torch.ones_like(gains)
        if self.bypassed or "response" not in self.theta:
            return amplitudes, sides, dry, None, None, None
        response = self.theta["response"]
        if self._individual:
            return amplitudes, sides, dry, None, None, (torch.arange(len(gains), device=gains.device), response)
        return amplitudes, sides, dry, torch.sigmoid(self.theta["send"]), response, None

    def tracks(self, files: Any, channels: Any, law: str) -> tuple[list[Track], dict[str, Bus], dict[str, np.ndarray]]:
        channels = channels or ["both"] * len(files)
        amplitudes, gains, pans = (values.double().cpu().numpy() for values in self._levels())
        wet = not self.bypassed and "response" in self.theta
        tracks = []
        for i, (file, channel) in enumerate(zip(files, channels, strict=True)):
            chain = [_equaliser(amplitudes[i], self.rate)]
            if self.stereo[i]:
                chain += _level(gains[i] * balance_gains(pans[i : i + 1], "linear")[0], law, stereo=True)
            else:
                chain += _level(gains[i] * pan_gains(pans[i : i + 1], "linear")[0], law, stereo=False)
            tracks.append(Track(file, channel, chain=chain))
        if not wet:
            return tracks, {}, {}
        response = _as_response(self.theta["response"])
        if not self._individual:
            sends = torch.sigmoid(self.theta["send"]).double().cpu().numpy()
            for track, send in zip(tracks, sends, strict=True):
                track.sends = {REVERB: decibels(send, SEND.low, SEND.high)}
            return tracks, {REVERB: Bus(chain=[Insert("convolution", {"ir": REVERB})])}, {REVERB: response}
        keys = response_names(tracks)
        for track, key in zip(tracks, keys, strict=True):
            track.chain.append(Insert("convolution", {"ir": key, "wet": 1.0, "dry": 1.0}))
        return tracks, {}, dict(zip(keys, response, strict=True))


class _GivenStrips(_Strips):
    """Strips that are there already, refined: every amplitude by a factor exp(theta), a response in proportion to the
    level it has at that time. The paper's own parameters reach neither an equaliser above 0 dB nor, at its learning
    rates, a quiet response without drowning it in noise.
    """

    REFINED = "graphic_eq", "gain", "pan", "convolution"

    def __init__(
        self,
        tracks: Sequence[Track],
        buses: Mapping[str, Bus],
        responses: Mapping[str, np.ndarray],
        stereo: Sequence[bool],
        rate: float,
    ):
        self._tracks, self._buses = list(tracks), dict(buses)
        bands = usable_bands(rate)
        self._own_keys: dict[int, str] = {}
        amplitudes, sides, dry, sends, own = [], [], [], [], []
        free: dict[str, list[bool]] = {"eq": [], "level": []}
        for i, track in enumerate(tracks):
            given = {insert.effect: insert.settings for insert in track.chain}
            if len(given) < len(track.chain) or not set(given) <= set(self.REFINED):
                raise ValueError(f"{track.file} has other effects than one each of {', '.join(self.REFINED)}")
            eq = given.get("graphic_eq")
            amplitudes.append([10.0 ** (eq[f"band{hz}_gain_db"] / 20.0) if eq else 1.0 for hz in bands])
            sides.append(_sides(given, stereo[i]))
            free["eq"].append(eq is not None)
            free["level"].append("gain" in given or "pan" in given)
            sends.append(10.0 ** (track.sends[REVERB] / 20.0) if REVERB in track.sends else 0.0)
            convolution = given.get("convolution")
            dry.append(convolution["dry"] if convolution else 1.0)
            if convolution:
                self._own_keys[i] = convolution["ir"]
                own.append(convolution["wet"] * _both_sides(responses[convolution["ir"]]))
        shared = None
        if REVERB in buses:
            (insert,) = buses[REVERB].chain
            shared = insert.settings["wet"] * _both_sides(responses[insert.settings["ir"]])
        lengths = [response.shape[1] for response in [*own, *([] if shared is None else [shared])]]
        super().__init__(rate, max(lengths, default=1), stereo)
        self._fixed = {
            "eq": torch.tensor(amplitudes, dtype=torch.float64),
            "sides": torch.from_numpy(np.array(sides, np.float64)),
            "dry": torch.tensor(dry, dtype=torch.float64),
            "send": torch.tensor(sends, dtype=torch.float64),
            "eq_free": torch.tensor(free["eq"])[:, None],
            "level_free": torch.tensor(free["level"])[:, None],
            "which": torch.tensor(list(self._own_keys), dtype=torch.int64),
        }
        self.theta = {
            "eq": torch.zeros(len(tracks), len(bands)),
            "level": torch.zeros(len(tracks), 2),
        }
        if shared is not None:
            self._fixed["shared"] = torch.from_numpy(shared)
            self.theta |= {"send": torch.zeros(len(tracks)), "shared": torch.zeros(shared.shape)}
        if own:
            padded = [np.pad(response, ((0, 0), (0, self.taps - response.shape[1]))) for response in own]
            self._fixed["own"] = torch.from_numpy(np.array(padded))
            self.theta["own"] = torch.zeros(self._fixed["own"].shape)
        for name in ("shared", "own"):
            if name in self._fixed:
                self._fixed[f"{name}_level"] = torch.from_numpy(local_level(self._fixed[name].numpy(), rate))

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        super().to(device, dtype)
        self._fixed = {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype)
            for name, value in self._fixed.items()
        }

    def controls(self) -> tuple[Any, ...]:
        fixed, theta = self._fixed, self.theta
        amplitudes = fixed["eq"] * torch.exp(theta["eq"] * fixed["eq_free"])
        amplitudes = amplitudes.clip(10.0 ** (_BAND.low / 20.0), 10.0 ** (_BAND.high / 20.0))
        sides = fixed["sides"] * torch.exp(theta["level"] * fixed["level_free"])
        shared = own = sends = None
        if "shared" in fixed:
            shared = fixed["shared"] + fixed["shared_level"] * theta["shared"]
            sends = fixed["send"] * torch.exp(theta["send"])
        if "own" in fixed:
            own = fixed["which"], fixed["own"] + fixed["own_level"] * theta["own"]
        return amplitudes, sides, fixed["dry"], sends, shared, own

    def tracks(self, files: Any, channels: Any, law: str) -> tuple[list[Track], dict[str, Bus], dict[str, np.ndarray]]:
        amplitudes, sides, dry, sends, shared, own = self.controls()
        amplitudes, sides, dry = (values.double().cpu().numpy() for values in (amplitudes, sides, dry))
        tracks, responses = [], {}
        for i, given in enumerate(self._tracks):
            chain = []
            if self._fixed["eq_free"][i]:
                chain.append(_equaliser(amplitudes[i], self.rate))
            if self._fixed["level_free"][i]:
                chain += _level(sides[i], law, bool(self.stereo[i]))
            if i in self._own_keys:
                key = self._own_keys[i]
                chain.append(Insert("convolution", {"ir": key, "wet": 1.0, "dry": float(dry[i])}))
                responses[key] = _as_response(own[1][list(self._own_keys).index(i)])
            track = Track(
                files[i] if files else given.file,
                channels[i] if channels else given.channel,
                given.offset_ms,
                chain=chain,
            )
            if REVERB in given.sends:
                track.sends = {REVERB: decibels(float(sends[i]), SEND.low, SEND.high)}
            tracks.append(track)
        buses = {}
        if shared is not None:
            key = self._buses[REVERB].chain[0].controls["ir"]
            buses[REVERB] = Bus(chain=[Insert("convolution", {"ir": key})])
            responses[key] = _as_response(shared)
        return tracks, buses, responses


def chosen_device(device: str) -> str:
    """The device that `auto` stands for; any other is itself."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def response_names(tracks: Sequence[Track]) -> list[str]:
    """A key per track for its own impulse response: its file's name, with its channel and a number where needed."""
    names: list[str] = []
    for track in tracks:
        base = track.file.rsplit(".", 1)[0].replace("/", "_").replace("\\", "_").replace(":", "_")
        base = base if track.channel == "both" else f"{base}_{track.channel}"
        name, count = base, 1
        while name in names or name in ROOMS or name == REVERB:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    return names


def _block(n: int, overlap: int) -> tuple[int, int]:
    """The size of the transforms, and how many samples of the mix come out of each: the least work per step."""
    whole = scipy.fft.next_fast_len(n + overlap, real=True)
    smallest = max((2 * overlap).bit_length(), SMALLEST_BITS)
    sizes = [1 << bits for bits in range(smallest, whole.bit_length()) if 1 << bits < whole] + [whole]
    # A transfer function is made and differentiated in about as much work as six blocks take.
    size = min(sizes, key=lambda size: (-(-n // (size - overlap)) + 6) * size)
    return size, min(n, size - overlap)


def _placed(stem: np.ndarray, track: Track, rate: float) -> np.ndarray:
    """A stem (channels, n) moved in time as the console moves it."""
    offset = track.offset_ms * rate / 1000
    offset = round(offset) if abs(offset - round(offset)) < 1e-6 else offset
    if offset == 0:
        return stem
    return PlacedSource(ArraySource(stem), "both", offset, stem.dtype).read(stem.shape[1] + max(0, math.ceil(offset)))


def _sides(given: Mapping[str, Mapping[str, Any]], stereo: bool) -> np.ndarray:
    """Signed amplitudes (2,) of a strip's gain and pan."""
    sides = np.ones(2)
    if "gain" in given:
        sides *= 10.0 ** (given["gain"]["gain_db"] / 20.0) * (-1.0 if given["gain"]["invert"] else 1.0)
    if "pan" in given:
        gains = balance_gains if stereo else pan_gains
        sides *= gains(np.array([given["pan"]["pan"]]), given["pan"]["law"])[0]
    return sides


def _level(sides: np.ndarray, law: str, stereo: bool) -> list[Insert]:
    """Gain and pan that have these signed amplitudes (2,), both of one sign."""
    left, right = (float(side) for side in np.abs(sides))
    gain, pan = max(left, right), balance_for(left, right)
    if law == "linear" and not stereo and gain:
        gain, pan = left + right, right / (left + right)
    controls: dict[str, Any] = {"pan": pan}
    if law != "balance":
        controls["law"] = law
    invert = bool(sides.sum() < 0.0)
    return [Insert("gain", {"gain_db": decibels(gain), "invert": invert}), Insert("pan", controls)]


def _equaliser(amplitudes: np.ndarray, rate: float) -> Insert:
    levels = {
        f"band{hz}_gain_db": decibels(float(amplitude), _BAND.low, _BAND.high)
        for hz, amplitude in zip(usable_bands(rate), amplitudes, strict=True)
    }
    return Insert("graphic_eq", levels)


def _both_sides(response: np.ndarray) -> np.ndarray:
    return np.array(np.broadcast_to(np.atleast_2d(response), (2, np.shape(response)[-1])), np.float64)


def _as_response(response: torch.Tensor) -> np.ndarray:
    return response.detach().float().cpu().numpy()


def local_level(response: np.ndarray, rate: float, seconds: float = 0.005) -> np.ndarray:
    """The level of a response (..., taps) around each of its taps, at least -96 dB below its highest."""
    from scipy.ndimage import uniform_filter1d

    width = 2 * round(seconds * rate / 2) + 1
    level = np.sqrt(np.maximum(uniform_filter1d(response**2, width, axis=-1, mode="constant"), 0.0))
    return np.maximum(level, 10.0 ** (SILENCE_DB / 20.0) * max(level.max(initial=0.0), 1e-30))
