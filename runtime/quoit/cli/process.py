"""Run a program in its process: prepare standard streams, answer Ctrl-C, print errors as one line, set exit codes.

Both programs use this module. It imports nothing heavy, so that `start` guards a program before the program's own
imports begin.
"""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from time import monotonic

USAGE_ERROR = 2
INTERRUPTED = 130
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
REPEAT_SECONDS = 0.05
"""Number of seconds until a Ctrl-C that Python could not raise is sent again."""
SAME_SECONDS = 1.0
"""Number of seconds in which a repeated Ctrl-C is ignored: it must not interrupt the answer to the first one."""


class Interrupts:
    """Handler of Ctrl-C: it raises KeyboardInterrupt, as Python does by default, but once for several in a row."""

    def __init__(self) -> None:
        self.last = float("-inf")

    def __call__(self, number: int, frame: object) -> None:  # noqa: ARG002  as `signal` calls it
        """Raise KeyboardInterrupt, unless one was raised just before."""
        now = monotonic()
        if now - self.last >= SAME_SECONDS:
            self.last = now
            raise KeyboardInterrupt

    def keep(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Send a Ctrl-C again that arrived where Python cannot raise it, such as in a finalizer."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        from threading import Timer

        # The signal comes after this function has returned, since inside it would be lost again.
        self.last = float("-inf")
        timer = Timer(REPEAT_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()


def start(program: str, module: str, requirement: str = "quoit") -> int:
    """Run a program in this process, and answer its errors and Ctrl-C.

    Ctrl-C while the module is imported ends the process at once, since an interrupt that is raised inside the import of
    an extension may be lost or become another error. After `main` has returned, Ctrl-C is ignored: there is no work
    left to stop, though Python still waits for its threads.

    Args:
        program: name of the program, for messages.
        module: name of the module that has the program's `main`.
        requirement: requirement that `pip` installs the program with, for the message about a missing package.

    Returns:
        The exit code.
    """
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, lambda *_: leave(program))
    prepare_streams()
    interrupts = Interrupts()
    sys.unraisablehook = interrupts.keep
    code = INTERRUPTED
    try:
        try:
            main = import_main(module)
            if interruptible:
                signal.signal(signal.SIGINT, interrupts)
            code = main()
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] in (module.partition(".")[0], "quoit"):
                raise
            report(program, f"{error.name} is not installed; `pip install '{requirement}'`", error)
            code = USAGE_ERROR
        except SystemExit as stop:  # argparse raises it after --help and after wrong usage
            code = stop.code if isinstance(stop.code, int) else USAGE_ERROR
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:  # `main` answers Ctrl-C while it works; this one came as it returned
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return flush_output(program, code)


def import_main(module: str) -> Callable[[], int]:
    """Import a program's module and return its `main`."""
    main: Callable[[], int] = import_module(module).main
    return main


def guarded(program: str, work: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Do some work and return its exit code; print its warnings, errors and Ctrl-C as lines on standard error.

    Args:
        program: name of the program, for messages.
        work: function that does the program's work.
        interrupted: message after Ctrl-C.
    """
    # imported here, after `start` guards the process
    import logging

    from quoit.errors import QuoitError

    logging.basicConfig(format=f"{program}: %(message)s")
    try:
        return work()
    except BaseException as error:
        if is_interrupt(error):
            report(program, interrupted, error)
            return INTERRUPTED
        if isinstance(error, (QuoitError, OSError)):
            report(program, str(error), error)
            return USAGE_ERROR
        raise


def is_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C ended the run.

    A Ctrl-C may surface as another error. While `threading.Condition.wait` gives its lock away, it becomes the
    RuntimeError of a lock that is not held. Inside the import of an extension, it becomes that module's ImportError.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def report(program: str, message: str, error: BaseException) -> None:
    """Print an error as one line, with its notes."""
    line = "; ".join([f"{program}: {message}", *getattr(error, "__notes__", [])])
    tell(" ".join(line.splitlines()))


def show(line: str, *, flush: bool = False) -> None:
    """Print a line of a result. If the reader of standard output has gone, the command goes on and prints no more.

    Raises:
        OSError: standard output cannot be written for another reason, such as a full disk.
    """
    with writing_output():
        print(line, flush=flush)


def tell(line: str) -> None:
    """Print a line about the run to standard error; do nothing if that cannot be written."""
    try:
        print(line, file=sys.stderr)
    except OSError:
        silence(STANDARD_ERROR)


def flush_output(program: str, code: int) -> int:
    """Write the rest of standard output, and return the exit code; if that fails, never return 0.

    A reader that has gone is no failure, since it needs no more output.
    """
    try:
        with writing_output():
            sys.stdout.flush()
    except OSError as error:
        report(program, str(error), error)
        return code or USAGE_ERROR
    return code


@contextmanager
def writing_output() -> Iterator[None]:
    """Ignore a closed pipe on standard output; name standard output in any other OSError."""
    try:
        yield
    except OSError as error:
        silence(STANDARD_OUTPUT)
        if not isinstance(error, BrokenPipeError):
            error.filename = "standard output"
            raise


def silence(descriptor: int) -> None:
    """Send the rest of a standard stream to the null device, also the rest that Python writes when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def prepare_streams() -> None:
    """Make standard output replace characters that its encoding lacks, as standard error does by default.

    A stream that is closed at the start is None in Python; the null device takes its place.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def leave(program: str) -> None:
    """End the process after Ctrl-C, before the program has begun its work."""
    os.write(STANDARD_ERROR, f"{program}: interrupted\n".encode())
    os._exit(INTERRUPTED)


def version_of(program: str) -> str:
    """Return the line that `--version` prints."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{program} {version('quoit')}"
    except PackageNotFoundError:
        return f"{program}, from sources that are not installed"
