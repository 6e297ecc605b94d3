"""A journal of lines where files cannot be added to: kept in memory, and stored as a whole again and again."""

import io
from time import monotonic

from ldcodec.jobs import remote
from ldcodec.jobs.paths import created

INTERVAL = 30.0  # seconds between two times that it is stored while lines are added


class RemoteJournal(io.StringIO):
    """The text of a file that is named by a URL, to be read and added to.

    What was added is stored when `save` is called, when it is closed, and by `flush` where that was some time ago.
    A run that is killed so loses the lines of the last seconds.
    """

    def __init__(self, url: str) -> None:
        """Reads what there is. Raises OSError if that cannot be done."""
        super().__init__(newline="\n")
        self._url = url
        if remote.exists(url):
            with remote.opened(url) as stream:
                text = stream.read().decode("utf-8", "replace")
            self.write(text if text.endswith("\n") else text + "\n")
        self._stored, self._time = len(self.getvalue()), monotonic()

    def flush(self) -> None:
        """Stores the text if that was last done some time ago. Raises LdcodecError."""
        if monotonic() - self._time > INTERVAL:
            self.save()

    def save(self) -> None:
        """Stores the text if anything was added to it. Raises LdcodecError."""
        self._time = monotonic()
        text = self.getvalue()
        if len(text) > self._stored:
            with created(self._url) as stream:
                stream.write(text.encode())
            self._stored = len(text)

    def close(self) -> None:
        """Stores the text and forgets it. Raises LdcodecError."""
        if not self.closed:
            try:
                self.save()
            finally:
                super().close()
