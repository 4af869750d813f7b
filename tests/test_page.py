"""The page that compares sounds: what is drawn, what it holds, and how it plays in a real browser."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from cli_helpers import refused, run

from mixtools import Curve, Insert, Master, Mix, Track
from mixtools.dsp.source import Source
from mixtools.measure.bands import BandMeter, centres_hz
from mixtools.tasks.page.charts import Axis, Chart, even, minutes
from mixtools.tasks.page.page import listen, matched_db, page
from mixtools.tasks.page.strips import equalised_db
from mixtools.tasks.recordings import ArrayRecording, Playing

RATE = 44100
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def noise(seed: int, seconds: float, gain: float = 0.1) -> np.ndarray:
    return (gain * np.random.default_rng(seed).standard_normal((2, round(seconds * RATE)))).astype(np.float32)


def playing(x: np.ndarray) -> Source:
    return Playing(ArrayRecording(x))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two sounds, of which one is 12 dB louder, and a mix file."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("quiet.wav", noise(1, 5.0, 0.05).T, RATE)
    soundfile.write("loud.wav", noise(2, 4.0, 0.2).T, RATE)
    (tmp_path / "mix.yaml").write_text(
        "mixtools: 1\ntracks:\n- file: a.wav\n  chain:\n  - parametric_eq: {band1_gain_db: 6, band1_freq_hz: 1000}\n"
        "  - gain: {gain_db: -3}\n  - pan: {pan: 0.25}\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    "rate, hz", [(rate, hz) for rate in (8000, 44100, 96000) for hz in (25.0, 100.0, 1000.0, 9000.0) if hz < rate / 2]
)
def test_a_sine_is_in_its_band(rate, hz):
    n = 4 * rate
    x = 0.5 * np.sin(2 * np.pi * hz * np.arange(n) / rate)
    meter = BandMeter(rate)
    for part in np.array_split(np.stack([x, x]), 7, axis=1):
        meter.add(part)
    meter.finish()
    middle, side = meter.powers()
    centres = centres_hz(rate)
    near = np.abs(np.log2(centres / hz)) < (0.25 if hz > 50 else 0.5)
    assert middle.argmax() == np.abs(np.log2(centres / hz)).argmin()
    assert middle[near].sum() == pytest.approx(0.125, rel=0.03)
    assert side.max() == 0.0


def test_pink_is_flat_and_sides_are_told_apart():
    n = 1 << 19
    rng = np.random.default_rng(0)
    shape = 1.0 / np.sqrt(np.maximum(np.arange(n // 2 + 1), 1))
    pink = np.fft.irfft(np.fft.rfft(rng.standard_normal((2, n))) * shape)
    middle, side = pink[0], 0.1 * pink[1]
    meter = BandMeter(RATE)
    meter.add(np.stack([middle + side, middle - side]))
    meter.finish()
    powers = 10 * np.log10(meter.powers())
    assert np.ptp(powers[0, 12:]) < 2.5
    assert np.median(powers[1] - powers[0]) == pytest.approx(-20.0, abs=0.5)


def test_axes_have_round_marks():
    assert even(-93.0, -21.0, "dB").marks[0] == (-100.0, "-100")
    assert [text for _, text in minutes(21.0).marks] == ["0:00", "0:05", "0:10", "0:15", "0:20"]
    assert even(3.0, 3.0, "dB").low < even(3.0, 3.0, "dB").high
    assert Axis(20.0, 20000.0, (), "Hz", log=True).share(np.array([20.0, 632.4555, 20000.0])) == pytest.approx(
        [0, 0.5, 1]
    )


def test_lines_have_gaps_where_there_is_nothing():
    chart = Chart("x", Axis(0.0, 4.0, (), ""), Axis(0.0, 1.0, (), ""))
    chart.draw([0, 1, 2, 3, 4], [0.5, 0.5, -np.inf, 0.5, np.nan], "line")
    assert re.findall("[ML]", chart.lines[0]) == ["M", "L", "M"]


def test_equalisers_are_drawn_as_they_filter():
    hz = np.array([100.0, 1000.0, 10000.0])
    found = equalised_db([Insert("parametric_eq", {"band1_gain_db": 6.0, "band1_freq_hz": 1000.0})], hz)
    assert found == pytest.approx([0.0, 6.0, 0.0], abs=0.3)
    moving = Insert("parametric_eq", {"band1_gain_db": Curve(((0.0, -9.0), (5.0, 9.0))), "band1_freq_hz": 1000.0})
    assert equalised_db([moving], hz)[1] == pytest.approx(-9.0, abs=0.1)


def test_all_are_brought_down_to_the_quietest():
    sounds = [listen("a", playing(noise(1, 4.0, 0.2)), RATE), listen("b", playing(noise(1, 4.0, 0.1)), RATE)]
    target, gains = matched_db(sounds)
    assert target == pytest.approx(sounds[1].lufs)
    assert gains == pytest.approx([-6.02, 0.0], abs=0.01)
    silent = listen("c", playing(np.zeros((1, RATE), np.float32)), RATE)
    assert matched_db([silent]) == (None, [0.0])
    assert "–" in page([silent], {})


class Outline(HTMLParser):
    """What would be fetched, and what is text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data", "action")]

    def handle_data(self, data):
        self.words.append(data)


