"""What holds for all tests: garbage is looked for less often, which took an eighth of a run."""

import gc


def pytest_configure() -> None:
    gc.set_threshold(50_000, 20, 20)


def pytest_collection_finish() -> None:
    gc.freeze()  # modules stay, torch's hundreds of thousands of objects among them
