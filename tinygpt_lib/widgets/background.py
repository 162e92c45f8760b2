"""Work that takes longer than a key press: in a thread, so that the controls stay live meanwhile."""

import threading

from tinygpt_lib.training import one_blas_thread

END = object()


class Background:
    """Goes through one iterable at a time in a thread; a newer one takes the place of the one before."""

    def __init__(self):
        self._lock, self._thread = threading.RLock(), None

    @property
    def busy(self):
        """True from `start` until the last item was shown or the work was cancelled."""
        return self._thread is not None

    def start(self, items, show, end):
        """Call show(item) for each of items as it comes, then end(error); error is None if all went well."""
        with self._lock:
            self._thread = threading.Thread(target=self._run, args=(iter(items), show, end), daemon=True)
            self._thread.start()

    def cancel(self):
        """Nothing more is shown from now on; the thread ends at its next item."""
        with self._lock:
            self._thread = None

    def wait(self):
        """Return once nothing runs, for tests and scripts."""
        while thread := self._thread:
            thread.join()

    def _run(self, items, show, end):
        error = None
        try:
            while (item := next_item(items)) is not END:
                if not self._if_current(show, item):
                    return
        except Exception as caught:  # for the panel to say: nobody reads what a thread prints
            error = caught
        self._if_current(self._finish, end, error)

    def _finish(self, end, error):
        self._thread = None
        end(error)

    def _if_current(self, call, *arguments):
        """Make the call, unless this thread's work was cancelled or replaced; whether it was made."""
        with self._lock:
            current = self._thread is threading.current_thread()
            if current:
                call(*arguments)
        return current


def next_item(items):
    """The next item, computed on one core: the others are for the controls and the browser."""
    with one_blas_thread():
        return next(items, END)