def test_names_cannot_write_the_page():
    evil = '</script><img src=x onerror="alert(1)">{{told}}&.wav'
    mix = Mix([Track(evil, chain=[Insert("gain")])], master=Master())
    found = Outline(page([listen(evil, playing(noise(1, 4.0)), RATE)], {evil: mix}, {0: b"</script>"}))
    assert "img" not in found.tags
    assert found.fetched == []
    assert sum(evil in word for word in found.words) >= 3


def test_the_page_holds_everything(folder):
    done = run("features", "quiet.wav", "loud.wav", "mix.yaml", "--html", "page.html")
    assert done.code == 0 and done.out == b""
    assert re.fullmatch(r"mixtools: page.html: 2 files and 1 mix file, [\d.]+ MB\n", done.err)
    text = (folder / "page.html").read_text()
    assert Outline(text).fetched == []
    sounds = [base64.b64decode(data) for data in re.findall(r'id="audio-\d">([^<]+)<', text)]
    for data, name in zip(sounds, ("quiet.wav", "loud.wav"), strict=True):
        held, rate = soundfile.read(io.BytesIO(data))
        given, _ = soundfile.read(name)
        assert rate == RATE and np.abs(held - given).max() < 2e-4
    told = json.loads(re.search(r'id="told">(.*?)</script>', text).group(1))
    assert told["gains"][0] == 1.0 and 20 * np.log10(told["gains"][1]) == pytest.approx(-12.0, abs=0.1)
    for wanted in ("a.wav", "-3.0 dB", "50 % left", 'class="chart eq-0-0"', "-30", "stereo width"):
        assert wanted in text, wanted


def test_beyond_full_scale_is_as_loud_again(folder):
    soundfile.write("hot.wav", noise(3, 4.0, 0.6).T, RATE, subtype="FLOAT")
    assert run("features", "hot.wav", "--html", "page.html", "-q").code == 0
    text = (folder / "page.html").read_text()
    held, _ = soundfile.read(io.BytesIO(base64.b64decode(re.search(r'id="audio-0">([^<]+)<', text).group(1))))
    gain = json.loads(re.search(r'id="told">(.*?)</script>', text).group(1))["gains"][0]
    assert np.abs(held).max() <= 1.0
    assert np.abs(gain * held - soundfile.read("hot.wav")[0]).max() < 1e-3


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--html", "page.html"], "FILES is missing; give audio files, a folder, or - for stdin"),
        (
            ["quiet.wav", "--html", "quiet.wav", "--force"],
            "quiet.wav is an input of this run; give another name for the output",
        ),
        (
            ["quiet.wav", "--html", "page.html", "--json"],
            "--json and --html cannot be had together; a page has everything about FILES",
        ),
        (["quiet.wav", "--html", "there.html"], "there.html exists; give --force to overwrite it, or another name"),
        (["quiet.wav", "--force"], "--force is for --html, the only file that features writes; give it with that"),
        (["missing.wav", "--html", "page.html"], "missing.wav does not exist; give a WAV, FLAC, AIFF, OGG or MP3 file"),
        (
            ["quiet.wav"] * 9 + ["--html", "page.html"],
            "page.html: 9 files of audio are given; a page shows at most 8",
        ),
    ],
)
def test_what_cannot_be_is_said(folder, arguments, told):
    (folder / "there.html").write_text("mine")
    refused(told, *arguments, of="features")


