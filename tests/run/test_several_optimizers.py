"""Scripts with several optimizers: their training steps end, whatever the order is in which the optimizers step."""

from pathlib import Path

from tests.run.scripts import require_exact, run

WGAN = """
import torch
from torch import nn
generator, critic = nn.Linear(2, 4), nn.Linear(4, 1)
of_generator = torch.optim.SGD(generator.parameters(), 0.1)
of_critic = torch.optim.SGD(critic.parameters(), 0.1)
for turns in [7] * 2 + [3] * 12:
    for optimizer in [of_generator] + [of_critic] * turns:
        optimizer.zero_grad()
        critic(generator(torch.randn(8, 2))).square().mean().backward()
        optimizer.step()
"""
REPTILE = """
import copy, torch
from torch import nn
model = nn.Linear(2, 1)
outer = torch.optim.SGD(model.parameters(), 0.1)
for task in range(4):
    fast = copy.deepcopy(model)
    inner = torch.optim.SGD(fast.parameters(), 0.1)
    for _ in range(3):
        inner.zero_grad()
        fast(torch.randn(8, 2)).square().mean().backward()
        inner.step()
    for slow, quick in zip(model.parameters(), fast.parameters()):
        slow.grad = slow.detach() - quick.detach()
    outer.step()
"""
KEPT = """
import torch
kept = []
for fold in range(4):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    kept.append((model, optimizer))
    for _ in range(3):
        model(torch.ones(2)).sum().backward()
        optimizer.step()
"""
DRAWN = """
import random, torch
random.seed(0)
models = [torch.nn.Linear(2, 1) for _ in range(6)]
clients = [(model, torch.optim.SGD(model.parameters(), 0.1)) for model in models]
for _ in range(60):
    for model, optimizer in random.sample(clients, 2):
        for _ in range(2):
            model(torch.ones(2)).sum().backward()
            optimizer.step()
"""
EXPERTS_IN_HOOKS = """
import random, torch
from torch import nn
random.seed(0)
stem, experts, head = nn.Linear(4, 4), [nn.Linear(4, 4) for _ in range(6)], nn.Linear(4, 1)
parameters = [parameter for module in [stem, *experts, head] for parameter in module.parameters()]
optimizers = {parameter: torch.optim.SGD([parameter], 0.1) for parameter in parameters}
def step(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()
for parameter in parameters:
    parameter.register_post_accumulate_grad_hook(step)
for _ in range(30):
    hidden = stem(torch.randn(8, 4))
    for number in sorted(random.sample(range(6), 2)):
        hidden = experts[number](hidden)
    head(hidden).sum().backward()
"""
IDLE = """
import torch
model, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
optimizer, idle = torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(other.parameters())
for _ in range(5):
    model(torch.ones(2)).sum().backward()
    optimizer.step()
"""
ON_A_THREAD = """
import threading, torch
def train():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):
        model(torch.ones(2)).sum().backward()
        optimizer.step()
thread = threading.Thread(target=train)
thread.start()
thread.join()
"""
SERVED_ON_A_THREAD = """
import threading, torch
def serve():
    with torch.inference_mode():
        torch.nn.Linear(2, 1)(torch.ones(2))
thread = threading.Thread(target=serve)
thread.start()
thread.join()
"""
TRAINED_BY_HAND_BESIDE_A_THREAD = f"""{SERVED_ON_A_THREAD}
torch.nn.Linear(2, 1)(torch.ones(2)).sum().backward()
"""
IRREGULAR = "the optimizers take turns irregularly: from training step "


def test_a_cycle_that_became_shorter_is_learnt_anew(tmp_path: Path) -> None:
    # step 0 is the round that was learnt and the one after; of the twelve short ones, the second to sixth cut that
    # cycle short, once more than it may be; the sixth is what is learnt then, and six more end steps
    document = run(tmp_path, WGAN, "--all").document
    assert [step["index"] for step in document["steps"]] == list(range(7))
    assert document["notes"] == []
    require_exact(document, "training")


def test_an_outer_optimizer_takes_turns_with_fresh_ones(tmp_path: Path) -> None:
    document = run(tmp_path, REPTILE, "--all").document
    # the first inner optimizer waits for the outer one; the three steps of each later one are steps
    assert [step["index"] for step in document["steps"]] == list(range(9))
    require_exact(document, "training")


def test_folds_that_are_kept_lose_no_step(tmp_path: Path) -> None:
    document = run(tmp_path, KEPT, "--all").document
    assert [step["index"] for step in document["steps"]] == list(range(12))
    require_exact(document, "training")


def test_optimizers_without_order_are_told_of_and_end_a_step_each(tmp_path: Path) -> None:
    document = run(tmp_path, DRAWN, "--no-rearm").document
    assert [step["index"] for step in document["steps"]] == [1, 2, 3]
    assert document["complete"]
    (note,) = document["notes"]
    assert note.startswith(IRREGULAR)
    assert note.endswith(" on, each step of any of them was taken to end a training step")


def test_optimizers_without_order_that_step_in_one_backward_pass_end_one_step(tmp_path: Path) -> None:
    # eight step in each pass: were every one of them a step, steps 1 to 3 would begin and end within the first pass
    document = run(tmp_path, EXPERTS_IN_HOOKS, "--no-rearm").document
    assert [step["index"] for step in document["steps"]] == [1, 2, 3]
    assert any(note.startswith(IRREGULAR) for note in document["notes"])
    require_exact(document, "training")


def test_who_was_waited_for_is_said(tmp_path: Path) -> None:
    assert run(tmp_path, IDLE).stderr == (
        "vramscope: nothing was recorded: no training step ended: 5 optimizer steps (SGD) came, and Adam, which had "
        "not stepped, was waited for to take turns: train for more than 8 optimizer steps, or create Adam once it is "
        "to step\n"
    )


def test_training_on_another_thread_is_said(tmp_path: Path) -> None:
    assert run(tmp_path, ON_A_THREAD).stderr == (
        "vramscope: nothing was recorded: no step ended on the thread that imported torch, the only one that is "
        "recorded, and 5 optimizer steps on others: train on the thread that imports torch\n"
    )


def test_models_that_run_on_another_thread_alone_are_told_of(tmp_path: Path) -> None:
    assert run(tmp_path, SERVED_ON_A_THREAD).stderr == (
        "vramscope: nothing was recorded: no step ended on the thread that imported torch, the only one that is "
        "recorded, and modules ran on others: run them on the thread that imports torch\n"
    )


def test_where_models_run_here_as_well_it_is_said_what_ends_a_step(tmp_path: Path) -> None:
    assert "no step ended; what ends one is " in run(tmp_path, TRAINED_BY_HAND_BESIDE_A_THREAD).stderr
