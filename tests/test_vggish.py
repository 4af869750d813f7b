"""VGGish with random weights, and the reading of weights that others made."""

from __future__ import annotations

import math
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import audio

from mixtools.errors import ParameterError
from mixtools.files import weights
from mixtools.files.weights import read_weights
from mixtools.nets.vggish import EXAMPLES_AT_A_TIME, RATE_HZ, VGGish, log_mel, mel_bank

SHAPES = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}
"""Of the weights in the published PyTorch port, vggish-10086976.pth; each has a bias beside it."""


@pytest.fixture(scope="module")
def state():
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in SHAPES.items():
        scale = math.sqrt(6.0 / math.prod(shape[1:]))
        tensors[f"{name}.weight"] = (torch.rand(shape, generator=generator) * 2 - 1) * scale
        tensors[f"{name}.bias"] = torch.rand(shape[0], generator=generator) * 0.1
    return tensors


@pytest.fixture(scope="module")
def net(state):
    return VGGish.load(state)


def mel_weight(hz: float, band: int) -> float:
    """How much of a frequency one of the 64 bands takes."""
    low, high = (1127 * math.log(1 + f / 700) for f in (125, 7500))
    step = (high - low) / 65
    return max(0.0, 1 - abs(1127 * math.log(1 + hz / 700) - low - (band + 1) * step) / step)


def test_mel_bank_by_hand():
    expected = [[mel_weight(k * RATE_HZ / 512, band) if k else 0.0 for k in range(257)] for band in range(64)]
    assert np.allclose(mel_bank(), expected, atol=1e-12)


def test_log_mel_by_hand():
    x = audio(1, 1, 2000)[0]
    frames = []
    for start in range(0, 2000 - 400 + 1, 160):
        taper = [0.5 - 0.5 * math.cos(2 * math.pi * i / 400) for i in range(400)]
        spectrum = np.abs(np.fft.fft(np.concatenate([x[start : start + 400] * taper, np.zeros(112)])))[:257]
        frames.append(np.log(mel_bank() @ spectrum + 0.01))
    assert np.allclose(log_mel(torch.from_numpy(x)), frames, atol=1e-10)


def test_log_mel_has_gradients_at_silence():
    x = torch.zeros(1000, requires_grad=True)
    log_mel(x).sum().backward()
    assert x.grad.isfinite().all()


def forward_by_hand(example: np.ndarray, state: dict) -> np.ndarray:
    """One example (96, 64) in float64, channels last as in the original; convolutions as sums of shifted products."""
    tensors = {name: tensor.double().numpy() for name, tensor in state.items()}
    x = example[..., None]
    for name in list(SHAPES)[:6]:
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        kernel = tensors[f"{name}.weight"]
        x = sum(
            padded[i : i + x.shape[0], j : j + x.shape[1]] @ kernel[:, :, i, j].T for i in range(3) for j in range(3)
        )
        x = np.maximum(x + tensors[f"{name}.bias"], 0.0)
        if name not in ("features.6", "features.11"):
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
    x = x.ravel()
    for name in list(SHAPES)[6:]:
        x = np.maximum(tensors[f"{name}.weight"] @ x + tensors[f"{name}.bias"], 0.0)
    return x


def test_network_by_hand(net, state):
    x = torch.from_numpy(audio(2, 1, 15600))[0]
    example = log_mel(x)[None]
    expected = forward_by_hand(example[0].numpy(), state)
    assert expected.max() > 0.01
    assert np.allclose(net(example.float())[0], expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_embedding_does_not_depend_on_what_is_taken_at_a_time(net, monkeypatch):
    x = audio(3, 1, 3 * 15360 + 240)[0]
    assert EXAMPLES_AT_A_TIME >= 3
    together = net.embed(x)
    monkeypatch.setattr("mixtools.nets.vggish.EXAMPLES_AT_A_TIME", 1)
    assert together.shape == (3, 128)
    assert np.allclose(net.embed(x), together, rtol=1e-4, atol=1e-5 * np.abs(together).max())
    with torch.inference_mode():
        examples = log_mel(torch.from_numpy(x))[: 3 * 96].reshape(3, 96, 64).float()
        assert np.allclose(net(examples), together, rtol=1e-4, atol=1e-5 * np.abs(together).max())


@pytest.mark.parametrize(("n", "examples"), [(0, 0), (399, 0), (15599, 0), (15600, 1), (30959, 1)])
def test_only_whole_examples_are_embedded(net, n, examples):
    assert net.embed(np.zeros(n, np.float32)).shape == (examples, 128)


def test_channels_are_averaged(net):
    x = audio(4, 2, 15600)
    assert np.array_equal(net.embed(x), net.embed(x.mean(axis=0)))


def with_one(state: dict, name: str, tensor: torch.Tensor | None) -> dict:
    return {key: value for key, value in {**state, name: tensor}.items() if value is not None}


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("features.3.weight", None, "w.pth: features.3.weight is missing; give the weights of VGGish's PyTorch port"),
        (
            "embeddings.4.bias",
            torch.zeros(64),
            "w.pth: embeddings.4.bias is 64 float32; give the weights of VGGish's PyTorch port, "
            "where it is 128 float32",
        ),
        (
            "features.0.weight",
            torch.zeros(64, 1, 5, 5),
            "w.pth: features.0.weight is 64 x 1 x 5 x 5 float32; give the weights of VGGish's PyTorch port, "
            "where it is 64 x 1 x 3 x 3 float32",
        ),
        (
            "features.0.bias",
            torch.full((64,), math.nan),
            "w.pth: features.0.bias holds values that are no finite numbers; give the weights of VGGish's PyTorch port",
        ),
        (
            "classifier.weight",
            torch.zeros(1),
            "w.pth: classifier.weight is not part of this model; give the weights of VGGish's PyTorch port",
        ),
    ],
)
def test_wrong_weights_are_named(state, name, tensor, message):
    with pytest.raises(ParameterError) as error:
        VGGish.load(with_one(state, name, tensor), where="w.pth")
    assert str(error.value) == message


