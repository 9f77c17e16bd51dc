"""Agreement with the public code of the streaming paper: its tiny models, imported, give the numbers it gave.

Every array of every fixture is compared with accomp and, where that proves it, with `reference_arithmetic`, on which
the tests for other models rely.
"""

from __future__ import annotations

import attrs
import pytest
import reference_arithmetic as reference
import torch
import torch.nn.functional as F
from reference_fixtures import fixture, fixture_path
from reference_runs import imported
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.model.conditions import Conditions
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.model.sequence import DelayPattern
from accomp.core.model.tokens import MASK, PADDING
from accomp.core.model.vocabulary import Vocabulary
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import hidden
from accomp.core.offline.prepended import Prepended
from accomp.core.streaming.session import TokenSession
from accomp.core.types import Batch
from accomp.plugins.objectives.ar import AR
from accomp.plugins.objectives.mlm import MLM
from accomp.plugins.samplers.greedy import Greedy

STREAMING = {"dec_online_tf-2": -2, "dec_online_tf+0": 0}
CHUNKED, OFFLINE, STEMGEN = "prefix_dec_online_k4_tf+0", "prefix_decoder_offline", "stemgen_mlm"
FRAMES, LEVELS, FIRST_CODE, SCALE = 16, 4, 19, 10.0
MASKING = {"sampler": {"plugin": "vampnet"}}


def arrays(name: str) -> dict[str, Tensor]:
    return {key: torch.as_tensor(value) for key, value in fixture(f"{name}.npz").items()}


def weights(name: str) -> dict[str, Tensor]:
    state = torch.load(fixture_path(f"{name}.ckpt"), weights_only=True)["state_dict"]
    return {key.removeprefix("model."): value for key, value in state.items()}


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """Fixture name -> its model, imported once."""
    made: dict[str, Model] = {}

    def model_of(name: str) -> Model:
        if name not in made:
            folder = tmp_path_factory.mktemp("run")
            made[name] = imported(fixture_path(f"{name}.ckpt"), folder, **(MASKING if name == STEMGEN else {}))
        return made[name]

    return model_of


def labels_of(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"instrument": data["inst_id"] if "inst_id" in data else data["inst_tokens"] - 1}


def y_of(data: dict[str, Tensor]) -> Tensor:
    return data["target_tokens"] - 2 if "target_tokens" in data else data["codes_lm"] - FIRST_CODE


def batch_of(data: dict[str, Tensor]) -> Batch:
    return Batch(data["input_emb"], y_of(data), torch.ones(2, FRAMES, dtype=torch.bool), labels_of(data))


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-4) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=atol)


def aligned(logits: Tensor) -> Tensor:
    """Logits of steps [B, K, T + 1, V] -> of frames [B, K, T, V]; 0 at the end of a level, which has no step."""
    frames = torch.zeros_like(logits[:, :, 1:])
    for q in range(LEVELS):
        frames[:, q, : FRAMES - q] = logits[:, q, q:FRAMES]
    return frames


def supervised() -> Tensor:
    """[K, T]: the frames that the reference has a step for: the last q of level q are cut."""
    return torch.arange(FRAMES) < FRAMES - torch.arange(LEVELS)[:, None]


def before_the_last(target: Tensor) -> Tensor:
    """Targets [B, K, S] without those of the steps behind the last frame, from which the reference learns nothing."""
    return target.index_fill(2, torch.arange(FRAMES, target.shape[2]), PADDING)


# --- the arithmetic that other tests rely on ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "t_f"), STREAMING.items())
def test_the_arithmetic_is_the_reference_s_streaming(name, t_f):
    data, w = arrays(name), weights(name)
    x, held = reference.rows(w, data["input_emb"], data["codes_lm"], data["inst_tokens"], t_f)
    assert torch.equal(held, data["patterned"])
    assert close(reference.fused(w, x, reference.embedded(w, held)), data["fused_embedding"], 1e-5)
    logits = reference.streaming(w, data["input_emb"], data["codes_lm"], data["inst_tokens"], t_f, SCALE)
    assert close(logits, data["raw_logits"])


@pytest.mark.parametrize("context", [0, 4, 8, 12])
def test_the_arithmetic_is_the_reference_s_in_chunks(context):
    data = arrays(CHUNKED)
    given = data["input_emb"], data["codes_lm"], data["inst_tokens"]
    h, logits = reference.chunk(weights(CHUNKED), *given, 0, SCALE, 4, context)
    assert close(h, data[f"ctx{context}_model_input"], 1e-5)
    assert close(logits, data[f"ctx{context}_logits"])


def test_the_arithmetic_is_the_reference_s_offline():
    data = arrays(OFFLINE)
    logits = reference.offline_prefix(weights(OFFLINE), data["input_emb"], data["codes_lm"], data["inst_tokens"], SCALE)
    assert close(aligned(logits)[:, supervised()], data["logits"][:, supervised()])


