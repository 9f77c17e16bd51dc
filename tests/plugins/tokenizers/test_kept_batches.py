"""Batches kept in memory: which are drawn, how often each is made, and that a resumed training draws the same."""

from collections import Counter

import torch

from accomp.plugins.tokenizers.codec.training.magnitude.kept_batches import KeptBatches


def test_each_is_made_once_and_drawn_again_times_on_average():
    made, drawn = [], Counter()
    kept = KeptBatches(lambda number: made.append(number) or number, keep=8, again=5)
    rng = torch.Generator().manual_seed(0)
    for step in range(2000):
        number = kept.draw(step, rng)
        assert step // 5 <= number < step // 5 + 8
        drawn[number] += 1
    assert len(made) == len(set(made))
    middle = [drawn[number] for number in range(8, 390)]
    assert 4.5 < sum(middle) / len(middle) < 5.5


def test_with_one_kept_and_none_learned_from_again_each_step_has_its_own():
    kept = KeptBatches(lambda number: number, keep=1, again=1)
    assert [kept.draw(step, torch.Generator()) for step in range(5)] == [0, 1, 2, 3, 4]


def test_one_begun_in_the_middle_draws_what_the_other_draws():
    rng = torch.Generator().manual_seed(3)
    one = KeptBatches(lambda number: number, keep=4, again=2)
    before = [one.draw(step, rng) for step in range(10)]
    state = rng.get_state()
    after = [one.draw(step, rng) for step in range(10, 30)]
    resumed = torch.Generator()
    resumed.set_state(state)
    other = KeptBatches(lambda number: number, keep=4, again=2)
    assert [other.draw(step, resumed) for step in range(10, 30)] == after
    assert before != after
