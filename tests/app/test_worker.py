"""gunicorn's worker as it is changed here; see tests/app/test_server_stop.py for the whole."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from app.worker import LingeringWorker


def test_a_worker_that_quits_waits_for_no_lock_that_it_may_hold_itself():
    # A signal comes at any moment, also while the main thread hands a request to the pool.
    worker = LingeringWorker.__new__(LingeringWorker)
    worker.tpool = ThreadPoolExecutor(1)
    worker.cfg = SimpleNamespace(worker_int=lambda worker: None)
    has_quit = threading.Event()

    def leave():
        with pytest.raises(SystemExit):
            worker.handle_quit(signal.SIGQUIT, None)
        has_quit.set()

    with worker.tpool._shutdown_lock:
        threading.Thread(target=leave, daemon=True).start()
        assert has_quit.wait(3)
