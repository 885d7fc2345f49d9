"""What goes wrong when a local stack is started."""


class StackUnavailable(Exception):
    """PostgreSQL or RabbitMQ cannot be had here; the message says what, where and what to do."""
