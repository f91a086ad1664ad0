"""Makes packages look as if they were not installed, for the process that calls it and those that it spawns."""

import sys
from importlib.machinery import PathFinder

KERAS = ("keras", "tensorflow", "tf_keras")


class Hiding(PathFinder):
    """Finds everything on the path but `packages`."""

    packages: tuple[str, ...] = ()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.packages else super().find_spec(name, path, target)


def hide(*packages):
    """Let these top-level packages be found no more, as after `pip uninstall`; none of them may be loaded yet."""
    assert not set(packages) & set(sys.modules)
    Hiding.packages = packages
    sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
