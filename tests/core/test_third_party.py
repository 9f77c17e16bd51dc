"""Standard output while third-party code runs: its own goes to stderr, that of other threads where it always goes."""

from __future__ import annotations

import sys
import threading

from accomp.core.third_party import contained


def in_another_thread(work) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_other_threads_print_where_they_always_do(capsys):
    with contained("a package"):
        print("loud")
        in_another_thread(lambda: print("an answer"))
        sys.stdout.writelines(["one\n", "two\n"])
    print("after")
    said = capsys.readouterr()
    assert said.out == "an answer\nafter\n"
    assert said.err == "a package prints: loud\na package prints: one\na package prints: two\n"


def test_blocks_that_overlap_leave_standard_output_as_it_was(capsys):
    """The first to enter leaves first, so that putting back what each has found would put back the first's."""
    before, both, left = sys.stdout, threading.Barrier(2), threading.Event()

    def first() -> None:
        with contained("first"):
            both.wait()
            print("a")
        left.set()

    def second() -> None:
        with contained("second"):
            both.wait()
            left.wait()
            print("b")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stdout is before
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "first prints: a\nsecond prints: b\n")


def test_a_block_within_a_block_has_its_own_name(capsys):
    with contained("outer"):
        with contained("inner"):
            print("x")
        print("y")
    assert capsys.readouterr().err == "inner prints: x\nouter prints: y\n"
