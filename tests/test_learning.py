"""All that learning stands on, at once: a corpus, the differentiable console, a stereo loss, and the training loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cli_helpers import write
from torch import nn

from mixtools import PRESETS, finished_mix, render, sum_difference_mr_stft, synth_song
from mixtools.diff.console import preset_console
from mixtools.files.checkpoints import TrainingFolder, read_checkpoint
from mixtools.files.corpora import open_corpus
from mixtools.nets.batches import seed_everything
from mixtools.nets.restoring import load_weights
from mixtools.nets.training import Training, train

RATE = 22050
SECONDS = 0.5
TRACKS = 8
CONSOLE = PRESETS["diffmst"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two songs as a studio leaves them: a folder of stems, and the mix beside it."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed in (1, 2):
        song = synth_song(seed, seconds=4, stems=TRACKS, rate=RATE)
        for name, samples in song.stems.items():
            write(folder / f"song {seed}" / "stems" / name, samples, RATE)
        write(folder / f"song {seed}" / "mix.wav", render(finished_mix(song), song.stems, RATE, end=4 * RATE), RATE)
    return open_corpus(folder)


class Engineer(nn.Module):
    """The same small network for every track, and a mean for the master: as deep as a test needs it."""

    def __init__(self):
        super().__init__()
        self.listen = nn.Sequential(nn.Linear(33, 16), nn.PReLU())
        self.tracks = nn.Linear(32, len(CONSOLE.track.labels()))
        self.master = nn.Linear(16, len(CONSOLE.master.labels()))
        sizes = {bus: len(strip.labels()) for bus, strip in CONSOLE.buses.items()}
        self.buses = nn.ModuleDict({bus: nn.Linear(16, size) for bus, size in sizes.items() if size})

    def forward(self, tracks):
        spectra = tracks.mean(dim=-2).stft(64, return_complex=True, window=torch.hann_window(64)).abs()
        heard = self.listen(torch.log(spectra.mean(dim=-1) + 1e-4))
        around = heard.mean(dim=-2)
        units = self.tracks(torch.cat([heard, around.expand_as(heard)], dim=-1)).sigmoid()
        buses = {bus: layer(around).sigmoid() for bus, layer in self.buses.items()}
        return preset_console(CONSOLE, tracks, RATE, units, self.master(around).sigmoid(), buses)


def prepared(corpus, number: int):
    """One excerpt by its number: its tracks in mono (tracks, 1, n), and the mix (2, n)."""
    excerpt = corpus.draw(number, SECONDS, RATE)
    tracks = np.stack([samples.mean(axis=0, keepdims=True) for _, samples in sorted(excerpt.stems.items())])
    return torch.from_numpy(tracks), torch.from_numpy(excerpt.mix)


def learn(corpus, folder, steps: int, resume: bool = False):
    seed_everything(0)
    model = Engineer()

    def loss(forward, batch):
        tracks, mix = batch
        return sum_difference_mr_stft(forward(tracks), mix)

    losses = []
    config = Training(steps=steps, rate=0.01, clip_norm=10.0, validate_every=4, save_every=2)
    state = train(
        model,
        loss,
        lambda number: prepared(corpus, number),
        config,
        TrainingFolder(folder, resume=resume),
        {"model": "a test's engineer", "console": CONSOLE.name},
        validate=lambda net: float(np.mean([float(loss(net, prepared(corpus, 1000 + k)).detach()) for k in range(2)])),
        progress=lambda now: losses.append(now.loss),
    )
    return model, state, losses


def test_a_corpus_a_console_a_loss_and_a_training_learn_together(corpus, tmp_path):
    assert corpus.layout == "stems" and len(corpus) == 2
    model, state, losses = learn(corpus, tmp_path / "whole", 12)
    assert state.step == 12 and np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < np.mean(losses[:4])

    learn(corpus, tmp_path / "broken", 6)
    resumed, _, _ = learn(corpus, tmp_path / "broken", 12, resume=True)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name

    tensors, record = read_checkpoint(tmp_path / "whole", "best")
    fresh = Engineer()
    load_weights(fresh, tensors, "best")
    assert record["about"]["console"] == "diffmst"
    with torch.no_grad():
        assert torch.isfinite(fresh(prepared(corpus, 5)[0])).all()
