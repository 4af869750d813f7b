"""mixtools from Python: effects are functions on arrays, a mix is data, and a console renders it."""

import numpy as np

import mixtools

rate = 44100
song = mixtools.synth_song(3, seconds=4, stems=8, style="funk", rate=rate)

# An effect is a function of audio (n,) or (channels, n), the rate, and its controls; it gives (channels, n).
voice = song.stems["vox_lead.wav"]
voice = mixtools.parametric_eq(voice, rate, low_shelf_gain_db=-9, low_shelf_freq_hz=120)
voice = mixtools.compressor(voice, rate, threshold_db=-26, ratio=3, attack_ms=5, release_ms=120)
voice = mixtools.pan(voice, rate, pan=[[0, 0.3], [4, 0.7]])  # automation: [[seconds, value], ...]
print("voice", voice.shape, voice.dtype)

# A mix is plain data. It can be read from a file, changed, rendered, and written again.
mix = mixtools.finished_mix(song)
mix.master.chain.append(mixtools.Insert("limiter", {"ceiling_db": -1.0}))
print(mixtools.format_mix(mix).splitlines()[0])

mixed = mixtools.render(mix, song.stems, rate, threads=2)
levels = mixtools.levels(mixed, rate)
print(f"{mixed.shape[1] / rate:.1f} s, {levels.integrated_lufs:.1f} LUFS, true peak {levels.true_peak_dbtp:.1f} dBTP")

# Measures are functions of arrays, too; the metrics take torch tensors as well, with gradients.
quieter = mixtools.normalise(mixed, rate, target_lufs=-20.0)
errors = mixtools.relative_errors(mixtools.features(quieter, rate), mixtools.features(mixed, rate))
print(f"Table II's total {100 * errors['total']:.1f} %, MR-STFT {mixtools.mr_stft(quieter, mixed):.2f}")

# Long or live material goes through a chain block by block; block sizes never change a sample.
chain = mixtools.Chain([mixtools.Insert("saturation", {"drive_db": 12.0})], rate, channels=1)
blocks = [chain.process(song.stems["bass.wav"][:, at : at + 1000]) for at in range(0, 44100, 1000)]
print("bass", np.concatenate(blocks, axis=1).shape, f"{chain.latency} samples late")

# The papers' consoles are data, too: draw from one, and turn the drawing into numbers for a network.
strip = mixtools.PRESETS["diffmst"].track
drawn = strip.sample(0, rate)
print("diffmst", [insert.effect for insert in drawn.chain], strip.to_vector(drawn, rate).shape)
