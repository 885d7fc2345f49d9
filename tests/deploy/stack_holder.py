"""A program that holds a local stack until it is ended; the cleanup tests end it in every way."""

from __future__ import annotations

import json
import os
import signal

from deploy.local_stack import local_stack


def main() -> None:
    with local_stack(
        lambda line: print(json.dumps({"said": line}), flush=True),
        database_url=os.environ.get("DATABASE_URL"),
        rabbitmq_url=os.environ.get("RABBITMQ_URL"),
    ) as stack:
        print(json.dumps({"database_url": stack.database_url, "rabbitmq_url": stack.rabbitmq_url}), flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
