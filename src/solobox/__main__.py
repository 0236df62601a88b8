"""``solobox`` and ``python -m solobox``, which is how torchrun starts it: ``torchrun -m solobox train ...``."""

import signal
import sys

from solobox.utils.signals import exit_status, interruptible


def main() -> None:
    """Run the command line. A signal that comes before it has started, or when it has ended, shows no traceback."""
    try:
        with interruptible():
            from solobox.cli import main as run

            run()
    except KeyboardInterrupt as stop:
        sys.exit(exit_status(stop))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main()