@contextmanager
def browser(url: str):
    """A function that evaluates a promise in a page, by the browser's own protocol over two pipes."""
    to_it, ours = os.pipe()
    theirs, from_it = os.pipe()

    def at_three_and_four() -> None:
        os.dup2(to_it, 3)
        os.dup2(from_it, 4)

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    running = subprocess.Popen(
        [BROWSER, *flags, "--remote-debugging-pipe"],
        preexec_fn=at_three_and_four,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    numbers = itertools.count(1)
    answers = os.fdopen(theirs, "rb")

    def ask(method: str, session: str | None = None, **about):
        number = next(numbers)
        message = {"id": number, "method": method, "params": about} | ({"sessionId": session} if session else {})
        os.write(ours, json.dumps(message).encode() + b"\0")
        data = b""
        while True:
            byte = answers.read(1)
            assert byte, "the browser went away"
            if byte != b"\0":
                data += byte
                continue
            found, data = json.loads(data), b""
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]

    try:
        target = ask("Target.createTarget", url=url)["targetId"]
        session = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        def evaluate(expression: str):
            found = ask("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
            assert "exceptionDetails" not in found, found
            return found["result"].get("value")

        yield evaluate
    finally:
        running.kill()
        running.wait(timeout=30)
        for end in (to_it, ours, from_it):
            os.close(end)
        answers.close()


PAUSE = "const pause = (ms) => new Promise((done) => setTimeout(done, ms));"


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_browser_plays_them_in_step(folder):
    assert run("features", "quiet.wav", "loud.wav", "mix.yaml", "--html", "page.html").code == 0
    with browser((folder / "page.html").as_uri()) as evaluate:
        for _ in range(100):
            if evaluate("typeof player") == "object":
                break
            time.sleep(0.05)
        ready = f"""(async () => {{ {PAUSE}
            for (let i = 0; i < 200 && play.disabled; i++) await pause(50);
            return [play.disabled, player.buffers.map((b) => b.duration)]; }})()"""
        disabled, lengths = evaluate(ready)
        assert not disabled and lengths == pytest.approx([5.0, 4.0])
        gains = "player.gains.map((gain) => gain.gain.value)"
        playing, at, first, second, still = evaluate(
            f"""(async () => {{ {PAUSE}
            play.click(); await pause(500);
            const playing = player.playing, at = position();
            const first = {gains};
            dispatchEvent(new KeyboardEvent("keydown", {{ key: "2" }})); await pause(200);
            const second = {gains}, still = player.playing && position() > at;
            return [playing, at, first, second, still]; }})()"""
        )
        assert playing and still and 0.0 < at < 4.0
        assert first == pytest.approx([1.0, 0.0], abs=1e-3)
        assert second == pytest.approx([0.0, 10 ** (-12.0 / 20)], abs=5e-3)
        sought, paused, chosen, faults = evaluate(
            f"""(async () => {{ {PAUSE}
            const box = chart.getBoundingClientRect();
            const across = (Number(chart.dataset.left) + Number(chart.dataset.right)) / 2 / 860;
            play.click(); await pause(50);
            chart.dispatchEvent(new MouseEvent("click", {{ clientX: box.left + box.width * across }}));
            const sought = position(); await pause(200);
            const chosen = document.querySelectorAll(".line.chosen.s1").length;
            return [sought, position() === sought, chosen, document.querySelectorAll("svg").length]; }})()"""
        )
        assert sought == pytest.approx(2.5, abs=0.1) and paused and chosen == 3 and faults == 4