def test_the_arithmetic_is_the_reference_s_stemgen():
    data, w = arrays(STEMGEN), weights(STEMGEN)
    h, logits = reference.stemgen(w, data["input_emb"], data["target_masked"], data["inst_id"], SCALE)
    assert close(h, data["fused_embedding"], 1e-5)
    assert close(logits, data["logits"])


# --- embeddings, logits, losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMING)
def test_streaming_models_agree(name, model_of):
    data, model = arrays(name), model_of(name)
    assert model.clock == Clock(STREAMING[name], 1)
    held = model.layout.inputs_of(y_of(data))
    x, start = model.layout.inputs(data["input_emb"], model.input_padding), model.start(labels_of(data))
    assert close(model.fuser.fuse(x, model.embed(held, start)), data["fused_embedding"], 1e-5)
    logits = model(data["input_emb"], held, labels_of(data))
    assert close(logits, data["raw_logits"])
    assert torch.equal(data["logits_mask"][0], supervised())
    assert close(aligned(logits)[:, supervised()], data["logits"][:, supervised()])
    target = model.layout.targets_of(y_of(data))
    assert torch.equal(
        aligned(target[..., None])[..., 0][:, supervised()], (data["targets"] - FIRST_CODE)[:, supervised()]
    )
    assert close(model.cross_entropy(logits, before_the_last(target)).total, data["loss"], 1e-5)
    whole = AR(AR.Config(), model.space).loss(model, batch_of(data), model.clock, torch.Generator())
    assert close(whole.total, model.cross_entropy(logits, target).total, 1e-6)


@pytest.mark.parametrize("context", [0, 4, 8, 12])
def test_chunked_models_agree(context, model_of):
    data, model = arrays(CHUNKED), model_of(CHUNKED)
    assert model.clock == Clock(0, 4)
    held = model.layout.inputs_of(y_of(data))
    x, e = model.layout.inputs(data["input_emb"], model.input_padding), model.embed(held, model.start(labels_of(data)))
    fused = model.fuser.fuse(x[:, : context + 1], e[:, : context + 1])
    rows = torch.cat([fused, model.fuser.fuse(None, e[:, context + 1 : context + 5])], dim=1)
    assert close(rows, data[f"ctx{context}_model_input"], 1e-5)
    logits = model.logits(model.backbone(rows))[:, :, context : context + 4]
    assert close(logits, data[f"ctx{context}_logits"])
    target = model.layout.targets_of(y_of(data))[:, :, context : context + 4]
    assert torch.equal(target >= 0, data[f"ctx{context}_logits_mask"])
    assert close(model.cross_entropy(logits, target).total, data[f"ctx{context}_loss"], 1e-5)


def test_offline_prefix_models_agree(model_of):
    """The reference has no step for the last q frames of level q, so it neither learns them nor plays them."""
    data, model = arrays(OFFLINE), model_of(OFFLINE)
    assert model.clock is None
    layout = Prepended(LEVELS)
    x = model.fuser.fuse(data["input_emb"], None)
    e = model.fuser.fuse(None, model.embed(layout.tokens_in(y_of(data)), model.start(labels_of(data))))
    logits = model.logits(model.backbone(torch.cat([x, e], dim=1)))[:, :, FRAMES:]
    assert close(aligned(logits[:, :, : FRAMES + 1])[:, supervised()], data["logits"][:, supervised()])
    target = layout.targets_of(y_of(data))
    assert (target >= 0).sum() == 2 * LEVELS * FRAMES, "here every frame of every level has a step"
    assert close(model.cross_entropy(logits, before_the_last(target)).total, data["loss"], 1e-5)


def test_stemgen_models_agree(model_of):
    data, model = arrays(STEMGEN), model_of(STEMGEN)
    assert model.clock is None
    labels, masked = labels_of(data), data["sample_mask"]
    assert torch.equal(masked, data["target_masked"] == 1)
    held = y_of(data).masked_fill(masked, MASK)
    e, c = model.embed(held), model.label_embedding(labels)
    assert close(model.fuser.fuse(data["input_emb"], e, c), data["fused_embedding"], 1e-5)

    def logits(x: Tensor, held: Tensor, labels: dict[str, Tensor]) -> Tensor:
        h = hidden(model, x, held, labels)
        return torch.stack([model.level_logits(h, q) for q in range(LEVELS)], dim=1)

    assert close(logits(data["input_emb"], held, labels), data["logits"])
    assert close(logits(torch.zeros_like(data["input_emb"]), held, labels), data["logits_uncond"])
    guidance = Guidance({"context": 2.0})
    x, spread = guidance.spread(data["input_emb"], labels)
    assert close(guidance.combine(logits(x, guidance.repeat(held), spread)), data["logits_cfg2"])
    assert close(MLM(MLM.Config(), model.space).loss_of(model, batch_of(data), masked).total, data["loss"], 1e-5)


