"""`python -m service` is `rollcall`."""

from service.cli import main

if __name__ == "__main__":
    main()
