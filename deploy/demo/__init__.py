"""`rollcall demo`: everything started, 2,000 changes and 200 webhooks fed, what comes out watched, and the books checked."""

from deploy.demo.performance import perform

__all__ = ["perform"]
