"""Read the texts that come with quoit, which calibrate and measure variants."""

from importlib import resources

from quoit.files.readers import Skipped, read_texts


def sample_texts(name: str) -> list[str]:
    """Return the texts of a file of this package, in the form that `quoit embed` reads."""
    with resources.as_file(resources.files("quoit_export") / name) as path:
        return list(read_texts(str(path), skipped=Skipped()))
