from engine.errors import AuthorError, PlatformError


class StorageAway(PlatformError):
    """The storage does not answer: the same call may be made again."""


class ForeignStorage(PlatformError):
    """This process sees another storage than the rest of the installation."""


class TooLarge(AuthorError):
    """A limit of the settings stands against it."""


class Unsteady(AuthorError):
    """A file was written to while it was stored."""
