"""What holds for all tests: no more work around each of them than is needed, as they are many."""

import gc
import logging


def pytest_configure() -> None:
    gc.set_threshold(50_000, 20, 20)  # looking for garbage took an eighth of a run


def pytest_collection_finish() -> None:
    gc.freeze()  # modules stay, torch's hundreds of thousands of objects among them
    # pytest listens to each logger that does not pass on to the root, anew for every test: torch
    # and its friends have dozens of those.
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.propagate = True
