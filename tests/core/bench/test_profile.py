"""`accomp bench stream --profile`: a table whose shares are independent arithmetic."""

from __future__ import annotations

import torch

from accomp.core.bench.profile import LONGEST, KernelTime, kernel_times, lines

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_each_kernel_has_its_share_of_the_time_and_of_the_bandwidth():
    found = [KernelTime("project_kernel", 64, 3e-4, 300_000_000), KernelTime("other", 2, 1e-4)]
    head, project, other, whole = (line.split() for line in lines(found, 400_000_000, 4e12, GPU))
    assert head[:3] == ["kernel", "calls", "us"]
    assert project == ["project_kernel", "64", "300", "75%", "300", "25%"]
    assert other == ["other", "2", "100", "25%", "-", "-"]
    assert whole == ["all", "of", "them", "66", "400", "100%", "400", "25%"]


def test_short_ones_share_a_row_and_none_is_left_out():
    found = [KernelTime(f"kernel{i}", 1, 1e-5) for i in range(LONGEST + 3)]
    table = [line.split() for line in lines(found, 0, 1e12, GPU)]
    assert len(table) == 1 + LONGEST + 2
    assert table[-2][:4] == ["3", "others", "3", "30"]
    assert table[-1][3:5] == [str(LONGEST + 3), str(10 * (LONGEST + 3))]


def test_a_cpu_has_operators_without_bytes():
    x = torch.ones(64, 64)
    found = kernel_times(lambda: torch.mm(x, x), 2, CPU, {"aten::mm": 1})
    assert {one.calls for one in found if one.name == "aten::mm"} == {1.0}
    assert [one.seconds for one in found] == sorted((one.seconds for one in found), reverse=True)
    assert all(one.bytes is None for one in found)
    *_, whole, note = lines(found, 1000, 1e9, CPU)
    assert whole.split()[:3] == ["all", "of", "them"]
    assert note == "(bytes are not known for each operator of a CPU; the last row has those of the step)"
