"""Find the faders and pans of a mix by gradient descent through the console, and write them as a mix file."""

import torch

import mixtools
from mixtools.diff import console

rate = 44100
torch.manual_seed(0)
song = mixtools.synth_song(3, seconds=4, stems=8, style="funk", rate=rate)
stems = {name: torch.from_numpy(samples) for name, samples in song.stems.items()}

# Somebody's mix, of which only the sound is known.
faders = [-6.0, 2.0, -9.0, 0.0, -3.0, 4.0, -12.0, -1.0]
pans = [0.5, 0.2, 0.9, 0.5, 0.35, 0.7, 0.5, 0.1]


def mix_of(gains_db, places):
    return mixtools.Mix(
        [
            mixtools.Track(name, chain=[mixtools.Insert("gain", {"gain_db": g}), mixtools.Insert("pan", {"pan": p})])
            for name, g, p in zip(sorted(stems), gains_db, places, strict=True)
        ]
    )


target = torch.from_numpy(mixtools.render(mix_of(faders, pans), song.stems, rate))

# Every number of a mix is a tensor that gradients flow into, by its path in the mix file.
mix = mix_of([0.0] * 8, [0.5] * 8)
values = {path: value.requires_grad_() for path, value in console.controls_of(mix).items()}
gains = [value for path, value in values.items() if path.endswith("gain_db")]
places = [value for path, value in values.items() if path.endswith(".pan")]
optimiser = torch.optim.Adam([{"params": gains, "lr": 1.0}, {"params": places, "lr": 0.05}])
schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.97)

for step in range(100):
    mixed = console.render(mix, stems, rate, values, frames=target.shape[-1])
    loss = mixtools.esr(mixed, target)
    if step == 0:
        print(f"error before: {10 * torch.log10(loss.detach()):.0f} dB")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()
    with torch.no_grad():
        for place in places:
            place.clamp_(0.0, 1.0)

print(f"error after: {10 * torch.log10(loss.detach()):.0f} dB")
found = console.with_controls(mix, values)
for track, fader, pan in zip(found.tracks, faders, pans, strict=True):
    gain_db, place = track.chain[0].controls["gain_db"], track.chain[1].controls["pan"]
    print(f"{track.file:15s} {gain_db:6.2f} dB (was {fader:5.1f})  pan {place:.3f} (was {pan:.2f})")
