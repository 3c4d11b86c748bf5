import os
import signal
import threading

import pytest

from petseg.training.signals import noticing_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noticed_and_the_second_one_acts_as_before(number):
    seen = []
    before = signal.signal(number, lambda n, _: seen.append(n))
    try:
        with noticing_signals() as request:
            assert request.signal is None
            os.kill(os.getpid(), number)
            assert (request.signal, seen) == (number, [])
            os.kill(os.getpid(), number)
            assert seen == [number]
    finally:
        signal.signal(number, before)


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noticing_signals(grace_s=300) as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.signal is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_off_the_main_thread_signals_are_left_alone():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with noticing_signals(grace_s=300) as request:
            found.append((request.signal, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(300)
    assert found == [(None, before)]