def test_every_level_has_a_mask_of_its_own(model_of):
    """The reference's mask of level q is a row of the table that also is the last code of level q - 1."""
    model, w = model_of(STEMGEN), weights(STEMGEN)
    table = model.table.weight.unflatten(0, (LEVELS, -1))
    for q in range(1, LEVELS):
        assert torch.equal(w["input_emb.target_token_emb.weight"][1 + 32 * q], table[q, 0])
        assert torch.equal(table[q, 0], table[q - 1, -1])
    gradient = torch.autograd.grad(model.embed(torch.full((1, LEVELS, 1), MASK)).sum(), model.table.weight)[0]
    touched = gradient.unflatten(0, (LEVELS, -1)).any(-1)
    assert touched[:, 0].all()
    assert not touched[:, 1:].any(), "training a mask moves no code"


# --- playing -----------------------------------------------------------------------------------------------------


class EveryId(Vocabulary):
    """Any id may be played, as in the reference: PAD and instruments too."""

    first_code = 0  # type: ignore[assignment]


def opened(model: Model, instruments: Tensor) -> Model:
    """The same weights, playing any id. It has no labels: its start is the instruments' ids [B]."""

    class Open(Model):
        def start(self, labels):
            return self._look_up(instruments[:, None, None].expand(-1, LEVELS, 1))[:, :, 0]

    size = model.vocabulary.size
    space = attrs.evolve(model.space, codebook_size=size - 1)  # and PAD
    model_ = Open(model.fuser, model.backbone, space, model.clock, Conditions(), model.heads.in_features)
    model_.load_state_dict(model.state_dict())
    model_.vocabulary = EveryId(LEVELS, size)
    return model_.eval()


def played(model: Model, data: dict[str, Tensor], labels: dict[str, Tensor], window: int = 64) -> Tensor:
    """The likeliest codes [B, K, T]; -1 where a session has not come to the end of a level."""
    sampler, who = Greedy(Greedy.Config(), model.space), torch.arange(2)
    if model.clock is None:
        return compose(model, sampler, data["input_emb"], sessions=who, labels=labels, window=window)
    session = TokenSession(model, sampler, sessions=who, labels=labels, window=window)
    session.push(data["input_emb"])
    return F.pad(session.pull(), (0, FRAMES), value=-1)[:, :, :FRAMES]


@pytest.mark.parametrize("name", [*STREAMING, CHUNKED, OFFLINE])
def test_greedy_playing_agrees(name, model_of):
    data = arrays(name)
    ids = played(opened(model_of(name), data["inst_tokens"]), data, {})
    there = supervised().expand(2, -1, -1) & (ids >= 0)
    assert there.sum() > 2 * LEVELS * (FRAMES - 4)
    assert torch.equal(ids[there], data["greedy_cache"][there])
    assert (data["greedy_cache"][there] < FIRST_CODE).any(), "the reference plays ids that are no codes"


@pytest.mark.parametrize("name", [*STREAMING, CHUNKED, OFFLINE])
def test_only_codes_are_played(name, model_of):
    """The reference deletes the special ids it has played, so that what follows comes too early; here none is."""
    data = arrays(name)
    codes = played(model_of(name), data, labels_of(data))
    complete = codes[codes >= 0]
    assert len(complete) >= 2 * LEVELS * (FRAMES - LEVELS + 1)
    assert complete.max() < 32


def test_chunks_are_played_as_the_reference_does_with_its_cache(model_of):
    """Without it the reference plays some steps of a chunk twice; its two ways contradict each other."""
    data = arrays(CHUNKED)
    assert not torch.equal(data["greedy_cache"], data["greedy_nocache"])
    ids = played(opened(model_of(CHUNKED), data["inst_tokens"]), data, {})
    given = data["input_emb"], ids, data["inst_tokens"]
    for step in range(0, FRAMES, 4):
        _, logits = reference.chunk(weights(CHUNKED), *given, 0, SCALE, 4, step)
        for s in range(step, step + 4):
            for q in range(min(LEVELS, s + 1)):
                if (ids[:, q, s - q] >= 0).all():
                    assert torch.equal(logits[:, q, s - step].argmax(-1), ids[:, q, s - q])


# --- the delay pattern -------------------------------------------------------------------------------------------


def test_the_delay_pattern_there_and_back():
    data = arrays("delay_pattern")
    y, layout = data["codes"], DelayPattern(Clock(), LEVELS)
    frames = y.shape[2]
    for steps, name in ((frames + 1, "valid"), (frames + LEVELS, "full")):
        put_out = layout.emitted(y, torch.arange(-1, steps - 1))
        assert torch.equal(torch.where(put_out < 0, 999, put_out), data[f"seq_{name}"])
        assert torch.equal(put_out[0] >= 0, data[f"mask_{name}"])
    assert torch.equal(layout.undelay(put_out[:, :, 1:]), data["revert_of_full"])
    complete = frames - LEVELS + 1
    ours = layout.undelay(data["seq_valid"][:, :, 1:])
    assert torch.equal(ours, data["revert_of_valid"][:, :, :complete]), "a frame comes when all its levels have come"
    logits = data["logits_in"].flatten(0, 1)  # of the row that holds step s - 1, for step s
    assert torch.equal(layout.undelay(logits[:, :, :-1]), data["logits_reverted"].flatten(0, 1)[:, :, :complete])
