"""The ear: the same in a clip as frame by frame, causal, equal for all who join; what is told needs no ear."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from small import latents, session_of, small_model, space_with
from torch import Tensor

from accomp.core.model.chunks import Chunks, chunk_starts
from accomp.core.model.conditions import Conditions, ContextCondition, TimelineCondition
from accomp.core.model.ear import Ear, with_heard
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import withhold
from accomp.core.music.timelines import KINDS, frame_times, metronome, steady
from accomp.core.streaming.quantize import Int8Linear, to_int8
from accomp.core.types import Batch
from accomp.plugins.objectives.ar import AR

NAMES = ("metronome", "chart")
RATE = 50.0


def ear(names: tuple[str, ...] = NAMES) -> Ear:
    torch.manual_seed(2)
    return Ear(6, RATE, names).double()


def heard_by_step(ear: Ear, x: Tensor, hearing: Tensor | None = None) -> dict[str, Tensor]:
    state = ear.begin(len(x))
    hearing = torch.ones(x.shape[:2], dtype=torch.bool) if hearing is None else hearing
    steps = [ear.step(frame, state, hearing[:, n]) for n, frame in enumerate(x.unbind(1))]
    return {name: torch.stack([step[name] for step in steps], dim=1) for name in steps[0]}


@torch.no_grad()
def test_a_clip_at_once_is_frame_by_frame():
    own, x = ear(), latents(120).double()
    whole, steps = own(x), heard_by_step(own, x)
    for name in NAMES:
        assert whole[name].shape == (2, 120, KINDS[name].width)
        assert torch.allclose(whole[name], steps[name], atol=1e-9)


@torch.no_grad()
def test_what_comes_later_changes_nothing_before():
    own, x = ear(), latents(80).double()
    other = torch.cat([x[:, :50], latents(30, seed=5).double()], dim=1)
    for name, values in own(x).items():
        changed = own(other)[name]
        assert torch.allclose(values[:, :50], changed[:, :50], atol=1e-9)
        assert not torch.allclose(values[:, 50:], changed[:, 50:], atol=1e-3)


@torch.no_grad()
def test_rows_that_do_not_hear_stay_as_they_are():
    own, x = ear(), latents(60).double()
    hearing = torch.ones(2, 60, dtype=torch.bool)
    hearing[0, 20:35] = False
    values = heard_by_step(own, x, hearing)
    alone = heard_by_step(own, x[:1, hearing[0]])
    for name in NAMES:
        assert not values[name][0, 20:35].any()
        assert torch.allclose(values[name][0, hearing[0]], alone[name][0], atol=1e-12)
        assert torch.allclose(values[name][1], own(x)[name][1], atol=1e-9)


@torch.no_grad()
def test_a_row_that_begins_anew_remembers_nothing():
    own, x = ear(), latents(40).double()
    state, everyone = own.begin(2), torch.ones(2, dtype=torch.bool)
    for frame in latents(30, seed=9).double().unbind(1):
        own.step(frame, state, everyone)
    state.reset(torch.tensor([True, False]))
    for frame in x.unbind(1):
        values = own.step(frame, state, everyone)
    assert torch.allclose(values["chart"][0], own(x)["chart"][0, -1], atol=1e-9)
    assert not torch.allclose(values["chart"][1], own(x)["chart"][1, -1], atol=1e-4)


@torch.no_grad()
def test_an_input_that_comes_later_gives_the_same_beat_later():
    """The phasors turn with the input: an estimate does not depend on when the music began."""
    listener = ear(("metronome",)).listeners["metronome"]
    bank = listener.bank()
    drive = torch.randn(1, 150, 2, len(bank.decay), dtype=torch.float64)
    early, late = (listener.read(bank.scan(v)) for v in (drive, F.pad(drive, (0, 0, 0, 0, 11, 0))))
    assert torch.allclose(late[:, 11:], early, atol=1e-9)


def test_the_ear_computes_in_full_precision_whatever_its_weights():
    for kind in (torch.float32, torch.bfloat16):
        own = ear().to(kind)
        state = own.begin(1)
        assert (
            own.step(latents(1, batch=1)[:, 0].to(kind), state, torch.ones(1, dtype=torch.bool))["chart"].dtype
            == torch.float32
        )
    assert not any(isinstance(part, Int8Linear) for part in to_int8(ear().float()).modules())


# what it learns from


def test_the_loss_counts_what_is_known():
    own, values = ear(), {name: torch.rand(2, 9, KINDS[name].width) * 0.8 + 0.1 for name in NAMES}
    truth = {name: torch.rand(2, 9, KINDS[name].width) for name in NAMES}
    for name in NAMES:
        truth[name][..., 0] = 0
    truth["metronome"][..., 10] = 0
    assert all(float(error) == 0 for error in own.loss(values, truth).values())
    truth["metronome"][1, 3, 0] = truth["metronome"][0, 5, 10] = truth["chart"][0, 2, 0] = 1
    given, told = values["metronome"], truth["metronome"]
    beat = ((given[1, 3, 1:10] - told[1, 3, 1:10]) ** 2).mean()
    bar = ((given[0, 5, 11:] - told[0, 5, 11:]) ** 2).mean()
    chance, there = values["chart"][0, 2, 1:], truth["chart"][0, 2, 1:]
    nats = -(there * chance.log() + (1 - there) * (1 - chance).log()).mean()
    found = own.loss(values, truth)
    assert float(found["metronome"]) == pytest.approx(float(beat + 0.5 * bar), rel=1e-5)
    assert float(found["chart"]) == pytest.approx(float(nats), rel=1e-5)


def clicks(beats_per_minute: float, offset: float, frames: int) -> tuple[Tensor, Tensor]:
    """Latents with an onset on every beat, and the metronome 0.2 s later than each frame."""
    beats = steady(beats_per_minute, offset=offset)
    phase = torch.from_numpy(metronome(beats, frame_times(0, frames, RATE)))
    level = torch.exp(-4 * (torch.atan2(phase[:, 1], phase[:, 2]) / (2 * math.pi) % 1))
    later = metronome(beats, frame_times(10, frames, RATE))
    return torch.stack([level, 0.5 * level, -level, 1 - level, level**2, torch.ones(frames)], dim=1), torch.from_numpy(
        later
    )


def test_it_learns_to_hear_a_beat_and_where_the_next_one_will_be():
    torch.manual_seed(0)
    own = Ear(6, RATE, ["metronome"])
    optimizer = torch.optim.Adam(own.parameters(), 3e-3)
    for _ in range(120):
        tempo, offset = 70 + 90 * torch.rand(8), torch.rand(8)
        pairs = [clicks(float(t), float(o), 250) for t, o in zip(tempo, offset, strict=True)]
        x, truth = (torch.stack(part) for part in zip(*pairs, strict=True))
        loss = own.loss(own(x), {"metronome": truth})["metronome"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for tempo in (83.0, 128.0):
        x, truth = clicks(tempo, 0.3, 300)
        with torch.no_grad():
            found = own(x[None])["metronome"][0, 200:]
        error = torch.atan2(found[:, 1], found[:, 2]) - torch.atan2(truth[200:, 1], truth[200:, 2])
        seconds = ((error + math.pi) % (2 * math.pi) - math.pi) / (2 * math.pi) * 60 / tempo
        assert float(seconds.abs().median()) < 0.05


# in a model


def batch_of(model, frames: int = 12, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(10, (2, 3, frames), generator=rng)
    timelines = {name: torch.rand(2, frames, KINDS[name].width, generator=rng) + 0.1 for name in model.timelines}
    return Batch(
        latents(frames), y, torch.ones(2, frames, dtype=torch.bool), {"instrument": torch.tensor([1, 2])}, timelines
    )


def objective() -> AR:
    return AR(AR.Config(), space_with())


def with_conditions(model, **changes: float):
    """The model with this dropout of its metronome."""
    drop = changes.pop("context", 0.0)
    timelines = {"metronome": TimelineCondition(**changes)}
    model.conditions = Conditions(ContextCondition(drop), model.conditions.labels, timelines)
    return model.train()


def deafened(model):
    """The same with an ear that hears other things."""
    with torch.no_grad():
        for weight in model.ear.parameters():
            weight.add_(0.5)
    return model


@pytest.mark.parametrize(("drop", "heard", "matters"), [(0.0, 1.0, False), (1.0, 0.0, False), (1.0, 1.0, True)])
def test_an_ear_matters_where_nothing_is_told_and_it_may_hear(drop, heard, matters):
    logits = []
    for change in (lambda model: model, deafened):
        model = change(small_model(-2, timelines=("metronome",), heard=1.0))
        conditions = with_conditions(model, drop=drop, heard=heard).conditions
        batch = withhold(batch_of(model), conditions, torch.Generator().manual_seed(1))
        allowed = batch.by_ear.get("metronome", torch.zeros(2, dtype=torch.bool))
        supplied = {"metronome": allowed[:, None, None] * model.hear(batch.x)["metronome"]}
        tokens = model.layout.inputs_of(batch.y)
        logits.append(model.logits(model.clip_hidden(batch.x, tokens, batch.labels, batch.timelines, supplied)))
    there = slice(None, 12)  # rows of the clip's frames
    assert torch.equal(logits[0][:, :, there], logits[1][:, :, there]) != matters


def test_the_models_loss_does_not_train_the_ear_nor_the_ears_the_model():
    model = with_conditions(small_model(-2, timelines=("metronome",), heard=1.0), drop=1.0, heard=1.0)
    batch = withhold(batch_of(model), model.conditions, torch.Generator().manual_seed(1))
    heard = model.hear(batch.x)
    supplied = model.supplied(heard, batch.by_ear)
    assert supplied["metronome"].any()
    plain = objective().loss_of(model, batch, model.layout, None, supplied)
    plain.total.backward()
    assert all(weight.grad is None for weight in model.ear.parameters())
    model.zero_grad()
    both = model.with_ear(plain, heard, batch.truth)
    model.ear.loss(heard, {"metronome": model.layout.timeline_rows(batch.truth["metronome"])})["metronome"].backward()
    assert all(weight.grad is None for name, weight in model.named_parameters() if not name.startswith("ear."))
    assert any(weight.grad is not None and weight.grad.any() for weight in model.ear.parameters())
    assert both.total.item() == pytest.approx(plain.total.item() + float(both.parts["ear_metronome"]), rel=1e-6)


def test_a_held_out_loss_is_in_nats_a_token_with_the_ears_error_beside():
    model = small_model(-2, timelines=("metronome",), heard=1.0)
    with_it = objective().loss(model, batch_of(model), model.clock, torch.Generator().manual_seed(1))
    assert "ear_metronome" in with_it.parts
    assert float(with_it.total) == pytest.approx(
        sum(float(with_it.parts[f"level_{q}"]) * float(with_it.counts[q]) for q in range(3))
        / float(with_it.counts.sum()),
        rel=1e-5,
    )


def test_nothing_is_heard_where_the_context_is_withheld():
    model = with_conditions(small_model(-2, timelines=("metronome",), heard=1.0), drop=1.0, heard=1.0, context=1.0)
    batch = withhold(batch_of(model), model.conditions, torch.Generator().manual_seed(1))
    assert not batch.by_ear["metronome"].any()
    assert batch.truth["metronome"].any()
    assert not batch.timelines["metronome"].any()


def test_a_share_of_the_withheld_clips_is_heard():
    conditions = Conditions(timelines={"metronome": TimelineCondition(drop=1.0, heard=0.25)})
    batch = Batch(
        torch.ones(4000, 2, 6),
        torch.zeros(4000, 3, 2).long(),
        torch.ones(4000, 2).bool(),
        {},
        {"metronome": torch.ones(4000, 2, 16)},
    )
    share = withhold(batch, conditions, torch.Generator().manual_seed(0)).by_ear["metronome"].float().mean()
    assert float(share) == pytest.approx(0.25, abs=0.03)


# in sessions


def rows_set(session) -> list[dict[str, Tensor]]:
    """The timelines of every row or group of rows of a session from now on, given or heard."""
    rows: list[dict[str, Tensor]] = []
    embedding = session.model.timeline_embedding

    def noted(values: dict[str, Tensor]) -> Tensor:
        rows.append({name: value.clone() for name, value in values.items()})
        return embedding(values)

    session.model.timeline_embedding = noted
    return rows


@pytest.mark.parametrize("t_f", [-3, 0, 2])
@torch.no_grad()
def test_a_session_hears_what_the_model_hears_of_the_clip(t_f):
    model = small_model(t_f, timelines=NAMES, heard=1.0)
    x, session = latents(30), session_of(model)
    rows = rows_set(session)
    session.push(x)
    session.pull()
    clip = model.hear(x)
    for name in NAMES:
        played = torch.cat([row[name] for row in rows], dim=1)
        rows_of_clip = clip[name].shape[1]
        assert played.shape[1] >= rows_of_clip
        assert torch.allclose(played[:, :rows_of_clip], clip[name], atol=2e-4)
        assert clip[name][:, -20:, 0].all()


@pytest.mark.parametrize(("t_f", "k"), [(-4, 2), (0, 3), (2, 2), (-5, 3)])
@torch.no_grad()
def test_the_steps_of_a_chunk_have_what_its_first_heard_further_on_as_in_training(t_f, k):
    model = small_model(t_f, k, timelines=NAMES, heard=1.0)
    x, session = latents(30), session_of(model)
    rows = rows_set(session)
    session.push(x)
    session.pull()
    starts = chunk_starts(model.layout, 30)
    chunks = Chunks(model.layout, 30, torch.tensor([list(starts)] * 2))
    trained = model.ear.ahead({name: chunks.of_newest(v) for name, v in model.hear(x).items()}, chunks.ahead)
    before = model.layout.start // k  # groups without output
    for name in NAMES:
        predicting = chunks.predicting_rows(trained[name]).unflatten(1, (-1, k))
        for number in range(predicting.shape[1]):
            first, *later = rows[before + k * number : before + k * (number + 1)]
            assert [part[name].shape[1] for part in (first, *later)] == [k, *[1] * (k - 1)]
            played = torch.cat([first[name][:, -1:], *(part[name] for part in later)], dim=1)
            assert torch.allclose(played, predicting[:, number], atol=1e-3)
    assert len(starts) > 3


def test_a_beat_runs_on_at_the_tempo_that_was_heard():
    beats = steady(96.0, 3, offset=0.1)
    own, frames = ear().listeners["metronome"], torch.tensor([[0, 1, 7, 60]])
    now, later = (torch.from_numpy(metronome(beats, frame_times(n, 1, RATE))) for n in (40, 0))
    expected = torch.cat([torch.from_numpy(metronome(beats, frame_times(40 + int(n), 1, RATE))) for n in frames[0]])
    assert torch.allclose(own.ahead(now[None].expand(1, 4, -1), frames)[0], expected, atol=1e-4)
    assert not torch.allclose(now, later, atol=0.1)


@pytest.mark.parametrize("k", [1, 2])
@torch.no_grad()
def test_tokens_do_not_depend_on_pushes_or_neighbours(k):
    model = small_model(-4, k, timelines=NAMES, heard=1.0)
    x = latents(40)
    whole = session_of(model)
    whole.push(x)
    expected = whole.pull()
    split, pieces = session_of(model), []
    for part in x.split([1, 2, 7, 1, 11, 18], dim=1):
        split.push(part)
        pieces.append(split.pull())
    assert torch.equal(torch.cat(pieces, dim=2), expected)
    alone = session_of(model, [1])
    alone.push(x[1:])
    assert torch.equal(alone.pull()[0], expected[1])


@pytest.mark.parametrize("k", [1, 2])
@torch.no_grad()
def test_a_session_that_begins_anew_has_forgotten_and_its_neighbour_has_not(k):
    model = small_model(-4, k, timelines=NAMES, heard=1.0)
    x, later = latents(20), latents(25, seed=4)
    straight = session_of(model)
    straight.push(torch.cat([x, later], dim=1))
    expected = straight.pull()
    sessions = session_of(model)
    sessions.push(x)
    before = sessions.pull()
    early = sessions.reset(torch.tensor([True, False]))
    sessions.push(later)
    after = sessions.pull()
    assert torch.equal(torch.cat([before[1], after[1]], dim=1), expected[1])
    fresh = session_of(model)
    fresh.push(later)
    played = fresh.pull()
    assert torch.equal(torch.cat([early[0], after[0]], dim=1)[:, : played.shape[2]], played[0])


@torch.no_grad()
def test_what_is_told_takes_the_place_of_what_is_heard_and_back():
    model = small_model(-3, timelines=("metronome",), heard=1.0)
    x = latents(60, batch=1)
    session, played = session_of(model, [0]), []
    rows = rows_set(session)
    for number, frame in enumerate(x.split(1, dim=1)):
        if number == 20:
            session.set_timeline(0, "metronome", lambda first, n: metronome(steady(120), frame_times(first, n, RATE)))
        if number == 40:
            session.set_timeline(0, "metronome", None)
        session.push(frame)
        session.pull()
        played.append(rows[-1]["metronome"][0, -1])
    heard, row = model.ear(x)["metronome"][0], torch.stack(played)
    assert torch.allclose(row[:20], heard[:20], atol=2e-4)
    assert torch.allclose(row[40:], heard[40:], atol=2e-4)
    assert not torch.isclose(row[20:40, 1], heard[20:40, 1], atol=1e-3).all()
    assert torch.equal(row[20:40, 0], torch.ones(20))


@pytest.mark.parametrize(
    ("scales", "hearing"),
    [
        ({"metronome+context": 2.0}, [True, False]),
        ({"context": 2.0}, [True, False]),
        ({"metronome": 2.0}, [True, False]),
        ({"instrument": 2.0}, [True, True]),
        ({"context": 2.0, "metronome": 1.5}, [False, False, False]),
    ],
)
@torch.no_grad()
def test_a_variant_without_context_or_timeline_hears_nothing(scales, hearing):
    model = small_model(-3, timelines=("metronome",), heard=1.0)
    session = session_of(model, [0], guidance=Guidance(scales))
    noted = rows_set(session)
    session.push(latents(9, batch=1))
    session.pull()
    rows = noted[-1]["metronome"]
    assert rows.any(dim=2).any(dim=1).tolist() == hearing


def test_what_is_told_stays_and_the_rest_is_heard():
    told, heard = torch.zeros(1, 3, 2), torch.full((1, 3, 2), 7.0)
    told[0, 1] = torch.tensor([1.0, 0.0])
    assert with_heard({"metronome": told}, {"metronome": heard})["metronome"][0].tolist() == [
        [7, 7],
        [1, 0],
        [7, 7],
    ]
    assert with_heard({"metronome": told}, {})["metronome"] is told