def test_half_precision_weights_are_widened(state, net):
    narrow = VGGish.load({name: tensor.half() for name, tensor in state.items()})
    assert narrow.embeddings[0].weight.dtype is torch.float32
    example = log_mel(torch.from_numpy(audio(5, 1, 15600)))[:, :96].float()
    assert np.allclose(narrow(example), net(example), rtol=0.02, atol=0.02)


SMALL = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


def write_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


WRITERS = {"safetensors": safetensors.torch.save_file, "checkpoint": torch.save, "old checkpoint": write_legacy}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_weights_are_read_whatever_the_name_of_the_file(write, tmp_path):
    write(SMALL, tmp_path / "weights.bin")
    found = read_weights(tmp_path / "weights.bin")
    assert set(found) == set(SMALL)
    assert all(torch.equal(found[name], SMALL[name]) and found[name].dtype == SMALL[name].dtype for name in SMALL)


GIVE = "give a safetensors file or a PyTorch checkpoint of tensors by name"


def refusal(path) -> str:
    with pytest.raises(ParameterError) as error:
        read_weights(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < len(str(path)) + 150
    return message.removeprefix(str(path)).removeprefix(": ").removeprefix(" ")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_truncated_files_are_refused_wherever_they_end(write, tmp_path):
    path = tmp_path / "weights"
    write(SMALL, path)
    data = path.read_bytes()
    for length in range(0, len(data) - 1, max(len(data) // 60, 1)):
        path.write_bytes(data[:length])
        assert GIVE in refusal(path)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_damaged_files_are_read_or_refused(write, tmp_path):
    path = tmp_path / "weights"
    write(SMALL, path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(tensor, torch.Tensor) for tensor in read_weights(path).values())
        except ParameterError as error:
            assert GIVE in str(error)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (torch.save, f"asks for io.open to be run, which was not done; {GIVE} and nothing else"),
        (write_legacy, f"asks for io.open to be run, which was not done; {GIVE} and nothing else"),
        (lambda x, path: path.write_bytes(pickle.dumps(x)), f"is damaged or no PyTorch checkpoint; {GIVE}"),
        (lambda x, path: path.write_bytes(pickle.dumps(x, protocol=0)), f"holds no weights; {GIVE}"),
    ],
    ids=["checkpoint", "old checkpoint", "pickle", "oldest pickle"],
)
def test_code_in_a_file_is_refused_and_not_run(write, message, tmp_path):
    write({"a.weight": torch.ones(2), "b": Attack(tmp_path / "victim")}, tmp_path / "weights.pth")
    assert refusal(tmp_path / "weights.pth") == message
    assert not (tmp_path / "victim").exists()


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    assert refusal(path) == f"does not exist; {GIVE}"
    path.mkdir()
    assert refusal(path) == f"is a folder; {GIVE}"
    path.rmdir()
    for content in (b"", b"hello, these are no weights\n", b"RIFF\x24\0\0\0WAVEfmt "):
        path.write_bytes(content)
        assert refusal(path) == f"holds no weights; {GIVE}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no weights")
    assert refusal(path) == f"is damaged or no PyTorch checkpoint; {GIVE}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({}, "holds nothing"),
        ({"a": torch.ones(2), "epoch": 3}, "'epoch' is no plain tensor with a name"),
        ({0: torch.ones(2)}, "0 is no plain tensor with a name"),
        ({"a": torch.ones(2, 2).to_sparse()}, "'a' is no plain tensor with a name"),
    ],
)
def test_checkpoints_of_something_else_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    assert refusal(tmp_path / "weights.pth") == f"{message}; {GIVE}"


def test_sizes_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)
    assert refusal(path).startswith(f"its tensors take {4 << 40} bytes; {GIVE} of at most {4 << 30}")
    torch.save({"a": torch.zeros(1000)}, path)
    monkeypatch.setattr(weights, "LARGEST_BYTES", 3000)
    assert refusal(path).endswith(f"bytes; {GIVE} of at most 3000")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    assert refusal(path) == f"unpacks to 1000000 bytes; {GIVE} of at most 3000"
