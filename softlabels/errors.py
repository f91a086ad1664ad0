"""What can go wrong with data, files and teachers. A caller's wrong argument is a plain ValueError."""


class SoftLabelsError(Exception):
    """Base of all errors about data, files and teachers; takes one string, so it survives pickling."""


class ManifestError(SoftLabelsError):
    """The manifest cannot be used as it is; the message lists the faulty rows."""


class ClassListError(SoftLabelsError):
    """A class list is malformed, or two class lists do not fit together."""


class AudioError(SoftLabelsError):
    """One stretch of audio cannot be used. The message is `<reason>: <detail>`; see `quarantine.REASONS`."""

    @property
    def reason(self) -> str:
        """The reason code under which the clip is quarantined."""
        return str(self).partition(":")[0]

    @property
    def detail(self) -> str:
        """What exactly was found."""
        return str(self).partition(": ")[2]


class TeacherError(SoftLabelsError):
    """The teacher cannot be loaded, or does not do what it says."""


class StoreError(SoftLabelsError):
    """The store is damaged, incomplete, or made with other settings."""


class EnvironmentTrouble(SoftLabelsError):
    """The machine, not the data, is at fault (a lost mount, an I/O error): the work is put off, nothing is blamed."""


class StorageFullError(StoreError):
    """No space or quota is left for the store; what is committed stands."""


class JoinError(SoftLabelsError):
    """Manifest and store cannot be joined without losing or inventing rows."""
