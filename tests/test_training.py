"""The training loop: against a plain one, killed at every moment, on two processes, and from damaged folders."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mixtools.errors import MixtoolsError, OutputError, ParameterError
from mixtools.files.checkpoints import TrainingFolder, read_checkpoint
from mixtools.files.weights import packed
from mixtools.nets.batches import Shuffled, seed_everything
from mixtools.nets.processes import World, processes
from mixtools.nets.restoring import OPTIMISER, load_weights
from mixtools.nets.training import State, Training, train

ABOUT = {"model": "mlp", "console": {"preset": "basic", "bands": [1, 2]}}
PLAN = {"rate": 0.01, "validate_every": 4, "save_every": 3, "rate_patience": 0, "rate_factor": 0.5, "clip_norm": 1.0}


def items(count: int = 24):
    """Inputs (3,) and targets (1,), float64, of a rule that can be learned."""
    x = np.random.default_rng(1).standard_normal((count, 3))
    return [(torch.tensor(row), torch.tensor([math.sin(row[0]) + row[1]])) for row in x]


def mlp(dropout: float = 0.3) -> nn.Module:
    seed_everything(7)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)).double()


def plain_mlp() -> nn.Module:
    seed_everything(7)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def squares(model, batch):
    error = model(batch[0]) - batch[1]
    return {"loss": (error**2).mean(), "absolute": error.abs().mean()}


def validation(model) -> float:
    x, y = zip(*items(6), strict=True)
    x, y = torch.stack(x), torch.stack(y)
    return float(((model(x.to(next(model.parameters()).dtype)) - y) ** 2).mean())


def run(
    folder, steps=12, resume=False, model=None, batch=None, about=ABOUT, loss=squares, validate=validation, **other
):
    """A small training in a folder, with what a test wants to be different."""
    known = {name: other.pop(name) for name in ("world", "progress") if name in other}
    model = mlp() if model is None else model
    batch = Shuffled(items(), 4, seed=3) if batch is None else batch
    config = Training(steps=steps, **{**PLAN, **other})
    return train(model, loss, batch, config, TrainingFolder(folder, resume), about, validate, **known)


def log(folder) -> list[dict[str, str]]:
    """The rows of the log without what differs from run to run."""
    with open(Path(folder) / "log.csv", newline="", encoding="utf-8") as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


def kept(folder, kind="last") -> tuple[dict[str, bytes], dict]:
    """A checkpoint, bit by bit, without its times."""
    tensors, record = read_checkpoint(folder, kind)
    record["state"].pop("seconds")
    return {name: x.numpy().tobytes() for name, x in tensors.items()}, record["state"]


def assert_same_training(a, b):
    assert log(a) == log(b)
    for kind in ("last", "best"):
        assert kept(a, kind) == kept(b, kind)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A training from its first to its last step."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    run(folder)
    return folder


def adam_by_hand(x, y, order, steps, accumulate, clip_norm, weight_decay, rate=0.01, beta1=0.8, beta2=0.95, eps=1e-6):
    """Kingma & Ba's algorithm 1 on a linear model's mean squared error, with L2 decay and a clipped gradient."""
    w, m, v, norms = np.array([0.1, -0.2, 0.3]), np.zeros(3), np.zeros(3), []
    for t in range(1, steps + 1):
        gradient = np.zeros(3)
        for indices in order[(t - 1) * accumulate : t * accumulate]:
            for i in indices:
                gradient += 2 * (x[i] @ w - y[i]) * x[i] / (len(indices) * accumulate)
        norms.append(math.sqrt(sum(g**2 for g in gradient)))
        if norms[-1] > clip_norm:
            gradient *= clip_norm / (norms[-1] + 1e-6)
        gradient += weight_decay * w
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        w = w - rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return w, norms


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_a_plain_loop(tmp_path, accumulate, weight_decay):
    rng = np.random.default_rng(0)
    x, y, steps, clip_norm = rng.standard_normal((10, 3)), rng.standard_normal(10), 15, 0.7
    order = rng.integers(10, size=(steps * accumulate, 4))
    linear = nn.Linear(3, 1, bias=False).double()
    linear.weight.data[:] = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)

    def batch(number):
        return torch.tensor(x[order[number]]), torch.tensor(y[order[number]][:, None])

    plan = {"accumulate": accumulate, "weight_decay": weight_decay, "clip_norm": clip_norm}
    plan |= {"betas": (0.8, 0.95), "eps": 1e-6}
    run(tmp_path / "run", steps, model=linear, batch=batch, validate=None, **plan)
    expected, norms = adam_by_hand(x, y, order, steps, accumulate, clip_norm, weight_decay)
    assert any(norm > clip_norm for norm in norms) and any(norm < clip_norm for norm in norms)
    assert linear.weight.detach().numpy()[0] == pytest.approx(expected, rel=1e-12)
    assert [float(row["gradient_norm"]) for row in log(tmp_path / "run")] == pytest.approx(norms, rel=1e-12)


def test_accumulation_is_a_large_batch(tmp_path):
    run(tmp_path / "a", model=plain_mlp(), accumulate=3)
    run(tmp_path / "b", model=plain_mlp(), batch=Shuffled(items(), 12, seed=3))
    a, b = (read_checkpoint(tmp_path / name, "last")[0] for name in "ab")
    for name in a:
        assert torch.allclose(a[name].double(), b[name].double(), rtol=1e-11, atol=1e-14), name
    for one, other in zip(log(tmp_path / "a"), log(tmp_path / "b"), strict=True):
        assert float(one["absolute"]) == pytest.approx(float(other["absolute"]), rel=1e-11)


def test_batches_hold_every_item_once_per_epoch_in_changing_orders():
    batch = Shuffled(list(range(10)), 4, seed=5, collate=list)
    drawn = sum((batch(number) for number in range(5)), [])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert drawn[:4] == batch(0) != Shuffled(list(range(10)), 4, seed=6, collate=list)(0)


def test_a_schedule_is_pytorchs():
    rng = np.random.default_rng(2)
    for _ in range(20):
        factor, patience, threshold = rng.choice([0.1, 0.5]), int(rng.integers(4)), rng.choice([0.0, 0.01, 0.2])
        config = Training(
            steps=1, rate=0.1, rate_factor=factor, rate_patience=patience, threshold=threshold, lowest_rate=1e-3
        )
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
        oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, factor=factor, patience=patience, threshold=threshold, min_lr=1e-3
        )
        state = State(0.1)
        for value in 1.0 / np.arange(1, 40) + rng.uniform(size=39):
            oracle.step(value)
            state.learn(value, config)
            assert state.rate == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)


def scripted(values):
    """A validation that gives these, one after the other."""
    values = iter(values)
    return lambda model: next(values)


def test_it_stops_early_and_keeps_the_best(tmp_path):
    values, weights = [-3.0, -4.0, -3.9, -4.0, -3.0, -2.0], []
    model = plain_mlp()

    def validate(net):
        assert not net.training and not torch.is_grad_enabled()
        weights.append({name: x.clone() for name, x in net.state_dict().items()})
        return values[len(weights) - 1]

    state = run(tmp_path / "run", 60, model=model, validate=validate, stop_patience=2, rate_patience=50)
    assert state.step == 20 and state.lowest == -4.0
    best, record = read_checkpoint(tmp_path / "run", "best")
    assert record["state"]["step"] == 8
    assert best.keys() == weights[1].keys() and all(torch.equal(best[name], weights[1][name]) for name in best)
    assert read_checkpoint(tmp_path / "run", "last")[1]["state"]["step"] == 20
    again = run(tmp_path / "run", 60, resume=True, validate=None, model=plain_mlp(), stop_patience=2, rate_patience=50)
    assert again.step == 20


def test_the_rate_falls_when_validations_are_in_vain(tmp_path):
    run(tmp_path / "run", validate=scripted([1.0, 2.0, 3.0]), rate=0.02, lowest_rate=0.008)
    rates = [float(row["rate"]) for row in log(tmp_path / "run")]
    assert rates == [0.02] * 8 + [0.01] * 4
    assert read_checkpoint(tmp_path / "run", "last")[1]["state"]["rate"] == 0.008


def test_bfloat16_is_for_the_model_and_float32_for_the_loss(tmp_path):
    inside, outside = set(), set()
    model = plain_mlp().float()
    model[0].register_forward_hook(lambda layer, x, y: inside.add(y.dtype) if layer.training else None)

    def loss(net, batch):
        error = net(batch[0].float()) - batch[1].float()
        outside.add(error.dtype)
        return (error**2).mean()

    run(tmp_path / "run", 150, model=model, loss=loss, precision="bfloat16", validate_every=200, rate_patience=99)
    assert inside == {torch.bfloat16} and outside == {torch.float32}
    assert all(x.dtype == torch.float32 for x in read_checkpoint(tmp_path / "run", "best")[0].values())
    losses = [float(row["loss"]) for row in log(tmp_path / "run")]
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])


def test_the_state_of_global_generators_does_not_matter(tmp_path, unbroken):
    model = mlp()
    seed_everything(random.getrandbits(32))
    run(tmp_path / "run", model=model)
    assert_same_training(tmp_path / "run", unbroken)


def test_progress_is_told(tmp_path):
    told = []
    run(tmp_path / "run", progress=told.append)
    assert [now.step for now in told] == list(range(1, 13)) and {now.steps for now in told} == {12}
    assert told[-1].remaining_s == 0 and all(now.steps_per_s > 0 for now in told)
    assert [now.loss for now in told] == [float(row["loss"]) for row in log(tmp_path / "run")]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rate": math.nan}, "rate is nan; give 0 to 1"),
        ({"steps": 0}, "steps is 0; give a whole number, 1 to 1000000000"),
        ({"steps": 2.0}, "steps is 2; give a whole number, 1 to 1000000000"),
        ({"betas": (0.9, 1.0)}, "betas is 1; give 0 to 0.999999999"),
        ({"clip_norm": math.inf}, "clip_norm is inf; give 1e-30 to 1e+30"),
        ({"accumulate": True}, "accumulate is true; give a whole number, 1 to 1000000"),
        ({"precision": "float16"}, "precision is float16; give one of float32, bfloat16"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ParameterError) as error:
        Training(**{"steps": 1, **setting})
    assert str(error.value) == message


def interrupt_at(step, number=signal.SIGINT):
    return lambda now: os.kill(os.getpid(), number) if now.step == step else None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_after_the_step_and_is_resumed_from(tmp_path, unbroken, number):
    handler = signal.getsignal(number)
    for step in (1, 4, 6, 10):
        with pytest.raises(KeyboardInterrupt) as interrupt:
            run(tmp_path / "run", resume=True, progress=interrupt_at(step, number))
        said = f"interrupted; {tmp_path / 'run'} keeps step {step + 1} of 12, to be resumed from"
        assert str(interrupt.value) == said
        assert signal.getsignal(number) is handler
    assert run(tmp_path / "run", resume=True).step == 12
    assert_same_training(tmp_path / "run", unbroken)


def test_an_interrupt_in_the_last_step_is_too_late(tmp_path):
    assert run(tmp_path / "run", progress=interrupt_at(11)).step == 12
    assert run(tmp_path / "again", progress=interrupt_at(12)).step == 12


def test_a_second_interrupt_is_not_waited_with(tmp_path, unbroken):
    items_drawn = Shuffled(items(), 4, seed=3)

    def batch(number):
        if number == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("it went on")
        return items_drawn(number)

    with pytest.raises(KeyboardInterrupt, match="interrupted; .* keeps step 6 of 12, to be resumed from"):
        run(tmp_path / "run", batch=batch)
    run(tmp_path / "run", resume=True)
    assert_same_training(tmp_path / "run", unbroken)


def test_it_runs_in_a_thread(tmp_path, unbroken):
    thread = threading.Thread(target=run, args=(tmp_path / "run",))
    thread.start()
    thread.join()
    assert_same_training(tmp_path / "run", unbroken)


DISK = [(os, "replace"), (os, "fsync"), (os, "open"), (os, "unlink"), (Path, "unlink")]


def killed_at(folder: Path, operation: int) -> bool:
    """Train in a process of its own that kills itself before this operation on the disk; says whether it came to it."""
    child = os.fork()
    if child == 0:
        left = [operation]

        def deadly(function):
            def operate(*arguments, **named):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return function(*arguments, **named)

            return operate

        for owner, name in DISK:
            setattr(owner, name, deadly(getattr(owner, name)))
        run(folder, resume=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def killed_after(folder: Path, seconds: float) -> bool:
    """Train in a process of its own and kill it from outside; says whether it was still going."""
    child = os.fork()
    if child == 0:
        run(folder, resume=True)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill_everywhere(place: str) -> None:
    """Break trainings at every operation on the disk, and others at random times; say where they ended."""
    # A process that is to be forked must not have done a backward pass, nor have threads: so here, and not in pytest.
    torch.set_num_threads(1)
    torch.optim.Adam(mlp().parameters())  # which imports much, once for all children
    import_module("safetensors.torch")
    assert not killed_at(Path(place) / "unbroken", 10**9)  # how many threads there are changes the last bits
    operation, ended = 0, []
    while killed_at(folder := Path(place) / f"at-{operation}", operation):
        killed_at(folder, 3)  # and once more while it resumes
        assert not killed_at(folder, 10**9)
        ended.append(folder.name)
        operation += 1
    rng, kills = random.Random(0), 0
    for attempt in range(8):
        folder = Path(place) / f"after-{attempt}"
        kills += sum(killed_after(folder, rng.uniform(0.0, 0.05)) for _ in range(3))
        assert not killed_at(folder, 10**9)
        ended.append(folder.name)
    print(json.dumps({"operations": operation, "kills": kills, "ended": ended}))


def python(*arguments: str, **named) -> subprocess.CompletedProcess:
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])}
    place |= {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, env=place, cwd=Path(__file__).parent
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(tmp_path):
    done = python("test_training.py", "kill_everywhere", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["operations"] > 30 and report["kills"] > 5, report
    for name in report["ended"]:
        assert_same_training(tmp_path / name, tmp_path / "unbroken")
        assert len(list((tmp_path / name).iterdir())) == 5, "nothing is left behind"


def test_a_finished_training_can_be_prolonged(tmp_path, unbroken):
    run(tmp_path / "run", 8)
    run(tmp_path / "run", 12, resume=True)
    assert_same_training(tmp_path / "run", unbroken)


def test_weights_that_share_memory_are_kept(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)).double()
    model[1].weight = model[0].weight
    run(tmp_path / "run", model=model)
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)).double()
    load_weights(other, read_checkpoint(tmp_path / "run", "last")[0], "there")
    assert torch.equal(other[1].weight, model[0].weight)


def spoiled(number, value):
    """Batches of which one leads to such a loss."""
    good = Shuffled(items(), 4, seed=3)

    def batch(k):
        x, y = good(k)
        return (x, y * value) if k == number else (x, y)

    return batch


def infinite_gradient(model, batch):
    return {"loss": torch.sqrt(model(batch[0]) * 0.0).mean()}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch": spoiled(7, math.nan)}, "step 8: the loss is nan; .*; .* keeps step 6 of 12, to be resumed from"),
        ({"batch": spoiled(1, math.inf)}, "step 2: the loss is inf; .*; nothing was saved"),
        ({"loss": infinite_gradient}, "step 1: the gradient norm is nan; give a lower learning rate, clip the grad"),
        ({"validate": scripted([1.0, math.nan])}, "step 8: the validation is nan; .* keeps step 6 of 12"),
    ],
)
def test_what_is_no_number_ends_it_and_is_not_saved(tmp_path, other, message):
    with pytest.raises(MixtoolsError, match=message):
        run(tmp_path / "run", **other)
    if "keeps" in message:
        assert kept(tmp_path / "run")[1]["step"] == 6
    else:
        assert not (tmp_path / "run" / "last.json").exists()


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    model = mlp()

    def progress(now):
        if now.step == 4:
            model[1].running_var[0] = math.inf

    with pytest.raises(MixtoolsError, match="step 6: the 1.running_var is nan; .* keeps step 3 of 12"):
        run(tmp_path / "run", model=model, progress=progress, validate=None)
    assert kept(tmp_path / "run")[1]["step"] == 3


def test_a_training_is_not_overwritten(tmp_path):
    run(tmp_path / "run", 3)
    with pytest.raises(ParameterError) as error:
        run(tmp_path / "run")
    assert str(error.value) == f"{tmp_path / 'run'} holds a training; give --resume to go on with it, or another folder"


def test_the_folder_has_to_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match="file is a file; give a folder"):
        run(tmp_path / "file")
    with pytest.raises(ParameterError, match="nowhere does not exist; create it first"):
        run(tmp_path / "nowhere" / "run")
    with pytest.raises(ParameterError, match="best.json does not exist; give the folder of a training"):
        read_checkpoint(tmp_path, "best")


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_full_disk_is_said_and_harms_nothing(tmp_path, unbroken, monkeypatch, operation):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run(tmp_path / "run", 4)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="could not be written: No space left"):
        patch.setattr(os, operation, full)
        run(tmp_path / "run", resume=True)
    run(tmp_path / "run", resume=True)
    assert_same_training(tmp_path / "run", unbroken)


def folder_with(tmp_path, **other):
    run(tmp_path / "run", 3, **other)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"about": {**ABOUT, "model": "tcn"}}, "about.model is mlp there and tcn here; give what it was trained with"),
        ({"about": {"model": "mlp", "console": {"preset": "full", "bands": [1, 2]}}}, "about.console.preset is basic"),
        (
            {"about": {"model": "mlp", "console": {"preset": "basic", "bands": [1, 3]}}},
            "bands[1] is 2 there and 3 here",
        ),
        ({"about": {**ABOUT, "layers": 3}}, "about.layers is empty there and 3 here"),
        ({"rate": 0.02}, "training.rate is 0.01 there and 0.02 here"),
        ({"world": World(size=1), "seed": 4}, "training.seed is 0 there and 4 here"),
        ({"model": plain_mlp()}, "last: 2.weight is missing; give a checkpoint of this model"),
        ({"model": mlp().float()}, "8 x 3 float64; give a checkpoint of this model, where it is 8 x 3 float32"),
        ({"model": nn.Sequential(nn.Linear(3, 8).double())}, "is not part of this model"),
    ],
)
def test_a_training_of_something_else_is_not_resumed(tmp_path, other, message):
    folder = folder_with(tmp_path)
    before = log(folder), kept(folder)
    with pytest.raises(ParameterError) as error:
        run(folder, resume=True, **other)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert (log(folder), kept(folder)) == before


def record_with(**changes):
    def change(folder):
        record = json.loads((folder / "last.json").read_text())
        record["state"].update(changes.pop("state", {}))
        (folder / "last.json").write_text(json.dumps({**record, **changes}))

    return change


def text(content):
    return lambda folder: (folder / "last.json").write_text(content)


def tensors_as(change):
    """Tensors that the record names, with their digest, but that are not what they should be."""

    def write(folder):
        record = json.loads((folder / "last.json").read_text())
        (path,) = folder.glob("last-*")
        tensors = load_file(path)
        path.unlink()
        content = packed(change(tensors))
        record["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / f"last-{record['sha256'][:16]}.safetensors").write_bytes(content)
        (folder / "last.json").write_text(json.dumps(record))

    return write


def bytes_of_tensors(change):
    def write(folder):
        (path,) = folder.glob("last-*")
        path.write_bytes(change(path.read_bytes()))

    return write


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-was-here",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (text(""), "last.json is damaged or no JSON; give another checkpoint, or train in another folder"),
        (text('{"format": 1, "sha'), "last.json is damaged or no JSON"),
        (text("[" * 100000), "last.json is damaged or no JSON"),
        (text(" " * (1 << 21)), "last.json is larger than 1048576 bytes"),
        (text("[1]"), "last.json is no checkpoint"),
        (text("{}"), "last.json is of another version of mixtools, its format is not 1"),
        (record_with(format=2), "last.json is of another version of mixtools, its format is not 1"),
        (record_with(sha256="../../etc/passwd"), "last.json is damaged: it names no tensors"),
        (record_with(sha256="0" * 64), "last-0000000000000000.safetensors does not exist"),
        (record_with(state={"step": -1}), "state.step is -1; give an undamaged checkpoint"),
        (record_with(state={"step": 1.5}), "state.step is 1.5; give an undamaged checkpoint"),
        (record_with(state={"rate": math.nan}), "state.rate is nan; give an undamaged checkpoint"),
        (record_with(state={"lowest": "low"}), "state.lowest is low; give an undamaged checkpoint"),
        (record_with(state={"more": 1}), "state does not hold rate, step, seconds, lowest, reference"),
        (record_with(about=[]), "about is a list there and a mapping here"),
        (bytes_of_tensors(lambda x: x[:-1]), "is damaged or no safetensors file"),
        (bytes_of_tensors(lambda x: b""), "is damaged or no safetensors file"),
        (bytes_of_tensors(lambda x: x[:-1] + bytes([x[-1] ^ 1])), "its content is not what last.json names"),
        (bytes_of_tensors(lambda x: pickle.dumps(Hostile())), "is damaged or no safetensors file"),
        (tensors_as(lambda x: {**x, "0.weight": x["0.weight"] * math.nan}), "0.weight holds values that are no finite"),
        (tensors_as(lambda x: {**x, "more": x["0.weight"]}), "last: more is not part of this model"),
        (tensors_as(lambda x: {**x, f"{OPTIMISER}more/step": torch.zeros(())}), "more/step is not part of this model"),
        (
            tensors_as(lambda x: {k: v for k, v in x.items() if k != f"{OPTIMISER}0.weight/exp_avg"}),
            "optimiser/0.weight/exp_avg is missing",
        ),
        (
            tensors_as(lambda x: {**x, f"{OPTIMISER}0.weight/exp_avg": torch.zeros(3, 8).double()}),
            "optimiser/0.weight/exp_avg is 3 x 8 float64; give a checkpoint of this model, where it is 8 x 3 float64",
        ),
    ],
)
def test_damaged_and_hostile_checkpoints_are_refused(tmp_path, damage, message, monkeypatch):
    folder = folder_with(tmp_path)
    damage(folder)
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ParameterError) as error:
        run(folder, resume=True)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "hostile-was-here").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_two_trainings_never_share_a_folder(tmp_path):
    tried = []

    def other(now):
        if not tried:
            with pytest.raises(ParameterError, match="is in use by another training; wait until that has ended, or "):
                run(tmp_path / "run", resume=True)
            tried.append(now.step)

    run(tmp_path / "run", 8, progress=other)
    assert tried == [1]
    run(tmp_path / "run", 12, resume=True)


def test_the_log_goes_on_without_a_row_twice(tmp_path):
    storage = TrainingFolder(tmp_path, resume=True)
    for step in range(1, 6):
        storage.log({"step": step, "loss": 1 / step, "validation": None})
    with open(tmp_path / "log.csv", "a") as file:
        file.write("6,0.1")
    storage.keep_log(5)
    assert [row["step"] for row in log(tmp_path)] == ["1", "2", "3", "4", "5"]
    storage.keep_log(3)
    storage.log({"step": 4, "loss": 0.5, "validation": 0.25})
    assert (tmp_path / "log.csv").read_text().splitlines() == [
        "step,loss,validation",
        "1,1.0,",
        "2,0.5,",
        "3,0.3333333333333333,",
        "4,0.5,0.25",
    ]
    with pytest.raises(ParameterError, match="log.csv has other columns than step,other; move it away"):
        storage.log({"step": 5, "other": 1})
    storage.keep_log(0)
    assert (tmp_path / "log.csv").read_text() == ""


def test_published_weights_fit_or_are_refused(tmp_path, unbroken):
    model = mlp()
    best, _ = read_checkpoint(unbroken, "best")
    assert not any(name.startswith(OPTIMISER) for name in best)
    save_file(best, tmp_path / "best.safetensors")
    load_weights(model, load_file(tmp_path / "best.safetensors"), "best")
    with pytest.raises(ParameterError, match="there: 0.weight is missing"):
        load_weights(model, {}, "there")


def shared_validation(world):
    """A validation that differs between the processes, by their number."""
    return lambda model: validation(model) + world.rank


def two_processes(place: str) -> None:
    """What each of two processes does; rank 0 leaves folders to look at."""
    torch.set_num_threads(1)
    here = Path(place)
    with processes() as world:
        assert world.size == 2
        known = {"world": world, "validate": shared_validation(world)}
        run(here / "one-step", 1, model=plain_mlp(), **known)
        run(here / "whole", model=plain_mlp(), accumulate=2, **known)
        interrupt = interrupt_at(5)  # which comes to rank 0 alone
        try:
            run(here / "broken", model=plain_mlp(), accumulate=2, progress=interrupt, **known)
            raise AssertionError("it went on")
        except KeyboardInterrupt as caught:
            assert "interrupted" in str(caught)
        # Only rank 0 knows where it was: the other has weights of its own to begin with.
        other = plain_mlp()
        if world.rank == 1:
            nn.init.ones_(other[0].weight)
        run(here / "broken", model=other, accumulate=2, resume=True, **known)
        mistakes = {"about": {"about": {}}, "plan": {"accumulate": 3}, "new": {"resume": False}}
        for name, mistake in mistakes.items():
            try:
                run(here / "broken", **{"accumulate": 2, "resume": True, "model": plain_mlp(), **known, **mistake})
                raise AssertionError("it went on")
            except ParameterError as caught:
                (here / f"refused-{name}-{world.rank}").write_text(str(caught))
        spoiled_here = spoiled(3, math.nan)  # of step 2 on rank 1
        try:
            run(here / "spoiled", model=plain_mlp(), batch=spoiled_here, **known)
            raise AssertionError("it went on")
        except MixtoolsError as caught:
            assert "step 2: the loss is nan" in str(caught)


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    done = python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("test_training.py", "two_processes", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr

    twice = Shuffled(items(), 8, seed=3)
    halved = {"batch": twice, "model": plain_mlp(), "validate": lambda model: validation(model) + 0.5}
    run(tmp_path / "one-step-here", 1, **halved)
    run(tmp_path / "whole-here", accumulate=2, **{**halved, "model": plain_mlp()})
    for name in ("one-step", "whole"):
        there, here = (read_checkpoint(tmp_path / f"{name}{end}", "last")[0] for end in ("", "-here"))
        assert there.keys() == here.keys()
        for tensor in there:  # of the first step, exp_avg is a tenth of the gradient
            assert torch.allclose(there[tensor].double(), here[tensor].double(), rtol=1e-11, atol=1e-14), tensor
        for a, b in zip(log(tmp_path / name), log(tmp_path / f"{name}-here"), strict=True):
            for column in a:
                assert float(a[column] or 0) == pytest.approx(float(b[column] or 0), rel=1e-11)
    assert_same_training(tmp_path / "broken", tmp_path / "whole")
    for rank in "01":
        said = {name: (tmp_path / f"refused-{name}-{rank}").read_text() for name in ("about", "plan", "new")}
        assert "about.model is mlp there and empty here" in said["about"]
        assert "training.accumulate is 2 there and 3 here" in said["plan"]
        assert "holds a training; give --resume" in said["new"]


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
